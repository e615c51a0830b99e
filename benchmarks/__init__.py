"""Measurements against other implementations and against labels that people made."""

"""Measure the suite against other implementations and against labels by people."""

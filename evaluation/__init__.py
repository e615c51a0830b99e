"""Measures how truthful summaries are: fact checker, judges, metrics, intervals, reports."""

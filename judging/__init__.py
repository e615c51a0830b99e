"""Judges of summaries: rules, an entailment model, or a language model behind a server."""

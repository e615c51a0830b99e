"""Extract the facts of a clinical text by rules. Start at `facts.extract_facts`."""

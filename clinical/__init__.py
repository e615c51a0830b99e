"""The facts that a clinical text states, read by rules: `facts.extract_facts` is the way in."""

"""Compare the statements of a summary with its note by rules: claims, verdicts, explanations, citations."""

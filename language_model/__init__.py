"""Everything about the language model: loading, placement, adapters, prompt format, length limits, samplers."""

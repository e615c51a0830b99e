"""Everything about the language model: loading, placement, adapters, prompt format, length limits, samplers."""

from language_model.bitsandbytes_import import defer_bitsandbytes

defer_bitsandbytes()

"""The fields of result files that hold times, speeds and memory; all others are the same whenever a run is repeated.

Whoever writes such a field to a JSON, JSONL or CSV file adds it here.
"""

from __future__ import annotations

from typing import Any

MEASURED_FIELDS = frozenset(
    {
        "seconds",  # training, a stage of the pipeline, all summaries of an evaluation, or one of them
        "tokens_per_second",
        "peak_memory_bytes",
        "median_seconds",
        "p95_seconds",
        "summaries_per_second",
        "stages",  # of the pipeline: seconds by stage
    }
)


def without_measured(content: Any) -> Any:
    """Return the content of a result file, JSON values within each other, without MEASURED_FIELDS."""
    if isinstance(content, dict):
        return {key: without_measured(value) for key, value in content.items() if key not in MEASURED_FIELDS}
    if isinstance(content, list):
        return [without_measured(value) for value in content]
    return content

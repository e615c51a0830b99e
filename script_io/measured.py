"""The fields of result files that hold times, speeds and memory; all others are the same whenever a run is repeated.

Whoever writes such a field to a JSON, JSONL or CSV file adds it here, and whoever shows one on a page its form.
"""

from __future__ import annotations

import re
from typing import Any

MEASURED_FIELDS = frozenset(
    {
        "started",  # when a stage of the pipeline began, in seconds since 1970
        "seconds",  # training, a stage of the pipeline, all summaries of an evaluation, or one of them
        "tokens_per_second",
        "peak_memory_bytes",
        "median_seconds",
        "p95_seconds",
        "summaries_per_second",
        "stages",  # of the pipeline: seconds by stage
    }
)
# on the pages of an evaluation: the time of one summary, and the row of `median_seconds`
_ON_PAGES = re.compile(r'(?<=; )[\d.]+ s(?=</p>)|(?<=in seconds</span></th><td class="n">)[\d.]+')


def page_without_measured(page: str) -> str:
    """Return an HTML page of an evaluation without times."""
    return _ON_PAGES.sub("", page)


def without_measured(content: Any) -> Any:
    """Return the content of a result file, JSON values within each other, without MEASURED_FIELDS."""
    if isinstance(content, dict):
        return {key: without_measured(value) for key, value in content.items() if key not in MEASURED_FIELDS}
    if isinstance(content, list):
        return [without_measured(value) for value in content]
    return content

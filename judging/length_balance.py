"""Choose pairs so that chosen texts are on average as long as rejected ones.

A model that is trained on shorter chosen texts learns to say less, which lowers its number of errors and its use.
"""

from __future__ import annotations

from collections.abc import Sequence


def balanced(lengths: Sequence[tuple[int, int]], bias: float) -> list[int]:
    """Return the indices of the pairs to keep, in order; `lengths` are the words of (chosen, rejected) of each pair.

    The number of words of all kept chosen texts differs from the number of the rejected ones by at most the share
    `bias` of the latter. The pairs that differ most in length are left out first.
    """
    chosen, rejected = (sum(each[side] for each in lengths) for side in (0, 1))
    by_difference = sorted(range(len(lengths)), key=lambda index: lengths[index][0] - lengths[index][1])
    first, last = 0, len(by_difference)
    while first < last and abs(chosen - rejected) > bias * rejected:
        if chosen < rejected:
            left_out, first = by_difference[first], first + 1
        else:
            left_out, last = by_difference[last - 1], last - 1
        chosen -= lengths[left_out][0]
        rejected -= lengths[left_out][1]
    return sorted(by_difference[first:last])

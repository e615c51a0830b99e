"""Let waiting threads give up their core soon, and choose how many threads torch computes with on a CPU.

After each operation the threads of libgomp, which torch brings on Linux, wait for each other in a busy loop of 300,000
rounds. Next to another busy process, the loop takes the core from the very thread that it waits for. `set_environment`
shortens the loop; it must run before torch is imported, since libgomp reads the environment once.

Results on a CPU depend on the number of threads in their last bits, because sums are split among the threads.
"""

from __future__ import annotations

import os
import statistics
import time
from functools import cache

# Rounds of the busy loop. For a small model on two idle cores, 1,000 rounds are 8% slower than libgomp's 300,000; no
# busy loop is 12% slower. On busy cores, both are 3 to 20 times as fast as 300,000 rounds.
SPIN_COUNT = 1000
COMPILED_PRODUCTS = 128
LARGE_HIDDEN_SIZE = 512  # larger models gain from all threads, and measuring them would take long
MIN_SHARE_OF_BEST = 0.8  # take the fewest threads that reach this share of the best speed
TOKENS, MIN_ROUNDS, MAX_ROUNDS, MAX_SECONDS = 256, 3, 9, 0.3  # of the measurement


def set_environment() -> None:
    """Shorten the busy loop of waiting threads, unless the user has set how threads wait.

    Also limit torch's cache of compiled products, which in bfloat16 on a CPU holds one for each shape: with rows of all
    lengths, 1,024 of them take 450 MB, and 128 are as fast (58M parameters, benchmarks/RESULTS.md).
    """
    os.environ.setdefault("LRU_CACHE_CAPACITY", str(COMPILED_PRODUCTS))
    if not os.environ.keys() & {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}:
        os.environ["GOMP_SPINCOUNT"] = str(SPIN_COUNT)


def use_threads(asked: int, hidden_size: int | None) -> int:
    """Set the number of threads of torch on a CPU, print it with the reason, and return it.

    `asked` is the value of `--num_threads`; 0 leaves the choice to OMP_NUM_THREADS, else to a measurement of less than
    half a second with products of the model's hidden size. Without a hidden size, torch's own number stays.
    """
    import torch

    threads, reason = _choose_threads(asked, hidden_size)
    torch.set_num_threads(threads)
    print(f"Threads: {threads} of {_available_threads()} ({reason})")
    return threads


def _choose_threads(asked: int, hidden_size: int | None) -> tuple[int, str]:
    available = _available_threads()
    if asked:
        return asked, "asked for"
    if os.environ.get("OMP_NUM_THREADS"):
        return available, "OMP_NUM_THREADS"
    if available == 1:
        return 1, "all there are"
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return available, "auto: several processes"  # each would measure, and they might decide differently
    if hidden_size is None or hidden_size > LARGE_HIDDEN_SIZE:
        return available, "auto: all"
    return _measured_threads(hidden_size, available)


@cache
def _available_threads() -> int:
    """Return the number of threads that torch started with: OMP_NUM_THREADS, else one per core."""
    import torch

    return int(torch.get_num_threads())


@cache
def _measured_threads(hidden_size: int, available: int) -> tuple[int, str]:
    """Return the fewest threads that are about as fast as any number, and the reason."""
    candidates = [2**power for power in range(available.bit_length()) if 2**power < available] + [available]
    rounds: list[list[float]] = []
    start = time.perf_counter()
    while len(rounds) < MIN_ROUNDS or (len(rounds) < MAX_ROUNDS and time.perf_counter() - start < MAX_SECONDS):
        rounds.append([_seconds_of_layer(hidden_size, threads) for threads in candidates])
    seconds = [statistics.median(column) for column in zip(*rounds, strict=True)]
    best = min(seconds)
    chosen = next(index for index, value in enumerate(seconds) if best / value >= MIN_SHARE_OF_BEST)
    if candidates[chosen] == 1:
        return 1, f"auto: measured, {available} are only {seconds[0] / seconds[-1]:.1f} times as fast"
    return candidates[chosen], f"auto: measured, {seconds[0] / seconds[chosen]:.1f} times as fast as 1"


def _seconds_of_layer(hidden_size: int, threads: int) -> float:
    """Return the seconds of what a feed-forward layer computes for 256 tokens, with this number of threads."""
    import torch

    torch.set_num_threads(threads)
    tokens = torch.ones(TOKENS, hidden_size)
    wide, narrow = torch.ones(hidden_size, 3 * hidden_size), torch.ones(3 * hidden_size, hidden_size)
    start = time.perf_counter()
    for _ in range(2):  # the first pass wakes the threads
        torch.nn.functional.silu(tokens @ wide) @ narrow
    return time.perf_counter() - start

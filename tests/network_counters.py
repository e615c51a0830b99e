"""Run the shortest chain in a network namespace of its own, and print what the system counted there.

    PYTHONPATH=.:tests unshare --map-root-user --net python tests/network_counters.py FOLDER [URL]

With a URL, that is asked for in place of the chain.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from urllib.request import urlopen

from demo.recipes import Recipe

FLAGS = "--device cpu --dtype float32 --num_threads 1 --num_epochs 1 --parallel 1 --overflow shorten_note"
RECIPE = Recipe(brief=True)


def counters() -> dict[str, int]:
    """Return the packets that were to leave this namespace, with or without a way out, and the connections opened."""
    found: dict[str, int] = {}
    lines = Path("/proc/net/snmp").read_text().splitlines()
    for names, values in zip(lines[::2], lines[1::2], strict=True):
        protocol, *columns = names.split()
        found |= {f"{protocol}{name}": int(value) for name, value in zip(columns, values.split()[1:], strict=True)}
    six = Path("/proc/net/snmp6")
    if six.exists():
        found |= {name: int(value) for name, value in map(str.split, six.read_text().splitlines())}
    wanted = ("Ip:OutRequests", "Ip:OutNoRoutes", "Tcp:ActiveOpens", "Udp:OutDatagrams", "Ip6OutNoRoutes")
    return {name: found[name] for name in wanted if name in found}


def run_chain(folder: Path) -> int:
    from pipeline_here import launch_here, write_top_of_demo
    from tiny_models import build_tiny_model

    import run_pipeline
    from pipeline import runner

    runner.launch = launch_here  # type: ignore[assignment]
    run_pipeline.recipe_of = lambda args: RECIPE
    base = build_tiny_model(folder / "base")
    phase1 = write_top_of_demo(folder / "phase1", {"train": 8, "validation": 2, "test": 2})
    words = ["--model_name", str(base), "--phase1_dir", str(phase1), "--output_dir", str(folder / "run")]
    return run_pipeline.main(run_pipeline.parse_args([*words, *FLAGS.split()]))


if __name__ == "__main__":
    os.environ.pop("HF_HUB_OFFLINE", None)  # which few users set
    code = 0
    if sys.argv[2:]:
        with suppress(OSError):
            urlopen(sys.argv[2], timeout=5)
    else:
        code = run_chain(Path(sys.argv[1]))
    print(json.dumps({"code": code, **counters()}))

"""Puts the repository's root and the tests' helpers on the path."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test that asks a hub is wrong
os.environ.setdefault("OMP_NUM_THREADS", "1")  # two processes of tests share the cores
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

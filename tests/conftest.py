"""Put the root of the repository and the tests' own modules on the path, and set what every test relies on."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test that asks a hub is wrong
os.environ.setdefault("OMP_NUM_THREADS", "1")  # two processes of tests share the cores
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# A background job starts with Ctrl-C ignored, and its child processes inherit that. With a handler of Python here, the
# child processes of the tests start with the default.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # under nohup; as above
    signal.signal(signal.SIGHUP, lambda number, frame: None)

from outgoing_connections import attempts, guard  # noqa: E402 - the path is set above

guard()

# Each takes 20 to 90 s. They start first, so that no process is left with a long one at the end.
LONG_FILES = (
    "test_readme.py",
    "test_seeds.py",
    "test_stage_b.py",
    "test_run_pipeline.py",
    "test_generate_phase2_data.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Move the long files to the front, in the order above; the others keep theirs."""
    places = {name: place for place, name in enumerate(LONG_FILES)}
    items.sort(key=lambda item: places.get(item.path.name, len(LONG_FILES)))


@pytest.fixture(autouse=True)
def nothing_leaves_this_machine() -> Iterator[None]:
    """No test connects to another machine; the chain, every script and the libraries they use run in tests."""
    before = len(attempts)
    yield
    assert attempts[before:] == []


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium. Without one the test is skipped, but never on the machine that tests every change."""
    from playwright.sync_api import sync_playwright

    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None and "CI" not in os.environ:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    assert path, "CI is set, but there is no Chromium: these tests must run there (apt-get install chromium)"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path)
        yield browser
        browser.close()

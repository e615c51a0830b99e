"""The guard that counts outgoing connections sees them; the fixture in conftest.py holds every other test to 0."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from outgoing_connections import attempts
from training_helpers import ROOT, outside_tests

ELSEWHERE = ("192.0.2.1", 443)  # of a block for documentation (RFC 5737), where nobody answers


def udp() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


@pytest.mark.parametrize(
    "send",
    [
        lambda: socket.create_connection(ELSEWHERE, 1),
        lambda: socket.socket().connect_ex(ELSEWHERE),
        lambda: udp().sendto(b"note", ELSEWHERE),
        lambda: udp().sendto(b"note", 0, ELSEWHERE),
        lambda: socket.getaddrinfo("hub.invalid", 443),
    ],
)
def test_what_would_leave_this_machine_is_refused_and_counted(send: Callable[[], object]) -> None:
    with pytest.raises(OSError, match="tests connect to this machine alone"):
        send()
    assert attempts.pop() in ("192.0.2.1", "hub.invalid")


def test_processes_of_this_machine_may_be_connected_to() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname(), 1):
        assert attempts == []


def counted_in_a_namespace(*arguments: object) -> dict[str, int]:
    """What the system counts in a network namespace without any interface, which the processes cannot leave."""
    alone = ["unshare", "--map-root-user", "--net"]
    if not shutil.which("unshare") or subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system permits no network namespace")
    program = [sys.executable, str(ROOT / "tests" / "network_counters.py"), *map(str, arguments)]
    done = subprocess.run([*alone, *program], capture_output=True, text=True, check=False, env=outside_tests())
    assert done.returncode == 0, done.stderr
    counted: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return counted


def test_the_counters_of_a_namespace_see_an_attempt_to_connect(tmp_path: Path) -> None:
    counted = counted_in_a_namespace(tmp_path, "http://192.0.2.1/")
    assert sum(counted.values()) > 0


# 12 s. Stage A, hard negatives, completions, judging, Stage B, evaluations and comparison, without HF_HUB_OFFLINE.
def test_the_chain_on_a_local_model_sends_nothing(tmp_path: Path) -> None:
    counted = counted_in_a_namespace(tmp_path)
    assert counted.pop("code") == 0
    assert (tmp_path / "run" / "results.json").exists()
    assert set(counted.values()) == {0}, counted

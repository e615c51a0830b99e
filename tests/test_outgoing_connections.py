"""The guard that counts outgoing connections sees them; the fixture in conftest.py holds every other test to 0."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest
from outgoing_connections import attempts

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

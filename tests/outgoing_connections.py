"""Count what the tests send out of this machine. Notes are patients' data, so the number must be 0."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

attempts: list[str] = []
_connect, _connect_ex, _sendto, _getaddrinfo = (
    socket.socket.connect, socket.socket.connect_ex, socket.socket.sendto, socket.getaddrinfo,
)  # fmt: skip


def _is_local(host: object) -> bool:
    if host is None or host in ("", "localhost", socket.gethostname()):
        return True
    try:
        return ipaddress.ip_address(str(host)).is_loopback
    except ValueError:
        return False


def _note(address: Any) -> None:
    """Note and refuse an address outside this machine; sockets between processes have a path for an address."""
    if isinstance(address, tuple) and not _is_local(address[0]):
        attempts.append(str(address[0]))
        raise OSError(f"tests connect to this machine alone, not to {address[0]}")


def _connecting(self: socket.socket, address: Any) -> None:
    _note(address)
    _connect(self, address)


def _connecting_ex(self: socket.socket, address: Any) -> int:
    _note(address)
    return _connect_ex(self, address)


def _sending(self: socket.socket, *arguments: Any) -> int:
    _note(arguments[-1])
    return _sendto(self, *arguments)


def _looking_up(host: Any, *arguments: Any, **named: Any) -> Any:
    _note((host,))
    return _getaddrinfo(host, *arguments, **named)


def guard() -> None:
    """From now on, refuse and note every connection, datagram and name look-up that leaves this machine."""
    socket.socket.connect = _connecting  # type: ignore[assignment,method-assign]
    socket.socket.connect_ex = _connecting_ex  # type: ignore[assignment,method-assign]
    socket.socket.sendto = _sending  # type: ignore[assignment,method-assign]
    socket.getaddrinfo = _looking_up

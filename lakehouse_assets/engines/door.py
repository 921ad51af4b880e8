"""Closes the loopback port of a server in this process once the process itself has connected.

Whoever has an account on the machine can connect to a port of 127.0.0.1, and Sail's server asks for no password and
offers no other way in. So its door is shut behind the one who owns it: the listening socket gives way to one without a
name, and the connections that are there stay.
"""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lakehouse_assets.errors import SetupError


def shut(port: int) -> None:
    """Close a port of this process to new connections; its own single connection stays.

    Raises:
        SetupError: somebody else is connected; this connection is ended.
    """
    for number in _descriptors():
        with _socket(number) as found:
            if found and _port(found) == port and found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                _replace(number)
    sockets = [(number, *ends) for number in _descriptors() if (ends := _ends(number))]
    own = {local for _, local, _ in sockets}
    strangers = [number for number, local, peer in sockets if local == port and peer not in own]
    for number in strangers:
        with _socket(number) as found:
            if found:
                found.shutdown(socket.SHUT_RDWR)
    if strangers:
        raise SetupError(
            "another process of this machine connected to Sail while it started; nothing was computed. Run again, and "
            "with LAKEHOUSE_ENGINE=spark if it comes back"
        )


def _replace(listener: int) -> None:
    """Replace a listening socket by one that nobody can connect to.

    It listens, too: whoever still asks it for a connection gets the answer that there is none yet.
    """
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as nameless:
        nameless.setblocking(False)
        nameless.bind(str(Path(folder) / "door"))
        nameless.listen(1)
        os.dup2(nameless.fileno(), listener, inheritable=False)


def _descriptors() -> list[int]:
    return [int(entry.name) for entry in Path("/dev/fd").iterdir()]


@contextmanager
def _socket(number: int) -> Iterator[socket.socket | None]:
    """A file descriptor of this process as an Internet socket; None for any other.

    It is looked at without a copy. Closing a copy of a file would end all locks that this process has on the file,
    which SQLite goes by: other processes would delete the log that holds Dagster's newest events.
    """
    try:
        found = socket.socket(fileno=number)
    except OSError:  # no socket
        yield None
        return
    try:
        yield found if found.family in (socket.AF_INET, socket.AF_INET6) else None
    finally:
        found.detach()


def _port(found: socket.socket) -> int:
    return int(found.getsockname()[1])


def _ends(number: int) -> tuple[int, int] | None:
    """The ports of both ends of a connection; None if it is not one."""
    with _socket(number) as found:
        try:
            return (_port(found), int(found.getpeername()[1])) if found else None
        except OSError:
            return None

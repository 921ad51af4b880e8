"""A TCP proxy on loopback that does to connections what networks and overloaded stores do.

It speaks just enough HTTP to tell one request from the next, so that it can lose the reply to a certain commit, or
answer in the store's place.
"""

from __future__ import annotations

import random
import re
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

_HEAD = re.compile(rb"(GET|HEAD|PUT|POST|DELETE) (\S+) HTTP/1\.1\r\n")
_SLOW_DOWN = (
    b'<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>'
)
_BUSY = (
    b"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(_SLOW_DOWN), _SLOW_DOWN)
)


@dataclass
class Faults:
    """What is wrong now.

    Attributes:
        refuse: connections are reset, new ones and those there are.
        swallow: nothing comes through in either direction, and nobody is told.
        delay_seconds: before each answer.
        bytes_per_second: of answers; 0 for all there are.
        cut_answers: share of answers that end with a reset in their middle.
        busy: share of requests answered with 503 SlowDown.
        losing: method and path, as a pattern, of requests that are delivered and whose reply may get lost.
        lose: which of those loses it, counted from 1; 0 for none.
        meanwhile: what happens between the request's delivery and the loss of its reply.
    """

    refuse: bool = False
    swallow: bool = False
    delay_seconds: float = 0
    bytes_per_second: int = 0
    cut_answers: float = 0
    busy: float = 0
    losing: str = ""
    lose: int = 0
    meanwhile: Callable[[], object] | None = None


class Proxy:
    """Forwards 127.0.0.1:``port`` to another port of this machine, with faults."""

    def __init__(self, target: int, seed: int = 1) -> None:
        self.faults = Faults()
        self.injected = 0
        self._target = target
        self._chance = random.Random(seed)
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        outer = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                outer._serve(self.request)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            request_queue_size = 128

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def running(self) -> Iterator[Proxy]:
        thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self.reset_all()
            self._server.server_close()

    def reset_all(self) -> None:
        """Cut every connection there is."""
        with self._lock:
            for end in self._open:
                _reset(end)

    def heal(self) -> None:
        self.faults = Faults()

    def _happens(self, share: float) -> bool:
        with self._lock:
            happens = self._chance.random() < share
            self.injected += happens
            return happens

    def _serve(self, client: socket.socket) -> None:
        if self.faults.refuse:
            self.injected += 1
            _reset(client)
            return
        server = socket.create_connection(("127.0.0.1", self._target))
        with self._lock:
            self._open |= {client, server}
        fate: dict[str, bool] = {"lose": False, "cut": False}
        back = threading.Thread(target=self._answers, args=(server, client, fate), daemon=True)
        back.start()
        with suppress(OSError):
            self._requests(client, server, fate)
        with suppress(OSError):
            server.shutdown(socket.SHUT_WR)
        back.join()
        with self._lock:
            self._open -= {client, server}
        server.close()

    def _requests(self, client: socket.socket, server: socket.socket, fate: dict[str, bool]) -> None:
        while data := client.recv(1 << 16):
            faults = self.faults
            if faults.refuse:
                self.injected += 1
                _reset(client)
                return
            self._wait_while_swallowing()
            head = _HEAD.match(data)
            if head:
                if self._happens(faults.busy):
                    client.sendall(_BUSY)
                    client.shutdown(socket.SHUT_WR)
                    return
                asked = b" ".join(head.groups()).decode()
                fate["cut"] = self._happens(faults.cut_answers)
                if faults.lose and re.search(faults.losing, asked):
                    faults.lose -= 1
                    fate["lose"] = faults.lose == 0
            server.sendall(data)

    def _answers(self, server: socket.socket, client: socket.socket, fate: dict[str, bool]) -> None:
        with suppress(OSError):
            while data := server.recv(1 << 16):
                faults = self.faults
                self._wait_while_swallowing()
                if fate["lose"]:
                    self.injected += 1
                    if faults.meanwhile:
                        faults.meanwhile()
                    _reset(client)
                    return
                if faults.delay_seconds:
                    time.sleep(faults.delay_seconds)
                if faults.bytes_per_second:
                    time.sleep(len(data) / faults.bytes_per_second)
                if fate["cut"]:
                    client.sendall(data[: len(data) // 2])
                    _reset(client)
                    return
                client.sendall(data)
        with suppress(OSError):
            client.shutdown(socket.SHUT_WR)

    def _wait_while_swallowing(self) -> None:
        while self.faults.swallow:
            self.injected += 1
            time.sleep(0.1)


def _reset(end: socket.socket) -> None:
    """End a connection without a goodbye."""
    with suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        end.shutdown(socket.SHUT_RD)
    with suppress(OSError):
        end.close()

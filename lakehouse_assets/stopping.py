"""Ends a command: at once when it is done; on SIGINT and SIGTERM at any moment, within seconds, with one sentence.

Python hands a signal to the main thread when that gets to it, and Dagster and Spark put handlers of their own in
place of ours: some lost signals, some showed tracebacks. So a thread of its own is told of each signal by the
interpreter itself (`signal.set_wakeup_fd`), whoever handles it. It says the sentence, lets nothing more be printed,
gives the main thread a moment to undo what it has begun, and ends the process. Without that moment nothing is lost:
readers see whole commits only, also after `kill -9`.
"""

from __future__ import annotations

import atexit
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

STATUS = 130
SENTENCE = "lakehouse: stopped; nothing half-written was published"
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_GRACE_SECONDS = 2.0  # in which files are removed that nobody will need, and Dagster's run gets its end
_ONE_SECONDS = 0.5  # a signal that comes again this soon was sent once, to the process and to its group


class _Stop:
    """Stops this process.

    Attributes:
        grace_seconds: longest time from the first signal to the end.
        sentence: what is said; empty where another process says it.
        told_to: the file descriptor that it is written to.
    """

    def __init__(self) -> None:
        self.grace_seconds = _GRACE_SECONDS
        self.sentence = SENTENCE
        self.told_to = 2
        self._asked = self._raised = False
        self._held = 0
        self._changes = threading.RLock()  # not a plain lock, as a signal may come while the main thread holds it
        self._first = threading.Lock()
        self._told = threading.Event()
        self._status: int | None = None

    def guard(self, run: Callable[[], int]) -> int:
        """Run what this process is there for, in its main thread; signals end the process from now on."""
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a script starts what runs in the background
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # else Dagster would listen to it
        woken, wakes = socket.socketpair()
        wakes.setblocking(False)
        signal.set_wakeup_fd(wakes.detach(), warn_on_full_buffer=False)
        threading.Thread(target=self._watch, args=[woken], daemon=True).start()
        for number in _SIGNALS:
            signal.signal(number, self._interrupt)
        atexit.register(self._leave)  # the first to be registered is called last
        try:
            status = run()
            with self._changes:
                if self._asked:
                    raise KeyboardInterrupt
                self._status = status
        except BaseException as error:  # Dagster's interrupts are no Exception either
            if not self._asked and isinstance(error, (Exception, SystemExit)):
                raise
            self._end()
        return status

    @contextmanager
    def whole(self, otherwise: str) -> Iterator[None]:
        """Finish what is begun here before the process stops; only a second signal does not wait for it.

        Args:
            otherwise: what is then said.
        """
        sentence, self.sentence = self.sentence, otherwise
        self._held += 1
        try:
            yield
        finally:
            self.sentence = sentence
            self._held -= 1
        if self._asked and not self._held:
            self._tell()
            self._raised = True
            raise KeyboardInterrupt

    @contextmanager
    def with_children(self, children: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
        """End processes that stop in the same way together with this one."""
        self.grace_seconds += _GRACE_SECONDS
        try:
            yield
        finally:
            for child in children:
                child.terminate()  # those that have ended do not notice
            for child in children:
                child.wait()

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        """Python's handler; once it has raised, the main thread is left to undo things."""
        self._ask()
        if not self._held and not self._raised:
            self._raised = True
            raise KeyboardInterrupt

    def _ask(self) -> None:
        with self._changes:
            if self._status is not None:  # all is done, and the interpreter is on its way out
                os._exit(self._status)
            self._asked = True
        if not self._held:
            self._tell()

    def _tell(self) -> None:
        """Print the sentence, and nothing after it."""
        if not self._first.acquire(blocking=False):
            self._told.wait(1)
            return
        with suppress(OSError):
            if self.sentence:
                os.write(self.told_to, os.fsencode(f"{self.sentence}\n"))
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)
            os.dup2(nowhere, 2)
        self._told.set()

    def _watch(self, woken: socket.socket) -> NoReturn:
        first = 0.0
        while True:
            left = max(first + self.grace_seconds - time.monotonic(), 0) if first and not self._held else None
            if not select.select([woken], [], [], left)[0]:
                self._end()
            if woken.recv(1)[0] not in _SIGNALS:
                continue
            now = time.monotonic()
            if first and now - first > _ONE_SECONDS:
                self._end()
            first = first or now
            self._ask()

    def _leave(self) -> None:
        """End the process when everything else is done; a traceback, or output that nobody takes, is left to Python.

        Python would take apart every object first, which is a tenth of the time of a run over a day.
        """
        if self._status is not None:
            with suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(self._status)

    def _end(self) -> NoReturn:
        self._raised = True  # enough of it
        self._tell()
        for status in Path("/proc").glob("[0-9]*/stat"):  # where there is none, children notice that this one is gone
            with suppress(OSError):
                if int(status.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                    os.kill(int(status.parent.name), signal.SIGTERM)
        os._exit(STATUS)


STOP = _Stop()

"""What `lakehouse dev` prints: when its pages are there, runs that begin and end, and errors; the rest is in a log."""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from lakehouse_assets.stopping import STOP

_LOOK_SECONDS = 0.3
_SHOWN_CHARACTERS = 300
_COLOURS = re.compile(r"\x1b\[\d*m")
_SERVING = "Serving dagster-webserver on "
_LINE = re.compile(r"\S+ (?P<time>\d\d:\d\d:\d\d) \S+ - (?P<logger>\S+) - (?P<level>[A-Z]+) - (?P<text>.*)")
_OF_RUN = re.compile(r"(?P<job>\S+) - (?P<run>[0-9a-f-]{36}) - (?:\d+ - )?(?P<event>[A-Z_]+) - ")
_RUNS = {
    "RUN_START": "has started",
    "RUN_SUCCESS": "has succeeded",
    "RUN_FAILURE": "has failed",
    "RUN_CANCELED": "was cancelled",
}


@contextmanager
def logging_to(log: Path) -> Iterator[TextIO]:
    """Have this process, and those it starts, print into a new log; the person sees what is printed to the result.

    Afterwards errors are printed for the person again.
    """
    sys.stdout.flush()
    STOP.told_to = os.dup(2)
    terminal = os.fdopen(os.dup(1), "w", buffering=1, errors="backslashreplace")
    with log.open("wb") as sink:
        os.dup2(sink.fileno(), 1)
        os.dup2(sink.fileno(), 2)
    try:
        yield terminal
    finally:
        sys.stderr = os.fdopen(os.dup(STOP.told_to), "w", buffering=1, errors="backslashreplace")


def tell_from(log: Path, address: str, say: Callable[[str], None]) -> None:
    """Say from now on, in a thread, what of the log a person waits for.

    Args:
        log: what Dagster writes.
        address: of its pages.
        say: prints a line.
    """

    def follow() -> None:
        with log.open(encoding="utf-8", errors="replace") as lines:
            for told in told_of(_growing(lines.readline), address):
                say(told)

    threading.Thread(target=follow, daemon=True).start()


def _growing(read: Callable[[], str]) -> Iterator[str]:
    line = ""
    while True:
        line += read()
        if line.endswith("\n"):
            yield line
            line = ""
        else:
            time.sleep(_LOOK_SECONDS)


def told_of(lines: Iterator[str], address: str) -> Iterator[str]:
    """What a person is told of the lines of a log."""
    for line in lines:
        found = _LINE.match(_COLOURS.sub("", line))
        if not found:
            continue
        if _SERVING in found["text"]:
            yield f"ready: {address}; landed files are computed by themselves. Ctrl-C ends it"
        elif run := _OF_RUN.match(found["text"]):
            if state := _RUNS.get(run["event"]):
                yield f"{found['time']} run {run['run'][:8]} of {run['job']} {state}: {address}/runs/{run['run']}"
        elif found["level"] in ("ERROR", "CRITICAL"):
            yield f"{found['time']} {found['logger']}: {found['text'][:_SHOWN_CHARACTERS]}"

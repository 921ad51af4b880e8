"""`lakehouse dev` as a process of a test's own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from lakehouse_assets_tests.stack.services import free_port

PATIENCE_SECONDS = 300
Found = TypeVar("Found")


@contextmanager
def dev(home: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """`lakehouse dev` and its port, a free one; at the end it and all it started are gone."""
    port = free_port()
    with (home.parent / "dev.log").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "lakehouse_assets.cli", "dev", "--port", str(port)],
            env=environment(home),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process, port
    finally:
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def environment(home: Path) -> dict[str, str]:
    return os.environ | {"LAKEHOUSE_HOME": str(home), "LAKEHOUSE_DRIVER_MEMORY": "1g"}


def wait_for(what: Callable[[], Found], why: str) -> Found:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if found := what():
            return found
        time.sleep(0.2)
    raise AssertionError(f"waited {PATIENCE_SECONDS} s for {why}")

"""A download that another program makes, watched: how much has arrived, and about how long is left."""

import contextlib
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from lakehouse_assets.cache import say

FETCH_SECONDS = 1800  # timeout of a download of 60 MB


_SAID_EVERY_SECONDS = 3


_SAID_FROM_BYTES = 1_000_000  # of a download; before, how long is left can't be told


def watched(
    command: list[str], environment: Mapping[str, str], folder: Path, size: int
) -> subprocess.CompletedProcess[str]:
    """Run a download and print from time to time how much has arrived, and an estimate of the time left."""
    began = time.monotonic()
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        while True:
            try:
                out, complaints = process.communicate(timeout=_SAID_EVERY_SECONDS)
                return subprocess.CompletedProcess(command, process.returncode, out, complaints)
            except subprocess.TimeoutExpired:
                seconds = time.monotonic() - began
                if seconds > FETCH_SECONDS:
                    process.kill()
                    raise
                if (arrived := min(_bytes_in(folder), size)) >= _SAID_FROM_BYTES:
                    left = seconds / arrived * (size - arrived)
                    say(f"  {arrived / 1e6:.0f} of {size / 1e6:.0f} MB, about {left:.0f} s left")


def _bytes_in(folder: Path) -> int:
    """Bytes of the files in a folder, some of which may go meanwhile."""
    found = 0
    for file in folder.rglob("*"):
        with contextlib.suppress(OSError):
            found += file.stat().st_size
    return found

"""Draws charts in a process of its own: Vega holds Python's lock while it draws, and other tables would stand still.

`python -m lakehouse_assets.reports.painter` reads a Vega-Lite chart from each line and answers with a line, its image;
it ends with the process that started it.
"""

from __future__ import annotations

import atexit
import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from threading import Lock
from typing import Any


class NotDrawn(RuntimeError):
    """A chart could not be drawn; the message says why."""


class Painter:
    """The process that draws, started for the first chart."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._one_at_a_time = Lock()

    def svg(self, chart: Mapping[str, Any]) -> str:
        """The image of a chart.

        Raises:
            NotDrawn: it is no chart, or the process has ended; then another one draws the next.
        """
        with self._one_at_a_time:
            process = self._process = self._process or _started()
            assert process.stdin
            assert process.stdout
            try:
                process.stdin.write(json.dumps(chart) + "\n")
                process.stdin.flush()
                answer = process.stdout.readline()
            except OSError:
                answer = ""
            if not answer:
                self._process = None
                raise NotDrawn(f"the process that draws charts has ended with status {process.wait()}")
        image, why_not = json.loads(answer)
        if why_not:
            raise NotDrawn(why_not)
        return str(image)


@cache
def painter() -> Painter:
    """The one of this process."""
    return Painter()


def _started() -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
    )
    atexit.register(process.communicate)  # ends it, and counts its processor time as this process's
    return process


def main() -> None:
    """Draw until there is nobody to draw for."""
    import vl_convert

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that is drawn for ends this one
    for line in sys.stdin:
        try:
            answer = vl_convert.vegalite_to_svg(json.loads(line)), ""
        except ValueError as error:
            answer = "", str(error)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()

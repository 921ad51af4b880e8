"""More days in one process that stays: the first warms it up, the others are timed.

Prints for each of them the seconds from the delivery of its file to its last table.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from lakehouse_assets.engines.spark import prepare_environment
from lakehouse_assets.lakehouse import Lakehouse
from lakehouse_assets.landing.deliver import deliver
from lakehouse_assets.landing.files import parse_date
from lakehouse_assets.runner import Runner
from lakehouse_assets.settings import load_settings

RESULT = "seconds of the warm day: "


def main(arguments: Sequence[str] | None = None) -> None:
    """Deliver and compute days' files in the lakehouse that the environment names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.warm_days", description=__doc__)
    parser.add_argument("days", nargs="+", help="a day and its file, for each day", metavar="DAY FILE")
    given = parser.parse_args(arguments).days
    first, *later = zip(map(parse_date, given[::2]), map(Path, given[1::2]), strict=True)
    settings = load_settings()
    if settings.engine != "sail":
        prepare_environment(settings)
    lakehouse = Lakehouse(settings)
    runner = Runner(lakehouse, lambda line: print(line, flush=True))
    _one_day(lakehouse, runner, *first)
    for day, file in later:
        began = time.monotonic()
        _one_day(lakehouse, runner, day, file)
        print(f"{RESULT}{time.monotonic() - began:.3f}", flush=True)


def _one_day(lakehouse: Lakehouse, runner: Runner, day: date, file: Path) -> None:
    deliver(lakehouse.zone, "interactions", file, day, {})
    runner.run_stale(lakehouse.zone.listings())


if __name__ == "__main__":
    main()

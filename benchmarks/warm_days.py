"""Two more days in one process that stays: the first warms it up, the second is timed.

Prints the seconds from the delivery of the second day's file to its last table.
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
    """Deliver and compute two days' files in the lakehouse that the environment names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.warm_days", description=__doc__)
    for name in ("first", "second"):
        parser.add_argument(f"{name}_day", type=parse_date)
        parser.add_argument(f"{name}_file", type=Path)
    options = parser.parse_args(arguments)
    settings = load_settings()
    if settings.engine != "sail":
        prepare_environment(settings)
    lakehouse = Lakehouse(settings)
    runner = Runner(lakehouse, lambda line: print(line, flush=True))
    _one_day(lakehouse, runner, options.first_day, options.first_file)
    began = time.monotonic()
    _one_day(lakehouse, runner, options.second_day, options.second_file)
    print(f"{RESULT}{time.monotonic() - began:.3f}", flush=True)


def _one_day(lakehouse: Lakehouse, runner: Runner, day: date, file: Path) -> None:
    deliver(lakehouse.zone, "interactions", file, day, {})
    runner.run_stale(lakehouse.zone.listings())


if __name__ == "__main__":
    main()

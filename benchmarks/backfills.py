"""Times a year's backfill in one run and in ranges at once, and compares every row of every table of the two.

Everything happens in a temporary folder that is removed at the end. The status is 1 if a table differs.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.comparison import digests
from benchmarks.run import LAKEHOUSE, generate, land, say, timed
from lakehouse_assets.landing.zone import LandingZone
from lakehouse_assets.settings import load_settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--users", type=int, default=2_500)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--parallel", type=int, default=8)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="lakehouse-backfills-") as folder:
        root = Path(folder)
        environment = os.environ | {"LAKEHOUSE_LANDING": str(root / "landing"), "LAKEHOUSE_DRIVER_MEMORY": "1g"}
        generate(root / "data", options, environment)
        land(root / "data", environment)
        days = LandingZone(root / "landing").dates("interactions")
        ends = ["--start", str(days[0]), "--end", str(days[-1])]
        took, made = {}, {}
        for parallel in (1, options.parallel):
            home = root / f"parallel-{parallel}"
            command = [*LAKEHOUSE, "backfill", *ends, "--parallel", str(parallel)]
            took[parallel] = timed(command, environment | {"LAKEHOUSE_HOME": str(home)}).seconds
            made[parallel] = digests(load_settings(home=home))
    different = [name for name, digest in made[1].items() if made[options.parallel].get(name) != digest]
    span = f"{options.rows:,} rows over {(days[-1] - days[0]).days + 1} days"
    say(f"{span}: one run {took[1]:.0f} s, {options.parallel} ranges at once {took[options.parallel]:.0f} s")
    say(f"{len(made[1])} tables compared, different: {', '.join(different) or 'none'}")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())

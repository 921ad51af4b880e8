"""The same year through Spark Connect with one executor of one core and with two; every table has to be the same.

For each, S3 server, REST catalog and cluster are started as plain processes, in a temporary folder that is removed.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.comparison import TABLES, digests
from benchmarks.run import LAKEHOUSE, Timed, generate, land, say, timed
from lakehouse_assets.settings import load_settings
from lakehouse_assets_tests.stack.services import running


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print the ratio."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.executors", description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--users", type=int, default=250_000)
    parser.add_argument("--days", type=int, default=365)
    options = parser.parse_args(arguments)
    took: dict[int, Timed] = {}
    made = {}
    with tempfile.TemporaryDirectory(prefix="lakehouse-executors-") as folder:
        data = Path(folder) / "data"
        generate(data, options, os.environ)
        for executors in (1, 2):
            with running(Path(folder) / str(executors), spark=True, workers=executors) as stack:
                environment = {**os.environ, **stack.environment, "LAKEHOUSE_TABLES": ",".join(TABLES)}
                environment["LAKEHOUSE_ENGINE"] = "spark"
                land(data, environment)
                took[executors] = timed([*LAKEHOUSE, "run"], environment)
                os.environ.update(stack.environment)  # for the keys, which come from nowhere else
                made[executors] = digests(load_settings())
    different = [name for name, digest in made[1].items() if made[2].get(name) != digest]
    say(
        f"{options.rows:,} rows: one executor {took[1].seconds:.0f} s, two {took[2].seconds:.0f} s, ratio "
        f"{took[1].seconds / took[2].seconds:.2f}"
    )
    say(f"{len(made[1])} tables compared, different: {', '.join(different) or 'none'}")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())

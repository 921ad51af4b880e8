"""Starts Dagster's code server in its container.

    python -m lakehouse_assets.stack.code_server -h 0.0.0.0 -p 4000 -m lakehouse_assets.definitions

When a container ends, its processes end with it, those of runs too, and nobody is left to say so. The next server finds
them before it starts and says so when it serves: Dagster's daemon then tries those runs again, once, and would fail
where it does not find the code.
"""

from __future__ import annotations

import os
import sys
import time

import dagster as dg

from lakehouse_assets.orchestration.instance import dagster_home, dead_runs, end_runs
from lakehouse_assets.settings import load_settings

_SERVING_SECONDS = 120  # a start takes some 20, and the daemon looks for the code that it missed each minute


def main() -> None:
    """Have the dead runs ended in a while, and become the code server."""
    home = str(dagster_home(load_settings()))
    with dg.DagsterInstance.from_config(home) as instance:
        dead = dead_runs(instance)
    if dead and os.fork() == 0:
        time.sleep(_SERVING_SECONDS)
        with dg.DagsterInstance.from_config(home) as instance:
            end_runs(instance, dead)
        return
    os.execvp("dagster", ["dagster", "code-server", "start", *sys.argv[1:]])  # noqa: S606  our own arguments


if __name__ == "__main__":
    main()

"""Starts Dagster's code server in its container.

    python -m lakehouse_assets.stack.code_server -h 0.0.0.0 -p 4000 -m lakehouse_assets.definitions

When a container ends, its processes end with it, those of runs too, and nobody is left to say so. The next server does,
before it starts; Dagster's daemon then tries those runs again.
"""

from __future__ import annotations

import os
import sys

from lakehouse_assets.orchestration.instance import terminal_instance
from lakehouse_assets.settings import load_settings


def main() -> None:
    """End the dead runs, then become the code server."""
    with terminal_instance(load_settings()):
        pass
    os.execvp("dagster", ["dagster", "code-server", "start", *sys.argv[1:]])  # noqa: S606  our own arguments


if __name__ == "__main__":
    main()

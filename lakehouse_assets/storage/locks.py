"""A lock for what several processes may create at the same moment."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from filelock import FileLock


def one_at_a_time(folder: Path) -> AbstractContextManager[object]:
    """Keep other processes from opening the databases of a folder meanwhile.

    SQLite's files are made by whoever opens them first; eight ranges of a backfill that began on an empty lakehouse
    made Dagster's tables twice. A folder that can't be written has nothing to be made in.
    """
    return FileLock(folder / ".opening.lock") if os.access(folder, os.W_OK) else nullcontext()

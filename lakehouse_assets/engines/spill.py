"""A folder of this process for what does not fit into memory, removed with it or by the next one."""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

from lakehouse_assets.errors import SetupError

_PREFIX, _UNLOCKED_PREFIX = "lakehouse-spill-", ".lakehouse-spill-"


@cache
def own_folder(parent: Path) -> Path:
    """Make an empty folder that is this process's, once, and remove those of processes that were killed.

    A process holds a lock on its folder for as long as it lives. The folder gets its name with the lock, so that no
    other process takes it for one that was left.

    Args:
        parent: where; made if it is not there.

    Raises:
        SetupError: it can't be made or written to.
    """
    try:
        parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=_UNLOCKED_PREFIX, dir=parent))
    except OSError as error:
        raise SetupError(
            f"{parent} can't take what does not fit into memory ({error.strerror}); make it a folder that can be "
            "written to, or set LAKEHOUSE_SPILL to another one"
        ) from None
    for left in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # it lives, belongs to another user, or another process removes it
            descriptor = _lock(left)
            try:
                shutil.rmtree(left)
            finally:
                os.close(descriptor)
    _lock(made)
    own = made.rename(parent / f"{_PREFIX}{made.name.removeprefix(_UNLOCKED_PREFIX)}")
    atexit.register(shutil.rmtree, own, ignore_errors=True)
    return own


def _lock(folder: Path) -> int:
    """Lock a folder until the returned descriptor is closed; `BlockingIOError` where another has locked it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor

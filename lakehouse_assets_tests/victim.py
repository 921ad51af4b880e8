"""Commands in processes of their own, and one that stops itself.

`python -m lakehouse_assets_tests.victim MOMENT TABLE SECONDS [SIGNAL [OPTION ...]]` is `lakehouse run OPTION ...` that
sends SIGKILL, or another signal, to its process group, its JVM included, at a moment of the table's write, or so many
seconds after the write began. Start it in a session of its own.
"""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from pyiceberg.table import Transaction

from lakehouse_assets import cli
from lakehouse_assets.assets.table import Table
from lakehouse_assets.storage.warehouse import Warehouse

MOMENTS = ("before staging", "staged", "before the commit", "after the commit")
ANY_MOMENT = "any moment"


def start(command: Sequence[str], *, ignoring_sigint: bool = False, **environment: str) -> subprocess.Popen[str]:
    """A `lakehouse` command in a session of its own, from the moment on that it listens to signals.

    Args:
        command: its arguments.
        ignoring_sigint: as a script starts what runs in the background.
        environment: besides that of this process.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "lakehouse_assets.cli", *command],
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=_ignore_sigint if ignoring_sigint else None,
    )
    while not _listens(process.pid) and process.poll() is None:
        time.sleep(0.005)
    return process


def others_of_session(process: subprocess.Popen[str]) -> list[str]:
    """The command lines of the processes that a process has started and that still run."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if os.getsid(int(folder.name)) == process.pid != int(folder.name):
                found.append((folder / "cmdline").read_text().replace("\0", " "))
    return found


def ended(process: subprocess.Popen[str], seconds: float = 30) -> None:
    """Wait until all that an ended process has started is gone, too."""
    deadline = time.monotonic() + seconds
    while left := others_of_session(process):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def _ignore_sigint() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _listens(process: int) -> bool:
    caught = re.search(r"^SigCgt:\s*(\w+)$", Path(f"/proc/{process}/status").read_text(), re.MULTILINE)
    return bool(caught and int(caught[1], 16) >> (signal.SIGTERM - 1) & 1)


def arm(moment: str, table: str, seconds: float, strike: Callable[[], None]) -> None:
    """Call ``strike`` at one of the `MOMENTS` of the next write of a table in this process.

    With `ANY_MOMENT` it is called so many seconds after that write began, if the process still runs.
    """
    begin, audit, publish, commit = (
        Warehouse.begin,
        Warehouse._audit_of_stage,
        Warehouse._publish,
        Transaction.commit_transaction,
    )

    def armed_begin(self: Warehouse, name: str, *arguments: Any) -> Any:
        if (moment, name) == ("before staging", table):
            strike()
        if (moment, name) == (ANY_MOMENT, table):
            timer = threading.Timer(seconds, strike)
            timer.daemon = True
            timer.start()
        return begin(self, name, *arguments)

    def armed_audit(self: Warehouse, declared: Table, *arguments: Any) -> Any:
        if (moment, declared.name) == ("staged", table):
            strike()
        return audit(self, declared, *arguments)

    def armed_publish(self: Warehouse, swap: Any) -> Any:
        publishing = swap.declared.name == table

        def armed_commit(transaction: Transaction) -> Any:
            if publishing and moment == "before the commit":
                strike()
            committed = commit(transaction)
            if publishing and moment == "after the commit":
                strike()
            return committed

        Transaction.commit_transaction = armed_commit  # type: ignore[assignment, method-assign]
        return publish(self, swap)

    Warehouse.begin = armed_begin  # type: ignore[assignment, method-assign]
    Warehouse._audit_of_stage = armed_audit  # type: ignore[assignment, method-assign]
    Warehouse._publish = armed_publish  # type: ignore[method-assign]


if __name__ == "__main__":
    moment, table, seconds, *rest = sys.argv[1:]
    number, *options = rest or ["SIGKILL"]
    arm(moment, table, float(seconds), partial(os.killpg, os.getpid(), signal.Signals[number]))
    sys.argv[1:] = ["run", *options]
    sys.exit(cli.main())

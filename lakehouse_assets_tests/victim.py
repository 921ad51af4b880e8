"""A worker that kills itself.

`python -m lakehouse_assets_tests.victim MOMENT TABLE SECONDS` brings the lake up to date and sends SIGKILL to its
process group, its JVM included, at a moment of the table's write, or so many seconds after the write began. Start it in
a session of its own.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from pyiceberg.table import Transaction

from lakehouse_assets import cli
from lakehouse_assets.io.warehouse import Warehouse

MOMENTS = ("before staging", "staged", "before the commit", "after the commit")
ANY_MOMENT = "any moment"


def kill_group() -> None:
    os.killpg(os.getpid(), signal.SIGKILL)


def arm(moment: str, table: str, seconds: float, strike: Callable[[], None]) -> None:
    """Call ``strike`` at one of the `MOMENTS` of the next write of a table in this process.

    With `ANY_MOMENT` it is called so many seconds after that write began, if the process still runs.
    """
    write, audit, publish, commit = (
        Warehouse.write,
        Warehouse._audit_of_stage,
        Warehouse._publish,
        Transaction.commit_transaction,
    )
    writing: list[str] = []

    def armed_write(self: Warehouse, name: str, *arguments: Any) -> Any:
        writing[:] = [name]
        if (moment, name) == ("before staging", table):
            strike()
        if (moment, name) == (ANY_MOMENT, table):
            timer = threading.Timer(seconds, strike)
            timer.daemon = True
            timer.start()
        return write(self, name, *arguments)

    def armed_audit(self: Warehouse, *arguments: Any) -> Any:
        if (moment, writing) == ("staged", [table]):
            strike()
        return audit(self, *arguments)

    def armed_publish(self: Warehouse, *arguments: Any) -> Any:
        publishing = writing == [table]

        def armed_commit(transaction: Transaction) -> Any:
            if publishing and moment == "before the commit":
                strike()
            committed = commit(transaction)
            if publishing and moment == "after the commit":
                strike()
            return committed

        Transaction.commit_transaction = armed_commit  # type: ignore[assignment, method-assign]
        return publish(self, *arguments)

    Warehouse.write = armed_write  # type: ignore[assignment, method-assign]
    Warehouse._audit_of_stage = armed_audit  # type: ignore[assignment, method-assign]
    Warehouse._publish = armed_publish  # type: ignore[assignment, method-assign]


if __name__ == "__main__":
    arm(sys.argv[1], sys.argv[2], float(sys.argv[3]), kill_group)
    sys.exit(cli.main(["run"]))

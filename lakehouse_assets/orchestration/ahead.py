"""Tables of a run that the engine stages before Dagster comes to their steps.

Dagster takes one step after the other, and most of a small table is Python's: the commit, the plot, the events. The
engine would rest meanwhile, so it stages another table, whose inputs the run has published. That table's own step
publishes it. If there is none, as a blocking check failed or the run was stopped, what was staged is deleted. A process
that is stopped waits two seconds for that, and leaves the rest to maintenance, as a killed one does.
The engine stages one table at a time, and one more is ready for it. A check that asks it meanwhile shares its memory.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from pyiceberg.manifest import DataFile

from lakehouse_assets.assets.table import Table
from lakehouse_assets.storage.catalog import live_files
from lakehouse_assets.storage.engine import Staging
from lakehouse_assets.storage.warehouse import Begun, Stage

_MOST_BEGUN = 2


@dataclass(frozen=True)
class Ahead:
    """A table that was begun before its step.

    Attributes:
        inputs: by table the frames that it is computed from.
        begun: its rows, on their way into files.
        shown: what Dagster will show of it.
    """

    inputs: Mapping[str, Any]
    begun: Begun
    shown: Future[dict[str, Any]]


class StagedAhead:
    """The tables of one run that were begun before their steps."""

    def __init__(self) -> None:
        self._published: set[str] = set()
        self._begun: set[str] = set()
        self._ahead: dict[str, Ahead] = {}
        self._beside = ThreadPoolExecutor(max_workers=1)
        self._unclaimed: list[Future[Staging]] = []

    def of(self, name: str) -> Ahead | None:
        """What was begun of a table, if anything."""
        return self._ahead.get(name)

    def taken(self, name: str) -> Ahead | None:
        """What was begun of a table, for its step; if that is tried again, it begins anew and by itself."""
        self._begun.add(name)
        return self._ahead.pop(name, None)

    def published(self, name: str) -> None:
        """A table is published."""
        self._published.add(name)
        self._begun.add(name)

    def next_of(self, tables: Sequence[Table]) -> Table | None:
        """The table to begin now; none while one is being staged, or is staged, and another waits for its step.

        Args:
            tables: those that this process computes in the run, in the order of their steps.
        """
        if len(self._unclaimed) >= _MOST_BEGUN:
            return None
        here = {table.name for table in tables}
        for table in tables:
            inputs = {i.table for i in table.inputs if i.table in here} - {table.name}
            if table.name not in self._begun and not table.landed and inputs <= self._published:
                self._begun.add(table.name)
                return table
        return None

    def keep(self, table: str, ahead: Ahead) -> None:
        """A table was begun."""
        self._ahead[table] = ahead

    def beside(self, stage: Stage) -> Stage:
        """Begin to stage now; what is returned waits for it, and is called once."""
        staging = self._beside.submit(stage)
        self._unclaimed.append(staging)

        def waited_for() -> Staging:
            wait([staging])
            self._unclaimed.remove(staging)
            return staging.result()

        return waited_for

    def files_after(self, begun: Begun) -> Callable[[], Sequence[DataFile]]:
        """The files of the table that was begun last, as its publication will leave them, waited for."""
        staging, table, replaced = self._unclaimed[-1], begun.base.table, begun.replaced
        return lambda: [
            *staging.result().files,
            *(file for file in live_files(table) if file.file_path not in replaced),
        ]

    def settle(self) -> None:
        """Wait until the engine stages nothing."""
        wait(self._unclaimed)

    def end(self) -> None:
        """The run has ended: delete what no step took."""
        for staging in self._unclaimed:
            staging.cancel()
        self._beside.shutdown()
        with ExitStack() as each:  # whether the others can be deleted or not
            for staging in self._unclaimed:
                each.callback(_discard, staging)


def in_order(needs: Mapping[str, Collection[str]]) -> list[str]:
    """Steps in the order in which Dagster's in-process executor takes them, if none fails.

    It takes those first that it could take first, and of several that become ready together the first of the plan.

    Args:
        needs: by step those that must have ended before, in the order of the plan.
    """
    waiting, ready, order = dict(needs), list[str](), list[str]()
    while waiting or ready:
        now = [step for step, before in waiting.items() if set(before) <= set(order)]
        ready += now
        waiting = {step: before for step, before in waiting.items() if step not in now}
        order.append(ready.pop(0))
    return order


def _discard(staging: Future[Staging]) -> None:
    if not staging.cancelled() and not staging.exception():  # what failed has deleted its files
        staging.result().discard()

"""Chooses the engine of a run: the one that the settings name, or the one that fits the rows it will read.

Sail answers at once and holds what it works on in memory; Spark takes half a minute to start and works beyond it.
A process that has started Spark computes everything with it: it has paid for the start, and Sail's sessions and those
of an embedded Spark can't be in one process. Where Sail has computed first, Spark is a server beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TypeVar

from pyspark.sql import SparkSession

from lakehouse_assets.engines.sail import SailEngine, sail_runs, start_sail
from lakehouse_assets.engines.spark import SparkEngine, connect_beside, embedded_spark_runs, start_spark
from lakehouse_assets.settings import Settings
from lakehouse_assets.storage.catalog import Catalog
from lakehouse_assets.storage.engine import Engine, OutOfMemory

Done = TypeVar("Done")
ENGINE_TAG = "lakehouse/engine"  # of a run: what computes it


@dataclass(frozen=True)
class Choice:
    """An engine's name, and why it was chosen."""

    name: str
    why: str

    def __str__(self) -> str:
        return f"computed by {self.name} ({self.why})"


class Engines:
    """The engines of a process, and the one in use."""

    def __init__(self, settings: Settings, catalog: Catalog, given: Engine | None = None) -> None:
        """Engines, each started when it is first needed.

        Args:
            settings: of the lakehouse.
            catalog: the lakehouse's.
            given: computes everything, whatever the settings say.
        """
        self._settings = settings
        self._catalog = catalog
        self._given = given
        self._of_runs: dict[str, Choice] = {}
        self._default = ""
        self._handed_over: set[str] = set()
        self._table = ""

    @property
    def now(self) -> Engine:
        """The engine that computes the current table."""
        if self._given:
            return self._given
        name = self._default or self._choose(None).name
        return self._spark if name == "spark" or self._table in self._handed_over else self._sail

    def begin(self, run_id: str, rows: Callable[[], int]) -> Choice:
        """Choose the engine of a run. A run that has begun keeps its engine.

        Args:
            run_id: its id.
            rows: counts the rows that it reads, about.
        """
        if run_id not in self._of_runs:
            self._of_runs[run_id] = self._choose(rows)
        choice = self._of_runs[run_id]
        self._default, self._table = choice.name, ""
        return choice

    def has_begun(self, run_id: str) -> bool:
        """Whether the engine of a run has been chosen."""
        return run_id in self._of_runs

    def turn_to(self, table: str) -> None:
        """Make a table the current one; a table that was handed over to Spark is computed by Spark."""
        self._table = table

    def hand_over(self, table: str) -> bool:
        """Let Spark compute a table that needs more memory than Sail has, for the rest of the process, if allowed."""
        if self._given or self._settings.engine != "auto":
            return False
        self._handed_over.add(table)
        return True

    def has_handed_over(self, table: str) -> bool:
        """Whether a table was handed over to Spark, so that Spark's failures do not concern the other tables."""
        return table in self._handed_over

    @property
    def any_handed_over(self) -> bool:
        """Whether some tables are computed by Spark, so that the engine changes from table to table."""
        return bool(self._handed_over)

    def with_memory(self, table: str, work: Callable[[], Done]) -> Done:
        """Do some work on a table; repeat it with Spark if it needs more memory than Sail has and the settings allow.

        Raises:
            OutOfMemory: it may not.
        """
        self.turn_to(table)
        try:
            return work()
        except OutOfMemory:
            if not self.hand_over(table):
                raise
            return work()

    def _choose(self, rows: Callable[[], int] | None) -> Choice:
        settings = self._settings
        if self._given:
            return Choice(self._given.name, "the only engine of this process")
        if settings.engine != "auto":
            return Choice(settings.engine, f"LAKEHOUSE_ENGINE={settings.engine}")
        if embedded_spark_runs():
            return Choice("spark", "it is running in this process")
        if rows is None:
            return Choice("sail", "it reads little")
        count = rows()
        few = count <= settings.sail_rows
        why = f"about {count:,} rows to read"
        return Choice("sail", why) if few else Choice("spark", f"{why}, more than LAKEHOUSE_SAIL_ROWS")

    @cached_property
    def _sail(self) -> SailEngine:
        return SailEngine(self._settings, partial(start_sail, self._settings))

    @cached_property
    def _spark(self) -> SparkEngine:
        def start() -> SparkSession:
            return connect_beside(self._settings) if sail_runs() else start_spark(self._settings)

        return SparkEngine(self._settings, self._catalog, start)

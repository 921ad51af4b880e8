"""The interface of an engine: a session, a frame from a table's files, and staging a frame.

Every table is a function of PySpark frames, so whatever gives a session can compute it. Staged rows are in files that
no reader sees; one commit of the writer publishes them (`lakehouse_assets.storage.warehouse`).
Engines stand above storage, so what the writer asks of one is declared here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from lakehouse_assets.errors import LakehouseError, SetupError
from lakehouse_assets.settings import SettingsError

if TYPE_CHECKING:  # naming an error of an engine must not import one
    from pyiceberg.manifest import DataFile
    from pyiceberg.table import Table as IcebergTable
    from pyiceberg.table import Transaction
    from pyspark.sql import Column, DataFrame, SparkSession


class EngineGone(SetupError):
    """The engine of a run has ended; the message says what to do."""


class ServerGone(SettingsError):
    """The Spark server of a run does not answer or has lost its session; a restarted one may serve the run."""


class OutOfMemory(LakehouseError):
    """A table needs more memory than the engine may use; nothing was published."""


class Staging(Protocol):
    """Rows in files that no reader sees yet."""

    @property
    def files(self) -> Sequence[DataFile]:
        """The staged files; none without rows."""

    @property
    def counted(self) -> Mapping[str, int]:
        """How many staged rows met each condition, and `REPEATS` where rows have a key; empty without rows."""

    def rows(self) -> DataFrame:
        """Exactly the staged rows."""

    def is_abandoned(self, now: IcebergTable) -> bool:
        """Whether maintenance has removed the files, or may be about to."""

    def release(self, transaction: Transaction, now: IcebergTable) -> None:
        """Add to the publishing commit that the files are no longer staged."""

    def is_released(self, now: IcebergTable, wanted: int) -> bool:
        """Whether the table shows that the publishing commit, which made ``wanted`` the current snapshot, happened."""

    def discard(self) -> None:
        """Remove everything that was staged; nothing is published."""


class Engine(Protocol):
    """What computes frames and stages their rows."""

    @property
    def name(self) -> str:
        """The engine's name in runs and commits."""

    @property
    def stages_beside(self) -> bool:
        """Whether it stages a table in a thread while this one does something else."""

    @property
    def session(self) -> SparkSession:
        """The session that makes frames."""

    def check(self) -> None:
        """Raise if the session no longer works.

        Raises:
            EngineGone: it does not.
            ServerGone: it does not, and `begin_again` may help.
        """

    def begin_again(self) -> None:
        """Begin another session where there is none or the one there was is gone, once its server is there.

        Raises:
            ServerGone: it does not come back.
        """

    def read(self, table: IcebergTable, files: Sequence[DataFile]) -> DataFrame:
        """At least the rows of some live files of a table as loaded; columns that the table has."""

    def divided(self, frame: DataFrame, parts: int, key: Sequence[str] = ()) -> DataFrame:
        """A frame whose rows of one write task (`PART`, from 0 on), or of one key, are computed together.

        Args:
            frame: with `PART`.
            parts: how many write tasks there are.
            key: columns that the rows are grouped by next, `DIVIDED` first; none where they are not.
        """

    def gathered(self, frame: DataFrame, *, one_task: bool) -> DataFrame:
        """A frame whose rows of the same `PART` are written by the same task, or all of them by one."""

    def repeats_marked(self, rows: DataFrame, order: Sequence[str], key: Sequence[str]) -> DataFrame:
        """The rows with what `stage` may need to count those that repeat a key; a key's rows are in one write task.

        Args:
            rows: with `PART`.
            order: what `stage` will sort the rows of a write task by.
            key: columns that identify a row.
        """

    def stage(
        self,
        table: IcebergTable,
        rows: DataFrame,
        order: Sequence[str],
        conditions: Mapping[str, Column],
        key: Sequence[str] = (),
    ) -> Staging:
        """Write rows into files of a table that no reader sees.

        Args:
            table: as loaded.
            rows: the table's columns, `PART`, and what the conditions look at. No file holds rows of two months.
            order: what the rows of a write task are sorted by.
            conditions: what to count rows by while they are written.
            key: columns that identify a row, as `repeats_marked` has been told; empty where rows may repeat.
        """

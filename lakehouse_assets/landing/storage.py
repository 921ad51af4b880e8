"""Where the files of a landing zone are: what `Folder` and `Bucket` both do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Protocol

from lakehouse_assets.landing.files import LandedFile, Place

Today = Callable[[], date]


def today_in_utc() -> date:
    """Today in UTC."""
    return datetime.now(tz=UTC).date()


class Storage(Protocol):
    """Where the files of a landing zone are."""

    root: Place
    first: date  # landing dates before it are not read
    today: Today  # nor those after it

    def has(self, dataset: str) -> bool:
        """Whether the dataset's folder exists; false if, for example, a disk is not mounted."""

    def dates(self, dataset: str) -> list[date]:
        """Landing dates that have a folder, in order."""

    def files(self, dataset: str, day: date) -> list[LandedFile]:
        """The complete-looking CSV files of a landing date by name; hidden, temporary and marker files are none.

        What can't be looked at, a file or the whole folder, is among them with its ``trouble``.
        """

    def listing(self, dataset: str) -> dict[date, tuple[LandedFile, ...]]:
        """Every landing date with its files as they are now."""

    def marked(self, dataset: str) -> set[date]:
        """Landing dates whose folder holds `SUCCESS_MARKER`."""

    def is_written_to(self, dataset: str, day: date, quiet_seconds: float) -> bool:
        """Whether a file of a landing date is being written: a program has it open for that and wrote a while ago.

        Where that can't be told, a file counts as written to for some seconds after its last change.
        """

    def remove(self, dataset: str, day: date, files: Sequence[LandedFile]) -> None:
        """Delete files of a landing date, whose folder stays."""

    def staging(self, dataset: str, day: date | None) -> Path:
        """A folder of this machine for a file on its way to a landing date, or to one not known yet."""

    def entries(self) -> Iterator[str]:
        """Everything that lies in the zone, relative to its root, with ``/`` between folder and name.

        A folder in which nothing lies ends with a ``/``.
        """

    def find(self, dataset: str, day: date, name: str) -> LandedFile | None:
        """The file of that name, if there is one that can be looked at."""

    def publish(self, temporary: Path, dataset: str, day: date, name: str) -> Place:
        """Let a staged file appear whole under its name, in the place of an earlier one; where it is."""

    def vacate(self, dataset: str, day: date, name: str) -> None:
        """Delete a file of a landing date if it is there, and the date's folder with it if that holds nothing else."""

    def notes(self, below: str) -> list[str]:
        """What lies in a hidden folder, relative to the root."""

    def read_note(self, entry: str) -> bytes | None:
        """What is in a hidden file; None if it is not there."""

    def write_note(self, entry: str, content: bytes | Path, *, anew: bool = False) -> bool:
        """Let a hidden file appear whole; with ``anew`` only where there is none yet.

        Returns:
            Whether it was written. A path given as content is gone then.
        """

    def publish_note(self, entry: str, dataset: str, day: date, name: str) -> None:
        """Move a hidden file into the place of a delivered one; nothing happens if it is not there any more."""

    def drop_note(self, entry: str) -> None:
        """Delete a hidden file if it is there, and folders that this leaves empty."""

    def alone(self) -> AbstractContextManager[None]:
        """While it lasts, no other process is in here; a bucket has no such lock."""

"""The landing zone: where files are delivered, what lies there, and splitting a file by event date.

What differs between a folder and a bucket is `Folder` and `Bucket`; everything else is said once, in `LandingZone`.
"""

from __future__ import annotations

import csv
import fcntl
import hashlib
import io
import itertools
import json
import os
import re
import shutil
import stat
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Protocol
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lakehouse_assets.calendar import some
from lakehouse_assets.landing import divisions
from lakehouse_assets.landing.csv_files import (
    COMPRESSED_ENDINGS,
    Chunk,
    FileRefused,
    Inspection,
    Lines,
    compression,
    inspect,
    open_bytes,
    open_text_bytes,
    row_blocks,
    rows_over_lines,
)
from lakehouse_assets.landing.divisions import Zones
from lakehouse_assets.settings import EARLIEST_LANDING_DATE, Settings, in_utf8, unreadable_name
from lakehouse_assets.stopping import STOP
from lakehouse_assets.storage.place import check_landing
from lakehouse_assets.storage.s3 import SCHEME, S3Path, Store

DATASETS: Mapping[str, tuple[str, ...]] = {
    "interactions": ("user_id", "timestamp", "action_type", "page_id", "duration_ms", "app_version"),
    "users": ("user_id", "join_date", "country", "device_type", "subscription_type"),
}
SUCCESS_MARKER = "_SUCCESS"  # what Hadoop and Spark write into a folder when it is complete
_SHOWN_BYTES = 100  # of a row that a message shows
_COMPRESSED = "|".join(map(re.escape, COMPRESSED_ENDINGS))
_DELIVERY = re.compile(rf"\.csv({_COMPRESSED})?$", re.IGNORECASE)
_FOLDER = re.compile(r"date=(\d{4}-\d{2}-\d{2})")
_BUFFERED_BYTES = 64 << 20
_LONGEST_NAME_BYTES = 255  # of a file, on every common file system
_COMMA = ord(",")
_SECONDS = len("YYYY-MM-DD HH:MM:SS")
_DIGITS = [0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18]
_TIMESTAMP = re.compile(r"\d{4}-\d{2}-\d{2}[ T]\d{2}:\d{2}:\d{2}([.]\d{1,9})?(Z|[+-]\d{2}(:?\d{2})?)?")
_NO_SIGN_NOR_Z = np.frombuffer(b".:0123456789", np.uint8)
_OFFSET = re.compile(r"[+-]\d{2}(:?\d{2})?$|Z$")
_REFUSED = "refused "  # before a path in the index: why the file can't be read
_UNREADABLE, _SINGLY = 0, -1  # stand beside the ordinals of days

Progress = Callable[[int, int], None]
Today = Callable[[], date]
Place = Any  # a Path, or an S3Path where the zone is a bucket; only the storage has to know


class LandingError(ValueError):
    """A delivery that can't be taken; the message says what to do."""


@dataclass(frozen=True)
class LandedFile:
    """A file as it lies in the landing zone; two looks that differ mean it is still being written.

    Attributes:
        path: where it is.
        size: bytes.
        changed_ns: when it was changed, in ns since 1970.
        etag: what an object store says of its content; its clock may count whole seconds.
        trouble: why it can't be read, where a look at its name and place is enough to tell.
    """

    path: Place
    size: int
    changed_ns: int
    etag: str = ""
    trouble: str = ""

    @property
    def location(self) -> str:
        """What opens it, on any machine that may."""
        return self.path.location if isinstance(self.path, S3Path) else str(self.path)

    @property
    def version(self) -> list[int | str]:
        """What differs when the content may."""
        return [self.size, self.changed_ns, *(text for text in (self.etag, self.trouble) if text)]


Looks = Mapping[str, Mapping[date, tuple[LandedFile, ...]]]  # files by landing date, by dataset
Signatures = Mapping[str, Mapping[str, str]]  # of the files of each landing date (as text), by dataset


def signatures(looks: Looks) -> Signatures:
    """What tells whether two looks differ, in a form to be kept: a short hash of each date's names, sizes and times."""
    return {
        dataset: {
            day.isoformat(): hashlib.sha256(
                json.dumps([(file.path.name, *file.version) for file in files]).encode()
            ).hexdigest()[:16]
            for day, files in days.items()
        }
        for dataset, days in looks.items()
    }


@dataclass(frozen=True)
class Landed:
    """What one `land` did.

    Attributes:
        rows: per landing date; -1 where they were not counted.
        files: what was written.
        replaced: landing dates whose earlier file of the same name gave way.
        unreadable_day: rows whose day can't be read.
        extra: columns that nothing is computed from.
    """

    rows: Mapping[date, int]
    files: Sequence[Place]
    replaced: Sequence[date]
    unreadable_day: int = 0
    extra: Sequence[str] = ()


def _today_in_utc() -> date:
    return datetime.now(tz=UTC).date()


def parse_date(text: str) -> date:
    """A date written as YYYY-MM-DD.

    Raises:
        LandingError: it is anything else.
    """
    try:
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise LandingError(f"{text!r} is no date; write it as YYYY-MM-DD")


class Storage(Protocol):
    """Where the files of a landing zone are."""

    root: Place
    first: date  # landing dates before it are not read
    today: Today  # nor those after it

    def has(self, dataset: str) -> bool:
        """Whether there is a place for its files, with or without any; false when, say, a disk is not mounted."""

    def dates(self, dataset: str) -> list[date]:
        """Landing dates that have a folder, in order."""

    def files(self, dataset: str, day: date) -> list[LandedFile]:
        """The complete-looking CSV files of a landing date by name; hidden, temporary and marker files are none.

        What can't be looked at, a file or the whole folder, is among them with its ``trouble``.
        """

    def look(self, dataset: str) -> dict[date, tuple[LandedFile, ...]]:
        """Every landing date with its files as they are now."""

    def marked(self, dataset: str) -> set[date]:
        """Landing dates whose folder holds `SUCCESS_MARKER`."""

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


def folder_of(root: Place, dataset: str, day: date) -> Place:
    """The folder of one landing date."""
    return root / dataset / f"date={day.isoformat()}"


class Folder:
    """A landing zone in a folder of this machine."""

    def __init__(self, root: Path, first: date = EARLIEST_LANDING_DATE, today: Today = _today_in_utc) -> None:
        self.root, self.first, self.today = root, first, today

    def has(self, dataset: str) -> bool:  # noqa: D102  as declared by Storage, and so below
        return (self.root / dataset).is_dir()

    def dates(self, dataset: str) -> list[date]:  # noqa: D102
        base, first, last = self.root / dataset, self.first, self.today()
        try:
            folders = {day: path for path in base.iterdir() if (day := landing_date(path.name, first, last))}
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise LandingError(f"{base} can't be looked into ({error.strerror}); mend its permissions") from None
        return sorted(day for day, path in folders.items() if _may_be_a_folder(path))

    def files(self, dataset: str, day: date) -> list[LandedFile]:  # noqa: D102
        folder = folder_of(self.root, dataset, day)
        try:
            deliveries = sorted(path for path in folder.iterdir() if _is_delivery(path.name))
        except NotADirectoryError:
            return []
        except OSError as error:
            if not os.path.lexists(folder):
                return []
            return [LandedFile(folder, 0, 0, trouble=f"can't be looked into ({error.strerror}); remove or mend it")]
        return [file for path in deliveries if (file := _look_at(path))]

    def look(self, dataset: str) -> dict[date, tuple[LandedFile, ...]]:  # noqa: D102
        return {day: tuple(self.files(dataset, day)) for day in self.dates(dataset)}

    def marked(self, dataset: str) -> set[date]:  # noqa: D102
        marker = {day: folder_of(self.root, dataset, day) / SUCCESS_MARKER for day in self.dates(dataset)}
        return {day for day, path in marker.items() if os.path.exists(path)}  # noqa: PTH110  false where it can't look

    def remove(self, dataset: str, day: date, files: Sequence[LandedFile]) -> None:  # noqa: D102
        for file in files:
            (folder_of(self.root, dataset, day) / file.path.name).unlink()

    def staging(self, dataset: str, day: date | None) -> Path:  # noqa: D102
        folder = folder_of(self.root, dataset, day) if day else self.root / dataset
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LandingError(
                f"{folder} can't be made ({error.strerror}); LAKEHOUSE_LANDING or LAKEHOUSE_HOME names a writable "
                "folder"
            ) from None
        return folder

    def entries(self) -> Iterator[str]:  # noqa: D102
        for folder, folders, names in os.walk(self.root):
            below = "" if folder == str(self.root) else f"{Path(folder).relative_to(self.root).as_posix()}/"
            yield from (below + name for name in (names if names or folders else [""]))

    def find(self, dataset: str, day: date, name: str) -> LandedFile | None:  # noqa: D102
        path = folder_of(self.root, dataset, day) / name
        return _as_landed(path, path.stat()) if path.exists() else None

    def publish(self, temporary: Path, dataset: str, day: date, name: str) -> Path:  # noqa: D102
        target = folder_of(self.root, dataset, day) / name
        target.parent.mkdir(exist_ok=True)
        temporary.chmod(0o644)
        temporary.replace(target)
        return target

    def vacate(self, dataset: str, day: date, name: str) -> None:  # noqa: D102
        folder = folder_of(self.root, dataset, day)
        (folder / name).unlink(missing_ok=True)
        if folder.is_dir() and {path.name for path in folder.iterdir()} <= {SUCCESS_MARKER}:
            (folder / SUCCESS_MARKER).unlink(missing_ok=True)
            folder.rmdir()

    def notes(self, below: str) -> list[str]:  # noqa: D102
        found = (self.root / below).rglob("*")
        return sorted(path.relative_to(self.root).as_posix() for path in found if path.is_file())

    def read_note(self, entry: str) -> bytes | None:  # noqa: D102
        try:
            return (self.root / entry).read_bytes()
        except FileNotFoundError:
            return None

    def write_note(self, entry: str, content: bytes | Path, *, anew: bool = False) -> bool:  # noqa: D102
        target = self.root / entry
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = content if isinstance(content, Path) else target.with_name(f".{uuid.uuid4().hex}.tmp")
        if isinstance(content, bytes):
            temporary.write_bytes(content)
        temporary.chmod(0o644)
        if not anew:
            temporary.replace(target)
            return True
        try:
            target.hardlink_to(temporary)
        except FileExistsError:
            return False
        finally:
            temporary.unlink()
        return True

    def publish_note(self, entry: str, dataset: str, day: date, name: str) -> None:  # noqa: D102
        folder = folder_of(self.root, dataset, day)
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            (self.root / entry).replace(folder / name)

    def drop_note(self, entry: str) -> None:  # noqa: D102
        path = self.root / entry
        path.unlink(missing_ok=True)
        for folder in path.parents[: len(Path(entry).parts) - 2]:  # not the dataset's own folder
            try:
                folder.rmdir()
            except OSError:  # it holds more, or is gone
                break

    @contextmanager
    def alone(self) -> Iterator[None]:  # noqa: D102
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


class Bucket:
    """A landing zone in an S3 store: objects ``<root>/<dataset>/date=YYYY-MM-DD/<name>``."""

    def __init__(
        self, store: Store, address: str, first: date = EARLIEST_LANDING_DATE, today: Today = _today_in_utc
    ) -> None:
        self.root, self.first, self.today = store.path(address), first, today
        self._store = store

    def _objects(self, below: str, **options: Any) -> Iterator[Mapping[str, Any]]:
        """The pages of a listing."""
        with self._store.errors(self.root):
            pages = self._store.client.get_paginator("list_objects_v2")
            prefix = "".join(f"{part}/" for part in (self.root.key, below) if part)
            yield from pages.paginate(Bucket=self.root.bucket, Prefix=prefix, **options)

    def _listed(self, below: str) -> Iterator[tuple[date, str, Mapping[str, Any]]]:
        """Landing date, name and entry of every object right in a date's folder."""
        today = self.today()
        for page in self._objects(below):
            for entry in page.get("Contents", ()):
                folder, _, name = entry["Key"].rpartition("/")
                above, _, last = folder.rpartition("/")
                day = landing_date(last, self.first, today)
                if day and above == (self.root / below.partition("/")[0]).key:
                    yield day, name, entry

    def has(self, dataset: str) -> bool:  # noqa: D102
        return True  # a store has no folders, and says so itself when the bucket is not there

    def dates(self, dataset: str) -> list[date]:  # noqa: D102
        found = set()
        for page in self._objects(dataset, Delimiter="/"):
            for prefix in page.get("CommonPrefixes", ()):
                found.add(landing_date(prefix["Prefix"].rstrip("/").rpartition("/")[2], self.first, self.today()))
        return sorted(day for day in found if day)

    def files(self, dataset: str, day: date) -> list[LandedFile]:  # noqa: D102
        below = f"{dataset}/date={day.isoformat()}"
        return [self._file(entry) for _, name, entry in self._listed(below) if _is_delivery(name)]

    def look(self, dataset: str) -> dict[date, tuple[LandedFile, ...]]:  # noqa: D102
        found: dict[date, tuple[LandedFile, ...]] = {}
        for day, name, entry in self._listed(dataset):
            found[day] = (*found.get(day, ()), *([self._file(entry)] if _is_delivery(name) else []))
        return found

    def marked(self, dataset: str) -> set[date]:  # noqa: D102
        return {day for day, name, _ in self._listed(dataset) if name == SUCCESS_MARKER}

    def remove(self, dataset: str, day: date, files: Sequence[LandedFile]) -> None:  # noqa: D102
        folder = folder_of(self.root, dataset, day)
        with self._store.errors(folder):
            # an empty object of the folder's own name is what keeps a folder in a store that has none
            self._store.client.put_object(Bucket=folder.bucket, Key=f"{folder.key}/", Body=b"")
            for file in files:
                self._store.client.delete_object(Bucket=folder.bucket, Key=f"{folder.key}/{file.path.name}")

    def staging(self, dataset: str, day: date | None) -> Path:  # noqa: D102
        return Path(tempfile.gettempdir())

    def entries(self) -> Iterator[str]:  # noqa: D102
        for page in self._objects(""):
            yield from (entry["Key"].removeprefix(f"{self.root.key}/") for entry in page.get("Contents", ()))

    def find(self, dataset: str, day: date, name: str) -> LandedFile | None:  # noqa: D102
        return next((file for file in self.files(dataset, day) if file.path.name == name), None)

    def publish(self, temporary: Path, dataset: str, day: date, name: str) -> S3Path:  # noqa: D102
        target = folder_of(self.root, dataset, day) / name
        with self._store.errors(target):
            self._store.client.upload_file(str(temporary), target.bucket, target.key)  # appears whole or not at all
        temporary.unlink()
        return target

    def vacate(self, dataset: str, day: date, name: str) -> None:  # noqa: D102
        below = f"{dataset}/date={day.isoformat()}"
        folder = folder_of(self.root, dataset, day)
        with self._store.errors(folder):
            self._store.client.delete_object(Bucket=folder.bucket, Key=f"{folder.key}/{name}")
            left = {found for _, found, _ in self._listed(below)}
            if left <= {SUCCESS_MARKER, ""}:  # "" is the folder's own object
                for last in left:
                    self._store.client.delete_object(Bucket=folder.bucket, Key=f"{folder.key}/{last}")

    def notes(self, below: str) -> list[str]:  # noqa: D102
        return [
            entry["Key"].removeprefix(f"{self.root.key}/" if self.root.key else "")
            for page in self._objects(below)
            for entry in page.get("Contents", ())
        ]

    def read_note(self, entry: str) -> bytes | None:  # noqa: D102
        place = self.root / entry
        with self._store.errors(place):
            try:
                return bytes(self._store.client.get_object(Bucket=place.bucket, Key=place.key)["Body"].read())
            except self._store.client.exceptions.NoSuchKey:
                return None

    def write_note(self, entry: str, content: bytes | Path, *, anew: bool = False) -> bool:  # noqa: D102
        place = self.root / entry
        with self._store.errors(place):
            if isinstance(content, Path):
                self._store.client.upload_file(str(content), place.bucket, place.key)
                content.unlink()
                return True
            try:
                condition = {"IfNoneMatch": "*"} if anew else {}
                self._store.client.put_object(Bucket=place.bucket, Key=place.key, Body=content, **condition)
            except self._store.client.exceptions.ClientError as error:
                if error.response.get("Error", {}).get("Code") not in (
                    "PreconditionFailed",
                    "ConditionalRequestConflict",
                ):
                    raise
                return False
            return True

    def publish_note(self, entry: str, dataset: str, day: date, name: str) -> None:  # noqa: D102
        place, target = self.root / entry, folder_of(self.root, dataset, day) / name
        source = {"Bucket": place.bucket, "Key": place.key}
        with self._store.errors(target):
            try:
                self._store.client.copy(source, target.bucket, target.key)
            except self._store.client.exceptions.ClientError as error:
                if error.response.get("Error", {}).get("Code") not in ("404", "NoSuchKey"):
                    raise
        self.drop_note(entry)

    def drop_note(self, entry: str) -> None:  # noqa: D102
        place = self.root / entry
        with self._store.errors(place):
            self._store.client.delete_object(Bucket=place.bucket, Key=place.key)

    def alone(self) -> AbstractContextManager[None]:  # noqa: D102
        return nullcontext()

    def _file(self, entry: Mapping[str, Any]) -> LandedFile:
        path = S3Path(self.root.bucket, entry["Key"], self.root.region, self.root.endpoint)
        return LandedFile(path, entry["Size"], int(entry["LastModified"].timestamp() * 1e9), entry["ETag"])


def _as_landed(path: Path, status: os.stat_result) -> LandedFile:
    return LandedFile(path, status.st_size, max(status.st_mtime_ns, status.st_ctime_ns))


def _look_at(path: Path) -> LandedFile | None:
    """What lies under a delivery's name; None for a folder."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return LandedFile(path, 0, 0, trouble="is a link to a file that does not exist; remove or mend it")
    except OSError as error:
        return LandedFile(path, 0, 0, trouble=f"can't be looked at ({error.strerror}); remove or mend it")
    if stat.S_ISDIR(status.st_mode):
        return None
    file = _as_landed(path, status)
    if not stat.S_ISREG(status.st_mode):  # whoever opened a pipe would wait for ever
        return replace(file, trouble="is a pipe or a device and no file; remove it")
    return replace(file, trouble=unreadable_name(path.name))


def _may_be_a_folder(path: Path) -> bool:
    """Whether it is a folder, or can't be looked at, which `Folder.files` tells of."""
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except OSError:
        return True


def _is_delivery(name: str) -> bool:
    return not _is_set_aside(name) and bool(_DELIVERY.search(name))


def _is_set_aside(name: str) -> bool:
    return name.startswith((".", "_"))


def _is_stray(entry: str, first: date, last: date) -> bool:
    folder, _, name = entry.rpartition("/")
    dataset, _, day = folder.partition("/")
    if any(map(_is_set_aside, entry.rstrip("/").split("/"))):
        return False
    if not name:  # an empty folder is one of nobody's, unless somebody took it for a date's
        return dataset in DATASETS and day.lower().startswith("date=") and not landing_date(day, first, last)
    if name.endswith(".tmp"):
        return False
    return not (dataset in DATASETS and landing_date(day, first, last) and _is_delivery(name))


def landing_date(folder: str, first: date, last: date) -> date | None:
    """The landing date that a folder's name says; None for any other name, and dates not of ``first`` … ``last``."""
    try:
        day = date.fromisoformat(folder.removeprefix("date=")) if _FOLDER.fullmatch(folder) else None
    except ValueError:
        return None
    return day if day and first <= day <= last else None


class LandingZone:
    """Files of each dataset by landing date, in folders ``<dataset>/date=YYYY-MM-DD``."""

    def __init__(self, storage: Storage | Path, index: Path | None = None, *, marker: bool = False) -> None:
        """A landing zone.

        Args:
            storage: where the files are; a path is a folder.
            index: where fingerprints and refusals are remembered between processes, by place in the zone, size and time
                of change.
            marker: a date is complete once its folder holds `SUCCESS_MARKER`, and not before.
        """
        self.storage: Storage = Folder(storage) if isinstance(storage, Path) else storage
        self._index = index
        self._marker = marker
        self._inspections: dict[LandedFile, Inspection] = {}
        self._fingerprints: dict[str, list[Any]] | None = None
        self._learned = False  # whether the index lacks something

    @property
    def root(self) -> Place:
        """What all of it is in."""
        return self.storage.root

    def folder(self, dataset: str, day: date) -> Place:
        """The folder of one landing date."""
        return folder_of(self.root, dataset, day)

    def dates(self, dataset: str) -> list[date]:
        """Landing dates that have a folder, in order."""
        return self.storage.dates(dataset)

    def files(self, dataset: str, day: date) -> list[LandedFile]:
        """The complete-looking CSV files of a landing date by name; hidden, temporary and marker files are none.

        What can't be looked at, a file or the whole folder, is among them with its ``trouble``.
        """
        return self.storage.files(dataset, day)

    def remove_before(self, dataset: str, first_kept: date, *, dry_run: bool = False) -> tuple[int, int]:
        """Delete the files of earlier landing dates; the dates' folders stay, as partitions begin at the first one.

        Args:
            dataset: ``interactions`` or ``users``.
            first_kept: the first landing date whose files stay.
            dry_run: only look.

        Returns:
            Files and bytes.
        """
        looked = {
            day: files
            for day, found in self.look(dataset).items()
            if day < first_kept and (files := [file for file in found if not file.trouble])
        }
        if not dry_run:
            for day, files in looked.items():
                self.storage.remove(dataset, day, files)
        every = [file for files in looked.values() for file in files]
        return len(every), sum(file.size for file in every)

    def look(self, dataset: str) -> dict[date, tuple[LandedFile, ...]]:
        """Every landing date with its files as they are now."""
        return self.storage.look(dataset)

    def strays(self) -> list[Place]:
        """What lies in the zone and is read by nobody, because of its folder or its name.

        Hidden files, markers and temporary files are left out on purpose and are not among them.
        """
        first, last = self.storage.first, self.storage.today()
        return [self.root / entry for entry in sorted(self.storage.entries()) if _is_stray(entry, first, last)]

    def look_at_all(self) -> Looks:
        """Every dataset's landing dates with their files as they are now."""
        return {dataset: self.look(dataset) for dataset in DATASETS}

    def incomplete(self, before: Signatures, now: Signatures) -> set[tuple[str, date]]:
        """Datasets and landing dates that may still be written to, and so are left for a later run.

        With a marker that is every date without one; else every date whose files are not those of the look ``before``.
        """
        days = {(dataset, day) for looks in (before, now) for dataset, found in looks.items() for day in found}
        marked = {dataset: self.storage.marked(dataset) for dataset in DATASETS} if self._marker else {}
        return {
            (dataset, date.fromisoformat(day))
            for dataset, day in days
            if (
                date.fromisoformat(day) not in marked[dataset]
                if self._marker
                else before.get(dataset, {}).get(day) != now.get(dataset, {}).get(day)
            )
        }

    def inspect(self, dataset: str, file: LandedFile) -> Inspection:
        """Look into a file; a second look at an unchanged one is free.

        Raises:
            FileRefused: the file can't be what it claims to be.
        """
        if file.trouble:
            raise FileRefused(file.path, file.trouble)
        if file not in self._inspections:
            try:
                self._inspections[file] = inspect(file.path, DATASETS[dataset])
            except FileRefused as error:
                self._remember(file, str(error), _REFUSED)
                raise
            self._known().pop(_REFUSED + self._key(file), None)
            self._remember(file, self._inspections[file].sha256)
        return self._inspections[file]

    def known_refusal(self, file: LandedFile) -> str | None:
        """What an earlier look, by this process or another, found wrong with a file; it is not read for that."""
        if file.trouble:
            return str(FileRefused(file.path, file.trouble))
        known = self._known().get(_REFUSED + self._key(file), [])
        return str(known[-1]) if known[:-1] == file.version else None

    def fingerprint(self, file: LandedFile) -> str:
        """SHA-256 of a file's content; read only when its size or time of change is new.

        Raises:
            FileRefused: it can't be read.
        """
        if file.trouble:
            raise FileRefused(file.path, file.trouble)
        known = self._known().get(self._key(file))
        if known and known[:-1] == file.version:
            return str(known[-1])
        try:
            stream, _ = open_bytes(file.location)
            with stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            if isinstance(file.path, S3Path):
                raise
            raise FileRefused(file.path, f"can't be read ({error.strerror})") from None
        self._remember(file, digest)
        return digest

    def new_bytes(self, looks: Looks) -> int:
        """Bytes of files whose content no earlier process left in the index: about what is there to compute.

        A file whose size is known and whose time is not, as in a copy of a lakehouse, is read to see whether it is new.
        """
        files = [file for look in looks.values() for delivered in look.values() for file in delivered]
        return sum(file.size for file in files if self._is_new(file))

    def _is_new(self, file: LandedFile) -> bool:
        known = self._known().get(self._key(file))
        return not known or known[0] != file.size or known[-1] != self.fingerprint(file)

    def save_index(self) -> None:
        """Keep the fingerprints for the next process, where it can be done; else it reads the files again."""
        if self._index and self._learned and os.access(self._index.parent, os.W_OK):
            temporary = self._index.with_suffix(f".{os.getpid()}.tmp")
            temporary.write_text(json.dumps(self._fingerprints))
            temporary.replace(self._index)
            self._learned = False

    def _known(self) -> dict[str, list[Any]]:
        if self._fingerprints is None:
            try:
                kept = json.loads(self._index.read_text()) if self._index else {}
            except (FileNotFoundError, json.JSONDecodeError):
                kept = {}
            self._fingerprints = {_place_in_zone(key): known for key, known in kept.items()}
        return self._fingerprints

    def _key(self, file: LandedFile) -> str:
        """A file's place in the zone: the same where a whole lakehouse is moved or copied."""
        return _place_in_zone(str(file.path))

    def _remember(self, file: LandedFile, what: str, kind: str = "") -> None:
        self._known()[kind + self._key(file)] = [*file.version, what]
        self._learned = True


def _place_in_zone(key: str) -> str:
    """A key of the index without the path of the zone, which earlier versions wrote into it."""
    refused = _REFUSED if key.startswith(_REFUSED) else ""
    return refused + "/".join(key.removeprefix(_REFUSED).split("/")[-3:])


def landing_zone(settings: Settings) -> LandingZone:
    """The landing zone that the settings describe.

    Raises:
        StorageError: it is in an S3 store that can't be used.
        WrongPlace: it is another lakehouse's, which this one is a copy of.
    """
    check_landing(settings)
    storage: Storage
    if settings.landing_uri.startswith(SCHEME):
        store = Store(settings)
        store.check(settings.landing_uri)
        storage = Bucket(store, settings.landing_uri, settings.start_date, settings.today)
    else:
        storage = Folder(Path(settings.landing_uri), settings.start_date, settings.today)
    return LandingZone(storage, settings.home_path / "landing-index.json", marker=settings.success_marker)


def deliver(
    zone: LandingZone,
    dataset: str,
    source: Path,
    day: date,
    renames: Mapping[str, str],
    *,
    today: date | None = None,
    replace: bool = False,
) -> Landed:
    """Deliver a file as it is under one landing date; only its header changes, and only with ``renames``.

    An earlier file of the same name gives way, but not to one with fewer rows, unless ``replace`` says so.

    Args:
        zone: the landing zone.
        dataset: ``interactions`` or ``users``.
        source: the file.
        day: landing date.
        renames: our column name -> theirs.
        today: the last landing date there may be; default today in UTC.
        replace: the file may have fewer rows than the one it replaces.

    Raises:
        FileRefused: the file can't be what it claims to be.
        LandingError: the file or the date can't be used, or the date would have fewer rows than before.
    """
    _check_day(day, today or datetime.now(tz=UTC).date())
    _check_source(source)
    columns = [renames.get(name, name) for name in DATASETS[dataset]]
    inspection = inspect(source, columns)
    name = _target_name(source, keep_compression=not renames)
    earlier = zone.storage.find(dataset, day, name)
    if earlier and not replace:
        _check_replaced(dataset, name, day, earlier, _count_rows(whole_file(inspection, columns)))
    folder = zone.storage.staging(dataset, day)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".", suffix=".tmp", delete=False) as sink:
        try:
            with source.open("rb") if not renames else open_text_bytes(source) as stream:
                if renames:
                    sink.write(
                        _renamed_header(inspection, renames, b"\r" if inspection.carriage_returns_only else b"\n")
                    )
                    stream.read(inspection.data_start)
                shutil.copyfileobj(stream, sink, 4 << 20)
        except BaseException:
            Path(sink.name).unlink()
            raise
    if dataset == "interactions":
        divisions.withdraw(zone.storage, name, day)
    target = zone.storage.publish(Path(sink.name), dataset, day, name)
    return Landed({day: -1}, [target], [day] if earlier else [], extra=inspection.extra)


def split(
    zone: LandingZone,
    source: Path,
    renames: Mapping[str, str],
    *,
    input_zone: ZoneInfo,
    reporting_zone: ZoneInfo,
    progress: Progress | None = None,
    today: date | None = None,
    replace: bool = False,
) -> Landed:
    """Split a file of interactions by event date, in one pass and bounded memory, rows kept byte for byte.

    A row whose day can't be read, or lies outside 2000-01-01 … today, goes to the file's last date: it is rejected
    there and never lost. An earlier file of the same name gives way, but not to one with fewer rows of that date,
    unless ``replace`` says so.

    Raises:
        FileRefused: the file can't be what it claims to be.
        LandingError: no row has a usable day, or a date would have fewer rows than before.
    """
    _check_source(source)
    columns = [renames.get(name, name) for name in DATASETS["interactions"]]
    inspection = inspect(source, columns)
    days = DayReader(
        inspection.header,
        inspection.header.index(renames.get("timestamp", "timestamp")),
        input_zone,
        reporting_zone,
        today or datetime.now(tz=UTC).date(),
    )
    with ExitStack() as stack:
        zones = Zones(input_zone.key, reporting_zone.key)
        header = _renamed_header(inspection, renames)
        sinks = Sinks(zone, _target_name(source, keep_compression=False), header, zones)
        stack.callback(sinks.discard)
        done = 0
        for block in row_blocks(whole_file(inspection, columns), keep_long_rows=True):
            for day, rows, count in days.divide(block):
                sinks.write(day, rows, count)
            done += len(block)
            if progress:
                progress(done, inspection.text_size)
        return sinks.publish(inspection.extra, replace=replace)


def whole_file(inspection: Inspection, columns: Sequence[str]) -> Chunk:
    """All of a file as one part, of which the columns are wanted."""
    return Chunk(
        path=inspection.path,
        size=inspection.size,
        header=inspection.header,
        columns=tuple(columns),
        start=inspection.data_start,
        end=-1,
        quoted=inspection.quoted,
        carriage_returns_only=inspection.carriage_returns_only,
    )


def _check_replaced(dataset: str, name: str, day: date, earlier: LandedFile, rows: int) -> None:
    """Refuse a file with fewer rows than the landed one it would replace; one that can't be read may go.

    Nobody's rows are to vanish because the next export has the name of the last.
    """
    columns = DATASETS[dataset]
    try:
        before = _count_rows(whole_file(inspect(earlier.path, columns), columns))
    except FileRefused:
        return
    if rows < before:
        raise LandingError(
            f"{name} has {some(rows, 'row')} of {day}, and the {name} landed before, which it would replace, has "
            f"{before:,}; rename it to add its rows, or say --replace"
        )


def _count_rows(whole: Chunk) -> int:
    """Rows of a file; one that is too long counts too."""
    rows = 0
    for block in row_blocks(whole):
        lines = Lines.of(block)
        over_lines, _ = rows_over_lines(lines, len(whole.header))
        rows += len(lines.ends) - sum(last - first for first, last in over_lines.items())
    return rows


def _check_day(day: date, today: date) -> None:
    if not EARLIEST_LANDING_DATE <= day <= today:
        raise LandingError(f"--date {day} is outside {EARLIEST_LANDING_DATE} … {today}, today")


def _check_source(source: Path) -> None:
    if wrong := unreadable_name(source.name):
        raise LandingError(f"{in_utf8(source)}: {wrong}")
    if not source.exists():
        raise LandingError(f"{source}: there is no such file")
    if not source.is_file():
        raise LandingError(f"{source}: is a folder; name the files in it")
    if not os.access(source, os.R_OK):
        raise LandingError(f"{source}: may not be read by this user")


def _target_name(source: Path, *, keep_compression: bool) -> str:
    name = source.name.lstrip("._") or "delivery"
    stem = re.sub(rf"(\.(csv|txt|tsv|log))?({_COMPRESSED})?$", "", name, flags=re.IGNORECASE)
    with source.open("rb") as stream:
        target = f"{stem}.csv{compression(stream)[1] if keep_compression else ''}"
    size = len(os.fsencode(target))
    if size > _LONGEST_NAME_BYTES:
        raise LandingError(
            f"{source}: landed as {target[-40:]} its name would have {size} bytes, and names of files end at "
            f"{_LONGEST_NAME_BYTES}; rename it"
        )
    return target


def _renamed_header(inspection: Inspection, renames: Mapping[str, str], line_end: bytes = b"\n") -> bytes:
    theirs = {their: ours for ours, their in renames.items()}
    return header_line([theirs.get(name, name) for name in inspection.header], line_end)


def header_line(names: Sequence[str], line_end: bytes = b"\n") -> bytes:
    """The first line of a landed file."""
    return ",".join(map(_quote, names)).encode() + line_end


def _quote(name: str) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow([name])
    return out.getvalue()


@dataclass
class Sinks:
    """Rows on their way into one file per date, written under hidden names until all are complete."""

    zone: LandingZone
    name: str
    header: bytes
    zones: Zones | None = None  # whose days divide the rows, to be noted where the files are published here
    buffers: dict[date | None, list[bytes]] = field(default_factory=dict)
    counts: dict[date | None, int] = field(default_factory=dict)
    temporary: dict[date | None, Path] = field(default_factory=dict)
    buffered: int = 0

    def write(self, day: date | None, rows: bytes, count: int) -> None:
        """Add rows to the file of a date, or to those without a readable day."""
        self.buffers.setdefault(day, []).append(rows)
        self.counts[day] = self.counts.get(day, 0) + count
        self.buffered += len(rows)
        if self.buffered > _BUFFERED_BYTES:
            self._flush()

    def _flush(self) -> None:
        for day, rows in self.buffers.items():
            if day not in self.temporary:
                folder = self.zone.storage.staging("interactions", None)
                handle, path = tempfile.mkstemp(dir=folder, prefix=".", suffix=".tmp")
                os.close(handle)
                self.temporary[day] = Path(path)
                self.temporary[day].write_bytes(self.header if day else b"")
            with self.temporary[day].open("ab") as sink:
                sink.writelines(rows)
        self.buffers, self.buffered = {}, 0

    def settle(self, last: date) -> int:
        """Let every row be in a file, those without a readable day in that of a date; how many these are."""
        self._flush()
        unreadable = self.counts.pop(None, 0)
        if unreadable:
            rest = self.temporary.pop(None)
            self.write(last, b"", unreadable)
            self._flush()
            with rest.open("rb") as stream, self.temporary[last].open("ab") as sink:
                shutil.copyfileobj(stream, sink)
            rest.unlink()
        return unreadable

    def publish(self, extra: Sequence[str], *, replace: bool) -> Landed:
        """Let all files appear, each in the place of an earlier one of its name."""
        readable = sorted(day for day in self.counts if day)
        if not readable and None not in self.counts:
            raise LandingError(
                f"{self.name} has a header and no rows, so it has no date of its own; deliver it with --date D"
            )
        if not readable:
            self._flush()
            with self.temporary[None].open("rb") as stream:
                row = stream.readline(_SHOWN_BYTES).decode("utf-8", "replace").strip()
            raise LandingError(
                f"no timestamp in {self.name} is readable: expected YYYY-MM-DD HH:MM:SS, "
                f"{EARLIEST_LANDING_DATE} … today, found in its first row {row!r}; "
                "convert the column, or name another one with --map timestamp=NAME"
            )
        unreadable = self.settle(readable[-1])
        storage = self.zone.storage
        earlier = {day: file for day in readable if (file := storage.find("interactions", day, self.name))}
        for day, file in earlier.items():
            if not replace:
                _check_replaced("interactions", self.name, day, file, self.counts[day])
        if self.zones:  # before the first file is there: a date that never comes does no harm
            divisions.add(storage, self.name, self.zones, readable)
        files = []
        with STOP.whole(f"lakehouse: stopped while {self.name} was landed, some of its days are; land it again"):
            for day in readable:
                files.append(storage.publish(self.temporary[day], "interactions", day, self.name))
                del self.temporary[day]
        return Landed({day: self.counts[day] for day in readable}, files, list(earlier), unreadable, extra)

    def discard(self) -> None:
        """Delete what is not published."""
        for path in self.temporary.values():
            path.unlink(missing_ok=True)


class DayReader:
    """Tells the event date of rows, a block at a time, without touching the plain ones singly in Python."""

    def __init__(
        self, header: Sequence[str], timestamp_at: int, input_zone: ZoneInfo, reporting_zone: ZoneInfo, today: date
    ) -> None:
        self.width = len(header)
        self.timestamp_at = timestamp_at
        self.input_zone = input_zone
        self.reporting_zone = reporting_zone
        self.today = today
        # what of a text decides its day: the date where no zone can move it, else also the minute
        self._deciding = 10 if input_zone == reporting_zone else 16
        self._days: dict[bytes, int] = {}

    def divide(self, block: bytes) -> Iterator[tuple[date | None, bytes, int]]:
        """Parts of a block of whole rows with their day (None: unreadable) and number of rows."""
        lines = Lines.of(block)
        over_lines, _ = rows_over_lines(lines, self.width)
        quoted = np.zeros(len(lines.ends), bool)
        singles = []
        for first in np.flatnonzero(lines.quotes).tolist():
            if not quoted[first]:
                last = over_lines.get(first, first)
                singles.append(lines.text(first, last))
                quoted[first : last + 1] = True
        days = self._days_of_plain(lines, ~quoted)
        unquoted = (lines.text(line, line) for line in np.flatnonzero((days == _SINGLY) & ~quoted).tolist())
        singles += [text for text in unquoted if text.strip(b"\r\n")]  # a blank line is no row
        for row, day in zip(singles, self._days_of_rows(singles), strict=True):
            yield day, row, 1
        bounds = [0, *(np.flatnonzero(days[1:] != days[:-1]) + 1).tolist(), len(days)]
        if len(bounds) * 20 < len(days):  # in order of time, as logs are: whole stretches at once
            for low, high in itertools.pairwise(bounds):
                if days[low] != _SINGLY:
                    yield _as_day(int(days[low])), lines.text(low, high - 1), high - low
            return
        rows = lines.as_array()
        order = np.argsort(days, kind="stable")
        for taken in np.split(order, np.flatnonzero(np.diff(days[order])) + 1):
            ordinal = int(days[taken[0]]) if len(taken) else _SINGLY
            if ordinal != _SINGLY:
                yield _as_day(ordinal), rows.take(pa.array(taken)).buffers()[2].to_pybytes(), len(taken)

    def _days_of_plain(self, every: Lines, plain: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """The day of each line that is an unquoted row with a timestamp without an offset; `_SINGLY` for the rest."""
        data, starts, ends = every.data, every.starts, every.ends
        days = np.full(len(ends), _SINGLY, np.int64)
        commas = np.flatnonzero(data == _COMMA)
        before = np.searchsorted(commas, starts)
        lines = np.flatnonzero(plain & (np.searchsorted(commas, ends) - before == self.width - 1))
        if not len(lines):
            return days
        begin, first_comma = starts[lines], before[lines]
        at = commas[first_comma + self.timestamp_at - 1] + 1 if self.timestamp_at else begin
        last = self.timestamp_at == self.width - 1
        stop = ends[lines] - 1 if last else commas[first_comma + self.timestamp_at]
        whole = np.flatnonzero(stop - at >= _SECONDS)
        lines, at, stop = lines[whole], at[whole], stop[whole]
        texts = data[at[:, None] + np.arange(_SECONDS)]
        shaped = ((texts[:, _DIGITS] >= ord("0")) & (texts[:, _DIGITS] <= ord("9"))).all(axis=1)
        shaped &= (texts[:, [4, 7]] == ord("-")).all(axis=1) & (texts[:, [13, 16]] == ord(":")).all(axis=1)
        shaped &= (texts[:, 10] == ord(" ")) | (texts[:, 10] == ord("T"))
        shaped &= (stop - at == _SECONDS) | (
            # a fraction and no offset, whose sign would be the third, fifth or sixth character from the end
            (data[np.minimum(at + _SECONDS, len(data) - 1)] == ord("."))
            & (stop - at > _SECONDS + 1)
            & (stop - at <= _SECONDS + 10)
            & np.isin(data[stop[:, None] - [1, 3, 5, 6]], _NO_SIGN_NOR_Z).all(axis=1)
        )
        if self.input_zone.key == "UTC":  # then a Z changes nothing either
            shaped |= (stop - at == _SECONDS + 1) & (data[stop - 1] == ord("Z"))
        lines, texts = lines[shaped], np.ascontiguousarray(texts[shaped, : self._deciding])
        if len(lines):
            keys = texts.view(f"S{self._deciding}").ravel()
            heads = np.concatenate(([True], keys[1:] != keys[:-1]))
            found = np.array([self._day_of_key(bytes(key)) for key in keys[heads]], np.int64)
            days[lines] = found[np.cumsum(heads) - 1]
        return days

    def _day_of_key(self, key: bytes) -> int:
        if key not in self._days:
            day = self._day_of_text(key.decode("ascii") + "0000-00-00 00:00:00"[len(key) :])
            self._days[key] = _UNREADABLE if day is None else day.toordinal()
        return self._days[key]

    def _days_of_rows(self, rows: Sequence[bytes]) -> list[date | None]:
        """The day of each row, with quotes or without."""
        texts = [row.decode("utf-8", "replace") for row in rows]
        try:
            parsed = list(csv.reader(texts, strict=True))
        except csv.Error:
            parsed = []
        if len(parsed) != len(texts):  # a row over several lines, or one that is no CSV: each by itself
            parsed = [_values(text) for text in texts]
        return [
            self._day_of_text(values[self.timestamp_at])
            if len(values) == self.width and _TIMESTAMP.fullmatch(values[self.timestamp_at])
            else None
            for values in parsed
        ]

    def _day_of_text(self, text: str) -> date | None:
        try:
            if self._deciding == 10 and not _OFFSET.search(text):
                day = date.fromisoformat(text[:10])
            else:
                instant = datetime.fromisoformat(text)
                day = (
                    (instant if instant.tzinfo else instant.replace(tzinfo=self.input_zone))
                    .astimezone(self.reporting_zone)
                    .date()
                )
        except (ValueError, OverflowError):
            return None
        return day if EARLIEST_LANDING_DATE <= day <= self.today else None


def _as_day(ordinal: int) -> date | None:
    return None if ordinal == _UNREADABLE else date.fromordinal(ordinal)


def _values(row: str) -> list[str]:
    try:
        return next(csv.reader(io.StringIO(row, newline=""), strict=True), [])
    except csv.Error:
        return []

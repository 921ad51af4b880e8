"""The landing zone: its files by dataset and landing date, and what is known of each file.

What differs between a folder and a bucket is `Folder` and `Bucket`; everything else is said once, in `LandingZone`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

from lakehouse_assets.addresses import on_s3
from lakehouse_assets.assets.datasets import DATASETS
from lakehouse_assets.calendar import DAY
from lakehouse_assets.landing.bucket import Bucket
from lakehouse_assets.landing.files import LandedFile, Place, folder_of, is_delivery, is_stray, landing_date
from lakehouse_assets.landing.folder import Folder
from lakehouse_assets.landing.headers import Inspection, inspect
from lakehouse_assets.landing.storage import Storage
from lakehouse_assets.landing.text_files import FileRefused, open_bytes
from lakehouse_assets.settings import EARLIEST_LANDING_DATE, Settings
from lakehouse_assets.storage.place import check_landing
from lakehouse_assets.storage.s3 import S3Path, Store

_READERS = 16  # files that are looked into at once: a store answers late, and hashing leaves other threads alone
_REFUSED = "refused "  # before a path in the index: why the file can't be read

Listings = Mapping[str, Mapping[date, tuple[LandedFile, ...]]]  # files by landing date, by dataset
Signatures = Mapping[str, Mapping[str, str]]  # of the files of each landing date (as text), by dataset


def signatures(listings: Listings) -> Signatures:
    """What tells whether two listings differ, to be kept: a short hash of each date's names, sizes and times."""
    return {
        dataset: {
            day.isoformat(): hashlib.sha256(
                json.dumps([(file.path.name, *file.version) for file in files]).encode()
            ).hexdigest()[:16]
            for day, files in days.items()
        }
        for dataset, days in listings.items()
    }


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
            for day, found in self.listing(dataset).items()
            if day < first_kept and (files := [file for file in found if not file.trouble])
        }
        if not dry_run:
            for day, files in looked.items():
                self.storage.remove(dataset, day, files)
        every = [file for files in looked.values() for file in files]
        return len(every), sum(file.size for file in every)

    def listing(self, dataset: str) -> dict[date, tuple[LandedFile, ...]]:
        """Every landing date with its files as they are now."""
        return self.storage.listing(dataset)

    def strays(self) -> list[Place]:
        """Files in the landing zone that are ignored because of their folder or name.

        Hidden files, markers and temporary files are left out on purpose and are not among them.
        """
        first, last = self.storage.first, self.storage.today()
        return [self.root / entry for entry in sorted(self.storage.entries()) if is_stray(entry, first, last)]

    def days_before_start(self) -> list[date]:
        """Landing dates with files that are not read because the lakehouse starts later, in order."""
        first = self.storage.first
        if first == EARLIEST_LANDING_DATE:
            return []
        found = set()
        for entry in self.storage.entries():
            dataset, folder, name = (*entry.split("/"), "", "")[:3]
            day = landing_date(folder, EARLIEST_LANDING_DATE, first - DAY)
            if dataset in DATASETS and day and is_delivery(name):
                found.add(day)
        return sorted(found)

    def listings(self) -> Listings:
        """Every dataset's landing dates with their files as they are now."""
        return {dataset: self.listing(dataset) for dataset in DATASETS}

    def incomplete(self, before: Signatures, now: Signatures, quiet_seconds: float = 0) -> set[tuple[str, date]]:
        """Datasets and landing dates that may still be written to, and so are left for a later run.

        With a marker that is every date without one; else every date whose files are not those of the look ``before``,
        or are being written (`Storage.is_written_to`).
        """
        days = {(dataset, day) for listings in (before, now) for dataset, found in listings.items() for day in found}
        marked = {dataset: self.storage.marked(dataset) for dataset in DATASETS} if self._marker else {}
        return {
            (dataset, date.fromisoformat(day))
            for dataset, day in days
            if (
                date.fromisoformat(day) not in marked[dataset]
                if self._marker
                else before.get(dataset, {}).get(day) != now.get(dataset, {}).get(day)
                or self.storage.is_written_to(dataset, date.fromisoformat(day), quiet_seconds)
            )
        }

    def inspect(self, dataset: str, file: LandedFile) -> Inspection:
        """Inspect a file; repeating it for an unchanged file is free.

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

    def inspect_all(self, dataset: str, files: Iterable[LandedFile]) -> None:
        """Look into files, many at once, so that `inspect` has them; a refused one it reads again and says why."""

        def read(file: LandedFile) -> None:
            with suppress(FileRefused):
                self.inspect(dataset, file)

        if new := [file for file in files if file not in self._inspections and not file.trouble]:
            self._known()
            with ThreadPoolExecutor(_READERS) as readers:
                list(readers.map(read, new))

    def known_refusal(self, file: LandedFile) -> str | None:
        """What an earlier inspection, by any process, found wrong with a file; does not read it."""
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

    def new_bytes(self, listings: Listings) -> int:
        """Bytes of files whose content no earlier process left in the index: about what is there to compute.

        A file whose size is known and whose time is not, as in a copy of a lakehouse, is read to see whether it is new.
        """
        files = [file for listed in listings.values() for delivered in listed.values() for file in delivered]
        return sum(file.size for file in files if self._is_new(file))

    def _is_new(self, file: LandedFile) -> bool:
        known = self._known().get(self._key(file))
        return not known or known[0] != file.size or known[-1] != self.fingerprint(file)

    def save_index(self) -> None:
        """Save the fingerprints for the next process; if that fails, it reads the files again."""
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
        """A file's place in the landing zone, which stays the same when a lakehouse is moved or copied."""
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
    if on_s3(settings.landing_uri):
        store = Store(settings)
        store.check(settings.landing_uri)
        storage = Bucket(store, settings.landing_uri, settings.start_date, settings.today)
    else:
        storage = Folder(Path(settings.landing_uri), settings.start_date, settings.today)
    return LandingZone(storage, settings.home_path / "landing-index.json", marker=settings.success_marker)

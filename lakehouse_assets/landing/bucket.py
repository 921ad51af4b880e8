"""A landing zone in an S3 store."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import date
from pathlib import Path
from typing import Any

from lakehouse_assets.landing.files import SUCCESS_MARKER, LandedFile, folder_of, is_delivery, landing_date
from lakehouse_assets.landing.storage import Today, today_in_utc
from lakehouse_assets.settings import EARLIEST_LANDING_DATE
from lakehouse_assets.storage.s3 import S3Path, Store


class Bucket:
    """A landing zone in an S3 store: objects ``<root>/<dataset>/date=YYYY-MM-DD/<name>``."""

    def __init__(
        self, store: Store, address: str, first: date = EARLIEST_LANDING_DATE, today: Today = today_in_utc
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
        return [self._file(entry) for _, name, entry in self._listed(below) if is_delivery(name)]

    def listing(self, dataset: str) -> dict[date, tuple[LandedFile, ...]]:  # noqa: D102
        found: dict[date, tuple[LandedFile, ...]] = {}
        for day, name, entry in self._listed(dataset):
            found[day] = (*found.get(day, ()), *([self._file(entry)] if is_delivery(name) else []))
        return found

    def marked(self, dataset: str) -> set[date]:  # noqa: D102
        return {day for day, name, _ in self._listed(dataset) if name == SUCCESS_MARKER}

    def is_written_to(self, dataset: str, day: date, quiet_seconds: float) -> bool:  # noqa: D102
        return False  # an object appears whole

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

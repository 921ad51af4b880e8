"""Names in a landing zone: datasets, landed files, and folders of landing dates."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Any

from lakehouse_assets.assets.datasets import DATASETS
from lakehouse_assets.errors import LakehouseError
from lakehouse_assets.landing.text_files import COMPRESSED_ENDINGS
from lakehouse_assets.storage.s3 import S3Path

SUCCESS_MARKER = "_SUCCESS"  # what Hadoop and Spark write into a folder when it is complete
_DELIVERY = re.compile(rf"\.csv({'|'.join(map(re.escape, COMPRESSED_ENDINGS))})?$", re.IGNORECASE)
_FOLDER = re.compile(r"date=(\d{4}-\d{2}-\d{2})")

Place = Any  # a Path, or an S3Path where the zone is a bucket; only the storage has to know


class LandingError(LakehouseError):
    """A file that can't be landed; the message says what to do."""


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
        """The address that opens it, on any machine with access."""
        return self.path.location if isinstance(self.path, S3Path) else str(self.path)

    @property
    def version(self) -> list[int | str]:
        """A value that changes when the content may have changed."""
        return [self.size, self.changed_ns, *(text for text in (self.etag, self.trouble) if text)]


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
    raise LandingError(f"{text!r} is not a date; write it as YYYY-MM-DD")


def folder_of(root: Place, dataset: str, day: date) -> Place:
    """The folder of one landing date."""
    return root / dataset / f"date={day.isoformat()}"


@lru_cache(maxsize=10_000)  # a run asks for the same names some 70 times
def landing_date(folder: str, first: date, last: date) -> date | None:
    """The landing date that a folder's name says; None for any other name, and dates not of ``first`` … ``last``."""
    try:
        day = date.fromisoformat(folder.removeprefix("date=")) if _FOLDER.fullmatch(folder) else None
    except ValueError:
        return None
    return day if day and first <= day <= last else None


def is_delivery(name: str) -> bool:
    """Whether a file of that name is read; hidden, temporary and marker files are not."""
    return not _is_set_aside(name) and bool(_DELIVERY.search(name))


def _is_set_aside(name: str) -> bool:
    return name.startswith((".", "_"))


def is_stray(entry: str, first: date, last: date) -> bool:
    """Whether nobody reads what lies at a place in the zone, because of its folder or its name."""
    folder, _, name = entry.rpartition("/")
    dataset, _, day = folder.partition("/")
    if any(map(_is_set_aside, entry.rstrip("/").split("/"))):
        return False
    if not name:  # an empty folder is one of nobody's, unless somebody took it for a date's
        return dataset in DATASETS and day.lower().startswith("date=") and not landing_date(day, first, last)
    if name.endswith(".tmp"):
        return False
    return not (dataset in DATASETS and landing_date(day, first, last) and is_delivery(name))

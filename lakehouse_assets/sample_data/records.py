"""CSV records laid out in fixed-width rows of bytes, and files that appear only when all are complete.

NUL stands where a value is shorter than its column; dropping every NUL (no value has one) leaves the CSV text. Four
times as fast as joining strings in Python, about as fast as Arrow's join, and dirt is a column overwritten.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from lakehouse_assets.sample_data.drawing import Integers
from lakehouse_assets.sample_data.plan import SECONDS_PER_DAY

Texts = npt.NDArray[np.bytes_]


def as_texts(values: Sequence[str]) -> Texts:
    """Values as bytes of one width."""
    return np.array([value.encode() for value in values], dtype=np.bytes_)


@cache
def time_texts() -> Texts:
    """Every second of a day."""
    return as_texts([f"{s // 3600:02d}:{s // 60 % 60:02d}:{s % 60:02d}" for s in range(SECONDS_PER_DAY)])


@cache
def _id_texts() -> tuple[Texts, Texts]:
    """The two halves of a user id, so that small tables make every id."""
    return as_texts([f"u{n:03d}" for n in range(1_000)]), as_texts([f"{n:04d}" for n in range(10_000)])


def day_texts(first: date, days: int, end: str) -> Texts:
    """Days in order, each with the same end."""
    return as_texts([f"{first + timedelta(day)}{end}" for day in range(days)])


def record_type(**widths: int) -> np.dtype[np.void]:
    """A record of columns of these widths."""
    return np.dtype([(name, f"S{width}") for name, width in widths.items()])


def interaction_type(*, page: int, duration: int) -> np.dtype[np.void]:
    """A record of interactions.csv."""
    return record_type(
        user_high=4, user_low=4, comma_1=1, day=11, time=8, comma_2=1, action=9, comma_3=1, page=page, comma_4=1,
        duration=duration, comma_5=1, version=8, extra=6, end=1,
    )  # fmt: skip


def blank_records(layout: np.dtype[np.void], count: int) -> npt.NDArray[np.void]:
    """Records with only separators and line ends set."""
    template = np.zeros(1, dtype=layout)
    for name in layout.names or ():
        if name.startswith("comma"):
            template[name] = b","
    template["end"] = b"\n"
    return np.repeat(template, count)


def set_user(records: npt.NDArray[np.void], ids: Integers) -> None:
    """Put user ids into records."""
    high, low = _id_texts()
    records["user_high"] = high[ids // 10_000]
    records["user_low"] = low[ids % 10_000]


def csv_bytes(records: npt.NDArray[np.void]) -> bytes:
    """Records as they stand in a file."""
    return records.tobytes().translate(None, b"\0")


def header_of(columns: Sequence[str]) -> bytes:
    """The first line of a file."""
    return (",".join(columns) + "\n").encode()


@contextmanager
def new_files(paths: Sequence[Path]) -> Iterator[list[BinaryIO]]:
    """Files to write, under hidden names until all are complete; nothing stays behind after an error."""
    hidden = [path.with_name(f".{path.name}.{os.getpid()}.tmp") for path in paths]
    try:
        with ExitStack() as stack:
            yield [stack.enter_context(path.open("wb")) for path in hidden]
        for path, final in zip(hidden, paths, strict=True):
            path.replace(final)
    finally:
        for path in hidden:
            path.unlink(missing_ok=True)

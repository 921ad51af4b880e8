"""The realistic kind: what is wrong with it, planted row by row and counted."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lakehouse_assets.sample_data.drawing import STREAM_DIRT, Integers, generator
from lakehouse_assets.sample_data.lives import Lives
from lakehouse_assets.sample_data.plan import Plan
from lakehouse_assets.sample_data.records import Texts
from lakehouse_assets.sample_data.sessions import PAGES, Rows, Tables, records_of

EXACT, CONFLICTING = "exact", "conflicting"
_DIRT_PER_10_000_ROWS = {
    "malformed_row": 20,
    "missing_user_id": 20,
    "bad_timestamp": 20,
    "unknown_action": 15,
    "bad_duration": 25,
    "negative_duration": 10,
    "duration_over_limit": 15,
    EXACT: 45,
    CONFLICTING: 30,
}
_DIRT = tuple(_DIRT_PER_10_000_ROWS)
REASONS = _DIRT[:-2]
_EVERY_DIRT_FROM_ROWS = 500  # a smaller file may do without some of it
_MISSING_USERS = (b"", b"   ")
_UNKNOWN_ACTIONS = (b"purchase", b"hover", b"")
_BAD_DURATIONS = {
    "bad_duration": (b"abc", b"1.5", b"", b"NaN"),
    "negative_duration": (b"-1", b"-250000"),
    "duration_over_limit": (b"7200001", b"86400000", b"12345678901234567890"),  # 20 digits are a whole number, too
}
_COLUMNS_AFTER_ACTION = ("comma_3", "page", "comma_4", "duration", "comma_5", "version")


class Dirt(NamedTuple):
    """Where in the clean rows which dirt goes: one entry per dirty row, by position."""

    position: Integers
    kind: npt.NDArray[np.uint8]  # position in _DIRT
    variant: npt.NDArray[np.uint8]  # counts up through each kind, so that every variant has its share


def dirt_counts(rows: int) -> dict[str, int]:
    """How many rows have which dirt; a larger file has at least one of each."""
    least = 1 if rows >= _EVERY_DIRT_FROM_ROWS else 0
    return {kind: max(least, rows * share // 10_000) for kind, share in _DIRT_PER_10_000_ROWS.items()}


def plant(plan: Plan, counts: Mapping[str, int], clean_rows: int) -> Dirt:
    """Spread the dirt evenly at random: the rows fall into as many stretches as there is dirt, one in each."""
    random = generator(plan.seed, STREAM_DIRT)
    kind = np.repeat(np.arange(len(_DIRT), dtype=np.uint8), list(counts.values()))
    random.shuffle(kind)
    variant = np.zeros(kind.size, dtype=np.uint8)
    for number in range(len(_DIRT)):
        same = np.flatnonzero(kind == number)
        variant[same] = np.arange(same.size) % 240  # 240 is a multiple of every number of variants
    edges = np.arange(kind.size + 1, dtype=np.int64) * clean_rows // max(1, kind.size)
    return Dirt(random.integers(edges[:-1], edges[1:]), kind, variant)


def _spoil(records: npt.NDArray[np.void], reason: str, at: Integers, variant: Integers, year: int) -> None:
    """Make the records at these positions what `reason` says."""

    def of(texts: Sequence[bytes]) -> Texts:
        return np.array(texts, dtype=np.bytes_)[variant % len(texts)]

    if reason == "malformed_row":
        short, long = at[variant % 2 == 0], at[variant % 2 == 1]
        for column in _COLUMNS_AFTER_ACTION:
            records[column][short] = b""
        records["extra"][long] = b",extra"
    elif reason == "missing_user_id":
        records["user_high"][at] = b""
        records["user_low"][at] = of(_MISSING_USERS)
    elif reason == "bad_timestamp":
        records["day"][at] = of([f"{year:04d}-13-07 ".encode(), f"{year:04d}-02-30 ".encode(), b"", b"yesterday"])
        records["time"][at[variant % 4 >= 2]] = b""
    elif reason == "unknown_action":
        records["action"][at] = of(_UNKNOWN_ACTIONS)
    else:
        records["duration"][at] = of(_BAD_DURATIONS[reason])


def dirty_records(rows: Rows, dirt: Dirt, plan: Plan, tables: Tables, lives: Lives) -> tuple[npt.NDArray[np.void], int]:
    """Records of these rows with their dirt, and how many of them have a quoted page id."""
    rows.page[dirt.position[dirt.kind == REASONS.index("malformed_row")]] = 1  # a plain one
    copied = dirt.kind >= len(REASONS)
    copies = np.ones(rows.second.size, dtype=np.int64)
    copies[dirt.position[copied]] = 2
    rows = rows.at(np.repeat(np.arange(copies.size), copies))
    at = dirt.position + np.cumsum(copied) - copied
    second_copy = at[dirt.kind == _DIRT.index(CONFLICTING)] + 1
    durations = tables.duration_texts.size
    rows.duration[second_copy] = (rows.duration[second_copy] + durations // 2) % durations
    records = records_of(rows, tables, lives, tables.page_texts)
    for number, reason in enumerate(REASONS):
        chosen = dirt.kind == number
        _spoil(records, reason, at[chosen], dirt.variant[chosen], plan.start.year)
    return records, int((rows.page > PAGES).sum())

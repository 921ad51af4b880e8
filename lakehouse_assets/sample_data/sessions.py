"""The realistic kind: valid rows in time order, in sessions that may run on past midnight."""

import math
from collections.abc import Iterator
from datetime import timedelta
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lakehouse_assets.sample_data.drawing import (
    STREAM_ROWS,
    Integers,
    by_weight,
    draw,
    generator,
    log_normal,
    quantiles,
)
from lakehouse_assets.sample_data.lives import MAX_UPDATE_LAG_DAYS, Lives, pick_users, rows_per_day
from lakehouse_assets.sample_data.plan import ACTIONS, BLOCK_ROWS, SECONDS_PER_DAY, Plan
from lakehouse_assets.sample_data.records import (
    Texts,
    as_texts,
    blank_records,
    day_texts,
    interaction_type,
    set_user,
    time_texts,
)

_HOUR_WEIGHTS = (2, 1, 1, 1, 1, 2, 3, 5, 8, 10, 10, 9, 8, 9, 10, 10, 9, 8, 8, 9, 10, 9, 6, 4)
_ACTION_WEIGHTS = (76, 12, 5, 2, 5)  # as in ACTIONS
_MEAN_ACTIONS_PER_SESSION = 4
_MAX_ACTIONS_PER_SESSION = 60
_MAX_GAP_SECONDS = 1_500  # inside a session; below the 30 minutes that would end it
_MAX_DURATION_MS = 7_200_000
_LONGEST_DURATION = 20  # digits, of the dirt
PAGES = 5_000
_PAGE_SLOTS, _NO_PAGE_SLOTS, _QUOTED_PAGE_SLOTS = 1 << 16, 330, 85  # 0.5 % without a page, 0.5 % with a quoted one
_QUOTED_PAGES = ('"docs/a,b"', '"say ""hi"""', '"two\nlines"', '",x,"')
_RELEASE_EVERY_DAYS = 14
LATE_EVENT_LAG_DAYS = (4, 13)  # too late for three late days
START_CELLS = 1 << 12  # equally likely stretches of the day; a block of a large day is a power-of-two share of them


class Tables:
    """Distributions and texts of the realistic kind."""

    def __init__(self, plan: Plan) -> None:
        self.session_length = quantiles(
            1 << 12,
            lambda q: math.ceil(math.log1p(-q) / math.log1p(-1 / _MEAN_ACTIONS_PER_SESSION)),
            1,
            _MAX_ACTIONS_PER_SESSION,
        )
        self.gap_seconds = quantiles(1 << 14, log_normal(25, 1.2), 1, _MAX_GAP_SECONDS)
        per_second = np.repeat(np.array(_HOUR_WEIGHTS, dtype=np.int64), 3600).cumsum()
        cells = np.arange(START_CELLS + 1, dtype=np.int64) * per_second[-1] // START_CELLS
        self.start_second = np.searchsorted(per_second, cells, side="left").astype(np.int64)
        self.start_second[0], self.start_second[-1] = 0, SECONDS_PER_DAY
        self.action = by_weight(1 << 10, _ACTION_WEIGHTS)
        quoted = [_QUOTED_PAGE_SLOTS] * len(_QUOTED_PAGES)
        zipf = [1 / rank for rank in range(1, PAGES + 1)]
        scale = (_PAGE_SLOTS - _NO_PAGE_SLOTS - sum(quoted)) / math.fsum(zipf)
        self.page = by_weight(_PAGE_SLOTS, [_NO_PAGE_SLOTS, *(scale * share for share in zipf), *quoted])
        durations = quantiles(1 << 16, log_normal(12_000, 1.3), 0, _MAX_DURATION_MS)
        durations[[0, -1]] = 0, _MAX_DURATION_MS  # both ends of what is valid
        self.first_day = -LATE_EVENT_LAG_DAYS[1]
        last_day = plan.days + 1
        self.day_texts = day_texts(plan.start + timedelta(self.first_day), last_day - self.first_day, " ")
        self.action_texts = as_texts(ACTIONS)
        self.page_texts = as_texts(["", *(f"p{n:06d}" for n in range(1, PAGES + 1)), *_QUOTED_PAGES])
        self.duration_texts = durations.astype("S7")
        self.first_release_day = self.first_day - MAX_UPDATE_LAG_DAYS
        releases = range((last_day - self.first_release_day) // _RELEASE_EVERY_DAYS + 1)
        self.version_texts = as_texts([f"{2 + n // 24}.{n % 24 // 2}.{n % 2}" for n in releases])
        self.layout = interaction_type(page=self.page_texts.itemsize, duration=_LONGEST_DURATION)


class Rows(NamedTuple):
    """Valid rows before they are text. All but `second` and `user` are positions in the tables."""

    second: Integers  # since the start of the first day
    user: Integers  # position in Lives: the id less 1
    action: Integers
    page: Integers
    duration: Integers

    def at(self, index: Integers | npt.NDArray[np.bool_]) -> "Rows":
        """Rows at these positions."""
        return Rows(*(column[index] for column in self))


def _sessions(
    random: np.random.Generator, plan: Plan, tables: Tables, lives: Lives, day: int, cells: range, count: int
) -> Rows:
    """`count` rows of sessions that start on `day` within these cells of it; a session may run on past them."""
    lengths = tables.session_length[draw(random, tables.session_length.size, count)]
    ends = np.cumsum(lengths)
    sessions = int(np.searchsorted(ends, count)) + 1
    lengths = lengths[:sessions]
    lengths[-1] -= ends[sessions - 1] - count
    first_row = np.concatenate([[0], ends[: sessions - 1]])
    cell = cells.start + draw(random, len(cells), sessions)
    begin = random.integers(tables.start_second[cell], tables.start_second[cell + 1])
    gap = tables.gap_seconds[draw(random, tables.gap_seconds.size, count)]
    gap[first_row] = 0
    passed = np.cumsum(gap)
    second = day * SECONDS_PER_DAY + passed + np.repeat(begin - passed[first_row], lengths)
    user = pick_users(random, lives, day, sessions)
    if plan.skew:
        user[draw(random, 1 << 30, sessions) < round(plan.skew * (1 << 30))] = 0
    return Rows(
        second,
        np.repeat(user, lengths),
        tables.action[draw(random, tables.action.size, count)],
        tables.page[draw(random, tables.page.size, count)],
        draw(random, tables.duration_texts.size, count),
    )


def _in_order_without_repeats(rows: Rows, users: int) -> Rows:
    """Sort by time and user; where chance made two rows with one duplicate key, change the page of the later.

    So every duplicate in the file is a planted one.
    """
    key = rows.second * users + rows.user
    order = np.argsort(key, kind="stable")
    rows, key = rows.at(order), key[order]
    same_as_next = np.flatnonzero(key[1:] == key[:-1])
    suspects = np.unique(np.concatenate([same_as_next, same_as_next + 1]))
    while suspects.size:
        action, page = rows.action[suspects], rows.page[suspects]
        grouped = np.lexsort((page, action, key[suspects]))
        columns = [column[grouped] for column in (key[suspects], action, page)]
        repeats = np.concatenate([[False], np.logical_and.reduce([c[1:] == c[:-1] for c in columns])])
        if not repeats.any():
            break
        position = np.arange(grouped.size)
        rank = position - np.maximum.accumulate(np.where(repeats, 0, position))
        rows.page[suspects[grouped]] = np.where(repeats, (columns[2] + rank - 1) % PAGES + 1, columns[2])
    return rows


def clean_rows(plan: Plan, tables: Tables, lives: Lives, count: int) -> Iterator[Rows]:
    """All valid rows in time order, block by block, no duplicates among them."""
    carried = Rows(*(np.zeros(0, dtype=np.int64) for _ in Rows._fields))
    for day, day_rows in enumerate(rows_per_day(plan, lives, count)):
        blocks = 1
        while blocks * BLOCK_ROWS < day_rows and blocks < START_CELLS:
            blocks *= 2
        for block in range(blocks):
            block_rows = day_rows * (block + 1) // blocks - day_rows * block // blocks
            cells = range(START_CELLS * block // blocks, START_CELLS * (block + 1) // blocks)
            begin, end = (day * SECONDS_PER_DAY + int(tables.start_second[c]) for c in (cells.start, cells.stop))
            pool = carried
            if block_rows:
                random = generator(plan.seed, STREAM_ROWS, day, block)
                fresh = _sessions(random, plan, tables, lives, day, cells, block_rows)
                pool = Rows(*(np.concatenate(pair) for pair in zip(carried, fresh, strict=True)))
            if end == plan.days * SECONDS_PER_DAY:  # nothing runs on past the last day: back into the last block
                past = pool.second >= end
                pool.second[past] = begin + (pool.second[past] - end) % (end - begin)
            ready = pool.second < end
            carried = pool.at(~ready)
            yield _in_order_without_repeats(pool.at(ready), plan.users)


def records_of(rows: Rows, tables: Tables, lives: Lives, pages: Texts) -> npt.NDArray[np.void]:
    """Rows as records."""
    records = blank_records(tables.layout, rows.second.size)
    day = rows.second // SECONDS_PER_DAY
    release = (day - lives.update_lag[rows.user] - tables.first_release_day) // _RELEASE_EVERY_DAYS
    set_user(records, rows.user + 1)
    records["day"] = tables.day_texts[day - tables.first_day]
    records["time"] = time_texts()[rows.second % SECONDS_PER_DAY]
    records["action"] = tables.action_texts[rows.action]
    records["page"] = pages[rows.page]
    records["duration"] = tables.duration_texts[rows.duration]
    records["version"] = tables.version_texts[release]
    return records

"""Seeded test data: an app's interaction log and its users, as CSV files.

Two kinds. *Uniform* is the public challenge's data: every column drawn uniformly, rows in random order, nothing wrong
with them. *Realistic* is what a product's log looks like: sessions, a weekly rhythm, growth, churn, power users,
app versions that roll out, and about 2 % dirt of every reject reason of docs/metrics, each counted as it is planted.

The same arguments give the same bytes, on any machine and for any number of threads. Three habits keep it so: rows come
in blocks of a fixed size, each with its own random stream; draws are integers only, mapped through tables built with
plain Python arithmetic (numpy's vectorised `exp` and `log` differ in the last bit between processors); sorts are
stable. (numpy may change a stream in a new release; the pinned one does not move.)
Memory holds one block and the tables of users; it does not grow with the rows, but for 10 bytes per dirty row.
"""

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cache
from itertools import accumulate
from pathlib import Path
from statistics import NormalDist
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

INTERACTION_COLUMNS = ("user_id", "timestamp", "action_type", "page_id", "duration_ms", "app_version")
USER_COLUMNS = ("user_id", "join_date", "country", "device_type", "subscription_type")
ACTIONS = ("page_view", "edit", "create", "delete", "share")

INTERACTIONS_FILE = "interactions.csv"
USERS_FILE = "users.csv"
LATE_FILE = "interactions_late.csv"

MAX_USERS = 9_999_999  # an id is `u` and seven digits
DEFAULT_START = date(2023, 1, 1)
FIRST_START = date(1970, 1, 1)
LAST_DAY = date(9998, 12, 31)
SECONDS_PER_DAY = 86_400
BLOCK_ROWS = 1 << 17  # rows drawn from one random stream and held at once; part of what a seed means

Integers = npt.NDArray[np.int64]
Texts = npt.NDArray[np.bytes_]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Generated:
    """What was written, and what the cleaning must therefore find.

    Counts are rows (CSV records without the header). `rejected` and `duplicates` are those of the main file;
    `late` are those of the late file if it is landed on `late_date` with the default of three late days.
    """

    interactions_path: Path
    users_path: Path
    rows: int
    users: int
    user_rows: int
    repeated_users: int = 0  # ids with two rows in users.csv
    users_without_metadata: int = 0  # ids with no row in users.csv
    rejected: Mapping[str, int] = field(default_factory=dict)  # reason -> rows
    duplicates: Mapping[str, int] = field(default_factory=dict)  # exact, conflicting -> rows beyond the first
    quoted_page_rows: int = 0  # valid in spite of a separator, a quote or a line break inside page_id
    late_path: Path | None = None
    late_date: date | None = None  # the landing date to deliver `late_path` under
    late_rows: int = 0
    late: Mapping[str, int] = field(default_factory=dict)  # accepted, late_event, future_event -> rows


def generate(
    output: Path,
    *,
    users: int,
    days: int,
    rows: int,
    seed: int,
    start: date = DEFAULT_START,
    uniform: bool = False,
    skew: float | None = None,
    progress: Progress | None = None,
) -> Generated:
    """Write interactions.csv, users.csv and, for the realistic kind, interactions_late.csv into `output`.

    Each file appears under its name only when all are complete. Times are UTC, whole seconds. The realistic kind
    stands in time order, uniform rows in none.

    Args:
        output: a folder, made if it is missing; files of these names in it are replaced.
        users: user ids are u0000001 to this number.
        days: calendar days of events, from `start` on.
        rows: rows of interactions.csv, dirt included; the late file has 0.1 % more besides.
        seed: same seed and arguments, same bytes.
        start: the first day of events.
        uniform: the public challenge's data in place of the realistic kind.
        skew: this share of all rows (about) belongs to user u0000001.
        progress: called with (rows done, rows in all) after each block.

    Raises:
        ValueError: an argument is out of range; the message names the option.
    """
    _check_arguments(output, users=users, days=days, rows=rows, seed=seed, start=start, skew=skew)
    output.mkdir(parents=True, exist_ok=True)
    report = progress or (lambda _done, _total: None)
    write = _write_uniform if uniform else _write_realistic
    return write(output, _Plan(users, days, rows, seed, start, skew or 0.0), report)


def _check_arguments(
    output: Path, *, users: int, days: int, rows: int, seed: int, start: date, skew: float | None
) -> None:
    if not 1 <= users <= MAX_USERS:
        raise ValueError(f"--users must be from 1 to {MAX_USERS:,}, not {users:,}.")
    if days < 1:
        raise ValueError(f"--days must be at least 1, not {days:,}.")
    if rows < 1:
        raise ValueError(f"--rows must be at least 1, not {rows:,}.")
    if seed < 0:
        raise ValueError(f"--seed must be 0 or more, not {seed}.")
    if not FIRST_START <= start <= LAST_DAY:
        raise ValueError(f"--start must be from {FIRST_START} to {LAST_DAY}, not {start}.")
    if days > (LAST_DAY - start).days + 1:
        raise ValueError(f"--days must end by {LAST_DAY}, which {days:,} days from {start} do not.")
    if skew is not None and not 0 < skew <= 1:
        raise ValueError(f"--skew must be a share above 0 and up to 1, not {skew}.")
    if output.exists() and not output.is_dir():
        raise ValueError(f"--output must be a folder, and {output} is a file.")


class _Plan(NamedTuple):
    """The checked arguments of one call."""

    users: int
    days: int
    rows: int
    seed: int
    start: date
    skew: float


# ---------------------------------------------------------------- randomness and tables

_STREAM_ROWS, _STREAM_USERS, _STREAM_LIVES, _STREAM_DAYS, _STREAM_DIRT, _STREAM_LATE = range(6)


def _random(seed: int, *stream: int) -> np.random.Generator:
    """An independent generator for one named stream (and block) of a seed."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=stream)))


def _draw(random: np.random.Generator, table_size: int, count: int) -> Integers:
    """Uniform positions of a table."""
    return random.integers(0, table_size, size=count, dtype=np.int64)


def _quantiles(size: int, inverse: Callable[[float], float], low: int, high: int) -> Integers:
    """A distribution as a table of `size` equally likely whole numbers from `low` to `high`."""
    values = np.array([inverse((i + 0.5) / size) for i in range(size)])
    rounded: Integers = np.clip(np.rint(values), low, high).astype(np.int64)
    return rounded


def _log_normal(median: float, sigma: float) -> Callable[[float], float]:
    normal = NormalDist(math.log(median), sigma)
    return lambda q: math.exp(normal.inv_cdf(q))


def _exponential(mean: float) -> Callable[[float], float]:
    return lambda q: -mean * math.log1p(-q)


def _by_weight(size: int, weights: Sequence[float]) -> Integers:
    """A table of `size` positions in which each index of `weights` fills its share."""
    edges = list(accumulate(weights))
    ends = np.array([round(size * edge / edges[-1]) for edge in edges])
    return np.searchsorted(ends, np.arange(size), side="right").astype(np.int64)


def _texts(values: Sequence[str]) -> Texts:
    return np.array([value.encode() for value in values], dtype=np.bytes_)


@cache
def _time_texts() -> Texts:
    return _texts([f"{s // 3600:02d}:{s // 60 % 60:02d}:{s % 60:02d}" for s in range(SECONDS_PER_DAY)])


@cache
def _id_texts() -> tuple[Texts, Texts]:
    """The two halves of a user id, so that small tables make every id."""
    return _texts([f"u{n:03d}" for n in range(1_000)]), _texts([f"{n:04d}" for n in range(10_000)])


def _day_texts(first: date, days: int, end: str) -> Texts:
    return _texts([f"{first + timedelta(day)}{end}" for day in range(days)])


# ---------------------------------------------------------------- writing

# A record is laid out in a fixed-width row of bytes, NUL where a value is shorter than its column; dropping every NUL
# (no value has one) leaves the CSV text. Four times as fast as joining strings in Python, about as fast as Arrow's
# join, and dirt is a column overwritten.


def _layout(**widths: int) -> np.dtype[np.void]:
    return np.dtype([(name, f"S{width}") for name, width in widths.items()])


def _interaction_layout(*, page: int, duration: int) -> np.dtype[np.void]:
    return _layout(
        user_high=4, user_low=4, comma_1=1, day=11, time=8, comma_2=1, action=9, comma_3=1, page=page, comma_4=1,
        duration=duration, comma_5=1, version=8, extra=6, end=1,
    )  # fmt: skip


def _blank_records(layout: np.dtype[np.void], count: int) -> npt.NDArray[np.void]:
    """Records with only separators and line ends set."""
    template = np.zeros(1, dtype=layout)
    for name in layout.names or ():
        if name.startswith("comma"):
            template[name] = b","
    template["end"] = b"\n"
    return np.repeat(template, count)


def _set_user(records: npt.NDArray[np.void], ids: Integers) -> None:
    high, low = _id_texts()
    records["user_high"] = high[ids // 10_000]
    records["user_low"] = low[ids % 10_000]


def _csv_bytes(records: npt.NDArray[np.void]) -> bytes:
    return records.tobytes().translate(None, b"\0")


def _header(columns: Sequence[str]) -> bytes:
    return (",".join(columns) + "\n").encode()


@contextmanager
def _new_files(paths: Sequence[Path]) -> Iterator[list[BinaryIO]]:
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


# ---------------------------------------------------------------- users.csv

_COUNTRIES = ("US", "IN", "BR", "DE", "GB", "FR", "JP", "MX", "CA", "ES", "AU", "NG")
_COUNTRY_WEIGHTS = (26, 17, 10, 8, 8, 6, 6, 5, 4, 4, 3, 3)
_DEVICES = ("iPhone", "Android", "Web", "iPad", "Desktop")
_DEVICE_WEIGHTS = (30, 38, 17, 5, 10)
_SUBSCRIPTIONS = ("free", "basic", "premium", "enterprise")
_SUBSCRIPTION_WEIGHTS = (70, 14, 13, 3)
_USER_LAYOUT = _layout(
    user_high=4, user_low=4, comma_1=1, join=10, comma_2=1, country=2, comma_3=1, device=7, comma_4=1,
    subscription=10, end=1,
)  # fmt: skip
_USERS_PER_REPEAT = 100  # one id of each hundred has two rows
_USERS_PER_MISSING = 200  # one id of each two hundred has none (realistic kind)
_JOIN_HISTORY_DAYS = 730  # how long before the first event the earliest user may have joined


def _write_users(file: BinaryIO, plan: _Plan, joins: Integers | None) -> tuple[int, int, int]:
    """Write users.csv; `joins` are days from the start per user (None: uniform).

    Returns rows, ids with two rows, and ids without a row. Second rows, with other values, stand at the end.
    """
    days = _day_texts(plan.start - timedelta(_JOIN_HISTORY_DAYS), _JOIN_HISTORY_DAYS + plan.days, "")
    realistic = joins is not None
    columns = (
        ("country", _texts(_COUNTRIES), _by_weight(1 << 12, _COUNTRY_WEIGHTS if realistic else [1] * len(_COUNTRIES))),
        ("device", _texts(_DEVICES), _by_weight(1 << 12, _DEVICE_WEIGHTS if realistic else [1] * len(_DEVICES))),
        (
            "subscription",
            _texts(_SUBSCRIPTIONS),
            _by_weight(1 << 12, _SUBSCRIPTION_WEIGHTS if realistic else [1] * len(_SUBSCRIPTIONS)),
        ),
    )
    file.write(_header(USER_COLUMNS))
    second_rows: list[bytes] = []
    missing = repeated = 0
    for block, first in enumerate(range(0, plan.users, BLOCK_ROWS)):
        index = np.arange(first, min(first + BLOCK_ROWS, plan.users), dtype=np.int64)
        random = _random(plan.seed, _STREAM_USERS, block)
        join = _draw(random, plan.days, index.size) if joins is None else joins[index]
        position = index + 1
        repeat = position % _USERS_PER_REPEAT == 0
        absent = position % _USERS_PER_MISSING == _USERS_PER_MISSING // 4 if realistic else np.zeros_like(repeat)
        records = _blank_records(_USER_LAYOUT, index.size)
        _set_user(records, position)
        records["join"] = days[join + _JOIN_HISTORY_DAYS]
        if realistic:
            records["join"][_draw(random, 256, index.size) == 0] = b""
        other = _blank_records(_USER_LAYOUT, int(repeat.sum()))
        _set_user(other, position[repeat])
        other["join"] = days[join[repeat] + _JOIN_HISTORY_DAYS - 1]
        for name, texts, table in columns:
            choice = table[_draw(random, table.size, index.size)]
            records[name] = texts[choice]
            other[name] = texts[(choice[repeat] + 1) % texts.size]
        file.write(_csv_bytes(records[~absent]))
        second_rows.append(_csv_bytes(other))
        missing += int(absent.sum())
        repeated += int(repeat.sum())
    for rows in second_rows:
        file.write(rows)
    return plan.users - missing + repeated, repeated, missing


# ---------------------------------------------------------------- the uniform kind

_UNIFORM_PAGES = 100_000
_UNIFORM_DURATION_MS = (100, 300_000)


def _write_uniform(output: Path, plan: _Plan, report: Progress) -> Generated:
    actions = _texts(ACTIONS)
    pages = _texts([f"p{n:06d}" for n in range(1, _UNIFORM_PAGES + 1)])
    low, high = _UNIFORM_DURATION_MS
    durations = np.arange(low, high + 1).astype("S6")
    versions = _texts([f"{x}.{y}.{z}" for x in range(1, 6) for y in range(10) for z in range(10)])
    days = _day_texts(plan.start, plan.days, " ")
    layout = _interaction_layout(page=pages.itemsize, duration=durations.itemsize)
    paths = (output / INTERACTIONS_FILE, output / USERS_FILE)
    with _new_files(paths) as (interactions, users):
        interactions.write(_header(INTERACTION_COLUMNS))
        for block, first in enumerate(range(0, plan.rows, BLOCK_ROWS)):
            count = min(BLOCK_ROWS, plan.rows - first)
            random = _random(plan.seed, _STREAM_ROWS, block)
            ids = _draw(random, plan.users, count) + 1
            if plan.skew:
                ids[_draw(random, 1 << 30, count) < round(plan.skew * (1 << 30))] = 1
            records = _blank_records(layout, count)
            _set_user(records, ids)
            records["day"] = days[_draw(random, plan.days, count)]
            records["time"] = _time_texts()[_draw(random, SECONDS_PER_DAY, count)]
            records["action"] = actions[_draw(random, actions.size, count)]
            records["page"] = pages[_draw(random, pages.size, count)]
            records["duration"] = durations[_draw(random, durations.size, count)]
            records["version"] = versions[_draw(random, versions.size, count)]
            interactions.write(_csv_bytes(records))
            report(first + count, plan.rows)
        user_rows, repeated, _ = _write_users(users, plan, None)
    (output / LATE_FILE).unlink(missing_ok=True)  # an earlier call's would not belong to this data
    return Generated(*paths, plan.rows, plan.users, user_rows, repeated)


# ---------------------------------------------------------------- the realistic kind: who, when, what

_EXISTING_USERS_PERCENT = 20  # joined before the first day
_BRIEF_VISITORS_PERCENT = 35  # of new users are gone within four days
_MEAN_STAY_DAYS = 300  # of the others
_RETURNING_PERCENT = 15  # of those who left come back for a second stay
_JOIN_DAY_BOOST = 8  # a user is that much more active on the day of joining
_WEEKDAY_PERCENT = (104, 106, 106, 104, 98, 72, 70)  # Monday first
_HOUR_WEIGHTS = (2, 1, 1, 1, 1, 2, 3, 5, 8, 10, 10, 9, 8, 9, 10, 10, 9, 8, 8, 9, 10, 9, 6, 4)
_ACTION_WEIGHTS = (76, 12, 5, 2, 5)  # as in ACTIONS
_MEAN_ACTIONS_PER_SESSION = 4
_MAX_ACTIONS_PER_SESSION = 60
_MAX_GAP_SECONDS = 1_500  # inside a session; below the 30 minutes that would end it
_MAX_DURATION_MS = 7_200_000
_LONGEST_DURATION = 20  # digits, of the dirt
_PAGES = 5_000
_PAGE_SLOTS, _NO_PAGE_SLOTS, _QUOTED_PAGE_SLOTS = 1 << 16, 330, 85  # 0.5 % without a page, 0.5 % with a quoted one
_QUOTED_PAGES = ('"docs/a,b"', '"say ""hi"""', '"two\nlines"', '",x,"')
_RELEASE_EVERY_DAYS = 14
_MAX_UPDATE_LAG_DAYS = 90
_LATE_EVENT_LAG_DAYS = (4, 13)  # too late for three late days
_START_CELLS = 1 << 12  # equally likely stretches of the day; a block of a large day is a power-of-two share of them


class _Lives(NamedTuple):
    """One entry per user, in order of joining. Days are counted from the first day of events; ends are exclusive."""

    join: Integers
    leave: Integers
    come_back: Integers
    leave_again: Integers
    weight: Integers  # how active, relative
    update_lag: Integers  # days from a release to the user's update

    def active_on(self, day: int) -> npt.NDArray[np.bool_]:
        first_stay = (self.join <= day) & (day < self.leave)
        return first_stay | ((self.come_back <= day) & (day < self.leave_again))


def _lives(plan: _Plan) -> _Lives:
    random = _random(plan.seed, _STREAM_LIVES)
    existing = max(1, plan.users * _EXISTING_USERS_PERCENT // 100)
    joins_per_day = [
        (plan.days + day) * _WEEKDAY_PERCENT[(plan.start + timedelta(day)).weekday()] for day in range(plan.days)
    ]
    new_days = np.array(list(accumulate(joins_per_day)), dtype=np.int64)
    before = -1 - _draw(random, _JOIN_HISTORY_DAYS - 1, existing)
    after = np.searchsorted(new_days, random.integers(0, new_days[-1], size=plan.users - existing), side="right")
    join = np.sort(np.concatenate([before, after.astype(np.int64)]))
    stay = _quantiles(1 << 12, _exponential(_MEAN_STAY_DAYS), 5, 10_000)
    length = stay[_draw(random, stay.size, plan.users)]
    brief = (_draw(random, 100, plan.users) < _BRIEF_VISITORS_PERCENT) & (join >= 0)
    length[brief] = 1 + _draw(random, 4, int(brief.sum()))
    leave = np.maximum(join, 0) + length
    come_back = leave + 14 + _draw(random, 120, plan.users)
    returns = _draw(random, 100, plan.users) < _RETURNING_PERCENT
    leave_again = np.where(returns, come_back + stay[_draw(random, stay.size, plan.users)], come_back)
    weights = _quantiles(1 << 14, _log_normal(1_000, 1.05), 1, 1_000_000)
    lags = _quantiles(1 << 10, _exponential(9), 0, _MAX_UPDATE_LAG_DAYS)
    return _Lives(
        join,
        leave,
        come_back,
        leave_again,
        weights[_draw(random, weights.size, plan.users)],
        lags[_draw(random, lags.size, plan.users)],
    )


def _rows_per_day(plan: _Plan, lives: _Lives, rows: int) -> list[int]:
    """Share out `rows` by who is there, weekday and a little noise; whole numbers all the way, so exact."""
    change = np.zeros(plan.days + 1, dtype=np.int64)
    for day, sign in ((lives.join, 1), (lives.leave, -1), (lives.come_back, 1), (lives.leave_again, -1)):
        np.add.at(change, np.clip(day, 0, plan.days), sign * lives.weight)
    noise = _random(plan.seed, _STREAM_DAYS).integers(93, 108, size=plan.days)
    weekdays = [_WEEKDAY_PERCENT[(plan.start + timedelta(day)).weekday()] for day in range(plan.days)]
    volumes = [
        max(1, int(present)) * weekday * int(percent)
        for present, weekday, percent in zip(np.cumsum(change)[:-1], weekdays, noise, strict=True)
    ]
    ends = [rows * part // sum(volumes) for part in accumulate(volumes)]
    return [end - begin for begin, end in zip([0, *ends], ends, strict=False)]


class _Tables:
    """Distributions and texts of the realistic kind."""

    def __init__(self, plan: _Plan) -> None:
        self.session_length = _quantiles(
            1 << 12,
            lambda q: math.ceil(math.log1p(-q) / math.log1p(-1 / _MEAN_ACTIONS_PER_SESSION)),
            1,
            _MAX_ACTIONS_PER_SESSION,
        )
        self.gap_seconds = _quantiles(1 << 14, _log_normal(25, 1.2), 1, _MAX_GAP_SECONDS)
        per_second = np.repeat(np.array(_HOUR_WEIGHTS, dtype=np.int64), 3600).cumsum()
        cells = np.arange(_START_CELLS + 1, dtype=np.int64) * per_second[-1] // _START_CELLS
        self.start_second = np.searchsorted(per_second, cells, side="left").astype(np.int64)
        self.start_second[0], self.start_second[-1] = 0, SECONDS_PER_DAY
        self.action = _by_weight(1 << 10, _ACTION_WEIGHTS)
        quoted = [_QUOTED_PAGE_SLOTS] * len(_QUOTED_PAGES)
        zipf = [1 / rank for rank in range(1, _PAGES + 1)]
        scale = (_PAGE_SLOTS - _NO_PAGE_SLOTS - sum(quoted)) / math.fsum(zipf)
        self.page = _by_weight(_PAGE_SLOTS, [_NO_PAGE_SLOTS, *(scale * share for share in zipf), *quoted])
        durations = _quantiles(1 << 16, _log_normal(12_000, 1.3), 0, _MAX_DURATION_MS)
        durations[[0, -1]] = 0, _MAX_DURATION_MS  # both ends of what is valid
        self.first_day = -_LATE_EVENT_LAG_DAYS[1]
        last_day = plan.days + 1
        self.day_texts = _day_texts(plan.start + timedelta(self.first_day), last_day - self.first_day, " ")
        self.action_texts = _texts(ACTIONS)
        self.page_texts = _texts(["", *(f"p{n:06d}" for n in range(1, _PAGES + 1)), *_QUOTED_PAGES])
        self.duration_texts = durations.astype("S7")
        self.first_release_day = self.first_day - _MAX_UPDATE_LAG_DAYS
        releases = range((last_day - self.first_release_day) // _RELEASE_EVERY_DAYS + 1)
        self.version_texts = _texts([f"{2 + n // 24}.{n % 24 // 2}.{n % 2}" for n in releases])
        self.layout = _interaction_layout(page=self.page_texts.itemsize, duration=_LONGEST_DURATION)


class _Rows(NamedTuple):
    """Valid rows before they are text. All but `second` and `user` are positions in the tables."""

    second: Integers  # since the start of the first day
    user: Integers  # position in _Lives: the id less 1
    action: Integers
    page: Integers
    duration: Integers

    def at(self, index: Integers | npt.NDArray[np.bool_]) -> "_Rows":
        return _Rows(*(column[index] for column in self))


def _pick_users(random: np.random.Generator, lives: _Lives, day: int, count: int) -> Integers:
    """Users of `count` sessions: present on `day`, in proportion to how active they are."""
    present = np.flatnonzero(lives.active_on(day))
    if present.size == 0:
        present = np.arange(lives.join.size)
    weight = lives.weight[present]
    weight[lives.join[present] == day] *= _JOIN_DAY_BOOST
    edges = np.cumsum(weight)
    draws = random.integers(0, edges[-1], size=count)
    return present[np.searchsorted(edges, draws, side="right")]


def _sessions(
    random: np.random.Generator, plan: _Plan, tables: _Tables, lives: _Lives, day: int, cells: range, count: int
) -> _Rows:
    """`count` rows of sessions that start on `day` within these cells of it; a session may run on past them."""
    lengths = tables.session_length[_draw(random, tables.session_length.size, count)]
    ends = np.cumsum(lengths)
    sessions = int(np.searchsorted(ends, count)) + 1
    lengths = lengths[:sessions]
    lengths[-1] -= ends[sessions - 1] - count
    first_row = np.concatenate([[0], ends[: sessions - 1]])
    cell = cells.start + _draw(random, len(cells), sessions)
    begin = random.integers(tables.start_second[cell], tables.start_second[cell + 1])
    gap = tables.gap_seconds[_draw(random, tables.gap_seconds.size, count)]
    gap[first_row] = 0
    passed = np.cumsum(gap)
    second = day * SECONDS_PER_DAY + passed + np.repeat(begin - passed[first_row], lengths)
    user = _pick_users(random, lives, day, sessions)
    if plan.skew:
        user[_draw(random, 1 << 30, sessions) < round(plan.skew * (1 << 30))] = 0
    return _Rows(
        second,
        np.repeat(user, lengths),
        tables.action[_draw(random, tables.action.size, count)],
        tables.page[_draw(random, tables.page.size, count)],
        _draw(random, tables.duration_texts.size, count),
    )


def _in_order_without_repeats(rows: _Rows, users: int) -> _Rows:
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
        rows.page[suspects[grouped]] = np.where(repeats, (columns[2] + rank - 1) % _PAGES + 1, columns[2])
    return rows


def _clean_rows(plan: _Plan, tables: _Tables, lives: _Lives, count: int) -> Iterator[_Rows]:
    """All valid rows in time order, block by block, no duplicates among them."""
    carried = _Rows(*(np.zeros(0, dtype=np.int64) for _ in _Rows._fields))
    for day, day_rows in enumerate(_rows_per_day(plan, lives, count)):
        blocks = 1
        while blocks * BLOCK_ROWS < day_rows and blocks < _START_CELLS:
            blocks *= 2
        for block in range(blocks):
            block_rows = day_rows * (block + 1) // blocks - day_rows * block // blocks
            cells = range(_START_CELLS * block // blocks, _START_CELLS * (block + 1) // blocks)
            begin, end = (day * SECONDS_PER_DAY + int(tables.start_second[c]) for c in (cells.start, cells.stop))
            pool = carried
            if block_rows:
                random = _random(plan.seed, _STREAM_ROWS, day, block)
                fresh = _sessions(random, plan, tables, lives, day, cells, block_rows)
                pool = _Rows(*(np.concatenate(pair) for pair in zip(carried, fresh, strict=True)))
            if end == plan.days * SECONDS_PER_DAY:  # nothing runs on past the last day: back into the last block
                past = pool.second >= end
                pool.second[past] = begin + (pool.second[past] - end) % (end - begin)
            ready = pool.second < end
            carried = pool.at(~ready)
            yield _in_order_without_repeats(pool.at(ready), plan.users)


# ---------------------------------------------------------------- the realistic kind: what is wrong with it

_EXACT, _CONFLICTING = "exact", "conflicting"
_DIRT_PER_10_000_ROWS = {
    "malformed_row": 20,
    "missing_user_id": 20,
    "bad_timestamp": 20,
    "unknown_action": 15,
    "bad_duration": 25,
    "negative_duration": 10,
    "duration_over_limit": 15,
    _EXACT: 45,
    _CONFLICTING: 30,
}
_DIRT = tuple(_DIRT_PER_10_000_ROWS)
_REASONS = _DIRT[:-2]
_EVERY_DIRT_FROM_ROWS = 500  # a smaller file may do without some of it
_MISSING_USERS = (b"", b"   ")
_UNKNOWN_ACTIONS = (b"purchase", b"hover", b"")
_BAD_DURATIONS = {
    "bad_duration": (b"abc", b"1.5", b"", b"NaN"),
    "negative_duration": (b"-1", b"-250000"),
    "duration_over_limit": (b"7200001", b"86400000", b"12345678901234567890"),  # 20 digits are a whole number, too
}
_COLUMNS_AFTER_ACTION = ("comma_3", "page", "comma_4", "duration", "comma_5", "version")


class _Dirt(NamedTuple):
    """Where in the clean rows which dirt goes: one entry per dirty row, by position."""

    position: Integers
    kind: npt.NDArray[np.uint8]  # position in _DIRT
    variant: npt.NDArray[np.uint8]  # counts up through each kind, so that every variant has its share


def _dirt_counts(rows: int) -> dict[str, int]:
    least = 1 if rows >= _EVERY_DIRT_FROM_ROWS else 0
    return {kind: max(least, rows * share // 10_000) for kind, share in _DIRT_PER_10_000_ROWS.items()}


def _plant(plan: _Plan, counts: Mapping[str, int], clean_rows: int) -> _Dirt:
    """Spread the dirt evenly at random: the rows fall into as many stretches as there is dirt, one in each."""
    random = _random(plan.seed, _STREAM_DIRT)
    kind = np.repeat(np.arange(len(_DIRT), dtype=np.uint8), list(counts.values()))
    random.shuffle(kind)
    variant = np.zeros(kind.size, dtype=np.uint8)
    for number in range(len(_DIRT)):
        same = np.flatnonzero(kind == number)
        variant[same] = np.arange(same.size) % 240  # 240 is a multiple of every number of variants
    edges = np.arange(kind.size + 1, dtype=np.int64) * clean_rows // max(1, kind.size)
    return _Dirt(random.integers(edges[:-1], edges[1:]), kind, variant)


def _records(rows: _Rows, tables: _Tables, lives: _Lives, pages: Texts) -> npt.NDArray[np.void]:
    records = _blank_records(tables.layout, rows.second.size)
    day = rows.second // SECONDS_PER_DAY
    release = (day - lives.update_lag[rows.user] - tables.first_release_day) // _RELEASE_EVERY_DAYS
    _set_user(records, rows.user + 1)
    records["day"] = tables.day_texts[day - tables.first_day]
    records["time"] = _time_texts()[rows.second % SECONDS_PER_DAY]
    records["action"] = tables.action_texts[rows.action]
    records["page"] = pages[rows.page]
    records["duration"] = tables.duration_texts[rows.duration]
    records["version"] = tables.version_texts[release]
    return records


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


def _dirty_records(
    rows: _Rows, dirt: _Dirt, plan: _Plan, tables: _Tables, lives: _Lives
) -> tuple[npt.NDArray[np.void], int]:
    """Records of these rows with their dirt, and how many of them have a quoted page id."""
    rows.page[dirt.position[dirt.kind == _REASONS.index("malformed_row")]] = 1  # a plain one
    copied = dirt.kind >= len(_REASONS)
    copies = np.ones(rows.second.size, dtype=np.int64)
    copies[dirt.position[copied]] = 2
    rows = rows.at(np.repeat(np.arange(copies.size), copies))
    at = dirt.position + np.cumsum(copied) - copied
    second_copy = at[dirt.kind == _DIRT.index(_CONFLICTING)] + 1
    durations = tables.duration_texts.size
    rows.duration[second_copy] = (rows.duration[second_copy] + durations // 2) % durations
    records = _records(rows, tables, lives, tables.page_texts)
    for number, reason in enumerate(_REASONS):
        chosen = dirt.kind == number
        _spoil(records, reason, at[chosen], dirt.variant[chosen], plan.start.year)
    return records, int((rows.page > _PAGES).sum())


def _late_date(plan: _Plan) -> date:
    """The landing date of the late file: the last day of events."""
    return plan.start + timedelta(plan.days - 1)


def _write_late(file: BinaryIO, plan: _Plan, tables: _Tables, lives: _Lives) -> dict[str, int]:
    """Rows of other days than the one they are delivered on, of users whose phone was offline or whose clock is wrong.

    Their pages are nobody else's, so none is a duplicate. In data of one day there is no day to be late for.
    """
    count = max(12, min(plan.rows // 1_000, 10_000))
    longest_lag = min(3, plan.days - 1)
    counts = {"late_event": count // 4, "future_event": count // 6}
    counts["accepted"] = count - sum(counts.values()) if longest_lag else 0
    random = _random(plan.seed, _STREAM_LATE)
    low, high = _LATE_EVENT_LAG_DAYS
    lag = np.concatenate(
        [
            low + _draw(random, high - low + 1, counts["late_event"]),
            np.full(counts["future_event"], -1, dtype=np.int64),
            1 + _draw(random, max(1, longest_lag), counts["accepted"]),
        ]
    )
    time_of_day = tables.start_second[_draw(random, _START_CELLS, lag.size)]
    second = np.sort((plan.days - 1 - lag) * SECONDS_PER_DAY + time_of_day)
    rows = _Rows(
        second,
        _pick_users(random, lives, max(0, plan.days - 1 - high), lag.size),  # who had joined by then
        tables.action[_draw(random, tables.action.size, lag.size)],
        np.arange(lag.size, dtype=np.int64),
        _draw(random, tables.duration_texts.size, lag.size),
    )
    file.write(_header(INTERACTION_COLUMNS))
    file.write(_csv_bytes(_records(rows, tables, lives, _texts([f"p{_PAGES + 1 + n:06d}" for n in range(lag.size)]))))
    return counts


def _write_realistic(output: Path, plan: _Plan, report: Progress) -> Generated:
    tables, lives = _Tables(plan), _lives(plan)
    counts = _dirt_counts(plan.rows)
    duplicates = {kind: counts[kind] for kind in (_EXACT, _CONFLICTING)}
    clean = plan.rows - sum(duplicates.values())
    dirt = _plant(plan, counts, clean)
    paths = (output / INTERACTIONS_FILE, output / USERS_FILE, output / LATE_FILE)
    clean_done = written = quoted = 0
    with _new_files(paths) as (interactions, users, late):
        interactions.write(_header(INTERACTION_COLUMNS))
        for rows in _clean_rows(plan, tables, lives, clean):
            begin, end = np.searchsorted(dirt.position, [clean_done, clean_done + rows.second.size])
            here = _Dirt(dirt.position[begin:end] - clean_done, dirt.kind[begin:end], dirt.variant[begin:end])
            clean_done += rows.second.size
            records, quoted_here = _dirty_records(rows, here, plan, tables, lives)
            interactions.write(_csv_bytes(records))
            written += records.size
            quoted += quoted_here
            report(written, plan.rows)
        late_counts = _write_late(late, plan, tables, lives)
        user_rows, repeated, missing = _write_users(users, plan, lives.join)
    return Generated(
        interactions_path=paths[0],
        users_path=paths[1],
        rows=written,
        users=plan.users,
        user_rows=user_rows,
        repeated_users=repeated,
        users_without_metadata=missing,
        rejected={reason: counts[reason] for reason in _REASONS},
        duplicates=duplicates,
        quoted_page_rows=quoted,
        late_path=paths[2],
        late_date=_late_date(plan),
        late_rows=sum(late_counts.values()),
        late=late_counts,
    )

"""By how much a segment's users, actions and sessions change from day to day, of all rows of some users, by NumPy.

A user's day, or a user's day with a value, is a number; sorted they are the user's days one after another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse_assets.assets.gold.user_rows import Integers, codes, dates, day_number, day_numbers, following, sums
from lakehouse_assets.assets.gold.windows import LONGEST_DAYS, WINDOWS
from lakehouse_assets.assets.users_as_of import UNKNOWN
from lakehouse_assets.calendar import Days

ACTIVE_USERS = {"daily_active_users": 1, **WINDOWS}
SUMS = (*ACTIVE_USERS, "total_actions", "sessions")
STEPS = {"segment": "string", "value": "string", "date": "date", **dict.fromkeys(SUMS, "bigint")}
_MOST_CELLS = 1 << 20  # of values and days counted in one table


class _Spans(NamedTuple):
    """Days over which nothing changes for a user but that the last active day leaves the windows."""

    begin: Integers  # first day
    end: Integers  # day behind the last one
    active: Integers  # last active day, the first day or one before
    actions: Integers  # of the first day
    sessions: Integers


class _OfDays(NamedTuple):
    """Something of users' days."""

    on: Integers  # numbers of the days, each once, sorted
    amount: Integers


class _Versions(NamedTuple):
    """What users are from a day on."""

    on: Integers  # numbers of the days
    valid_from: Integers  # of those on the same day the newest holds


def steps(rows: pa.Table, of_users: Sequence[str], of_events: str, wanted: Days) -> pa.Table:
    """By how much the figures of each segment and value change on each of the days.

    Args:
        rows: user_id, date, and one of these: actions of the day, with a value of the events; sessions of the day;
            valid_from and version (struct of texts), what the user is from the day on, where the newest holds.
        of_users: columns of version.
        of_events: the segment of value; empty for none.
        wanted: first and last day.

    Returns:
        The columns of `STEPS`: users who come less those who go, actions and sessions of the day.
    """
    user, _ = codes(rows["user_id"])
    day = day_numbers(rows["date"])
    span = int(day.max()) + 1
    on = user * span + day
    is_active, is_visit = (rows[name].is_valid().to_numpy() for name in ("actions", "sessions"))
    actions = rows["actions"].fill_null(0).to_numpy()[is_active]
    sessions = _summed(on[is_visit], rows["sessions"].fill_null(0).to_numpy()[is_visit])
    found = []
    if of_events:
        value, values = codes(rows["value"])
        active = _summed(((user * len(values) + value) * span + day)[is_active], actions)
        spans, value = _event_spans(active, sessions, span, len(values))
        found.append(_counted(of_events, spans, value, values, wanted))
    if of_users:
        is_version = rows["valid_from"].is_valid()
        versions = rows.filter(is_version)
        begins = _Versions(on[is_version.to_numpy()], day_numbers(versions["valid_from"]))
        spans, version = _user_spans(_summed(on[is_active], actions), sessions, begins, span)
        for name in of_users:
            value, values = codes(pc.struct_field(versions["version"], name))
            value = np.append(value, -1)[version]
            value[value < 0] = len(values)
            found.append(_counted(name, spans, value, pa.concat_arrays([values, pa.array([UNKNOWN])]), wanted))
    return pa.concat_tables(found)


def _summed(on: Integers, amount: Integers) -> _OfDays:
    """Amounts of the same day together."""
    order = np.argsort(on)
    on = on[order]
    begins = np.flatnonzero(np.diff(on, prepend=-1))
    return _OfDays(on[begins], np.add.reduceat(amount[order], begins) if len(on) else amount)


def _event_spans(active: _OfDays, sessions: _OfDays, span: int, values: int) -> tuple[_Spans, Integers]:
    """Spans of users with a value of the events, from day to day with it; and the numbers of the values.

    Args:
        active: actions of days, by user, value and day.
        sessions: by user and day.
        span: days of a user and value.
        values: how many there are.
    """
    series, begin = np.divmod(active.on, span)
    on = series // values * span + begin
    spans = _Spans(begin, following(active.on, span), begin, active.amount, _of_days(sessions, on))
    return spans, series % values


def _user_spans(active: _OfDays, sessions: _OfDays, versions: _Versions, span: int) -> tuple[_Spans, Integers]:
    """Spans of users, from an active day to the next or to another version; and the place of the version, or -1.

    Args:
        active: actions of days, by user and day.
        sessions: by user and day.
        versions: by user and day.
        span: days of a user.
    """
    order = np.lexsort((versions.valid_from, versions.on))
    ordered = versions.on[order]
    newest = np.flatnonzero(np.diff(ordered, append=-1))
    on = _each_once(active.on, ordered[newest])
    last, version = _latest(active.on, on, span), _latest(ordered[newest], on, span)
    active_on = np.append(active.on, -1)[last]
    kept = np.flatnonzero((last >= 0) & (on - active_on < LONGEST_DAYS))
    own = on == active_on
    actions = np.where(own, np.append(active.amount, 0)[last], 0)
    spans = _Spans(on % span, following(on, span), active_on % span, actions, np.where(own, _of_days(sessions, on), 0))
    return _Spans(*[column[kept] for column in spans]), np.append(order[newest], -1)[version[kept]]


def _each_once(*numbers: Integers) -> Integers:
    """Different numbers, sorted; NumPy's own `unique` hashes them, which takes five times as long."""
    found = np.sort(np.concatenate(numbers))
    return found[np.flatnonzero(np.diff(found, prepend=-1))]


def _latest(among: Integers, on: Integers, span: int) -> Integers:
    """The place of the latest of some days that is no later, of the same user; -1 for none."""
    place = np.searchsorted(among, on, side="right") - 1
    return np.where(np.append(among, -1)[place] // span == on // span, place, -1)


def _of_days(what: _OfDays, on: Integers) -> Integers:
    """The amounts of some days, 0 for none."""
    place = np.searchsorted(what.on, on)
    return np.where(np.append(what.on, -1)[place] == on, np.append(what.amount, 0)[place], 0)


def _counted(segment: str, spans: _Spans, value: Integers, values: pa.Array, wanted: Days) -> pa.Table:
    """The steps of one segment from spans with the numbers of their values.

    A span is a user more in each window on its first day, and a user less where it ends or the window has left the
    active day behind. What was before the first day wanted is brought to it.
    """
    first, end = day_number(wanted.first), day_number(wanted.last) + 1
    width = end - first + 1  # with the day behind the last one, where steps do not count

    def cell(day: Integers) -> Integers:
        return value * width + np.clip(day, first, end) - first

    ends = [np.maximum(np.minimum(spans.end, spans.active + days), spans.begin) for days in ACTIVE_USERS.values()]
    cells = [cell(spans.begin), *map(cell, ends)]
    there = np.arange(len(values) * width)
    if len(there) > _MOST_CELLS:  # of many values the cells with steps alone
        there = _each_once(*cells)
        cells = [np.searchsorted(there, one) for one in cells]
    begins, *behind = cells
    size = len(there)
    more = np.bincount(begins, minlength=size)
    changes = [more - np.bincount(one, minlength=size) for one in behind]
    inside = spans.begin >= first
    of_days = [sums(begins[inside], of_day[inside], size) for of_day in (spans.actions, spans.sessions)]
    figures = np.stack([*changes, *of_days])
    found = np.flatnonzero(figures.any(axis=0) & (there % width < width - 1))
    columns = [
        pa.repeat(segment, len(found)),
        values.take(pa.array(there[found] // width)),
        dates(there[found] % width + first),
        *[pa.array(figure) for figure in figures[:, found]],
    ]
    return pa.Table.from_arrays(columns, names=list(STEPS))

"""Days, months, and the daily partitions."""

from __future__ import annotations

import calendar
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from typing import NamedTuple

DAY = timedelta(days=1)
ALL_DAYS = (date(1900, 1, 1), date(2999, 12, 31))  # all days a table may hold: landing dates are 2000 … today


class Days(NamedTuple):
    """Consecutive days, both ends included."""

    first: date
    last: date


def month_first(day: date) -> date:
    """The first day of a day's month."""
    return day.replace(day=1)


def month_last(day: date) -> date:
    """The last day of a day's month."""
    return day.replace(day=calendar.monthrange(day.year, day.month)[1])


def period_first(day: date, period: str) -> date:
    """The first day of a day's ``week`` (its Monday) or ``month``."""
    return month_first(day) if period == "month" else day - timedelta(days=day.weekday())


def period_last(day: date, period: str) -> date:
    """The last day of a day's ``week`` (its Sunday) or ``month``."""
    return month_last(day) if period == "month" else period_first(day, period) + timedelta(days=6)


def days_between(first: date, last: date) -> list[date]:
    """Every day from ``first`` to ``last``, both included."""
    return [*map(date.fromordinal, range(first.toordinal(), last.toordinal() + 1))]


def as_of(day: date, snapshots: Sequence[date]) -> date:
    """Of snapshots in order the newest that is not after a day; before the first one the first."""
    return snapshots[max(bisect_right(snapshots, day) - 1, 0)]


def stretches(days: Iterable[date]) -> list[tuple[date, date]]:
    """Consecutive days joined into (first, last), in order."""
    joined: list[tuple[date, date]] = []
    for day in sorted(set(days)):
        if joined and day - joined[-1][1] == DAY:
            joined[-1] = (joined[-1][0], day)
        else:
            joined.append((day, day))
    return joined


def in_words(days: Iterable[date]) -> list[str]:
    """Consecutive days joined, as text."""
    return [span_in_words(first, last) for first, last in stretches(days)]


def span_in_words(first: date | str, last: date | str) -> str:
    """The days from ``first`` to ``last`` as text; a single day stands alone."""
    return f"{first}" if first == last else f"{first} … {last}"


def at_most(sentences: Sequence[str], limit: int) -> list[str]:
    """The first of many sentences, and how many more there are."""
    more = len(sentences) - limit
    return [*sentences[:limit], *([f"and {more} more"] if more > 0 else [])]


def some(count: int, what: str) -> str:
    """A count and its noun as text: ``1 day``, ``2 days``."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"

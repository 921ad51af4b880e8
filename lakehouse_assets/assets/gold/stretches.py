"""Stretches of days over which a user's rolling total stays the same, and how many users each day has of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse_assets.assets.frames import calendar
from lakehouse_assets.assets.gold.user_rows import (
    Integers,
    by_user,
    codes,
    dates,
    day_number,
    day_numbers,
    in_one_task,
)
from lakehouse_assets.calendar import Days

ClassOf: TypeAlias = Callable[[Integers], Integers]  # of totals, from 0 on

_STRETCHES = {"user_id": "string", "since": "date", "until": "date", "amount": "bigint", "class": "bigint"}
_STEPS = {"class": "bigint", "date": "date", "step": "bigint"}


def stretches(user_days: DataFrame, window: int, class_of: ClassOf) -> DataFrame:
    """The days over which a user's total of the last ``window`` days stays the same.

    A total changes on an active day, and ``window`` days later when that day leaves the window: two changes an active
    day, whatever the length of the window. One shuffle by user.

    Args:
        user_days: event_date, user_id, amount.
        window: days the total covers.
        class_of: the classes of totals.

    Returns:
        user_id, since (first day), until (day after the last), amount (bigint), class; only while an active day is
        inside.
    """

    def rows(of: pa.Table) -> pa.Table:
        found = _stretches(of, window)
        columns = [found.users.take(pa.array(found.user)), dates(found.since), dates(found.until)]
        numbers = [pa.array(found.amount), pa.array(class_of(found.amount))]
        return pa.Table.from_arrays([*columns, *numbers], names=list(_STRETCHES))

    return by_user(user_days.select("user_id", "event_date", "amount"), rows, _STRETCHES)


def of_users_per_class(
    user_days: DataFrame,
    window: int,
    class_of: ClassOf,
    classes: int,
    wanted: Days,
    compute: Callable[[Integers], pa.Table],
    types: dict[str, str],
) -> DataFrame:
    """What follows from the number of users of each class on each day.

    A stretch is a user more on its first day and a user less behind its last; what these add up to along the days is
    the number of users.

    Args:
        user_days: see `stretches`.
        window: see `stretches`.
        class_of: see `stretches`.
        classes: classes from 0 on.
        wanted: first and last day.
        compute: what is wanted, from users by day and class.
        types: the columns of what it returns, and their types.
    """
    first, end = day_number(wanted.first), day_number(wanted.last) + 1
    span = end - first + 1  # with the day behind the last one

    def steps(of: pa.Table) -> pa.Table:
        found = _stretches(of, window)
        row, size = class_of(found.amount) * span, classes * span
        begins, ends = (row + np.clip(day, first, end) - first for day in (found.since, found.until))
        step = np.bincount(begins, minlength=size) - np.bincount(ends, minlength=size)
        there = np.flatnonzero(step)
        columns = [pa.array(there // span), dates(there % span + first), pa.array(step[there])]
        return pa.Table.from_arrays(columns, names=list(_STEPS))

    def users(of: pa.Table) -> pa.Table:
        step = np.zeros((span, classes), np.int64)
        np.add.at(step, (day_numbers(of["date"]) - first, of["class"].to_numpy()), of["step"].to_numpy())
        return compute(np.cumsum(step[:-1], axis=0))

    # with a row for each day, so that there are rows where nobody was active
    none = calendar(user_days, *wanted).select(
        F.lit(0).cast("bigint").alias("class"), "date", F.lit(0).cast("bigint").alias("step")
    )
    changed = by_user(user_days.select("user_id", "event_date", "amount"), steps, _STEPS)
    return in_one_task(changed.unionByName(none), users, types)


class _Stretches(NamedTuple):
    users: pa.Array
    user: Integers  # place among the users
    since: Integers  # days since 1970
    until: Integers
    amount: Integers


def _stretches(user_days: pa.Table, window: int) -> _Stretches:
    user, users = codes(user_days["user_id"])
    day, amount = day_numbers(user_days["event_date"]), user_days["amount"].to_numpy()
    lowest = int(day.min())
    span = int(day.max()) + window - lowest + 1
    enters = user * span + (day - lowest)  # a number for each user and day
    changed = np.concatenate([enters, enters + window])
    order = np.argsort(changed)
    changed = changed[order]
    total = np.cumsum(np.concatenate([amount, -amount])[order])  # a user's changes add up to nothing
    active_days = np.cumsum(np.where(order < len(enters), 1, -1))
    # of changes of the same day the last one has them all; a user's very last one has no active day inside
    begins = np.flatnonzero((changed != np.append(changed[1:], -1)) & (active_days > 0))
    user, since = np.divmod(changed[begins], span)
    return _Stretches(users, user, since + lowest, changed[begins + 1] % span + lowest, total[begins])

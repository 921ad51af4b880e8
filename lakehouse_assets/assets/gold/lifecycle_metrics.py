"""Who is new, stays, comes back or stays away (docs/metrics: lifecycle)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from lakehouse_assets.assets.charts import GROWTH, Card, Chart
from lakehouse_assets.assets.columns import count, day, one_of, text
from lakehouse_assets.assets.frames import calendar
from lakehouse_assets.assets.gold.user_rows import by_user, codes, dates, day_numbers, following, preceding
from lakehouse_assets.assets.gold.windows import bounds
from lakehouse_assets.assets.table import Input, Rule, table_asset
from lakehouse_assets.calendar import Days, period_first

PERIODS = ("day", "week", "month")
COUNTS = ("active_users", "new_users", "returning_users", "resurrecting_users", "dormant_users", "active_users_before")
_COUNTED = {  # columns and their types
    "event_date": "date",
    **{f"{period}_{what}": "bigint" for period in PERIODS for what in ("opened", "returned", "new", "closed")},
}


@table_asset(
    "gold.lifecycle_metrics",
    description="New, returning, resurrecting, dormant users of the day, the ISO week and the month to date.",
    columns={
        "date": day("Day the row counts up to."),
        "period": text("Length of the period.", one_of(PERIODS)),
        "period_date": day("First day of the period: the day, its Monday, or the first of its month."),
        "active_users": count("Distinct users of the period to date."),
        "new_users": count("Of these, users who had never been active before the period."),
        "returning_users": count("Of these, users of the period before."),
        "resurrecting_users": count("Of these, users from before who were not active in the period before."),
        "dormant_users": count("Users of the period before who have not been active in this one so far."),
        "active_users_before": count("Distinct users of the whole period before."),
    },
    partition_column="date",
    reads={
        # the longest way back to the first of the month before, and to the first of a month
        "user_days": Input("silver.user_days", -61, 0),
        "first_days": Input("silver.user_first_days", -30, 0),
    },
    key=("date", "period"),
    rules=(
        Rule(
            "active_users_add_up",
            "new + returning + resurrecting = active",
            lambda: (
                F.col("new_users") + F.col("returning_users") + F.col("resurrecting_users") == F.col("active_users")
            ),
        ),
        Rule(
            "change_adds_up",
            "active in the period before + new + resurrecting - dormant = active",
            lambda: (
                F.col("active_users_before") + F.col("new_users") + F.col("resurrecting_users") - F.col("dormant_users")
                == F.col("active_users")
            ),
        ),
    ),
    checks=("active_users_add_up", "change_adds_up"),
    by_month=True,
    charts=(
        Chart(
            "New, returning and lost users",
            GROWTH,
            "New: first active day ever. Returning: also active the day before. Resurrecting: active before, but not "
            "the day before. Dormant, drawn below zero: active the day before, but not on this day.",
            "bar",
            "users",
            query="SELECT date, series, users::DOUBLE AS value FROM ("
            "SELECT date, new_users AS 'new', returning_users AS 'returning', resurrecting_users AS 'resurrecting', "
            "-dormant_users AS 'dormant' FROM gold.lifecycle_metrics WHERE period = 'day'"
            ") UNPIVOT (users FOR series IN (* EXCLUDE date)) "
            "ORDER BY list_position(['new', 'returning', 'resurrecting', 'dormant'], series), date",
            compared=False,
            place=40,
        ),
    ),
    cards=(
        Card(
            "New users",
            "Users whose first active day ever is one of the days.",
            "users",
            "sum",
            "SELECT date, new_users FROM gold.lifecycle_metrics WHERE period = 'day'",
            "New, returning and lost users",
            place=40,
        ),
    ),
)
def lifecycle_metrics(user_days: DataFrame, first_days: DataFrame, days: Days) -> DataFrame:
    """Lifecycle of daily, ISO-weekly and monthly activity, each period to date, of some days.

    A user's first active day of a period tells what the user is there: returning (active in the period before too),
    new (it is the first active day ever), or else resurrecting. Dormant are those of the period before who have not
    been active in this one so far. So an active day changes the numbers at most at its own date and at the start of
    the next period; the changes added up since the start of a period are its numbers to date. One shuffle by user;
    what follows has a row a day.

    Args:
        user_days: event_date, user_id from the first of the month before the first day's on.
        first_days: first_date, user_id from the start of the first day's month or ISO week on, whichever is
            earlier.
        days: days wanted.

    Returns:
        date, period (`PERIODS`), period_date (its first day) and `COUNTS` (bigint; active_users_before are all users
        of the period before); one row a day and period.
    """
    active = user_days.select("user_id", F.col("event_date").alias("date"), F.lit(False).alias("first"))
    firsts = first_days.select("user_id", F.col("first_date").alias("date"), F.lit(True).alias("first"))
    of_days = (
        by_user(active.unionByName(firsts), _counted, _COUNTED)
        .groupBy("event_date")
        .agg(*[F.sum(name).alias(name) for name in _COUNTED if name != "event_date"])
    )
    changes = [change for period in PERIODS for change in _changes(period)]
    by_day = (
        of_days.select(F.inline(F.array(*changes)))
        .groupBy("period", "date")
        .agg(*[F.sum(name).alias(name) for name in COUNTS])
    )
    earliest = min(period_first(days.first, "month"), period_first(days.first, "week"))
    every_day = calendar(user_days, earliest, days.last).withColumn("period", F.explode(F.array(*map(F.lit, PERIODS))))
    period_date = F.coalesce(*[F.when(F.col("period") == p, _start("date", p)) for p in PERIODS])
    to_date = Window.partitionBy("period", "period_date").orderBy("date")
    return (
        every_day.withColumn("period_date", period_date)
        .join(by_day, ["period", "date"], "left")
        .withColumns({name: F.sum(F.coalesce(name, F.lit(0))).over(to_date) for name in COUNTS})
        .where(F.col("date") >= F.lit(days.first))
        .select("date", "period", "period_date", *COUNTS)
    )


def _counted(rows: pa.Table) -> pa.Table:
    """How many of a day's users it is the first or the last active day of a period for, and what they are there.

    Args:
        rows: user_id, date, and whether it is the first active day ever, or only an active day; of some users.
    """
    user, _ = codes(rows["user_id"])
    day = day_numbers(rows["date"])
    span = int(day.max()) + 2  # with the day behind the last one
    on, is_first = user * span + day, rows["first"].to_numpy()
    active, firsts = np.sort(on[~is_first]), np.sort(on[is_first])
    firsts = firsts[np.diff(firsts // span, prepend=-1) != 0]  # the earliest of a user
    new = np.isin(active, firsts, assume_unique=True, kind="sort")
    previous, following_day, active_day = preceding(active, span), following(active, span), active % span
    lowest = int(day.min())
    every_day = np.arange(lowest, span)
    columns = [dates(every_day)]
    for period in PERIODS:
        start, after = bounds(every_day, period)
        before, _ = bounds(start - 1, period)
        start, after, before = (bound[active_day - lowest] for bound in (start, after, before))
        opens = previous < start
        returning = opens & (previous >= before)
        for what in (opens, returning, opens & ~returning & new, following_day >= after):
            columns.append(pa.array(np.bincount(active_day[what] - lowest, minlength=len(every_day))))
    return pa.Table.from_arrays(columns, names=list(_COUNTED))


def _changes(period: str) -> list[Column]:
    """How a day's users change the numbers of a period: at the day, and at the start of the period after."""
    opened, returned, new, closed = (F.col(f"{period}_{what}") for what in ("opened", "returned", "new", "closed"))
    at_the_day = {
        "active_users": opened,
        "new_users": new,
        "returning_users": returned,
        "resurrecting_users": opened - returned - new,
        "dormant_users": -returned,
    }
    afterwards = {"dormant_users": closed, "active_users_before": opened}
    return [
        _change(period, F.col("event_date"), at_the_day),
        _change(period, _after(_start("event_date", period), period), afterwards),
    ]


def _change(period: str, day: Column, by: Mapping[str, Column]) -> Column:
    # never null, and said to be so: of structs in one array Sail wants that to be the same
    counts = [F.coalesce(by.get(name, F.lit(0)), F.lit(0)).cast("bigint").alias(name) for name in COUNTS]
    return F.struct(F.lit(period).alias("period"), day.alias("date"), *counts)


def _start(day: Column | str, period: str) -> Column:
    """The first day of a day's period."""
    column = F.col(day) if isinstance(day, str) else day
    return column if period == "day" else F.trunc(column, period)


def _after(start: Column, period: str) -> Column:
    """The first day of the period after the one that begins on ``start``."""
    return {"day": F.date_add(start, 1), "week": F.date_add(start, 7), "month": F.add_months(start, 1)}[period]

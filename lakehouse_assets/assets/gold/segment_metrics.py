"""Active users, actions and sessions by what users are and which version they use (docs/metrics: segments)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from functools import reduce

from pyspark.sql import Column, DataFrame, Window, WindowSpec
from pyspark.sql import functions as F

from lakehouse_assets.assets.charts import MOST_VALUES, SEGMENTS, WINDOW_7, Chart, largest
from lakehouse_assets.assets.columns import at_least, count, day, one_of, text, whole
from lakehouse_assets.assets.frames import stacked
from lakehouse_assets.assets.gold.windows import ACTIVE_USERS_ORDERED, LONGEST_DAYS, WINDOWS
from lakehouse_assets.assets.table import EVER, Input, table_asset
from lakehouse_assets.assets.users_as_of import APP_VERSION, UsersAsOf, as_texts, by_segment, user_segments
from lakehouse_assets.calendar import Days

ACTIVE_USERS = {"daily_active_users": 1, **WINDOWS}
_SUMS = (*ACTIVE_USERS, "total_actions", "sessions")


@table_asset(
    "gold.segment_metrics",
    description="Active users, actions and sessions by what users are and which app version they use.",
    columns=lambda settings: {
        "date": day("Day."),
        "segment": text("What divides the users.", one_of(settings.segments)),
        "value": text("Its value; `unknown` for users in no file and where it is empty."),
        "daily_active_users": count("DAU: distinct users active on the day."),
        "weekly_active_users": count("WAU: distinct users of the 7 days that end on the day."),
        "monthly_active_users_28d": count("Distinct users of the 28 days that end on the day."),
        "monthly_active_users_30d": whole("Distinct users of the 30 days that end on the day.", at_least(1)),
        "total_actions": count("Accepted interactions of the day."),
        "sessions": count("Sessions of the day's users."),
    },
    partition_column="date",
    reads=lambda settings: {
        "version_days": Input("silver.user_version_days", 1 - LONGEST_DAYS, 0),
        "sessions": Input("gold.session_metrics"),
        "users": Input("silver.user_changes", EVER, 0, as_of=True),
        **(
            {"extras": Input("silver.interaction_extras", 1 - LONGEST_DAYS, 0)}
            if {*settings.segments} & {*settings.extra_columns}
            else {}
        ),
    },
    key=("date", "segment", "value"),
    rules=(ACTIVE_USERS_ORDERED,),
    checks=(ACTIVE_USERS_ORDERED.name,),
    by_month=True,
    known_by_inputs=("extra_columns",),  # those that are segments are stamped with the segments
    charts=(
        Chart(
            "Weekly active users by segment",
            SEGMENTS,
            "Distinct users of the 7 days that end on the day, by what the users are and which app version they use: "
            f"the {MOST_VALUES} values with the most users of the newest day. A user of two versions counts in both.",
            "line",
            "users",
            query="SELECT date, value AS series, weekly_active_users::DOUBLE AS value, segment "  # noqa: S608
            "FROM gold.segment_metrics "
            f"WHERE {largest('gold.segment_metrics', 'segment', 'value', 'monthly_active_users_30d')} "
            "ORDER BY segment, series, date",
            choice="segment",
            covers=WINDOW_7,
            place=10,
        ),
    ),
)
def segment_metrics(
    version_days: DataFrame,
    sessions: DataFrame,
    users: UsersAsOf,
    segments: Sequence[str],
    days: Days,
    extra_columns: Sequence[str] = (),
    extras: DataFrame | None = None,
) -> DataFrame:
    """Active users, actions and sessions of each segment on each of the days.

    A user counts for what the user is as of the day, in all windows that end on it; for an app version, as for a column
    of the events, with activity in it. A session counts for everything its user is or used on its day.

    From an active day to the next, and between two versions of a user, nothing changes but that the active day leaves
    a window. These spans are counted by what they have in common before they are divided by window. One shuffle by
    user for the users' columns and one for app_version; what follows is small. A user has no more active days and
    versions than there are days, so that no frequent key unbalances their join.

    Args:
        version_days: rows of silver.user_version_days of the days and of the 29 before.
        sessions: session_date, user_id of the sessions of the days.
        users: as of the days.
        segments: columns of the users, `APP_VERSION` and extra columns.
        days: days wanted.
        extra_columns: columns of the events.
        extras: rows of silver.interaction_extras of the days and of the 29 before.

    Returns:
        date, segment (the column), value (`unknown` where there is none), the columns of `ACTIVE_USERS`,
        total_actions, sessions (bigint); a row for each value with users in the 30 days.
    """
    beginning = days.first - timedelta(LONGEST_DAYS - 1)
    active = version_days.withColumnRenamed("event_date", "date")
    visits = sessions.select("user_id", F.col("session_date").alias("date"), F.lit(1).alias("sessions"))
    of_users = user_segments(segments, extra_columns)
    spans = []
    if of_users:
        spans.append(_divided(_user_spans(active, visits, users.lasting(of_users, beginning)), of_users))
    if APP_VERSION in segments:
        spans.append(_divided(_event_spans(active, visits, APP_VERSION), [APP_VERSION]))
    for name in segments:
        if extras is not None and name in extra_columns:
            by_value = extras.groupBy(F.col("event_date").alias("date"), "user_id", name)
            valued = by_value.agg(F.count(F.lit(1)).alias("actions"))
            spans.append(_divided(_event_spans(valued, visits, name), [name]))
    return _by_day(reduce(DataFrame.unionByName, spans), *days)


def _user_spans(active: DataFrame, visits: DataFrame, lasting: DataFrame) -> DataFrame:
    """What users are from an active day to the next, or until they become something else.

    Args:
        active: date, user_id, actions.
        visits: date, user_id, sessions.
        lasting: rows of `UsersAsOf.lasting`.

    Returns:
        date, age (days since the user's last active day), gap (days that it lasts, no more than count), version
        (struct of the columns), actions and sessions of the date; null where the user was not active on it.
    """
    # by user first: what follows, by user and day and by user again, finds its rows where they are
    days = (
        stacked(active.drop("app_version"), visits)
        .repartition("user_id")
        .groupBy("user_id", "date")
        .agg(F.sum("actions").alias("actions"), F.sum("sessions").alias("sessions"))
        .where("actions IS NOT NULL")
        .withColumn("until", F.date_add("date", _gap(Window.partitionBy("user_id").orderBy("date"))))
    )
    holds = (F.col("_since") < F.col("until")) & (F.col("date") < F.col("_until"))
    since, until = F.greatest("date", "_since"), F.least("until", "_until")
    of_its_day = F.col("date") == since
    return days.join(lasting, (F.col("user_id") == F.col("_user_id")) & holds, "left").select(
        since.alias("date"),
        F.date_diff(since, "date").alias("age"),
        F.date_diff(until, since).alias("gap"),
        *[F.when(of_its_day, F.col(name)).alias(name) for name in ("actions", "sessions")],
        "version",
    )


def _event_spans(active: DataFrame, visits: DataFrame, column: str) -> DataFrame:
    """Active days of a user with a value of a column of the events, as of `_user_spans`; age is 0."""
    rows = stacked(active, visits).repartition("user_id")
    of_day = F.sum("sessions").over(Window.partitionBy("user_id", "date"))
    by_value = Window.partitionBy("user_id", column).orderBy("date")
    return (
        rows.withColumn("sessions", of_day)
        .where("actions IS NOT NULL")
        .select(
            "date",
            F.lit(0).alias("age"),
            _gap(by_value),
            "actions",
            "sessions",
            as_texts([column]).alias("version"),
        )
    )


def _gap(along: WindowSpec) -> Column:
    """Days to the next row, no more than count."""
    following = F.date_diff(F.lead("date").over(along), "date")
    return F.least(following, F.lit(LONGEST_DAYS)).alias("gap")


def _divided(spans: DataFrame, columns: Sequence[str]) -> DataFrame:
    """Spans counted for every one of the columns by what they have in common.

    Returns:
        segment (the column), value, date, age, gap, users, total_actions, sessions.
    """
    divided = spans.select("date", "age", "gap", "actions", "sessions", by_segment(columns))
    return divided.groupBy("segment", "value", "date", "age", "gap").agg(
        F.count(F.lit(1)).alias("users"),
        F.sum("actions").alias("total_actions"),
        F.sum("sessions").alias("sessions"),
    )


def _by_day(spans: DataFrame, first: date, last: date) -> DataFrame:
    """The figures of each segment, value and day from spans.

    In a window of w days a user counts from the span's first day until the last active day has left it, or until the
    next span: a step up and a step down, summed along the days.
    """
    lasts = {name: F.least("gap", F.lit(days) - F.col("age")) for name, days in ACTIVE_USERS.items()}
    up = {name: F.when(days > 0, F.col("users")) for name, days in lasts.items()}
    at_start = _step(F.col("date"), up | {name: F.col(name) for name in ("total_actions", "sessions")})
    at_ends = [
        F.when(days > 0, _step(F.date_add("date", days), {name: -F.col("users")})) for name, days in lasts.items()
    ]
    steps = spans.select("segment", "value", F.inline(F.array_compact(F.array(at_start, *at_ends))))
    by_day = steps.groupBy("segment", "value", "date").agg(*[F.sum(name).alias(name) for name in _SUMS])
    along = Window.partitionBy("segment", "value").orderBy("date")
    until = F.coalesce(F.date_sub(F.lead("date").over(along), 1), F.lit(last))
    running = by_day.select(
        "segment",
        "value",
        F.col("date").alias("since"),
        until.alias("until"),
        *[F.sum(name).over(along).alias(name) for name in ACTIVE_USERS],
        "total_actions",
        "sessions",
    )
    of_its_day = [
        F.when(F.col("date") == F.col("since"), F.coalesce(name, F.lit(0))).otherwise(0).alias(name)
        for name in ("total_actions", "sessions")
    ]
    begin, end = F.greatest("since", F.lit(first)), F.least("until", F.lit(last))
    counts = [F.coalesce(name, F.lit(0)).alias(name) for name in ACTIVE_USERS]
    return (
        running.where((begin <= end) & (F.col(f"monthly_active_users_{LONGEST_DAYS}d") > 0))
        .withColumn("date", F.explode(F.sequence(begin, end)))
        .select("date", "segment", "value", *counts, *of_its_day)
    )


def _step(day: Column, changes: dict[str, Column]) -> Column:
    nothing = F.lit(None).cast("bigint")
    return F.struct(day.alias("date"), *[changes.get(name, nothing).cast("bigint").alias(name) for name in _SUMS])

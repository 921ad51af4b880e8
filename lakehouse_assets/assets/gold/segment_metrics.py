"""Active users, actions and sessions by what users are and which version they use (docs/metrics: segments)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from functools import partial, reduce

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from lakehouse_assets.assets.charts import MOST_VALUES, SEGMENTS, WINDOW_7, Chart, largest
from lakehouse_assets.assets.columns import at_least, count, day, one_of, text, whole
from lakehouse_assets.assets.frames import stacked
from lakehouse_assets.assets.gold.segment_steps import ACTIVE_USERS, STEPS, SUMS, steps
from lakehouse_assets.assets.gold.user_rows import by_user
from lakehouse_assets.assets.gold.windows import ACTIVE_USERS_ORDERED, LONGEST_DAYS
from lakehouse_assets.assets.table import EVER, Input, table_asset
from lakehouse_assets.assets.users_as_of import APP_VERSION, UNKNOWN, UsersAsOf, as_texts, user_segments
from lakehouse_assets.calendar import Days


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
    version=2,
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
    a window. Such a span is a user more on its first day and a user less where it leaves the window or ends; these
    steps are added up by value and day where the user's rows are. One shuffle by user; what follows is small. A user
    has no more active days and versions than there are days, so that no frequent key unbalances it.

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
    visits = sessions.select("user_id", F.col("session_date").alias("date"), F.lit(1).cast("bigint").alias("sessions"))
    active = version_days.select(
        "user_id", F.col("event_date").alias("date"), "actions", _known(APP_VERSION).alias("value")
    )
    of_users = user_segments(segments, extra_columns)
    changes = []
    of_events = APP_VERSION if APP_VERSION in segments else ""
    if of_users:
        versions = users.since(days.first - timedelta(LONGEST_DAYS - 1)).select(
            "user_id", F.col("_since").alias("date"), "valid_from", as_texts(of_users).alias("version")
        )
        changes.append(_changes([active, visits, versions], of_users, of_events, days))
    elif of_events:
        changes.append(_changes([active, visits], [], of_events, days))
    for name in segments:
        if extras is not None and name in extra_columns:
            by_value = extras.groupBy("user_id", F.col("event_date").alias("date"), _known(name).alias("value"))
            valued = by_value.agg(F.count(F.lit(1)).alias("actions"))
            changes.append(_changes([valued, visits], [], name, days))
    return _by_day(reduce(DataFrame.unionByName, changes), days.last)


def _known(column: str) -> Column:
    return F.coalesce(F.col(column), F.lit(UNKNOWN))


def _changes(rows: Sequence[DataFrame], of_users: Sequence[str], of_events: str, days: Days) -> DataFrame:
    changed = partial(steps, of_users=of_users, of_events=of_events, wanted=days)
    return by_user(stacked(*rows), changed, STEPS)


def _by_day(changes: DataFrame, last: date) -> DataFrame:
    """The figures of each segment, value and day: steps of users added up along the days."""
    by_day = changes.groupBy("segment", "value", "date").agg(*[F.sum(name).alias(name) for name in SUMS])
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
        F.when(F.col("date") == F.col("since"), F.col(name)).otherwise(F.lit(0).cast("bigint")).alias(name)
        for name in ("total_actions", "sessions")
    ]
    return (
        running.where(F.col(f"monthly_active_users_{LONGEST_DAYS}d") > 0)
        .withColumn("date", F.explode(F.sequence("since", "until")))
        .select("date", "segment", "value", *ACTIVE_USERS, *of_its_day)
    )

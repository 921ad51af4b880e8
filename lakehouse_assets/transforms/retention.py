"""Weekly retention of cohorts (METRICS: "Retention")."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse_assets.transforms.activity import calendar
from lakehouse_assets.transforms.users import at_snapshots

WEEKS = 26
COHORTS = ("first_activity", "join_date")


def retention_weekly(
    user_days: DataFrame,
    first_days: DataFrame,
    changes: DataFrame,
    snapshot_dates: Sequence[date],
    first: date,
    last: date,
) -> DataFrame:
    """Cohorts of 0 … 26 ISO weeks of age on each day from ``first`` to ``last``, and who of them was active this week.

    A day has one cell of each cohort: that of the week it lies in. The cell can be complete on the week's last day
    alone; on the others users and rate are null.

    Args:
        user_days: event_date, user_id of ``first`` - 6 … ``last``.
        first_days: first_date, user_id from the Monday 26 weeks before ``first``'s week to ``last``.
        changes: rows of `lakehouse_assets.transforms.users.user_changes` up to the last of the snapshots.
        snapshot_dates: the snapshots; a day goes by the newest that is not after it, before the first by the first.
        first: first day wanted.
        last: last day wanted.

    Returns:
        date, cohort_by (`COHORTS`), cohort_week (Monday), week_number (0 … 26; bigint), cohort_users (who joined by
        the day), users (bigint), rate (users / cohort_users); no row for a cohort without users.
    """
    by_activity = first_days.select(F.lit(first).alias("snapshot_date"), "user_id", F.col("first_date").alias("joined"))
    by_join_date = at_snapshots(changes, snapshot_dates).select(
        "snapshot_date", "user_id", F.col("join_date").alias("joined")
    )
    members = (by_activity, [first]), (by_join_date, snapshot_dates)
    one, other = (
        _cells(user_days, joined, dates, first, last).withColumn("cohort_by", F.lit(name))
        for name, (joined, dates) in zip(COHORTS, members, strict=True)
    )
    rate = (F.col("users") / F.col("cohort_users")).alias("rate")
    return one.unionByName(other).select(
        "date", "cohort_by", "cohort_week", "week_number", "cohort_users", "users", rate
    )


def _cells(
    user_days: DataFrame, members: DataFrame, snapshot_dates: Sequence[date], first: date, last: date
) -> DataFrame:
    """The cells of one kind of cohort.

    Args:
        user_days: event_date, user_id.
        members: snapshot_date, user_id, joined (null: in no cohort).
        snapshot_dates: the snapshots.
        first: first day wanted.
        last: last day wanted.

    Returns:
        date, cohort_week, week_number, cohort_users, users.
    """
    snapshots = F.array(*map(F.lit, snapshot_dates)).cast("array<date>")
    newest = F.array_max(F.filter(snapshots, lambda snapshot: snapshot <= F.col("date")))
    days = calendar(user_days, first, last).withColumn("snapshot_date", F.coalesce(newest, F.array_min(snapshots)))
    sunday = F.date_add(F.trunc("date", "week"), 6)
    # not `trunc`, which Sail can't do for a join date as old as a typing error may make it
    cohort_week = F.date_sub("joined", F.pmod(F.unix_date("joined") + 3, F.lit(7))).alias("cohort_week")
    sizes = members.groupBy("snapshot_date", "joined", cohort_week).agg(F.count(F.lit(1)).alias("joining"))
    weeks_back = F.explode(F.sequence(F.lit(0), F.lit(WEEKS)))
    cohorts = (
        days.withColumn("week_number", weeks_back)
        .withColumn("cohort_week", F.date_sub(F.trunc("date", "week"), F.col("week_number") * 7))
        .join(sizes, ["snapshot_date", "cohort_week"])
        .where("joined <= date")
        .groupBy("date", "cohort_week", F.col("week_number").cast("bigint").alias("week_number"))
        .agg(F.sum("joining").alias("cohort_users"))
    )
    active = (
        user_days.select("user_id", F.date_add(F.trunc("event_date", "week"), 6).alias("date"))
        .distinct()
        .join(F.broadcast(days), "date")
        .join(members, ["snapshot_date", "user_id"])
        .where("joined <= date")
        .groupBy("date", cohort_week)
        .agg(F.count(F.lit(1)).alias("active"))
    )
    users = F.when(F.col("date") == sunday, F.coalesce("active", F.lit(0))).alias("users")
    return cohorts.join(active, ["date", "cohort_week"], "left").select(
        "date", "cohort_week", "week_number", "cohort_users", users
    )

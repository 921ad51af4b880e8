"""Weekly retention of cohorts (docs/metrics: retention)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse_assets.assets.charts import COVERAGE, RETENTION, Card, Chart
from lakehouse_assets.assets.columns import at_least, between, day, one_of, share, text, whole
from lakehouse_assets.assets.frames import calendar
from lakehouse_assets.assets.table import EVER, Input, Rule, table_asset
from lakehouse_assets.assets.users_as_of import UsersAsOf
from lakehouse_assets.calendar import Days

WEEKS = 26
COHORTS = ("first_activity", "join_date")


@table_asset(
    "gold.retention_weekly",
    description="Weekly cohorts, by first activity and by join date, and who of them was active in the week.",
    columns={
        "date": day("Day; a week's figures stand on its Sunday."),
        "cohort_by": text("What makes a cohort.", one_of(COHORTS)),
        "cohort_week": day("Monday of the week the cohort joined in."),
        "week_number": whole("Weeks from that one to the day's.", between(0, WEEKS)),
        "cohort_users": whole("Users who joined in that week, by the day.", at_least(1)),
        "users": whole("Of these, users active in the week; null until its Sunday.", at_least(0), nullable=True),
        "rate": share("users / cohort_users."),
    },
    partition_column="date",
    reads={
        "user_days": Input("silver.user_days", -6, 0),
        "first_days": Input("silver.user_first_days", -7 * WEEKS - 6, 0),
        "users": Input("silver.user_changes", EVER, 0, as_of=True),
    },
    key=("date", "cohort_by", "cohort_week", "week_number"),
    rules=(
        Rule(
            "known_on_sundays",
            "users and rate are null but on Sundays",
            lambda: (
                # not `weekday`, which is -1 on Sundays in Sail
                (F.col("users").isNotNull() == (F.dayofweek("date") == 1))
                & (F.col("users").isNull() == F.col("rate").isNull())
            ),
        ),
    ),
    checks=("known_on_sundays",),
    by_month=True,
    charts=(
        Chart(
            "Weekly retention",
            RETENTION,
            "Of the users whose first active day fell into a week (a row, by its Monday), the share that was active "
            "again so many weeks later; at least the last 26 weeks. What is not over yet is left out.",
            "heat",
            "share",
            query="SELECT cohort_week AS date, week_number AS series, rate AS value FROM gold.retention_weekly "  # noqa: S608
            "WHERE cohort_by = 'first_activity' AND rate IS NOT NULL "
            f"AND date NOT IN (SELECT date FROM {COVERAGE} WHERE NOT is_over) ORDER BY series, date",
            compared=False,
            place=10,
        ),
    ),
    cards=(
        Card(
            "Back after a week",
            "Of the users whose week after their first one ended on one of the days, the share that was active in it.",
            "share",
            "ratio",
            "SELECT date, users, cohort_users FROM gold.retention_weekly "
            "WHERE cohort_by = 'first_activity' AND week_number = 1 AND users IS NOT NULL",
            "Weekly retention",
            place=50,
        ),
    ),
)
def retention_weekly(user_days: DataFrame, first_days: DataFrame, users: UsersAsOf, days: Days) -> DataFrame:
    """Cohorts of 0 … 26 ISO weeks of age on each of the days, and who of them was active this week.

    A day has one cell of each cohort: that of the week it lies in. The cell can be complete on the week's last day
    alone; on the others users and rate are null.

    Args:
        user_days: event_date, user_id of the days and of the 6 before.
        first_days: first_date, user_id from the Monday 26 weeks before the first day's week on.
        users: as of the days.
        days: days wanted.

    Returns:
        date, cohort_by (`COHORTS`), cohort_week (Monday), week_number (0 … 26; bigint), cohort_users (who joined by
        the day), users (bigint), rate (users / cohort_users); no row for a cohort without users.
    """
    by_activity = first_days.select(
        F.lit(days.first).alias("delivery_date"), "user_id", F.col("first_date").alias("joined")
    )
    by_join_date = users.at_deliveries().select("delivery_date", "user_id", F.col("join_date").alias("joined"))
    members = (by_activity, [days.first]), (by_join_date, users.deliveries)
    one, other = (
        _cells(user_days, joined, dates, days).withColumn("cohort_by", F.lit(name))
        for name, (joined, dates) in zip(COHORTS, members, strict=True)
    )
    rate = (F.col("users") / F.col("cohort_users")).alias("rate")
    return one.unionByName(other).select(
        "date", "cohort_by", "cohort_week", "week_number", "cohort_users", "users", rate
    )


def _cells(user_days: DataFrame, members: DataFrame, delivery_dates: Sequence[date], days: Days) -> DataFrame:
    """The cells of one kind of cohort.

    Args:
        user_days: event_date, user_id.
        members: delivery_date, user_id, joined (null: in no cohort).
        delivery_dates: the deliveries.
        days: days wanted.

    Returns:
        date, cohort_week, week_number, cohort_users, users.
    """
    deliveries = F.array(*map(F.lit, delivery_dates)).cast("array<date>")
    newest = F.array_max(F.filter(deliveries, lambda delivery: delivery <= F.col("date")))
    every_day = calendar(user_days, *days).withColumn("delivery_date", F.coalesce(newest, F.array_min(deliveries)))
    sunday = F.date_add(F.trunc("date", "week"), 6)
    # not `trunc`, which Sail can't do for a join date as old as a typing error may make it
    cohort_week = F.date_sub("joined", F.pmod(F.unix_date("joined") + 3, F.lit(7))).alias("cohort_week")
    sizes = members.groupBy("delivery_date", "joined", cohort_week).agg(F.count(F.lit(1)).alias("joining"))
    weeks_back = F.explode(F.sequence(F.lit(0), F.lit(WEEKS)))
    cohorts = (
        every_day.withColumn("week_number", weeks_back)
        .withColumn("cohort_week", F.date_sub(F.trunc("date", "week"), F.col("week_number") * 7))
        .join(sizes, ["delivery_date", "cohort_week"])
        .where("joined <= date")
        .groupBy("date", "cohort_week", F.col("week_number").cast("bigint").alias("week_number"))
        .agg(F.sum("joining").alias("cohort_users"))
    )
    active = (
        user_days.select("user_id", F.date_add(F.trunc("event_date", "week"), 6).alias("date"))
        .distinct()
        .join(F.broadcast(every_day), "date")
        .join(members, ["delivery_date", "user_id"])
        .where("joined <= date")
        .groupBy("date", cohort_week)
        .agg(F.count(F.lit(1)).alias("active"))
    )
    users = F.when(F.col("date") == sunday, F.coalesce("active", F.lit(0))).alias("users")
    return cohorts.join(active, ["date", "cohort_week"], "left").select(
        "date", "cohort_week", "week_number", "cohort_users", users
    )

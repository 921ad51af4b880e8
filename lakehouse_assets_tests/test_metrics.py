"""Metrics with a memory, each against plain SQL in DuckDB that says its definition and knows no shortcut."""

from collections.abc import Callable, Mapping
from datetime import date, timedelta
from random import Random
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession

from lakehouse_assets.partitions import as_of, days_between
from lakehouse_assets.settings import load_settings
from lakehouse_assets.tables import declare
from lakehouse_assets.transforms import activity, engagement, lifecycle, retention, users
from lakehouse_assets.transforms.cleaning import in_days

TABLES = declare(load_settings())
# across the turn of a year and a leap day, ending inside a week and a month
BEGIN, END = date(2023, 11, 28), date(2024, 3, 6)

SNAPSHOTS = [date(2023, 12, 13), date(2024, 2, 2), date(2024, 2, 20)]  # a while after the first day, within weeks
COUNTS = ("actions", "edit_actions", "share_actions", "duration_ms")
USER_DAYS = pa.schema({"event_date": pa.date32(), "user_id": pa.string(), **dict.fromkeys(COUNTS, pa.int64())})

Frames = Mapping[str, DataFrame]


def snapshots(first: date, last: date) -> list[date]:
    return sorted({as_of(day, SNAPSHOTS) for day in days_between(first, last)})


COMPUTE: dict[str, Callable[[Frames, date, date], DataFrame]] = {
    "silver.user_changes": lambda of, first, last: users.user_changes(
        of["bronze.users"], of["silver.user_changes"], users.DELIVERED_ATTRIBUTES
    ),
    "silver.users": lambda of, first, last: users.users(of["silver.user_changes"]).where(
        in_days("valid_from", first, last)
    ),
    "silver.user_first_days": lambda of, first, last: lifecycle.first_days(
        of["silver.user_days"], of["silver.user_first_days"]
    ),
    "gold.lifecycle_metrics": lambda of, first, last: lifecycle.lifecycle_metrics(
        of["silver.user_days"], of["silver.user_first_days"], first, last
    ),
    "gold.l28_histogram": lambda of, first, last: engagement.l28_histogram(of["silver.user_days"], first, last),
    "gold.weekly_metrics": lambda of, first, last: activity.weekly_metrics(of["silver.user_days"], first, last),
    "gold.action_metrics": lambda of, first, last: activity.action_metrics(
        of["silver.user_days"], {"edit": "edit_actions", "share": "share_actions"}, first, last
    ),
    "gold.retention_weekly": lambda of, first, last: retention.retention_weekly(
        of["silver.user_days"],
        of["silver.user_first_days"],
        of["silver.user_changes"],
        snapshots(first, last),
        first,
        last,
    ),
    "gold.power_users": lambda of, first, last: engagement.power_users(of["silver.user_days"], first, last),
}

DEFINED = {
    "silver.user_changes": """
        SELECT landing_date AS valid_from, user_id, join_date::DATE AS join_date, country, device_type,
            subscription_type
        FROM bronze.users QUALIFY (join_date, country) IS DISTINCT FROM
            lag((join_date, country)) OVER (PARTITION BY user_id ORDER BY landing_date)
    """,
    "silver.users": """
        SELECT one.*, min(later.valid_from) AS valid_to, count(later.valid_from) = 0 AS is_current
        FROM silver.user_changes AS one LEFT JOIN silver.user_changes AS later
            ON later.user_id = one.user_id AND later.valid_from > one.valid_from
        GROUP BY ALL
    """,
    "silver.user_first_days": """
        SELECT min(event_date) AS first_date, user_id FROM user_days GROUP BY user_id
    """,
    "gold.lifecycle_metrics": """
        WITH periods AS (
            SELECT date, period,
                if(period = 'day', date, date_trunc(period, date)::DATE) AS period_date,
                if(period = 'day', date - 1, date_trunc(period, period_date - 1)::DATE) AS before_date
            FROM calendar, (VALUES ('day'), ('week'), ('month')) AS lengths(period)
        ), users AS (
            SELECT date, period, user_id, bool_or(event_date >= period_date) AS active,
                bool_or(event_date < period_date AND event_date >= before_date) AS before,
                bool_or(event_date < before_date) AS long_before
            FROM periods JOIN user_days ON event_date <= date GROUP BY ALL
        )
        SELECT date, period, period_date, count(*) FILTER (active) AS active_users,
            count(*) FILTER (active AND NOT before AND NOT long_before) AS new_users,
            count(*) FILTER (active AND before) AS returning_users,
            count(*) FILTER (active AND NOT before AND long_before) AS resurrecting_users,
            count(*) FILTER (before AND NOT active) AS dormant_users,
            count(*) FILTER (before) AS active_users_before
        FROM periods LEFT JOIN users USING (date, period) GROUP BY ALL
    """,
    "gold.l28_histogram": """
        WITH users AS (
            SELECT date, user_id, count(*) AS active_days
            FROM calendar JOIN user_days ON event_date BETWEEN date - 27 AND date GROUP BY ALL
        )
        SELECT calendar.date, k AS active_days, count(user_id) AS users
        FROM calendar CROSS JOIN range(1, 29) AS numbers(k)
        LEFT JOIN users ON users.date = calendar.date AND users.active_days = k
        GROUP BY calendar.date, k
    """,
    "gold.weekly_metrics": """
        SELECT date, date_trunc('week', date)::DATE AS week_date, count(DISTINCT user_id) AS weekly_active_users,
            coalesce(sum(actions), 0)::BIGINT AS total_weekly_actions,
            sum(duration_ms)::DOUBLE / sum(actions) AS avg_duration_ms
        FROM calendar LEFT JOIN user_days ON event_date BETWEEN date_trunc('week', date) AND date
        GROUP BY date
    """,
    "gold.action_metrics": """
        SELECT calendar.date, types.action_type, count(user_id) AS users, coalesce(sum(times), 0)::BIGINT AS actions
        FROM calendar CROSS JOIN (VALUES ('edit'), ('share')) AS types(action_type)
        LEFT JOIN (
            UNPIVOT (SELECT event_date AS date, user_id, edit_actions AS edit, share_actions AS share FROM user_days)
            ON edit, share INTO NAME action_type VALUE times
        ) AS done ON done.date = calendar.date AND done.action_type = types.action_type AND times > 0
        GROUP BY calendar.date, types.action_type
    """,
    "gold.retention_weekly": """
        WITH members AS (
            SELECT date, 'first_activity' AS cohort_by, user_id, first_date AS joined
            FROM calendar CROSS JOIN silver.user_first_days
            UNION ALL
            SELECT date, 'join_date', user_id, join_date FROM users_on_day
        ), counted AS (
            SELECT date, cohort_by, date_trunc('week', joined)::DATE AS cohort_week,
                count(DISTINCT members.user_id) AS cohort_users, count(DISTINCT user_days.user_id) AS seen
            FROM members LEFT JOIN user_days
                ON user_days.user_id = members.user_id AND event_date BETWEEN date_trunc('week', date) AND date
            WHERE joined <= date GROUP BY ALL
        )
        SELECT *, (date_trunc('week', date)::DATE - cohort_week) // 7 AS week_number,
            if(dayname(date) = 'Sunday', seen, NULL) AS users, users::DOUBLE / cohort_users AS rate
        FROM counted WHERE week_number <= 26
    """,
    "gold.power_users": """
        WITH sums AS (
            SELECT date, user_id, sum(duration_ms)::BIGINT AS duration_ms_30d
            FROM calendar JOIN user_days ON event_date BETWEEN date - 29 AND date GROUP BY ALL
        )
        SELECT *, rank() OVER (PARTITION BY date ORDER BY duration_ms_30d DESC) AS duration_rank
        FROM sums QUALIFY duration_rank <= ceil(count(*) OVER (PARTITION BY date) / 100)
    """,
}


# Some users are in no file, some only in a later one; later files leave most of them out, repeat some and change some.
DELIVERED_USERS = """
    CREATE TABLE bronze.users AS
    WITH firsts AS (
        SELECT user_id, min(event_date) AS first_date, user_id[2:]::INTEGER AS number FROM user_days GROUP BY user_id
    )
    SELECT landing_date, user_id,
        if(number % 5 > 0, first_date + (number + month(landing_date))::INTEGER % 9 - 6, NULL)::VARCHAR AS join_date,
        nullif(['DE', 'FR', 'IT', ''][number % 3 + if(number % 11 = nth, 2, 1)], '') AS country,
        ['ios', 'web'][number % 2 + 1] AS device_type, 'free' AS subscription_type,
        NULL::VARCHAR AS extra_columns, NULL::VARCHAR AS malformed_row
    FROM firsts, (VALUES (DATE '2023-12-13', 1), (DATE '2024-02-02', 2), (DATE '2024-02-20', 3))
        AS taken(landing_date, nth)
    WHERE number % 7 > 0 AND (nth = 1) = (number % 4 > 0) OR number % 6 = nth
"""
USERS_ON_DAY = """
    CREATE TABLE users_on_day AS
    WITH snapshots AS (
        SELECT date, coalesce((SELECT max(landing_date) FROM bronze.users WHERE landing_date <= date),
            (SELECT min(landing_date) FROM bronze.users)) AS snapshot_date
        FROM calendar
    )
    SELECT date, given.* REPLACE (join_date::DATE AS join_date)
    FROM snapshots JOIN bronze.users AS given ON landing_date <= snapshot_date
    QUALIFY row_number() OVER (PARTITION BY date, user_id ORDER BY landing_date DESC) = 1
"""


def some_user_days(seed: int) -> pa.Table:
    """Users of every habit: daily, weekly, at most once, with breaks of a month or two; and days without anybody."""
    chance = Random(seed)
    quiet = set(chance.sample(days_between(BEGIN, END), 6))
    rows = []
    for number in range(230):
        day = BEGIN + timedelta(days=chance.randrange(70))
        step = chance.choice([[1], [1, 1, 2, 30], [7], [6, 7, 8], [28, 29], [30, 31, 62], [200]])
        while day <= END:
            if day not in quiet:
                edits, shares = chance.choice([(1, 0), (0, 2), (3, 1)])
                spent = chance.choice([0, 5, 1000, 1000, 7_200_000])  # few values, so that sums tie
                counts = {"actions": edits + shares, "edit_actions": edits, "share_actions": shares}
                rows.append({"event_date": day, "user_id": f"u{number}", **counts, "duration_ms": spent})
            day += timedelta(days=chance.choice(step))
    return pa.Table.from_pylist(rows, USER_DAYS)


@pytest.fixture(scope="module")
def user_days() -> pa.Table:
    return some_user_days(seed=7)


@pytest.fixture(scope="module")
def defined(user_days: pa.Table) -> duckdb.DuckDBPyConnection:
    """The metrics as their definitions have them, one view a table."""
    connection = duckdb.connect()
    connection.register("user_days", user_days)
    connection.execute("CREATE SCHEMA silver; CREATE SCHEMA gold")
    span = "generate_series(DATE '2023-11-28', DATE '2024-03-06', INTERVAL 1 DAY)"
    connection.execute(f"CREATE TABLE calendar AS SELECT unnest({span})::DATE AS date")
    connection.execute("CREATE VIEW silver.user_days AS FROM user_days")
    connection.execute("CREATE SCHEMA bronze")
    connection.execute(DELIVERED_USERS)
    connection.execute(USERS_ON_DAY)
    for name, query in DEFINED.items():
        connection.execute(f"CREATE TABLE {name} AS {query}")
    return connection


def inputs(spark: SparkSession, defined: duckdb.DuckDBPyConnection, name: str, first: date, last: date) -> Frames:
    """What the I/O manager would hand over for these days, and not a day more."""
    frames = {}
    for i in TABLES[name].inputs:
        everything = spark.createDataFrame(defined.table(i.table).to_arrow_table())
        low, high = first + timedelta(days=i.first_offset), last + timedelta(days=i.last_offset)
        if i.as_of:
            high = max(snapshots(first, last))
        elif i.table == name:
            high = first - timedelta(days=1)
        frames[i.table] = everything.where(in_days(TABLES[i.table].partition_column, low, high))
    return frames


def rows(table: pa.Table) -> list[dict[str, Any]]:
    return sorted(table.to_pylist(), key=lambda row: [str(value) for value in row.values()])


@pytest.mark.parametrize("name", COMPUTE)
def test_a_metric_is_what_its_definition_says_over_a_range_and_day_by_day(
    spark: SparkSession, defined: duckdb.DuckDBPyConnection, name: str
) -> None:
    column, compute = TABLES[name].partition_column, COMPUTE[name]

    def computed(first: date, last: date) -> list[dict[str, Any]]:
        return rows(compute(inputs(spark, defined, name, first, last), first, last).toArrow())

    def wanted(first: date, last: date) -> list[dict[str, Any]]:
        names = ", ".join(TABLES[name].columns)
        within = f"{column} BETWEEN DATE '{first}' AND DATE '{last}'"
        return rows(defined.table(name).filter(within).project(names).to_arrow_table())

    assert computed(BEGIN, END) == wanted(BEGIN, END)
    middle = date(2024, 1, 31)
    assert computed(middle, END) == wanted(middle, END)
    for day in (BEGIN, date(2024, 1, 1), date(2024, 3, 3)):
        assert computed(day, day) == wanted(day, day)

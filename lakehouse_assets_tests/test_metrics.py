"""Metrics with a memory, each against plain SQL in DuckDB that says its definition and knows no shortcut."""

import math
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from random import Random
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession

from lakehouse_assets.assets.frames import in_days
from lakehouse_assets.assets.gold import anomalies
from lakehouse_assets.assets.table import declare
from lakehouse_assets.assets.users_as_of import UsersAsOf
from lakehouse_assets.calendar import Days, as_of, days_between
from lakehouse_assets.settings import load_settings

TABLES = declare(load_settings())
# across the turn of a year and a leap day, ending inside a week and a month
BEGIN, END = date(2023, 11, 28), date(2024, 3, 6)

SNAPSHOTS = [date(2023, 12, 13), date(2024, 2, 2), date(2024, 2, 20)]  # a while after the first day, within weeks
COUNTS = ("actions", "edit_actions", "share_actions", "duration_ms")
USER_DAYS = pa.schema({"event_date": pa.date32(), "user_id": pa.string(), **dict.fromkeys(COUNTS, pa.int64())})

Frames = Mapping[str, DataFrame | UsersAsOf]


def snapshots(first: date, last: date) -> list[date]:
    return sorted({as_of(day, SNAPSHOTS) for day in days_between(first, last)})


SETTINGS = load_settings(allowed_actions=("edit", "share"), segments=("country", "device_type", "app_version"))
COMPUTED = (
    "silver.rejected_users",
    "silver.user_counts",
    "silver.user_changes",
    "silver.users",
    "silver.user_first_days",
    "gold.lifecycle_metrics",
    "gold.l28_histogram",
    "gold.weekly_metrics",
    "gold.action_metrics",
    "gold.retention_weekly",
    "gold.segment_metrics",
    "silver.duration_classes",
    "gold.version_performance",
    "gold.segment_performance",
    "gold.anomalies",
    "gold.power_users",
)

DEFINED = {
    "silver.rejected_users": """
        SELECT * REPLACE (reason[10:] AS reason) FROM delivered_users WHERE starts_with(reason, 'rejected ')
    """,
    "silver.user_counts": """
        SELECT date, count(reason) AS delivered_rows,
            count(*) FILTER (starts_with(reason, 'rejected ')) AS rejected_rows,
            count(*) FILTER (reason = 'repeated') AS duplicate_rows, count(*) FILTER (reason = 'kept') AS kept_rows
        FROM calendar LEFT JOIN delivered_users ON landing_date = date GROUP BY ALL
    """,
    "silver.user_changes": """
        SELECT landing_date AS valid_from, user_id, join_date::DATE AS join_date, country, device_type,
            subscription_type
        FROM said QUALIFY (join_date, country) IS DISTINCT FROM
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
    "gold.segment_metrics": """
        WITH sessions AS (SELECT session_date, user_id, count(*) AS sessions FROM gold.session_metrics GROUP BY ALL),
        active AS (
            SELECT date, event_date, user_id, sum(actions) AS actions, app_version, 'app_version' AS segment
            FROM calendar JOIN silver.user_version_days ON event_date BETWEEN date - 29 AND date GROUP BY ALL
            UNION ALL
            SELECT date, event_date, user_id, actions, NULL, segment
            FROM calendar JOIN user_days ON event_date BETWEEN date - 29 AND date
            CROSS JOIN (VALUES ('country'), ('device_type')) AS names(segment)
        ), divided AS (
            SELECT active.*, sessions, coalesce(CASE segment WHEN 'app_version' THEN app_version
                WHEN 'country' THEN country ELSE device_type END, 'unknown') AS value
            FROM active LEFT JOIN users_on_day USING (date, user_id)
            LEFT JOIN sessions ON session_date = event_date AND sessions.user_id = active.user_id
        )
        SELECT date, segment, value,
            count(DISTINCT user_id) FILTER (event_date = date) AS daily_active_users,
            count(DISTINCT user_id) FILTER (event_date > date - 7) AS weekly_active_users,
            count(DISTINCT user_id) FILTER (event_date > date - 28) AS monthly_active_users_28d,
            count(DISTINCT user_id) AS monthly_active_users_30d,
            coalesce(sum(actions) FILTER (event_date = date), 0)::BIGINT AS total_actions,
            coalesce(sum(sessions) FILTER (event_date = date), 0)::BIGINT AS sessions
        FROM divided GROUP BY ALL
    """,
    "silver.duration_classes": """
        SELECT event_date AS date, coalesce(app_version, 'unknown') AS app_version, action_type,
            ((duration_ms >> cut) << cut)::BIGINT AS duration_from_ms, count(*) AS actions
        FROM (SELECT *, greatest(length(bin(duration_ms)) - 6, 0)::BIGINT AS cut FROM silver.interactions)
        GROUP BY ALL
    """,
    "gold.version_performance": """
        WITH classes AS (
            SELECT calendar.date, app_version, action_type, duration_from_ms, sum(actions) AS actions,
                duration_from_ms + (1::BIGINT << greatest(length(bin(duration_from_ms)) - 6, 0)::BIGINT) // 2 AS middle
            FROM calendar JOIN silver.duration_classes AS had ON had.date BETWEEN calendar.date - 27 AND calendar.date
            GROUP BY ALL
        ), placed AS (
            SELECT *, sum(actions) OVER alike AS total, sum(actions) OVER (alike ORDER BY middle) AS so_far
            FROM classes WINDOW alike AS (PARTITION BY date, app_version, action_type)
        ), of_window AS (
            SELECT date, app_version, action_type, max(total)::BIGINT AS actions_28d,
                min(middle) FILTER (so_far >= 0.50 * total)::BIGINT AS p50_duration_ms_28d,
                min(middle) FILTER (so_far >= 0.95 * total)::BIGINT AS p95_duration_ms_28d,
                min(middle) FILTER (so_far >= 0.99 * total)::BIGINT AS p99_duration_ms_28d
            FROM placed GROUP BY ALL
        ), of_day AS (
            SELECT event_date AS date, coalesce(app_version, 'unknown') AS app_version, action_type,
                count(*) AS actions, avg(duration_ms) AS avg_duration_ms,
                quantile_disc(duration_ms, 0.5) AS p50_duration_ms,
                quantile_disc(duration_ms, 0.95) AS p95_duration_ms, quantile_disc(duration_ms, 0.99) AS p99_duration_ms
            FROM silver.interactions GROUP BY ALL
        )
        SELECT * REPLACE (coalesce(actions, 0) AS actions)
        FROM of_window LEFT JOIN of_day USING (date, app_version, action_type)
    """,
    "gold.segment_performance": """
        WITH placed AS (
            SELECT event_date AS date, user_id, actions, duration_ms, rank() OVER by_mean
                + (count(*) OVER (PARTITION BY event_date, duration_ms / actions) - 1) / 2 AS place
            FROM user_days WINDOW by_mean AS (PARTITION BY event_date ORDER BY duration_ms / actions)
        ), divided AS (
            SELECT placed.*, segment, coalesce(if(segment = 'country', country, device_type), 'unknown') AS value
            FROM placed LEFT JOIN users_on_day USING (date, user_id)
            CROSS JOIN (VALUES ('country'), ('device_type')) AS names(segment)
        ), groups AS (SELECT DISTINCT date, segment, value FROM divided),
        pairs AS (
            SELECT date, segment, groups.value, divided.value = groups.value AS is_in, place, actions, duration_ms
            FROM groups JOIN divided USING (date, segment)
        ), correlated AS (
            SELECT date, segment, value, corr(is_in::INTEGER, place) AS found, count(*) AS n, count_if(is_in) AS users,
                sum(duration_ms) FILTER (is_in) / sum(actions) FILTER (is_in) AS avg_duration_ms
            FROM pairs GROUP BY ALL
        ), checked AS (SELECT *, if(isnan(found), NULL, found) AS r FROM correlated)
        SELECT date, segment, value, users, avg_duration_ms, round(r, 12) AS duration_correlation,
            1.959964 * sqrt((1 + r * r / 2) / (n - 3)) AS error,
            if(n > 3, round(tanh(atanh(r) - error), 12), NULL) AS duration_correlation_low,
            if(n > 3, round(tanh(atanh(r) + error), 12), NULL) AS duration_correlation_high
        FROM checked
    """,
    "gold.anomalies": """
        WITH long AS (
            UNPIVOT (
                SELECT date, daily_active_users::DOUBLE AS daily_active_users, total_actions::DOUBLE AS total_actions,
                    avg_duration_ms, sessions::DOUBLE AS sessions, avg_actions_per_session, single_action_rate
                FROM gold.daily_metrics JOIN gold.daily_session_metrics USING (date)
            ) ON COLUMNS(* EXCLUDE (date)) INTO NAME metric VALUE value
        ), levels AS (
            SELECT now.date, now.metric, now.value, if(count(past.value) >= 14, median(past.value), NULL) AS level
            FROM long AS now LEFT JOIN long AS past
                ON past.metric = now.metric AND past.date BETWEEN now.date - 28 AND now.date - 1
            GROUP BY ALL
        ), expectations AS (
            SELECT now.date, now.metric, now.value, now.level * if(count(past.value / nullif(past.level, 0)) >= 4,
                median(past.value / nullif(past.level, 0)), NULL) AS trend,
                if(now.metric = 'single_action_rate' AND trend > 1, 1, trend) AS expected_value
            FROM levels AS now LEFT JOIN levels AS past ON past.metric = now.metric
                AND now.date - past.date IN (7, 14, 21, 28, 35, 42, 49, 56)
            WHERE now.level > 0 GROUP BY now.date, now.metric, now.value, now.level
        ), distances AS (
            SELECT *, (value - expected_value) / sqrt(greatest(expected_value, 1)) AS distance FROM expectations
        ), spreads AS (
            SELECT now.date, now.metric, now.value, now.expected_value, greatest(
                1.4826 * median(abs(past.distance)) * sqrt(greatest(now.expected_value, 1)), 0.02 * now.expected_value,
                if(now.metric IN ('daily_active_users', 'total_actions', 'sessions'),
                    sqrt(greatest(now.expected_value, 1)) / 2, 0)) AS spread
            FROM distances AS now JOIN distances AS past
                ON past.metric = now.metric AND past.date BETWEEN now.date - 56 AND now.date - 1
            WHERE now.distance IS NOT NULL GROUP BY now.date, now.metric, now.value, now.expected_value
            HAVING count(past.distance) >= 14
        )
        SELECT date, metric, value, expected_value,
            if(spread > 0, greatest(expected_value - 5 * spread, 0), NULL) AS lower_bound,
            expected_value + 5 * spread AS highest,
            if(metric = 'single_action_rate' AND highest > 1, 1, highest) AS upper_bound,
            (value - expected_value) / spread AS deviation, abs(deviation) > 5 AS is_anomaly
        FROM calendar CROSS JOIN (SELECT DISTINCT metric FROM long)
            LEFT JOIN (SELECT date, metric, value FROM long) USING (date, metric)
            LEFT JOIN (SELECT * EXCLUDE (value) FROM spreads) USING (date, metric)
    """,
}


# Some users are in no file, some only in a later one; later files leave most of them out, repeat some and change some.
SAID = """
    CREATE TABLE said AS
    WITH firsts AS (
        SELECT user_id, min(event_date) AS first_date, user_id[2:]::INTEGER AS number FROM user_days GROUP BY user_id
    )
    SELECT landing_date, user_id,
        if(number % 5 > 0, first_date + (number + month(landing_date))::INTEGER % 9 - 6, NULL)::VARCHAR AS join_date,
        nullif(['DE', 'FR', 'IT', ''][number % 3 + if(number % 11 = nth, 2, 1)], '') AS country,
        ['ios', 'web'][number % 2 + 1] AS device_type, 'free' AS subscription_type
    FROM firsts, (VALUES (DATE '2023-12-13', 1), (DATE '2024-02-02', 2), (DATE '2024-02-20', 3))
        AS taken(landing_date, nth)
    WHERE number % 7 > 0 AND (nth = 1) = (number % 4 > 0) OR number % 6 = nth
"""
# What is said, and what the files hold beside it: times behind dates, rows that repeat a user and lose, rows to reject.
DELIVERED_USERS = """
    CREATE TABLE delivered_users AS
    WITH numbered AS (SELECT *, user_id[2:]::INTEGER AS number FROM said)
    SELECT landing_date, ' ' || user_id AS user_id,
        join_date || ['', ' 10:11:12', 'T23:59:59.5Z', ' 00:30:00+14:00', ' 09:30 '][number % 5 + 1] AS join_date,
        country, device_type, subscription_type, NULL::VARCHAR AS extra_columns, NULL::VARCHAR AS malformed_row,
        'x.csv' AS source_file, 1::BIGINT AS source_line,
        TIMESTAMPTZ '2024-03-07 00:00:00Z' AS ingested_at, 'kept' AS reason
    FROM numbered
    UNION ALL
    SELECT landing_date, user_id, (join_date::DATE - lost::INTEGER)::VARCHAR, country, device_type, subscription_type,
        NULL, NULL, 'y.csv', 2, TIMESTAMPTZ '2024-03-07 00:00:00Z', 'repeated'
    FROM numbered, range(2) AS losing(lost) WHERE number % 3 = lost
    UNION ALL
    SELECT landing_date, user_id,
        ['01/02/2024', '20240101', '2024-W01-1', '2023-02-29', '0000-01-01', '2024-01-01 25:00', '-'][number % 7 + 1],
        'XX', device_type, 'paid', NULL, NULL, 'z.csv', 3, TIMESTAMPTZ '2024-03-07 00:00:00Z', 'rejected bad_join_date'
    FROM numbered WHERE number % 4 = 0
    UNION ALL
    SELECT landing_date, ['', '  '][number % 2 + 1], [join_date, 'soon'][number % 2 + 1], 'XX', device_type, 'paid',
        NULL, NULL, 'z.csv', 3, TIMESTAMPTZ '2024-03-07 00:00:00Z', 'rejected missing_user_id'
    FROM numbered WHERE number % 6 = 1
    UNION ALL
    SELECT landing_date, NULL, NULL, NULL, NULL, NULL, NULL, user_id || ',cut', 'z.csv', 4,
        TIMESTAMPTZ '2024-03-07 00:00:00Z', 'rejected malformed_row'
    FROM numbered WHERE number % 6 = 2
"""
USERS_ON_DAY = """
    CREATE TABLE users_on_day AS
    WITH snapshots AS (
        SELECT date, coalesce((SELECT max(landing_date) FROM said WHERE landing_date <= date),
            (SELECT min(landing_date) FROM said)) AS snapshot_date
        FROM calendar
    )
    SELECT date, given.* REPLACE (join_date::DATE AS join_date)
    FROM snapshots JOIN said AS given ON landing_date <= snapshot_date
    QUALIFY row_number() OVER (PARTITION BY date, user_id ORDER BY landing_date DESC) = 1
"""


# Further tables that metrics read, made up for them.
MADE = (
    """
        CREATE TABLE silver.user_version_days AS
        WITH split AS (
            SELECT event_date, user_id, '1.' || (user_id[2:]::INTEGER % 3) AS app_version, edit_actions AS actions
            FROM user_days
            UNION ALL
            SELECT event_date, user_id, if(user_id[2:]::INTEGER % 4 = 0, NULL, '1.' || (month(event_date) % 3)),
                share_actions
            FROM user_days
        )
        SELECT event_date, user_id, app_version, sum(actions)::BIGINT AS actions
        FROM split WHERE actions > 0 GROUP BY ALL
    """,
    """
        CREATE TABLE gold.session_metrics AS
        SELECT event_date AS session_date, user_id FROM user_days, range(1, 2 + user_id[2:]::INTEGER % 3)
    """,
    """
        CREATE TABLE silver.interactions AS
        SELECT event_date, user_id, app_version, ['edit', 'share'][1 + n % 2] AS action_type,
            (hash(event_date, user_id, app_version, n) % 10 ** (1 + hash(user_id, n) % 7))::BIGINT AS duration_ms
        FROM silver.user_version_days, range(1, 1 + actions) AS numbers(n)
    """,
    """
        CREATE TABLE gold.daily_metrics AS
        SELECT date, if(weekday(date) = 0 OR noise = 7, 0, 50 + 3 * weekday(date) + 5 * noise) AS daily_active_users,
            daily_active_users * (2 + noise) AS total_actions,
            if(noise > 8, NULL, 1000 + 40 * noise)::DOUBLE AS avg_duration_ms
        FROM (SELECT date, (hash(date) % 10)::BIGINT AS noise FROM calendar)
    """,
    """
        CREATE TABLE gold.daily_session_metrics AS
        SELECT date, daily_active_users + 3 AS sessions, 2.5::DOUBLE AS avg_actions_per_session,
            if(date = '2024-02-28', 0.2, 0.91 + 0.01 * (total_actions % 10))::DOUBLE AS single_action_rate
        FROM gold.daily_metrics
    """,
)


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
    connection.execute("SET TimeZone = 'UTC'")
    for query in (SAID, DELIVERED_USERS, USERS_ON_DAY):
        connection.execute(query)
    connection.execute("CREATE VIEW bronze.users AS SELECT * EXCLUDE (reason) FROM delivered_users")
    for query in MADE:
        connection.execute(query)
    for name, query in DEFINED.items():
        connection.execute(f"CREATE TABLE {name} AS {query}")
    return connection


def inputs(spark: SparkSession, defined: duckdb.DuckDBPyConnection, name: str, first: date, last: date) -> Frames:
    """What the I/O manager would hand over for these days, and not a day more."""
    frames: dict[str, DataFrame | UsersAsOf] = {}
    for parameter, i in TABLES[name].reads.items():
        everything = spark.createDataFrame(defined.table(i.table).to_arrow_table())
        low, high = first + timedelta(days=i.first_offset), last + timedelta(days=i.last_offset)
        if i.as_of:
            high = max(snapshots(first, last))
        elif i.table == name:
            high = first - timedelta(days=1)
        read = everything.where(in_days(TABLES[i.table].partition_column, low, high))
        frames[parameter] = UsersAsOf(read, snapshots(first, last)) if i.as_of else read
    return frames


def rows(table: pa.Table) -> list[dict[str, Any]]:
    """Rows in order; the two engines may sum fractions in another order, so these are compared to nine digits."""

    def comparable(value: Any) -> Any:
        return float(f"{round(value, 9):.9g}") + 0.0 if isinstance(value, float) else value

    plain = [{name: comparable(value) for name, value in row.items()} for row in table.to_pylist()]
    return sorted(plain, key=lambda row: [str(value) for value in row.values()])


@pytest.mark.parametrize("name", COMPUTED)
def test_a_metric_is_what_its_definition_says_over_a_range_and_day_by_day(
    spark: SparkSession, defined: duckdb.DuckDBPyConnection, name: str
) -> None:
    column = TABLES[name].partition_column

    def computed(first: date, last: date) -> list[dict[str, Any]]:
        frames = inputs(spark, defined, name, first, last)
        return rows(TABLES[name].rows(frames, Days(first, last), SETTINGS).toArrow())

    def wanted(first: date, last: date) -> list[dict[str, Any]]:
        names = ", ".join(TABLES[name].columns)
        within = f"{column} BETWEEN DATE '{first}' AND DATE '{last}'"
        return rows(defined.table(name).filter(within).project(names).to_arrow_table())

    assert computed(BEGIN, END) == wanted(BEGIN, END)
    middle = date(2024, 1, 31)
    assert computed(middle, END) == wanted(middle, END)
    for day in (BEGIN, date(2024, 1, 1), date(2024, 3, 3)):
        assert computed(day, day) == wanted(day, day)


FACTORS = (1.7, 0.6, 1.4, 0.7, 1.4, 0.5)


def some_series(seed: int) -> dict[str, list[float]]:
    """Metrics over 300 days with the rhythm of a week, growth or decline, and noise."""
    chance = Random(seed)
    week = [1, 1.02, 1.03, 1, 0.95, 0.5, 0.45]

    def series(base: float, growth: float) -> list[float]:
        means = [base * week[day % 7] * math.exp(growth * day) for day in range(300)]
        return [round(chance.gauss(mean, math.sqrt(mean + (0.03 * mean) ** 2))) for mean in means]

    daily = dict(
        zip(anomalies.DAILY_METRICS, (series(400, 0.002), series(5000, 0.005), series(90_000, 0)), strict=True)
    )
    share = [count / 2000 for count in series(700, 0.001)]
    sessions = zip(anomalies.SESSION_METRICS, (series(100_000, -0.002), series(4000, 0), share), strict=True)
    return daily | dict(sessions)


def unusual(spark: SparkSession, series: Mapping[str, Sequence[float]]) -> set[tuple[str, int]]:
    first = date(2023, 3, 1)
    days = [first + timedelta(days=day) for day in range(300)]
    daily, of_sessions = (
        spark.createDataFrame(pa.table({"date": days, **{name: series[name] for name in names}}))
        for names in (anomalies.DAILY_METRICS, anomalies.SESSION_METRICS)
    )
    found = (
        anomalies.anomalies(daily, of_sessions, Days(first, days[-1]))
        .where("is_anomaly")
        .select("metric", "date")
        .collect()
    )
    return {(row["metric"], (row["date"] - first).days) for row in found}


def test_a_quiet_series_raises_nothing_and_injected_spikes_and_drops_are_found(spark: SparkSession) -> None:
    series = some_series(seed=4)
    assert unusual(spark, series) == set()
    injected = {
        (name, 70 + 31 * place): factor for place, (name, factor) in enumerate(zip(series, FACTORS, strict=True))
    }
    injected |= {("total_actions", 200): 0.6, ("total_actions", 202): 1.5, ("sessions", 299): 0.5}
    for (name, day), factor in injected.items():
        series[name][day] *= factor
    assert unusual(spark, series) == injected.keys()

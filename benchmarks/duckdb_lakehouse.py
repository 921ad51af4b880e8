"""The lakehouse's tables by DuckDB alone: landed CSV files in, one Parquet folder per table out.

Written from docs/metrics and not from the Spark transforms, so it is two things: the fair opponent of the benchmark and
an independent answer to compare with. It serves the default settings (UTC, three late days, five actions, two hours)
and files with the columns of docs/metrics in that order. It computes everything each time; it has no stamps, no audits,
no history.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import duckdb

# One scan each and a connection: what does not fit the columns is kept in tables of its own, as delivered.
_READERS = """
CREATE MACRO landed_interactions(files) AS TABLE
SELECT * FROM read_csv(files, auto_detect = false, header = true, delim = ',', quote = '"', escape = '"',
    columns = {'user_id': 'VARCHAR', 'timestamp': 'VARCHAR', 'action_type': 'VARCHAR', 'page_id': 'VARCHAR',
               'duration_ms': 'VARCHAR', 'app_version': 'VARCHAR'},
    nullstr = '\x01', filename = true, hive_partitioning = false,
    store_rejects = true, rejects_limit = 0, rejects_table = 'interaction_errors', rejects_scan = 'interaction_scans');

CREATE MACRO landed_users(files) AS TABLE
SELECT * FROM read_csv(files, auto_detect = false, header = true, delim = ',', quote = '"', escape = '"',
    columns = {'user_id': 'VARCHAR', 'join_date': 'VARCHAR', 'country': 'VARCHAR', 'device_type': 'VARCHAR',
               'subscription_type': 'VARCHAR'},
    nullstr = '\x01', filename = true, hive_partitioning = false,
    store_rejects = true, rejects_limit = 0, rejects_table = 'user_errors', rejects_scan = 'user_scans');

CREATE MACRO landing_date(path) AS regexp_extract(path, 'date=(\\d{4}-\\d{2}-\\d{2})/[^/]*$', 1)::DATE;

CREATE MACRO instant(text) AS CASE
    WHEN regexp_full_match(text, '\\d{4}-\\d{2}-\\d{2}[ T]([01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(\\.\\d+)?'
                                 || '(Z|[+-]\\d{2}(:?\\d{2})?)?')
    THEN try_cast(text AS TIMESTAMPTZ)::TIMESTAMP END;
"""

_SPLIT = """
CREATE TEMP TABLE delivered AS
SELECT * EXCLUDE (filename, day), if(day BETWEEN DATE '2000-01-01' AND current_date, day, NULL) AS day
FROM (SELECT *, instant(timestamp)::DATE AS day FROM landed_interactions(getvariable('source')));

SET VARIABLE last_day = (SELECT max(day) FROM delivered);
"""

_READABLE_ROWS = "SELECT * EXCLUDE (day), coalesce(day, getvariable('last_day')) AS date FROM delivered"
_OTHER_ROWS = """
SELECT DISTINCT ON (line) csv_line AS "user_id,timestamp,action_type,page_id,duration_ms,app_version"
FROM interaction_errors
"""

# Table and file: the second file of a table is for what did not fit the columns.
_BRONZE = {
    "bronze.interactions/rows": """
SELECT landing_date(filename) AS landing_date, * EXCLUDE (filename), NULL::VARCHAR AS malformed_row,
    parse_filename(filename) AS source_file, now() AS ingested_at
FROM landed_interactions(getvariable('interactions'))
""",
    "bronze.interactions/malformed": """
SELECT DISTINCT ON (file_path, line) landing_date(file_path) AS landing_date, NULL::VARCHAR AS user_id,
    NULL::VARCHAR AS timestamp, NULL::VARCHAR AS action_type, NULL::VARCHAR AS page_id, NULL::VARCHAR AS duration_ms,
    NULL::VARCHAR AS app_version, csv_line AS malformed_row, parse_filename(file_path) AS source_file,
    now() AS ingested_at
FROM interaction_errors JOIN interaction_scans USING (scan_id, file_id)
""",
    "bronze.users/rows": """
SELECT landing_date(filename) AS landing_date, * EXCLUDE (filename), NULL::VARCHAR AS malformed_row,
    parse_filename(filename) AS source_file, now() AS ingested_at
FROM landed_users(getvariable('users'))
""",
    "bronze.users/malformed": """
SELECT DISTINCT ON (file_path, line) landing_date(file_path) AS landing_date, NULL::VARCHAR AS user_id,
    NULL::VARCHAR AS join_date, NULL::VARCHAR AS country, NULL::VARCHAR AS device_type,
    NULL::VARCHAR AS subscription_type, csv_line AS malformed_row, parse_filename(file_path) AS source_file,
    now() AS ingested_at
FROM user_errors JOIN user_scans USING (scan_id, file_id)
""",
}

# Every delivered row with its values read and the first reason that holds against it, if any. A number too long for
# 128 bits is a whole number all the same: far below zero or far above the limit.
_JUDGED = """
CREATE TEMP TABLE judged AS
WITH read AS (
    SELECT *, trim(user_id) AS trimmed_user_id, instant(timestamp) AS instant, instant::DATE AS event_date,
        regexp_full_match(duration_ms, '[+-]?\\d+([.]0+)?') AS whole_number,
        try_cast(regexp_replace(duration_ms, '[.]0+$', '') AS HUGEINT) AS duration
    FROM bronze.interactions
)
SELECT *, CASE
    WHEN malformed_row IS NOT NULL THEN 'malformed_row'
    WHEN trimmed_user_id = '' THEN 'missing_user_id'
    WHEN instant IS NULL THEN 'bad_timestamp'
    WHEN action_type NOT IN ('page_view', 'edit', 'create', 'delete', 'share') THEN 'unknown_action'
    WHEN NOT whole_number THEN 'bad_duration'
    WHEN duration < 0 OR (duration IS NULL AND duration_ms[1] = '-') THEN 'negative_duration'
    WHEN duration > 7200000 OR duration IS NULL THEN 'duration_over_limit'
    WHEN event_date > landing_date THEN 'future_event'
    WHEN event_date < landing_date - 3 THEN 'late_event'
    END AS reason
FROM read;
"""

_SILVER = {
    "silver.rejected_interactions": """
SELECT landing_date, user_id, timestamp, action_type, page_id, duration_ms, app_version, malformed_row, source_file,
    ingested_at, reason
FROM judged WHERE reason IS NOT NULL
""",
    "silver.interaction_routing": """
SELECT landing_date, if(reason IS NULL, event_date, NULL) AS event_date, reason, count(*) AS delivered_rows
FROM judged GROUP BY ALL
""",
    # versions are compared as delivered, and of texts the empty one is the smallest
    "silver.interactions": """
SELECT event_date, user_id, timestamp, action_type, page_id, survivor.duration_ms,
    nullif(survivor.app_version, '') AS app_version, survivor.landing_date, duplicates
FROM (
    SELECT event_date, trimmed_user_id AS user_id, instant AS timestamp, action_type, nullif(page_id, '') AS page_id,
        min({'landing_date': landing_date, 'duration_ms': duration::BIGINT, 'app_version': app_version}) AS survivor,
        count(*) - 1 AS duplicates
    FROM judged WHERE reason IS NULL GROUP BY ALL
)
""",
    "silver.user_days": """
SELECT event_date, user_id, count(*) AS actions,
    count(*) FILTER (action_type = 'page_view') AS page_view_actions,
    count(*) FILTER (action_type = 'edit') AS edit_actions,
    count(*) FILTER (action_type = 'create') AS create_actions,
    count(*) FILTER (action_type = 'delete') AS delete_actions,
    count(*) FILTER (action_type = 'share') AS share_actions,
    sum(duration_ms)::BIGINT AS duration_ms, min(timestamp) AS first_timestamp, max(timestamp) AS last_timestamp
FROM silver.interactions GROUP BY ALL
""",
    "silver.user_changes": """
WITH valid AS (
    SELECT trim(user_id) AS user_id, try_cast(nullif(join_date, '') AS DATE) AS joined, join_date, country, device_type,
        subscription_type, landing_date
    FROM bronze.users
    WHERE malformed_row IS NULL AND trim(user_id) <> ''
        AND (join_date = '' OR (regexp_full_match(join_date, '\\d{4}-\\d{2}-\\d{2}') AND joined IS NOT NULL))
), delivered AS (
    SELECT landing_date AS valid_from, user_id, joined AS join_date, nullif(country, '') AS country,
        nullif(device_type, '') AS device_type, nullif(subscription_type, '') AS subscription_type
    FROM valid
    QUALIFY row_number() OVER (
        PARTITION BY landing_date, user_id ORDER BY joined DESC NULLS LAST, country, device_type, subscription_type
    ) = 1
)
SELECT * FROM delivered
QUALIFY (join_date, country, device_type, subscription_type) IS DISTINCT FROM
    lag((join_date, country, device_type, subscription_type)) OVER (PARTITION BY user_id ORDER BY valid_from)
""",
    "silver.users": """
SELECT *, lead(valid_from) OVER (PARTITION BY user_id ORDER BY valid_from) AS valid_to,
    lead(valid_from) OVER (PARTITION BY user_id ORDER BY valid_from) IS NULL AS is_current
FROM silver.user_changes
""",
}

# The processed days: from the first day that was delivered or was delivered for, without a gap.
_CALENDAR = """
CREATE TEMP TABLE calendar AS
SELECT unnest(generate_series(least(min(landing_date), min(event_date)), max(landing_date), INTERVAL 1 DAY))::DATE
    AS date
FROM silver.interaction_routing;
"""

_GOLD = {
    "silver.interaction_counts": """
WITH delivered AS (
    SELECT landing_date AS date, sum(delivered_rows) AS delivered_rows,
        sum(delivered_rows) FILTER (reason IS NOT NULL) AS rejected_rows,
        sum(delivered_rows) FILTER (reason IS NULL) AS routed_rows
    FROM silver.interaction_routing GROUP BY ALL
), arrived AS (
    SELECT event_date AS date, sum(delivered_rows) AS arrived_rows
    FROM silver.interaction_routing WHERE event_date IS NOT NULL GROUP BY ALL
), accepted AS (
    SELECT event_date AS date, count(*) AS accepted_rows, sum(duplicates) AS duplicate_rows
    FROM silver.interactions GROUP BY ALL
)
SELECT date, coalesce(delivered_rows, 0)::BIGINT AS delivered_rows, coalesce(rejected_rows, 0)::BIGINT AS rejected_rows,
    coalesce(routed_rows, 0)::BIGINT AS routed_rows, coalesce(arrived_rows, 0)::BIGINT AS arrived_rows,
    coalesce(accepted_rows, 0)::BIGINT AS accepted_rows, coalesce(duplicate_rows, 0)::BIGINT AS duplicate_rows
FROM calendar LEFT JOIN delivered USING (date) LEFT JOIN arrived USING (date) LEFT JOIN accepted USING (date)
""",
    # A user active on day d counts in a window of w days from d on until d + w or until active again, whichever is
    # first. So one step up and one down for each active day, added up over the calendar, are exact distinct counts.
    "gold.daily_metrics": """
WITH stays AS (
    SELECT event_date AS entry, lead(event_date) OVER (PARTITION BY user_id ORDER BY event_date) AS active_again
    FROM silver.user_days
), steps AS (
    SELECT days, entry AS date, 1 AS step FROM stays, (VALUES (7), (28), (30)) AS windows(days)
    UNION ALL
    SELECT days, least(entry + days, coalesce(active_again, entry + days)), -1
    FROM stays, (VALUES (7), (28), (30)) AS windows(days)
), changes AS (
    SELECT date, sum(step) FILTER (days = 7) AS week, sum(step) FILTER (days = 28) AS month_28,
        sum(step) FILTER (days = 30) AS month_30
    FROM steps GROUP BY ALL
), rolling AS (
    SELECT date, sum(coalesce(week, 0)) OVER so_far AS week, sum(coalesce(month_28, 0)) OVER so_far AS month_28,
        sum(coalesce(month_30, 0)) OVER so_far AS month_30
    FROM calendar LEFT JOIN changes USING (date)
    WINDOW so_far AS (ORDER BY date)
), days AS (
    SELECT event_date AS date, count(*) AS users, sum(actions) AS actions, sum(duration_ms) AS duration_ms
    FROM silver.user_days GROUP BY ALL
)
SELECT date, coalesce(users, 0) AS daily_active_users, coalesce(actions, 0)::BIGINT AS total_actions,
    duration_ms::DOUBLE / actions AS avg_duration_ms, week::BIGINT AS weekly_active_users,
    month_28::BIGINT AS monthly_active_users_28d, month_30::BIGINT AS monthly_active_users_30d,
    daily_active_users::DOUBLE / nullif(month_30, 0) AS stickiness
FROM rolling LEFT JOIN days USING (date)
""",
    "gold.monthly_metrics": """
WITH first_days AS (
    SELECT min(event_date) AS date FROM silver.user_days GROUP BY user_id, date_trunc('month', event_date)
), newcomers AS (
    SELECT date, count(*) AS users FROM first_days GROUP BY ALL
), days AS (
    SELECT event_date AS date, sum(actions) AS actions, sum(duration_ms) AS duration_ms
    FROM silver.user_days GROUP BY ALL
)
SELECT date, date_trunc('month', date)::DATE AS month_date,
    (sum(coalesce(users, 0)) OVER to_date)::BIGINT AS monthly_active_users,
    coalesce(sum(actions) OVER to_date, 0)::BIGINT AS total_monthly_actions,
    (sum(duration_ms) OVER to_date)::DOUBLE / nullif(total_monthly_actions, 0) AS avg_duration_ms
FROM calendar LEFT JOIN newcomers USING (date) LEFT JOIN days USING (date)
WINDOW to_date AS (PARTITION BY date_trunc('month', date) ORDER BY date)
""",
    "gold.session_metrics": """
WITH marked AS (
    SELECT *, coalesce(timestamp - lag(timestamp) OVER (PARTITION BY user_id, event_date ORDER BY timestamp)
        >= INTERVAL 30 MINUTE, true) AS starts
    FROM silver.interactions
), numbered AS (
    SELECT *, count(*) FILTER (starts) OVER (PARTITION BY user_id, event_date ORDER BY timestamp) - 1 AS number
    FROM marked
)
SELECT user_id || '_' || strftime(event_date, '%Y%m%d') || '_' || number AS session_id, user_id,
    event_date AS session_date, min(timestamp) AS session_start_time, max(timestamp) AS session_end_time,
    count(*) AS actions_per_session, sum(duration_ms)::BIGINT AS session_duration_ms,
    (epoch_us(session_end_time) - epoch_us(session_start_time)) // 1000 AS session_span_ms,
    min((timestamp, action_type))[2] AS first_action_type, max((timestamp, action_type))[2] AS last_action_type
FROM numbered GROUP BY user_id, event_date, number
""",
    "gold.daily_session_metrics": """
SELECT date, count(session_id) AS sessions, avg(actions_per_session) AS avg_actions_per_session,
    avg(session_duration_ms) AS avg_session_duration_ms, avg(session_span_ms) AS avg_session_span_ms,
    quantile_disc(session_span_ms, 0.5) AS p50_session_span_ms,
    quantile_disc(session_span_ms, 0.95) AS p95_session_span_ms,
    avg((actions_per_session = 1)::INTEGER) AS single_action_rate
FROM calendar LEFT JOIN gold.session_metrics ON session_date = date
GROUP BY date
""",
}


def connect(spill: Path, threads: int = 2, memory: str = "4GiB") -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB in UTC with these limits; what does not fit spills to the folder ``spill``."""
    connection = duckdb.connect(config={"threads": threads, "memory_limit": memory, "temp_directory": str(spill)})
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET preserve_insertion_order = false")
    connection.execute("SET enable_progress_bar = false")
    connection.execute(_READERS)
    for layer in ("bronze", "silver", "gold"):
        connection.execute(f"CREATE SCHEMA {layer}")
    return connection


def split(connection: duckdb.DuckDBPyConnection, source: Path, landing: Path) -> None:
    """Split a file of interactions into ``landing/interactions/date=D`` by event date.

    Rows whose day can't be read go to the last date, as `lakehouse land` sends them; those that don't fit the columns
    stand there in a file of their own, as delivered.
    """
    target = landing / "interactions"
    target.mkdir(parents=True)
    connection.execute(f"SET temp_directory = '{landing}/.spill'")
    connection.execute("SET VARIABLE source = ?", [str(source)])
    connection.execute(_SPLIT)
    _copy(connection, _READABLE_ROWS, target, "FORMAT csv, NULLSTR '\x01', PARTITION_BY (date), OVERWRITE_OR_IGNORE")
    last_day = connection.execute("SELECT getvariable('last_day')").fetchall()[0][0]
    as_delivered = "FORMAT csv, DELIMITER '\x01', QUOTE '', ESCAPE ''"
    _copy(connection, _OTHER_ROWS, target / f"date={last_day}" / "malformed.csv", as_delivered)


def build(connection: duckdb.DuckDBPyConnection, landing: Path, output: Path) -> None:
    """Compute every table from the landed files of both datasets into the folder ``output/<layer>.<table>``.

    Afterwards the connection has a view ``<layer>.<table>`` of each.
    """
    connection.execute(f"SET temp_directory = '{output}/.spill'")
    for dataset in ("interactions", "users"):
        connection.execute(f"SET VARIABLE {dataset} = '{landing}/{dataset}/date=*/*.csv'")
    for name, query in _BRONZE.items():
        _write(connection, query, output / name)
    for table in ("bronze.interactions", "bronze.users"):
        _view(connection, output, table)
    connection.execute(_JUDGED)
    for name, query in _SILVER.items():
        _write(connection, query, output / name / "rows")
        _view(connection, output, name)
    connection.execute("DROP TABLE judged")
    connection.execute(_CALENDAR)
    for name, query in _GOLD.items():
        _write(connection, query, output / name / "rows")
        _view(connection, output, name)


def _write(connection: duckdb.DuckDBPyConnection, query: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    _copy(connection, query, path.with_name(f"{path.name}.parquet"), "FORMAT parquet, COMPRESSION zstd")


def _copy(connection: duckdb.DuckDBPyConnection, query: str, path: Path, options: str) -> None:
    connection.execute(f"COPY ({query}) TO '{path}' ({options})")


def _view(connection: duckdb.DuckDBPyConnection, output: Path, table: str) -> None:
    connection.execute(f"CREATE VIEW {table} AS FROM read_parquet('{output}/{table}/*.parquet')")


def main(arguments: Sequence[str] | None = None) -> None:
    """One step in a process of its own, as the benchmark times it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.duckdb_lakehouse", description=__doc__)
    parser.add_argument("step", choices=("split", "build"))
    parser.add_argument("source", type=Path, help="split: the CSV file; build: the landing folder")
    parser.add_argument("target", type=Path, help="split: the landing folder; build: the folder of the tables")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory", default="4GiB", help="such as 4GiB")
    options = parser.parse_args(arguments)
    connection = connect(options.target.parent / "spill", options.threads, options.memory)
    step = split if options.step == "split" else build
    step(connection, options.source, options.target)


if __name__ == "__main__":
    main()

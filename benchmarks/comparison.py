"""Whether two sets of tables are the same, and what differs."""

from __future__ import annotations

from pathlib import Path

import duckdb

from benchmarks.duckdb_lakehouse import connect
from lakehouse_assets.settings import Settings
from lakehouse_assets.storage import query
from lakehouse_assets.storage.catalog import Catalog

TABLES = (
    "bronze.interactions",
    "bronze.users",
    "silver.rejected_interactions",
    "silver.interaction_routing",
    "silver.interactions",
    "silver.interaction_counts",
    "silver.user_changes",
    "silver.users",
    "silver.user_days",
    "gold.daily_metrics",
    "gold.monthly_metrics",
    "gold.session_metrics",
    "gold.daily_session_metrics",
)
RELATIVE_TOLERANCE = 1e-9

# Columns the lakehouse declares as rounded (in the description of the column), by half of the last place.
_ROUNDED = {"avg_session_span_ms": 0.5e-3, "single_action_rate": 0.5e-6}
# The columns of the lakehouse that nobody asked DuckDB for, and when each side read the files.
_NOT_COMPARED = {"extra_columns", "source_line", "ingested_at"}


def differences(lakehouse: Path, duckdb_tables: Path) -> list[str]:
    """Sentences about the tables that differ; none if all are the same.

    Args:
        lakehouse: folder with an exported ``<table>.parquet`` of each table.
        duckdb_tables: folder that `duckdb_lakehouse.build` wrote.
    """
    connection = connect(duckdb_tables.parent / "spill")
    found = []
    for table in TABLES:
        connection.read_parquet(str(lakehouse / f"{table}.parquet")).create_view("ours", replace=True)
        connection.read_parquet(str(duckdb_tables / table / "*.parquet")).create_view("theirs", replace=True)
        found += [f"{table}: {sentence}" for sentence in _differences(connection)]
    return found


def landed_differently(lakehouse: Path, duckdb_landing: Path) -> list[str]:
    """Sentences about rows of interactions that only one of two landing folders has, or has under another date."""
    connection = connect(duckdb_landing.parent / "spill")
    for name, landing in (("ours", lakehouse), ("theirs", duckdb_landing)):
        folder = f"{landing}/interactions/"
        connection.execute(
            f"CREATE TABLE {name} AS SELECT landing_date(filename) AS landing_date, * EXCLUDE (filename), "  # noqa: S608
            "NULL::VARCHAR AS malformed_row FROM landed_interactions(?)",
            [f"{folder}date=*/*.csv"],
        )
        connection.execute(
            f"INSERT INTO {name} BY NAME SELECT DISTINCT ON (file_path, line) landing_date(file_path) AS landing_date, "  # noqa: S608
            "csv_line AS malformed_row FROM interaction_errors JOIN interaction_scans USING (scan_id, file_id) "
            "WHERE starts_with(file_path, ?)",
            [folder],
        )
    return [f"landing: {sentence}" for sentence in _differences(connection)]


def digests(settings: Settings) -> dict[str, tuple[int, int]]:
    """Count and digest of every table's rows in any order, but for the time at which bronze was read."""
    catalog = Catalog(settings)
    connection = query.connect(catalog)
    found = {}
    for name in catalog.names():
        rows = connection.table(name)
        columns = ", ".join(f'"{column}"' for column in rows.columns if column != "ingested_at")
        count, total = rows.aggregate(f"count(*), sum(hash({columns})::hugeint)").fetchall()[0]
        found[name] = (int(count), int(total or 0))
    return found


def _differences(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """What differs between the views `ours` and `theirs`: columns, rows, or means where the rows are the same."""
    ours, theirs = connection.table("ours"), connection.table("theirs")
    columns, expected = set(ours.columns) - _NOT_COMPARED, set(theirs.columns) - _NOT_COMPARED
    if columns != expected:
        return [f"columns {sorted(columns - expected)} only in the lakehouse, {sorted(expected - columns)} in DuckDB"]
    kinds = dict(zip(theirs.columns, map(str, theirs.types), strict=True))
    doubles = [name for name in theirs.columns if kinds[name] == "DOUBLE"]
    exact = ", ".join(f'"{name}"' for name in theirs.columns if name in expected and name not in doubles)
    found = []
    for one, other, where in ((ours, theirs, "the lakehouse"), (theirs, ours, "DuckDB")):
        extra = one.project(exact).except_(other.project(exact))
        rows = extra.count("*").fetchall()[0][0]
        if rows:
            found.append(f"{rows:,} rows only in {where}, such as {extra.limit(1).fetchall()[0]}")
    for name in doubles:
        slack = f"greatest({RELATIVE_TOLERANCE} * abs(theirs.{name}), {_ROUNDED.get(name, 0)})"
        apart = connection.sql(
            f"SELECT date, ours.{name}, theirs.{name} FROM ours JOIN theirs USING (date) "  # noqa: S608  own names
            f"WHERE (ours.{name} IS NULL) <> (theirs.{name} IS NULL) OR abs(ours.{name} - theirs.{name}) > {slack}"
        )
        rows = apart.count("*").fetchall()[0][0]
        if rows:
            found.append(f"{name} differs on {rows:,} days, such as {apart.limit(1).fetchall()[0]}")
    return found

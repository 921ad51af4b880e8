"""What Dagster shows of a published range beside its numbers: a plot, the last days, what changed, what was rejected.

Everything here is read with DuckDB from the few rows that it needs, once a run, and is bounded in size: Dagster keeps
the metadata of every run.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import date
from functools import cached_property
from typing import Any

import dagster as dg
import duckdb
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table as IcebergTable

from lakehouse_assets.assets.charts import COVERAGE, MONTH, WEEK, Chart
from lakehouse_assets.assets.table import Table
from lakehouse_assets.calendar import ALL_DAYS, DAY, Days
from lakehouse_assets.reports.charts import PLAIN, partial_days, spec
from lakehouse_assets.reports.vega import svg, warm_up
from lakehouse_assets.storage.catalog import Catalog, files_overlapping, read_stamps
from lakehouse_assets.storage.coverage import SOURCES, cover
from lakehouse_assets.storage.query import connect, show

COUNTS, USER_COUNTS = "silver.interaction_counts", "silver.user_counts"
PLOT_DAYS = 90
COHORT_DAYS = 182  # the weeks that retention is followed for
COVERED_DAYS = 400  # all that a plot shows, and the periods they are in
MOST_ROWS = 30
LAST_DAYS = 14
SAMPLES_A_REASON = 3
MOST_CHANGES = 20
_AROUND: dict[str, Any] = {"width": 560, "height": 160, "background": "white", "config": PLAIN}  # a plot
_LONGEST_TEXT = 200  # characters of a delivered value


class UiMetadata:
    """Describes publications of one lakehouse, all with one DuckDB: opening one takes longer than asking it."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._covered: tuple[str, Days] | None = None  # the bronze table and the days that coverage is shown for
        self._partial: Mapping[str, Collection[str]] = {}
        self._beside = ThreadPoolExecutor(max_workers=1)
        self._beside.submit(warm_up)

    def begin(
        self, table: Table, before: IcebergTable, days: Days, files: Callable[[], Sequence[DataFile]] | None = None
    ) -> Future[dict[str, Any]]:
        """The metadata of one publication, for the materialization of its last day, while something else is done.

        Args:
            table: the declaration.
            before: the table as it was before its inputs were read.
            days: first and last day of the publication.
            files: waits for the table's files as the publication will leave them; default it is published.
        """
        return self._beside.submit(self._of, table, before, days, files)

    def _of(
        self, table: Table, before: IcebergTable, days: Days, files: Callable[[], Sequence[DataFile]] | None
    ) -> dict[str, Any]:
        chart = table.charts[0] if table.charts and table.layer == "gold" else None
        tabled = table.name in _QUERIES or (table.layer == "gold" and table.by_month)
        recomputed = {day for day in read_stamps(before) if days.first <= day <= days.last}
        if not (chart or tabled or recomputed):
            return {"days_changed": 0}
        now = before if files else self._catalog.iceberg.load_table(table.name)
        since = min(days.first, days.last - COHORT_DAYS * DAY)
        _show_days(self._connection, table.name, now, table.partition_column, since, files=files() if files else None)
        self._cover(days.last)
        found = _changes(self._connection, table, before, recomputed, days)
        span = {"first": days.first, "last": days.last}
        for label, query in (_QUERIES.get(table.name) or (_last_days(table) if tabled else {})).items():
            found[label] = _table(self._connection.execute(query, {k: v for k, v in span.items() if f"${k}" in query}))
        if chart:
            found["plot"] = _plot(self._connection, chart, days.last, self._partial)
        return found

    @cached_property
    def _connection(self) -> duckdb.DuckDBPyConnection:
        return connect(self._catalog, ())

    def _cover(self, last: date) -> None:
        """Let the connection see which of the days up to one are partial, and of the rest of its week and month."""
        bronze = self._catalog.load(SOURCES[0])
        days = Days(last - COVERED_DAYS * DAY, max([last, *self._catalog.stamps(SOURCES[1])]))
        wanted = bronze.metadata_location if bronze else "", days
        if self._covered == wanted:
            return
        if bronze:
            _show_days(self._connection, SOURCES[0], bronze, "landing_date", last - LAST_DAYS * DAY)
        cover(self._connection, self._catalog, days)
        self._connection.execute(f"CREATE OR REPLACE TABLE coverage AS FROM {COVERAGE}")
        self._connection.execute(f"CREATE OR REPLACE VIEW {COVERAGE} AS FROM coverage")
        self._partial, self._covered = partial_days(self._connection), wanted


def _show_days(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    table: IcebergTable,
    column: str,
    first: date,
    last: date = ALL_DAYS[1],
    files: Sequence[DataFile] | None = None,
) -> None:
    """Let a connection see the files with some days of a table: all others, of a long history, it need not open."""
    found = files_overlapping(table, column, first, last, files)
    show(connection, name, table, [file for file, *_ in found.values()])


def _rejected(table: str) -> dict[str, str]:
    within = "WHERE landing_date BETWEEN $first AND $last"
    return {
        "rejected_by_reason": "SELECT reason, count(*) AS rejected_rows, count(DISTINCT landing_date) AS days, "  # noqa: S608
        f"max(landing_date) AS newest_day FROM {table} {within} GROUP BY reason ORDER BY rejected_rows DESC, reason",
        "rejected_samples": "SELECT reason, landing_date, source_file, * EXCLUDE (reason, landing_date, source_file, "  # noqa: S608
        f"ingested_at) FROM {table} {within} "
        "QUALIFY row_number() OVER (PARTITION BY reason ORDER BY landing_date DESC, source_file) "
        f"<= {SAMPLES_A_REASON} ORDER BY reason, landing_date DESC LIMIT {MOST_ROWS}",
    }


def _reconciliation(table: str, unexplained: str) -> dict[str, str]:
    return {
        "reconciliation": f"SELECT *, {unexplained} FROM {table} WHERE date <= $last "  # noqa: S608
        f"ORDER BY date DESC LIMIT {MOST_ROWS}"
    }


_QUERIES = {
    COUNTS: _reconciliation(
        COUNTS,
        "delivered_rows - rejected_rows - routed_rows AS unexplained_delivered, "
        "arrived_rows - accepted_rows - duplicate_rows AS unexplained_arrived",
    ),
    USER_COUNTS: _reconciliation(
        USER_COUNTS, "delivered_rows - rejected_rows - duplicate_rows - kept_rows AS unexplained_delivered"
    ),
    **{name: _rejected(name) for name in ("silver.rejected_interactions", "silver.rejected_users")},
}


def _last_days(table: Table) -> dict[str, str]:
    day = table.partition_column
    return {
        "last_days": f"SELECT *, {day} NOT IN (SELECT date FROM {COVERAGE} WHERE NOT is_over) AS day_is_over "  # noqa: S608
        f"FROM {table.name} WHERE {day} BETWEEN $last::DATE - {LAST_DAYS - 1} AND $last "
        f"ORDER BY {day} DESC, {', '.join(table.key)} LIMIT {MOST_ROWS}"
    }


def _changes(
    connection: duckdb.DuckDBPyConnection,
    table: Table,
    before: IcebergTable,
    recomputed: Collection[date],
    days: Days,
) -> dict[str, Any]:
    """Days computed before that have another number of rows now, or, of a metric, other rows."""
    if not recomputed:
        return {"days_changed": 0}
    _show_days(connection, "before.rows", before, table.partition_column, days.first, days.last)
    within = f"WHERE {table.partition_column} BETWEEN $first AND $last"
    span = {"first": days.first, "last": days.last}
    by_day = f"SELECT {table.partition_column}, count(*) FROM"
    rows_before, rows_after = (
        dict(connection.execute(f"{by_day} {rows} {within} GROUP BY ALL", span).fetchall())
        for rows in ("before.rows", table.name)
    )
    differ: dict[date, int] = {}
    if table.layer == "gold":
        columns = ", ".join(name for name in table.columns if name in before.schema().column_names)
        new_rows = f"SELECT {columns} FROM {table.name} {within} EXCEPT SELECT {columns} FROM before.rows {within}"  # noqa: S608
        differ = dict(connection.execute(f"{by_day} ({new_rows}) GROUP BY ALL", span).fetchall())
    changed = [
        (day, rows_before.get(day, 0), rows_after.get(day, 0), differ.get(day, 0))
        for day in sorted(recomputed)
        if rows_before.get(day, 0) != rows_after.get(day, 0) or day in differ
    ]
    if not changed:
        return {"days_changed": 0}
    numbers = ("day", "rows_before", "rows_after", *(("rows_that_differ",) if table.layer == "gold" else ()))
    return {"days_changed": len(changed), "changes": _table_of(numbers, changed[:MOST_CHANGES])}


def _plot(
    connection: duckdb.DuckDBPyConnection, chart: Chart, last: date, partial: Mapping[str, Collection[str]]
) -> dg.MarkdownMetadataValue:
    """A chart of the days up to one, with what it means."""
    days = COHORT_DAYS if chart.kind == "heat" else PLOT_DAYS
    span = f"WHERE date > DATE '{last}' - {days} AND date <= DATE '{last}'"
    if chart.choice:  # the first one: an image has nothing to choose with
        span += f" AND {chart.choice} = (SELECT min({chart.choice}) FROM {chart.table})"  # noqa: S608
    rows = connection.execute(f"SELECT date, series, value FROM ({chart.sql}) {span}").fetchall()  # noqa: S608
    drawn = spec(chart, list(dict.fromkeys(series for _, series, _ in rows)))
    if chart.kind == "bar" and chart.covers not in (WEEK, MONTH):
        # one path for a series instead of a shape for each day keeps the image small
        whole = {"transform": [{"filter": "!datum.partial"}], "mark": {"type": "area", "interpolate": "step"}}
        drawn["layer"] = [whole, *drawn["layer"]]
        drawn["layer"][1]["transform"].append({"filter": "datum.partial"})
    drawn["encoding"].pop("tooltip")
    values = [
        {"day": str(day), "series": series, "value": value, "partial": str(day) in partial[chart.covers_of(series)]}
        for day, series, value in rows
    ]
    image = base64.b64encode(svg(drawn | _AROUND, values).encode()).decode()
    return dg.MetadataValue.md(
        f"**{chart.title}.** {chart.definition}\n\n![{chart.title}](data:image/svg+xml;base64,{image})"
    )


def _table(result: duckdb.DuckDBPyConnection) -> dg.TableMetadataValue:
    return _table_of([column[0] for column in result.description or ()], result.fetchall())


def _table_of(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> dg.TableMetadataValue:
    records = [dg.TableRecord(dict(zip(columns, map(_cell, row), strict=False))) for row in rows]
    return dg.TableMetadataValue(records, dg.TableSchema([dg.TableColumn(name) for name in columns]))


def _cell(value: Any) -> str | int | float | bool | None:
    if isinstance(value, float):
        return round(value, 4)
    if value is None or isinstance(value, int):
        return value
    text = str(value)
    return text if len(text) <= _LONGEST_TEXT else text[:_LONGEST_TEXT] + "…"

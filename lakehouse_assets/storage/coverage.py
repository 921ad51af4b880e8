"""Which figures do not cover their whole period: today, this week, this month, windows that began before the data.

It follows from two things the tables record: which landing dates were read, and when (`bronze.interactions`). So it is
a view and no column: the same delivery read at another hour gives the same rows of gold, and another answer here.
See docs/decisions/0021-partial-periods.md.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

import duckdb

from lakehouse_assets.assets.charts import COVERAGE
from lakehouse_assets.calendar import DAY, Days, days_between
from lakehouse_assets.settings import Settings
from lakehouse_assets.storage.catalog import Catalog, kept_from, read_stamps

SOURCES = ("bronze.interactions", "gold.daily_metrics")
WINDOWS = (7, 28, 30)  # days of rolling figures
_LATELY = timedelta(
    days=2
)  # landing dates are not read before they begin, so earlier days were over when later ones were


def cover(connection: duckdb.DuckDBPyConnection, catalog: Catalog, asked: Days | None = None) -> None:
    """Let a connection that sees `SOURCES` see the view `COVERAGE` of the computed days.

    Or of the days that are asked for, computed or not, where it sees the first of `SOURCES`.

    Columns: date; is_over (the day was over when it, or a later landing date, was last read); day_is_partial;
    window_7d_is_partial, window_28d_is_partial, window_30d_is_partial (the days that end on it); week_is_partial,
    month_is_partial (the week or month to date is not the whole of it). A lakehouse without these tables has no rows.
    """
    bronze, daily = (catalog.load(name) for name in SOURCES)
    landed, computed = (read_stamps(table) if table else {} for table in (bronze, daily))
    # of a lake that cleanup has cut the first days were computed from whole windows
    first = date.min if bronze and kept_from(bronze) else min(landed, default=date.min)
    partial = {"day": f"date < DATE '{first}'"}
    partial |= {f"window_{days}d": f"date - {days - 1} < DATE '{first}'" for days in WINDOWS}
    for period in ("week", "month"):
        begin = f"date_trunc('{period}', date)"
        partial[period] = f"{begin} < DATE '{first}' OR date + 1 < {begin} + INTERVAL 1 {period}"
    columns = ", ".join(f"NOT is_over OR {condition} AS {name}_is_partial" for name, condition in partial.items())
    last = asked.last if asked else max(computed, default=date.min + _LATELY)
    lately = {
        day: _was_over(day, catalog.settings) if day in landed else "false"
        for day in days_between(last - _LATELY, last)
    }
    over = "".join(f" WHEN date = DATE '{day}' THEN {condition}" for day, condition in lately.items())
    days = SOURCES[1] if bronze and daily else "(SELECT NULL::DATE AS date WHERE false)"
    if bronze and asked:
        span = f"DATE '{asked.first}', DATE '{asked.last}', INTERVAL 1 DAY"
        days = f"(SELECT unnest(generate_series({span}))::DATE AS date)"
    connection.execute("CREATE SCHEMA IF NOT EXISTS gold")
    connection.execute(
        f"CREATE OR REPLACE VIEW {COVERAGE} AS "  # noqa: S608  our own names, dates and instants
        f"SELECT date, is_over, {columns} FROM (SELECT date, CASE{over} ELSE true END AS is_over FROM {days})"
    )


def _was_over(day: date, settings: Settings) -> str:
    """SQL: whether the day, or a later landing date, was read when the day was over.

    A day none of whose rows, nor any later ones, were delivered was computed because it was over.
    """
    end = datetime.combine(day + DAY, time.min, settings.reporting_zone).astimezone(UTC)
    return (
        f"(SELECT coalesce(max(ingested_at) >= TIMESTAMPTZ '{end:%Y-%m-%d %H:%M:%S}+00', true) "  # noqa: S608
        f"FROM bronze.interactions WHERE landing_date >= DATE '{day}')"
    )

"""The dashboard: one self-contained HTML page with the metrics, which needs no network to look at."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import duckdb
import vl_convert

from lakehouse_assets.io.catalog import Catalog
from lakehouse_assets.io.query import connect

_DAILY, _SESSIONS, _COUNTS = "gold.daily_metrics", "gold.daily_session_metrics", "silver.interaction_counts"


@dataclass(frozen=True)
class Chart:
    """A chart of the page.

    Attributes:
        title: what it shows.
        definition: what the numbers mean, in the words of docs/metrics/.
        kind: ``line``, ``area``, ``bar`` (stacked) or ``heat``.
        unit: of the values; ``share`` is shown in percent.
        table: the table it stands on; without that table there is no chart.
        series: for each series its name and the SQL expression of its value; with one of them a plain chart.
        query: instead of ``series``: SQL for rows of day, series and value.
    """

    title: str
    definition: str
    kind: str
    unit: str
    table: str
    series: Mapping[str, str] | None = None
    query: str = ""

    @property
    def sql(self) -> str:
        """SQL for rows of day, series and value."""
        if self.series is None:
            return self.query
        parts = [
            f"SELECT date, {position} AS position, '{name}' AS series, {value}::DOUBLE AS value FROM {self.table}"  # noqa: S608  our own names
            for position, (name, value) in enumerate(self.series.items())
        ]
        return f"SELECT date, series, value FROM ({' UNION ALL '.join(parts)}) ORDER BY position, date"  # noqa: S608


TILES = (
    ("DAU", "users", _DAILY, "daily_active_users"),
    ("WAU", "users", _DAILY, "weekly_active_users"),
    ("MAU (30 days)", "users", _DAILY, "monthly_active_users_30d"),
    ("Stickiness", "share", _DAILY, "stickiness"),
    ("Sessions", "sessions", _SESSIONS, "sessions"),
    ("Actions", "actions", _DAILY, "total_actions"),
)
CHARTS = (
    Chart(
        "Active users",
        "Distinct users with at least one accepted interaction on the day (DAU), on the 7 days that end on it (WAU) "
        "and on the 30 days that end on it (MAU). Counted exactly.",
        "line",
        "users",
        _DAILY,
        {
            "DAU": "daily_active_users",
            "WAU": "weekly_active_users",
            "MAU (30 days)": "monthly_active_users_30d",
        },
    ),
    Chart(
        "Stickiness",
        "DAU divided by the 30-day MAU: the share of the month's users who are there on a day.",
        "area",
        "share",
        _DAILY,
        {"stickiness": "stickiness"},
    ),
    Chart(
        "Active users, month to date",
        "Distinct users of the calendar month up to the day; the month's own figure stands on its last day.",
        "area",
        "users",
        "gold.monthly_metrics",
        {"month to date": "monthly_active_users"},
    ),
    Chart(
        "New, returning and lost users",
        "New: first active day ever. Returning: also active the day before. Resurrecting: active before, but not the "
        "day before. Dormant, drawn below zero: active the day before, but not on this day.",
        "bar",
        "users",
        "gold.lifecycle_metrics",
        query="SELECT date, series, users::DOUBLE FROM ("
        "SELECT date, new_users AS 'new', returning_users AS 'returning', resurrecting_users AS 'resurrecting', "
        "-dormant_users AS 'dormant' FROM gold.lifecycle_metrics WHERE period = 'day'"
        ") UNPIVOT (users FOR series IN (* EXCLUDE date)) ORDER BY date",
    ),
    Chart(
        "Weekly retention",
        "Of the users whose first active day fell into a week (a row, by its Monday), the share that was active again "
        "so many weeks later. Weeks that are not over yet are left out.",
        "heat",
        "share",
        "gold.retention_weekly",
        query="SELECT cohort_week AS date, week_number AS series, rate AS value FROM gold.retention_weekly "
        "WHERE cohort_by = 'first_activity' AND rate IS NOT NULL ORDER BY series, date",
    ),
    Chart(
        "Actions by type",
        "Accepted interactions of the day by what the users did.",
        "bar",
        "actions",
        "gold.action_metrics",
        query="SELECT date, action_type AS series, actions::DOUBLE AS value FROM gold.action_metrics "
        "ORDER BY action_type, date",
    ),
    Chart(
        "Sessions",
        "A session is a user's actions without 30 minutes of silence or a midnight between them.",
        "bar",
        "sessions",
        _SESSIONS,
        {"sessions": "sessions"},
    ),
    Chart(
        "Session length",
        "From the first to the last action of a session, in seconds: the median and the 95th percentile of the day.",
        "line",
        "seconds",
        _SESSIONS,
        {"median": "p50_session_span_ms / 1000", "95th percentile": "p95_session_span_ms / 1000"},
    ),
    Chart(
        "Sessions with a single action",
        "The share of the day's sessions that hold one action only.",
        "line",
        "share",
        _SESSIONS,
        {"single action": "single_action_rate"},
    ),
    Chart(
        "Mean duration of an action",
        "Mean duration_ms of the day's accepted interactions, in ms.",
        "line",
        "ms",
        _DAILY,
        {"mean duration": "avg_duration_ms"},
    ),
    Chart(
        "What became of the delivered rows",
        "Rows by the day they belong to: accepted, or duplicates of accepted ones; and rejected rows by the day they "
        "were delivered. Nothing is dropped without being counted.",
        "bar",
        "rows",
        _COUNTS,
        {"accepted": "accepted_rows", "duplicates": "duplicate_rows", "rejected": "rejected_rows"},
    ),
    Chart(
        "Rejected rows by reason",
        "Rows that did not qualify, by the day they were delivered and the first reason that held.",
        "bar",
        "rows",
        "silver.interaction_routing",
        query="SELECT landing_date AS date, reason AS series, sum(delivered_rows)::DOUBLE AS value "
        "FROM silver.interaction_routing WHERE reason IS NOT NULL GROUP BY ALL ORDER BY series, date",
    ),
)

TABLES = tuple(sorted({chart.table for chart in CHARTS} | {table for _, _, table, _ in TILES}))


def write_dashboard(catalog: Catalog, target: Path) -> Path:
    """Write the page from the tables that there are, and only once it is whole.

    Returns:
        Where it is.
    """
    connection = connect(catalog)
    tables = set(catalog.names())
    template = files("lakehouse_assets") / "page"
    parts = {
        "css": (template / "dashboard.css").read_text("utf-8"),
        "script": (template / "dashboard.js").read_text("utf-8"),
        "bundle": vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"),
        # what was delivered, such as an action's name, stays data: no text can end the script element
        "data": json.dumps(_content(connection, tables), separators=(",", ":")).replace("<", "\\u003c"),
    }
    before, *rest = (template / "dashboard.html").read_text("utf-8").split("{{")
    page = before + "".join(parts[name] + after for name, after in (one.split("}}", 1) for one in rest))
    temporary = target.with_name(f".{target.name}.tmp")
    temporary.write_text(page, encoding="utf-8")
    temporary.replace(target)
    return target


def _content(connection: duckdb.DuckDBPyConnection, tables: set[str]) -> dict[str, Any]:
    charts = [
        {
            "id": chart.title.lower().replace(" ", "-").replace(",", ""),
            "title": chart.title,
            "definition": chart.definition,
            "kind": chart.kind,
            "unit": chart.unit,
            "rows": _rows(connection, chart.sql),
        }
        for chart in CHARTS
        if chart.table in tables
    ]
    tiles = [
        {
            "title": title,
            "unit": unit,
            "rows": _rows(connection, f"SELECT date, '', {column} FROM {table} ORDER BY date"),  # noqa: S608
        }
        for title, unit, table, column in TILES
        if table in tables
    ]
    days = [row[0] for tile in tiles for row in tile["rows"]]
    return {
        "first": min(days, default=""),
        "last": max(days, default=""),
        "fresh": _freshness(connection, tables),
        "tiles": tiles,
        "charts": charts,
    }


def _rows(connection: duckdb.DuckDBPyConnection, query: str) -> Sequence[Sequence[Any]]:
    return [[str(day), series, value] for day, series, value in connection.execute(query).fetchall()]


def _freshness(connection: duckdb.DuckDBPyConnection, tables: set[str]) -> str:
    if not {_DAILY, "bronze.interactions"} <= tables:
        return "Nothing is computed yet."
    computed, read = connection.execute(
        "SELECT (SELECT max(date) FROM gold.daily_metrics), (SELECT max(ingested_at) FROM bronze.interactions)"
    ).fetchall()[0]
    return f"Computed up to {computed}; newest file read {read:%Y-%m-%d %H:%M} UTC." if read else f"Up to {computed}."

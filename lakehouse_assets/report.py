"""One self-contained HTML page with the metrics; needs no network to look at."""

from __future__ import annotations

from pathlib import Path

import altair as alt
import duckdb
import vl_convert

from lakehouse_assets.io.catalog import Catalog
from lakehouse_assets.io.query import connect

_ACTIVE = """
    SELECT date, series, value FROM (
        SELECT date, daily_active_users AS "DAU", weekly_active_users AS "WAU",
               monthly_active_users_30d AS "MAU (30 days)"
        FROM gold.daily_metrics
    ) UNPIVOT (value FOR series IN ("DAU", "WAU", "MAU (30 days)"))
"""
_STICKINESS = "SELECT date, stickiness AS value FROM gold.daily_metrics"
_SESSIONS = "SELECT date, sessions AS value FROM gold.daily_session_metrics"
_ROWS = """
    SELECT date, series, value FROM (
        SELECT date, accepted_rows AS accepted, duplicate_rows AS duplicates, rejected_rows AS rejected
        FROM silver.interaction_counts
    ) UNPIVOT (value FOR series IN (accepted, duplicates, rejected))
"""
# the figures of the newest day with activity
_NEWEST = """
    SELECT date AS "Day", daily_active_users AS "DAU", weekly_active_users AS "WAU",
           monthly_active_users_30d AS "MAU (30 days)", stickiness AS "Stickiness", sessions AS "Sessions"
    FROM gold.daily_metrics JOIN gold.daily_session_metrics USING (date)
    WHERE daily_active_users > 0 ORDER BY date DESC LIMIT 1
"""
_DAY = alt.X("utcyearmonthdate(date):T", title=None, axis=alt.Axis(format="%b %d", labelOverlap=True))
_SERIES = alt.Color("series:N", title=None, sort=None, legend=alt.Legend(orient="top"))
_SIZE = {"width": 560, "height": 210}
_STYLE = """
<style>
  body { font-family: system-ui, sans-serif; margin: 24px auto; max-width: 1280px; color: #1f2933; }
  h1 { font-size: 22px; margin: 0 0 12px; }
  dl { display: flex; flex-wrap: wrap; gap: 12px; margin: 0 0 20px; }
  dl div { border: 1px solid #d9e2ec; border-radius: 8px; padding: 10px 18px; min-width: 110px; }
  dt { font-size: 12px; color: #627d98; } dd { margin: 2px 0 0; font-size: 22px; font-weight: 600; }
</style>
"""


def write_report(catalog: Catalog, target: Path) -> Path:
    """Write the page.

    Returns:
        Where it is.
    """
    connection = connect(catalog)
    active = _chart(connection, _ACTIVE, "Active users", "distinct users").mark_line().encode(color=_SERIES)
    sticky = _chart(connection, _STICKINESS, "Stickiness (DAU / MAU30)", "share").mark_area(opacity=0.6)
    sessions = _chart(connection, _SESSIONS, "Sessions a day", "sessions").mark_bar()
    rows = _chart(connection, _ROWS, "What became of the delivered rows", "rows").mark_bar().encode(color=_SERIES)
    halves = [alt.hconcat(*pair).resolve_scale(color="independent") for pair in ((active, sticky), (sessions, rows))]
    charts = alt.vconcat(*halves).resolve_scale(color="independent")
    page = vl_convert.vegalite_to_html(charts.to_json(), bundle=True)
    head, body, rest = page.rpartition("<body>")  # the scripts in the head mention one too
    head = head.replace("<title>Chart</title>", f"<title>Usage metrics</title>{_STYLE}", 1)
    temporary = target.with_name(f".{target.name}.tmp")
    temporary.write_text(f"{head}{body}{_heading(connection)}{rest}", encoding="utf-8")
    temporary.replace(target)
    return target


def _chart(connection: duckdb.DuckDBPyConnection, query: str, title: str, unit: str) -> alt.Chart:
    frame = connection.sql(query).df()
    frame["date"] = frame["date"].dt.strftime("%Y-%m-%d")
    records = frame.astype(object).where(frame.notna(), None).to_dict("records")
    tooltip = [f"{column}:{'Q' if column == 'value' else 'N'}" for column in frame.columns]
    value = alt.Y("value:Q", title=unit, axis=alt.Axis(format="%" if unit == "share" else "~s"))
    return alt.Chart(alt.Data(values=records), title=title).encode(x=_DAY, y=value, tooltip=tooltip).properties(**_SIZE)


def _heading(connection: duckdb.DuckDBPyConnection) -> str:
    """Title and the newest figures; all of them dates and numbers, so nothing delivered is written into the page."""
    newest = connection.sql(_NEWEST)
    figures = newest.fetchall()
    tiles = "".join(
        f"<div><dt>{name}</dt><dd>{_shown(name, value)}</dd></div>"
        for name, value in zip(newest.columns, figures[0] if figures else (), strict=False)
    )
    return f"<h1>Usage metrics</h1><dl>{tiles}</dl>"


def _shown(name: str, value: object) -> str:
    if name == "Stickiness":
        return f"{value:.1%}"
    return f"{value:,}" if isinstance(value, int) else str(value)

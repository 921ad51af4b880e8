"""One self-contained HTML page with the metrics; needs no network to look at."""

from __future__ import annotations

from pathlib import Path

import altair as alt
import vl_convert

from lakehouse_assets.io.catalog import Catalog
from lakehouse_assets.io.query import connect

_ACTIVE = """
    SELECT date, series, users FROM (
        SELECT date, daily_active_users AS "DAU", weekly_active_users AS "WAU",
               monthly_active_users_30d AS "MAU (30 days)"
        FROM gold.daily_metrics
    ) UNPIVOT (users FOR series IN ("DAU", "WAU", "MAU (30 days)"))
"""
_STICKINESS = "SELECT date, stickiness FROM gold.daily_metrics"
_SESSIONS = "SELECT date, sessions FROM gold.daily_session_metrics"
_ROWS = """
    SELECT date, series, rows FROM (
        SELECT date, accepted_rows AS accepted, duplicate_rows AS duplicates, rejected_rows AS rejected
        FROM silver.interaction_counts
    ) UNPIVOT (rows FOR series IN (accepted, duplicates, rejected))
"""


def write_report(catalog: Catalog, target: Path) -> Path:
    """Write the page.

    Returns:
        Where it is.
    """
    connection = connect(catalog)

    def data(query: str) -> alt.Data:
        frame = connection.sql(query).df()
        frame["date"] = frame["date"].dt.strftime("%Y-%m-%d")
        return alt.Data(values=frame.to_dict("records"))

    day = alt.X("utcyearmonthdate(date):T", title=None)
    size = {"width": 620, "height": 220}
    active = (
        alt.Chart(data(_ACTIVE), title="Active users")
        .mark_line()
        .encode(
            x=day,
            y=alt.Y("users:Q", title="distinct users"),
            color=alt.Color("series:N", title=None),
            tooltip=["date:N", "series:N", "users:Q"],
        )
        .properties(**size)
    )
    sticky = (
        alt.Chart(data(_STICKINESS), title="Stickiness (DAU / MAU30)")
        .mark_area(opacity=0.6)
        .encode(
            x=day,
            y=alt.Y("stickiness:Q", axis=alt.Axis(format="%"), title=None),
            tooltip=["date:N", "stickiness:Q"],
        )
        .properties(**size)
    )
    sessions = (
        alt.Chart(data(_SESSIONS), title="Sessions a day")
        .mark_bar()
        .encode(
            x=day,
            y=alt.Y("sessions:Q", title="sessions"),
            tooltip=["date:N", "sessions:Q"],
        )
        .properties(**size)
    )
    rows = (
        alt.Chart(data(_ROWS), title="What became of the rows")
        .mark_bar()
        .encode(
            x=day,
            y=alt.Y("rows:Q", title="rows"),
            color=alt.Color("series:N", title=None),
            tooltip=["date:N", "series:N", "rows:Q"],
        )
        .properties(**size)
    )
    page = ((active | sticky) & (sessions | rows)).resolve_scale(color="independent")
    html = vl_convert.vegalite_to_html(page.to_json(), bundle=True)
    temporary = target.with_name(f".{target.name}.tmp")
    temporary.write_text(html, encoding="utf-8")
    temporary.replace(target)
    return target

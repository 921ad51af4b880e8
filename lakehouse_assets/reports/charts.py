"""The charts: what each shows and means, the question to the tables behind it, and how it is drawn.

The dashboard and Dagster's pages of the gold assets draw from these declarations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

DAILY, SESSIONS, COUNTS = "gold.daily_metrics", "gold.daily_session_metrics", "silver.interaction_counts"
FRAME = {
    "$schema": "https://vega.github.io/schema/vega-lite/v6.json",  # names the version; nothing is fetched from there
    "height": 220,
    "background": None,
}
# Okabe and Ito's colours, told apart with every kind of colour vision; brighter ones of the same hues on dark
_ON_LIGHT = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c8c8c", "#b3a200", "#7a4ea3")
_ON_DARK = ("#56b4e9", "#f0883e", "#2bbf92", "#e29ac2", "#f2c14e", "#a5d8f5", "#b0b0b0", "#d6c94a", "#b08fd8")


MARK = "unusual"
MOST_VALUES = 8  # of a segment: more lines than that nobody tells apart


@dataclass(frozen=True)
class Chart:
    """A chart of the page.

    Attributes:
        title: what it shows.
        definition: what the numbers mean, in the words of docs/metrics/.
        kind: ``line``, ``area``, ``bar`` (stacked), ``heat``, or ``marked``: lines, and the series `MARK` as points.
        unit: of the values; ``share`` is shown in percent.
        table: the table it stands on; without that table there is no chart.
        series: for each series its name and the SQL expression of its value; with one of them a plain chart.
        query: instead of ``series``: SQL for rows of day, series and value.
        choice: a further column of ``query``: what one of its values is about is shown at a time.
    """

    title: str
    definition: str
    kind: str
    unit: str
    table: str
    series: Mapping[str, str] | None = None
    query: str = ""
    choice: str = ""

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


def _largest(table: str, choice: str, name: str, size: str) -> str:
    """A condition on rows: their ``name`` is among the largest of their ``choice`` on the table's newest day."""
    newest = f"SELECT {choice}, {name}, sum({size}) AS size FROM {table} "  # noqa: S608  our own names
    newest += f"WHERE date = (SELECT max(date) FROM {table}) GROUP BY {choice}, {name} "  # noqa: S608
    newest += f"QUALIFY row_number() OVER (PARTITION BY {choice} ORDER BY size DESC, {name}) <= {MOST_VALUES}"
    return f"({choice}, {name}) IN (SELECT ({choice}, {name}) FROM ({newest}))"  # noqa: S608


CHARTS = (
    Chart(
        "Active users",
        "Distinct users with at least one accepted interaction on the day (DAU), on the 7 days that end on it (WAU) "
        "and on the 30 days that end on it (MAU). Counted exactly.",
        "line",
        "users",
        DAILY,
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
        DAILY,
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
        "Active users, week to date",
        "Distinct users of the ISO week, Monday to Sunday, up to the day; the week's own figure stands on its Sunday.",
        "area",
        "users",
        "gold.weekly_metrics",
        {"week to date": "weekly_active_users"},
    ),
    Chart(
        "New, returning and lost users",
        "New: first active day ever. Returning: also active the day before. Resurrecting: active before, but not the "
        "day before. Dormant, drawn below zero: active the day before, but not on this day.",
        "bar",
        "users",
        "gold.lifecycle_metrics",
        query="SELECT date, series, users::DOUBLE AS value FROM ("
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
        "How often users come",
        "The users of the 28 days that end on the day, by how many of these days they were active on.",
        "bar",
        "users",
        "gold.l28_histogram",
        query="SELECT date, series, sum(users)::DOUBLE AS value FROM (SELECT date, users, active_days, CASE "
        "WHEN active_days = 1 THEN '1 day' WHEN active_days <= 3 THEN '2 to 3 days' "
        "WHEN active_days <= 7 THEN '4 to 7 days' WHEN active_days <= 14 THEN '8 to 14 days' "
        "ELSE '15 to 28 days' END AS series FROM gold.l28_histogram) "
        "GROUP BY date, series ORDER BY min(active_days), date",
    ),
    Chart(
        "Time of power users",
        "The 1 % of the users of 30 days with the largest sum of duration_ms in them, in hours: the first, and the "
        "last who is still among them.",
        "line",
        "hours",
        "gold.power_users",
        query="SELECT date, series, value FROM (SELECT date, max(duration_ms_30d) / 3600000 AS 'first', "
        "min(duration_ms_30d) / 3600000 AS 'last' FROM gold.power_users GROUP BY date) "
        "UNPIVOT (value FOR series IN (first, last)) ORDER BY series, date",
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
        "Weekly active users by segment",
        "Distinct users of the 7 days that end on the day, by what the users are and which app version they use: the "
        f"{MOST_VALUES} values with the most users of the newest day. A user of two versions counts in both.",
        "line",
        "users",
        "gold.segment_metrics",
        query="SELECT date, value AS series, weekly_active_users::DOUBLE AS value, segment FROM gold.segment_metrics "  # noqa: S608
        f"WHERE {_largest('gold.segment_metrics', 'segment', 'value', 'monthly_active_users_30d')} "
        "ORDER BY segment, series, date",
        choice="segment",
    ),
    Chart(
        "Slowest actions by app version",
        "95th percentile of duration_ms over the 28 days that end on the day, to 1/64 of it, by app version: the "
        f"{MOST_VALUES} versions with the most actions of the newest day.",
        "line",
        "ms",
        "gold.version_performance",
        query="SELECT date, app_version AS series, p95_duration_ms_28d::DOUBLE AS value, action_type "  # noqa: S608
        "FROM gold.version_performance "
        f"WHERE {_largest('gold.version_performance', 'action_type', 'app_version', 'actions_28d')} "
        "ORDER BY action_type, series, date",
        choice="action_type",
    ),
    Chart(
        "Do segments take longer?",
        "Spearman's correlation, from -1 to 1, between being in the segment and a user's mean duration_ms of the day; "
        "0 is no connection. A connection is not a cause. Confidence intervals are in gold.segment_performance.",
        "line",
        "correlation",
        "gold.segment_performance",
        query="SELECT date, value AS series, duration_correlation AS value, segment FROM gold.segment_performance "  # noqa: S608
        f"WHERE {_largest('gold.segment_performance', 'segment', 'value', 'users')} ORDER BY segment, series, date",
        choice="segment",
    ),
    Chart(
        "Unusual days",
        "A metric, what its weekday and trend let expect, and the days on which it was outside its usual distance.",
        "marked",
        "value",
        "gold.anomalies",
        query="SELECT date, series, number AS value, metric FROM (SELECT date, metric, value AS 'actual', "  # noqa: S608
        f"expected_value AS 'expected', CASE WHEN is_anomaly THEN value END AS '{MARK}' FROM gold.anomalies) "
        f"UNPIVOT (number FOR series IN (actual, expected, {MARK})) ORDER BY metric, series, date",
        choice="metric",
    ),
    Chart(
        "Sessions",
        "A session is a user's actions without 30 minutes of silence or a midnight between them.",
        "bar",
        "sessions",
        SESSIONS,
        {"sessions": "sessions"},
    ),
    Chart(
        "Sessions by length",
        "The day's sessions by the time from their first to their last action.",
        "bar",
        "sessions",
        "gold.session_metrics",
        query="SELECT date, series, count(*)::DOUBLE AS value FROM (SELECT session_date AS date, session_span_ms, CASE "
        "WHEN session_span_ms = 0 THEN 'no time' WHEN session_span_ms < 60000 THEN 'under 1 min' "
        "WHEN session_span_ms < 600000 THEN '1 to 10 min' ELSE '10 min and more' END AS series "
        "FROM gold.session_metrics) GROUP BY date, series ORDER BY min(session_span_ms), date",
    ),
    Chart(
        "Sessions a user, first and last actions",
        "Users by how many sessions they had on the day; or the day's sessions by the action they began or ended with. "
        f"The {MOST_VALUES} most frequent of the newest day.",
        "bar",
        "users or sessions",
        "gold.session_distribution",
        query="SELECT date, value AS series, amount::DOUBLE AS value, measure FROM gold.session_distribution "  # noqa: S608
        f"WHERE {_largest('gold.session_distribution', 'measure', 'value', 'amount')} "
        "ORDER BY measure, try_cast(series AS BIGINT), series, date",
        choice="measure",
    ),
    Chart(
        "Session length",
        "From the first to the last action of a session, in seconds: the median and the 95th percentile of the day.",
        "line",
        "seconds",
        SESSIONS,
        {"median": "p50_session_span_ms / 1000", "95th percentile": "p95_session_span_ms / 1000"},
    ),
    Chart(
        "Sessions with a single action",
        "The share of the day's sessions that hold one action only.",
        "line",
        "share",
        SESSIONS,
        {"single action": "single_action_rate"},
    ),
    Chart(
        "Mean duration of an action",
        "Mean duration_ms of the day's accepted interactions, in ms.",
        "line",
        "ms",
        DAILY,
        {"mean duration": "avg_duration_ms"},
    ),
    Chart(
        "What became of the delivered rows",
        "Rows by the day they belong to: accepted, or duplicates of accepted ones; and rejected rows by the day they "
        "were delivered. Nothing is dropped without being counted.",
        "bar",
        "rows",
        COUNTS,
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


def spec(chart: Chart, series: Sequence[str]) -> dict[str, Any]:
    """A chart in Vega-Lite, for rows of ``day``, ``series`` and ``value``; data, width and look are the caller's.

    Args:
        chart: the declaration.
        series: the names in the rows, in the order to show them.
    """
    share, heat = chart.unit == "share", chart.kind == "heat"
    axis_format = {"share": ".0%", "correlation": ".2~f"}.get(chart.unit, "~s")
    day = {"field": "day", "type": "temporal", "timeUnit": "utcyearmonthdate"}
    value = {"field": "value", "type": "quantitative"}
    tooltip = [
        day | {"title": "cohort" if heat else "day"},
        {"field": "series", "title": "week" if heat else ""},
        value | {"format": ".1%" if share else ",.6~r", "title": chart.unit},
    ]
    axis = {"format": "%b %d", "labelOverlap": True}
    if heat:
        # the square root leaves colours for the weeks after the first one, which is always whole
        scale = {"type": "sqrt", "scheme": "viridis", "domain": [0, 1]}
        shade = value | {"scale": scale, "legend": {"format": axis_format}}
        weeks: dict[str, Any] = {"field": "series", "type": "ordinal", "title": "weeks after the first", "sort": None}
        weeks["axis"] = {"labelAngle": 0, "labelOverlap": True}
        rows = day | {"type": "ordinal", "title": None, "axis": axis}
        return FRAME | {"mark": "rect", "encoding": {"x": weeks, "y": rows, "color": shade, "tooltip": tooltip}}
    marks = {
        "line": {"type": "line", "strokeWidth": 1.8},
        "bar": {"type": "bar"},
        "marked": {"type": "line", "strokeWidth": 1.8},
        "area": {"type": "area", "opacity": 0.6, "line": True},
    }
    stack = "zero" if chart.kind == "bar" else None
    colour = {"field": "series", "type": "nominal", "sort": [*series], "scale": {"domain": [*series]}}
    layers: dict[str, Any] = {"mark": marks[chart.kind]}
    if chart.kind == "marked":
        points = {"type": "point", "filled": True, "size": 60}
        is_mark = {"field": "series", "equal": MARK}
        layers = {
            "layer": [
                {"transform": [{"filter": {"not": is_mark}}], "mark": marks["marked"]},
                {"transform": [{"filter": is_mark}], "mark": points},
            ]
        }
    return FRAME | {
        **layers,
        "encoding": {
            "x": day | {"title": None, "axis": axis | {"tickCount": 6}},
            "y": value | {"title": chart.unit, "axis": {"format": axis_format}, "stack": stack},
            **({"color": colour} if len(series) > 1 else {}),
            "tooltip": tooltip,
        },
    }


def look(text: str, line: str, colours: Sequence[str]) -> dict[str, Any]:
    """What all charts on a page look like: Vega-Lite's configuration with the colours of texts, lines and series."""
    axis = {"labelColor": text, "titleColor": text, "gridColor": line, "domainColor": line, "tickColor": line}
    legend = {"labelColor": text, "titleColor": text, "orient": "top", "title": None, "symbolType": "square"}
    return {
        "font": "system-ui, sans-serif",
        "view": {"stroke": None},
        "mark": {"color": colours[0]},
        "range": {"category": [*colours]},
        "axis": axis,
        "legend": legend | {"gradientLength": 120, "columns": 3},
    }


# texts and lines as in dashboard.css
LOOKS = {"light": look("#1c2733", "#d5dce4", _ON_LIGHT), "dark": look("#e6edf3", "#33404d", _ON_DARK)}

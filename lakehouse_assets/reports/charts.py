"""The charts and cards: what each shows and means, the question to the tables behind it, and how it is drawn.

The dashboard and Dagster's pages of the gold assets draw from these declarations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from lakehouse_assets.assets.gold.session_distribution import LENGTHS
from lakehouse_assets.settings import Settings
from lakehouse_assets.storage.coverage import COVERAGE

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
GROWTH, ENGAGEMENT, RETENTION, SEGMENTS, PERFORMANCE, QUALITY = SECTIONS = (
    "Growth",
    "Engagement",
    "Retention",
    "Segments",
    "Performance",
    "Quality",
)
DAY, WEEK, MONTH = "day", "week", "month"
WINDOW_7, WINDOW_28, WINDOW_30 = "window_7d", "window_28d", "window_30d"
COVERS = (DAY, WINDOW_7, WINDOW_28, WINDOW_30, WEEK, MONTH)  # what a figure covers, as the columns of `COVERAGE` say it


@dataclass(frozen=True)
class Chart:
    """A chart of the page.

    Attributes:
        title: what it shows.
        section: one of `SECTIONS`.
        definition: what the numbers mean, in the words of docs/metrics/; ``{session_gap}`` stands for the setting.
        kind: ``line``, ``bar`` (stacked), ``heat``, or ``marked``: lines, and the series `MARK` as points.
        unit: of the values; ``share`` is shown in percent.
        table: the table it stands on; without that table there is no chart.
        series: for each series its name and the SQL expression of its value; with one of them a plain chart.
        query: instead of ``series``: SQL for rows of day, series and value.
        choice: a further column of ``query``: what one of its values is about is shown at a time.
        covers: the days a figure covers, one of `COVERS`, or one for each series. A week or month stands on its first
            day.
        compared: whether the days before may be laid over it.
    """

    title: str
    section: str
    definition: str
    kind: str
    unit: str
    table: str
    series: Mapping[str, str] | None = None
    query: str = ""
    choice: str = ""
    covers: str | Mapping[str, str] = DAY
    compared: bool = True

    def meaning(self, settings: Settings) -> str:
        """The definition under a lakehouse's settings."""
        return self.definition.format(session_gap=_minutes(settings.session_gap_seconds))

    @property
    def least_days(self) -> int:
        """Days before the newest one shown that are shown at least: a week alone, or a cohort, says nothing."""
        return 182 if self.kind == "heat" else {WEEK: 91, MONTH: 396}.get(str(self.covers), 0)

    def covers_of(self, series: object) -> str:
        """The days that a figure of one of the series covers."""
        return self.covers if isinstance(self.covers, str) else self.covers[str(series)]

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


@dataclass(frozen=True)
class Card:
    """One number about the chosen days and the same about as many days before.

    Attributes:
        title: what it shows.
        definition: what the number means.
        unit: of the number; ``share`` is shown in percent and compared in percentage points.
        table: the table it stands on; without that table there is no card.
        how: ``last`` (of the newest day), ``mean`` (of the days), ``sum`` (over the days) or ``ratio`` (of two sums).
        query: SQL for rows of date and value, and for a ratio what it is divided by.
        chart: title of the chart that shows it day by day.
        covers: the days a figure covers, one of `COVERS`.
    """

    title: str
    definition: str
    unit: str
    table: str
    how: str
    query: str
    chart: str
    covers: str = DAY


def _minutes(seconds: int) -> str:
    return f"{seconds // 60} minutes" if seconds % 60 == 0 and seconds > 60 else f"{seconds} seconds"


def _largest(table: str, choice: str, name: str, size: str) -> str:
    """A condition on rows: their ``name`` is among the largest of their ``choice`` on the table's newest day."""
    newest = f"SELECT {choice}, {name}, sum({size}) AS size FROM {table} "  # noqa: S608  our own names
    newest += f"WHERE date = (SELECT max(date) FROM {table}) GROUP BY {choice}, {name} "  # noqa: S608
    newest += f"QUALIFY row_number() OVER (PARTITION BY {choice} ORDER BY size DESC, {name}) <= {MOST_VALUES}"
    return f"({choice}, {name}) IN (SELECT ({choice}, {name}) FROM ({newest}))"  # noqa: S608


def _whole_periods(period: str, table: str, users: str) -> str:
    """SQL: of each week or month, on its first day, the figure of its last computed day."""
    return (
        f"SELECT date_trunc('{period}', date)::DATE AS date, 'users' AS series, max_by({users}, date)::DOUBLE AS value "  # noqa: S608
        f"FROM {table} GROUP BY ALL ORDER BY ALL"
    )


CARDS = (
    Card(
        "Daily active users",
        "Mean of the days' distinct users with at least one accepted interaction.",
        "users",
        DAILY,
        "mean",
        f"SELECT date, daily_active_users FROM {DAILY}",  # noqa: S608
        "Active users",
    ),
    Card(
        "Weekly active users",
        "Distinct users of the 7 days that end on the last day.",
        "users",
        DAILY,
        "last",
        f"SELECT date, weekly_active_users FROM {DAILY}",  # noqa: S608
        "Active users",
        WINDOW_7,
    ),
    Card(
        "Monthly active users",
        "Distinct users of the 30 days that end on the last day.",
        "users",
        DAILY,
        "last",
        f"SELECT date, monthly_active_users_30d FROM {DAILY}",  # noqa: S608
        "Active users",
        WINDOW_30,
    ),
    Card(
        "New users",
        "Users whose first active day ever is one of the days.",
        "users",
        "gold.lifecycle_metrics",
        "sum",
        "SELECT date, new_users FROM gold.lifecycle_metrics WHERE period = 'day'",
        "New, returning and lost users",
    ),
    Card(
        "Back after a week",
        "Of the users whose week after their first one ended on one of the days, the share that was active in it.",
        "share",
        "gold.retention_weekly",
        "ratio",
        "SELECT date, users, cohort_users FROM gold.retention_weekly "
        "WHERE cohort_by = 'first_activity' AND week_number = 1 AND users IS NOT NULL",
        "Weekly retention",
    ),
    Card(
        "Stickiness",
        "DAU divided by the 30-day MAU, over the days: the share of the month's users who are there on a day.",
        "share",
        DAILY,
        "ratio",
        f"SELECT date, daily_active_users, monthly_active_users_30d FROM {DAILY}",  # noqa: S608
        "Stickiness",
        WINDOW_30,
    ),
    Card(
        "Sessions",
        "All sessions of the days.",
        "sessions",
        SESSIONS,
        "sum",
        f"SELECT date, sessions FROM {SESSIONS}",  # noqa: S608
        "Sessions",
    ),
    Card(
        "Rejected rows",
        "Of the rows delivered on the days, the share that did not qualify.",
        "share",
        COUNTS,
        "ratio",
        f"SELECT date, rejected_rows, delivered_rows FROM {COUNTS}",  # noqa: S608
        "Rejected rows by reason",
    ),
)
CHARTS = (
    Chart(
        "Active users",
        GROWTH,
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
        covers={"DAU": DAY, "WAU": WINDOW_7, "MAU (30 days)": WINDOW_30},
    ),
    Chart(
        "Stickiness",
        ENGAGEMENT,
        "DAU divided by the 30-day MAU: the share of the month's users who are there on a day.",
        "line",
        "share",
        DAILY,
        {"stickiness": "stickiness"},
        covers=WINDOW_30,
    ),
    Chart(
        "Weekly active users",
        GROWTH,
        "Distinct users of each ISO week, Monday to Sunday; at least the last 13.",
        "bar",
        "users",
        "gold.weekly_metrics",
        query=_whole_periods(WEEK, "gold.weekly_metrics", "weekly_active_users"),
        covers=WEEK,
    ),
    Chart(
        "Monthly active users",
        GROWTH,
        "Distinct users of each calendar month; at least the last 13.",
        "bar",
        "users",
        "gold.monthly_metrics",
        query=_whole_periods(MONTH, "gold.monthly_metrics", "monthly_active_users"),
        covers=MONTH,
    ),
    Chart(
        "New, returning and lost users",
        GROWTH,
        "New: first active day ever. Returning: also active the day before. Resurrecting: active before, but not the "
        "day before. Dormant, drawn below zero: active the day before, but not on this day.",
        "bar",
        "users",
        "gold.lifecycle_metrics",
        query="SELECT date, series, users::DOUBLE AS value FROM ("
        "SELECT date, new_users AS 'new', returning_users AS 'returning', resurrecting_users AS 'resurrecting', "
        "-dormant_users AS 'dormant' FROM gold.lifecycle_metrics WHERE period = 'day'"
        ") UNPIVOT (users FOR series IN (* EXCLUDE date)) ORDER BY date",
        compared=False,
    ),
    Chart(
        "Weekly retention",
        RETENTION,
        "Of the users whose first active day fell into a week (a row, by its Monday), the share that was active again "
        "so many weeks later; at least the last 26 weeks. What is not over yet is left out.",
        "heat",
        "share",
        "gold.retention_weekly",
        query="SELECT cohort_week AS date, week_number AS series, rate AS value FROM gold.retention_weekly "  # noqa: S608
        "WHERE cohort_by = 'first_activity' AND rate IS NOT NULL "
        f"AND date NOT IN (SELECT date FROM {COVERAGE} WHERE NOT is_over) ORDER BY series, date",
        compared=False,
    ),
    Chart(
        "How often users come",
        ENGAGEMENT,
        "The users of the 28 days that end on the day, by how many of these days they were active on.",
        "bar",
        "users",
        "gold.l28_histogram",
        query="SELECT date, series, sum(users)::DOUBLE AS value FROM (SELECT date, users, active_days, CASE "
        "WHEN active_days = 1 THEN '1 day' WHEN active_days <= 3 THEN '2 to 3 days' "
        "WHEN active_days <= 7 THEN '4 to 7 days' WHEN active_days <= 14 THEN '8 to 14 days' "
        "ELSE '15 to 28 days' END AS series FROM gold.l28_histogram) "
        "GROUP BY date, series ORDER BY min(active_days), date",
        covers=WINDOW_28,
    ),
    Chart(
        "Time of power users",
        ENGAGEMENT,
        "The 1 % of the users of 30 days with the largest sum of duration_ms in them, in hours: the first, and the "
        "last who is still among them.",
        "line",
        "hours",
        "gold.power_users",
        query="SELECT date, series, value FROM (SELECT date, max(duration_ms_30d) / 3600000 AS 'first', "
        "min(duration_ms_30d) / 3600000 AS 'last' FROM gold.power_users GROUP BY date) "
        "UNPIVOT (value FOR series IN (first, last)) ORDER BY series, date",
        covers=WINDOW_30,
    ),
    Chart(
        "Actions by type",
        ENGAGEMENT,
        "Accepted interactions of the day by what the users did.",
        "bar",
        "actions",
        "gold.action_metrics",
        query="SELECT date, action_type AS series, actions::DOUBLE AS value FROM gold.action_metrics "
        "ORDER BY action_type, date",
    ),
    Chart(
        "Weekly active users by segment",
        SEGMENTS,
        "Distinct users of the 7 days that end on the day, by what the users are and which app version they use: the "
        f"{MOST_VALUES} values with the most users of the newest day. A user of two versions counts in both.",
        "line",
        "users",
        "gold.segment_metrics",
        query="SELECT date, value AS series, weekly_active_users::DOUBLE AS value, segment FROM gold.segment_metrics "  # noqa: S608
        f"WHERE {_largest('gold.segment_metrics', 'segment', 'value', 'monthly_active_users_30d')} "
        "ORDER BY segment, series, date",
        choice="segment",
        covers=WINDOW_7,
    ),
    Chart(
        "Slowest actions by app version",
        PERFORMANCE,
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
        covers=WINDOW_28,
    ),
    Chart(
        "Do segments take longer?",
        PERFORMANCE,
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
        QUALITY,
        "A metric, what its weekday and trend let expect, and the days on which it was outside its usual distance.",
        "marked",
        "value",
        "gold.anomalies",
        query="SELECT date, series, number AS value, metric FROM (SELECT date, metric, value AS 'actual', "  # noqa: S608
        f"expected_value AS 'expected', CASE WHEN is_anomaly THEN value END AS '{MARK}' FROM gold.anomalies) "
        f"UNPIVOT (number FOR series IN (actual, expected, {MARK})) ORDER BY metric, series, date",
        choice="metric",
        compared=False,
    ),
    Chart(
        "Sessions",
        ENGAGEMENT,
        "A session is a user's actions without {session_gap} of silence or a midnight between them.",
        "bar",
        "sessions",
        SESSIONS,
        {"sessions": "sessions"},
    ),
    Chart(
        "Sessions by length",
        ENGAGEMENT,
        "The day's sessions by the time from their first to their last action.",
        "bar",
        "sessions",
        "gold.session_distribution",
        query="SELECT date, value AS series, amount::DOUBLE AS value FROM gold.session_distribution "  # noqa: S608
        f"WHERE measure = 'session_length' ORDER BY list_position({list(LENGTHS)}, value), date",
    ),
    Chart(
        "Sessions a user, first and last actions",
        ENGAGEMENT,
        "Users by how many sessions they had on the day; or the day's sessions by the action they began or ended with. "
        f"The {MOST_VALUES} most frequent of the newest day.",
        "bar",
        "users or sessions",
        "gold.session_distribution",
        query="SELECT date, value AS series, amount::DOUBLE AS value, measure FROM gold.session_distribution "  # noqa: S608
        "WHERE measure <> 'session_length' "
        f"AND {_largest('gold.session_distribution', 'measure', 'value', 'amount')} "
        "ORDER BY measure, try_cast(series AS BIGINT), series, date",
        choice="measure",
    ),
    Chart(
        "Session length",
        ENGAGEMENT,
        "From the first to the last action of a session, in seconds: the median and the 95th percentile of the day.",
        "line",
        "seconds",
        SESSIONS,
        {"median": "p50_session_span_ms / 1000", "95th percentile": "p95_session_span_ms / 1000"},
    ),
    Chart(
        "Sessions with a single action",
        ENGAGEMENT,
        "The share of the day's sessions that hold one action only.",
        "line",
        "share",
        SESSIONS,
        {"single action": "single_action_rate"},
    ),
    Chart(
        "Mean duration of an action",
        PERFORMANCE,
        "Mean duration_ms of the day's accepted interactions, in ms.",
        "line",
        "ms",
        DAILY,
        {"mean duration": "avg_duration_ms"},
    ),
    Chart(
        "What became of the delivered rows",
        QUALITY,
        "Rows by the day they belong to: accepted, or duplicates of accepted ones; and rejected rows by the day they "
        "were delivered. Nothing is dropped without being counted.",
        "bar",
        "rows",
        COUNTS,
        {"accepted": "accepted_rows", "duplicates": "duplicate_rows", "rejected": "rejected_rows"},
    ),
    Chart(
        "Rejected rows by reason",
        QUALITY,
        "Rows that did not qualify, by the day they were delivered and the first reason that held.",
        "bar",
        "rows",
        "silver.interaction_routing",
        query="SELECT landing_date AS date, reason AS series, sum(delivered_rows)::DOUBLE AS value "
        "FROM silver.interaction_routing WHERE reason IS NOT NULL GROUP BY ALL ORDER BY series, date",
    ),
)


def partial_days(connection: duckdb.DuckDBPyConnection) -> dict[str, list[str]]:
    """For each of `COVERS` the days on which a figure does not cover its whole period; a period's is its first one.

    Args:
        connection: one that sees the view `COVERAGE`.
    """
    found = {}
    for covers in COVERS:
        on = f"date_trunc('{covers}', date)::DATE" if covers in (WEEK, MONTH) else "date"
        query = f"SELECT {on}, max_by({covers}_is_partial, date) FROM {COVERAGE} GROUP BY ALL ORDER BY ALL"  # noqa: S608
        found[covers] = [str(day) for day, partial in connection.execute(query).fetchall() if partial]
    return found


def spec(chart: Chart, series: Sequence[str]) -> dict[str, Any]:
    """A chart in Vega-Lite; data, width and look are the caller's.

    The rows are of ``day``, ``series`` and ``value``; ``partial`` where the value does not cover its whole period,
    which is drawn lighter or dashed, and ``before`` where it is of the days before, laid over.

    Args:
        chart: the declaration.
        series: the names in the rows, in the order to show them.
    """
    share, heat = chart.unit == "share", chart.kind == "heat"
    day = {"field": "day", "type": "temporal", "timeUnit": "utcyearmonthdate"}
    value = {"field": "value", "type": "quantitative"}
    tooltip = [
        day | {"title": {WEEK: "week of", MONTH: "month of"}.get(str(chart.covers), "cohort" if heat else "day")},
        {"field": "series", "title": "week" if heat else ""},
        value | {"format": ".1%" if share else ",.6~r", "title": chart.unit},
    ]
    axis = {"format": "%b %Y" if chart.covers == MONTH else "%b %d", "labelOverlap": True}
    if heat:
        # the square root leaves colours for the weeks after the first one, which is always whole
        scale = {"type": "sqrt", "scheme": "viridis", "domain": [0, 1]}
        shade = value | {"scale": scale, "legend": {"format": ".0%"}}
        weeks: dict[str, Any] = {"field": "series", "type": "ordinal", "title": "weeks after the first", "sort": None}
        weeks["axis"] = {"labelAngle": 0, "labelOverlap": True}
        rows = day | {"type": "ordinal", "title": None, "axis": axis}
        return FRAME | {"mark": "rect", "encoding": {"x": weeks, "y": rows, "color": shade, "tooltip": tooltip}}
    whole_numbers = chart.unit in {"users", "sessions", "actions", "rows"}
    numbers: dict[str, Any] = {"format": ".1~%"} if share else {"labelExpr": _IN_FULL}
    if whole_numbers:
        numbers["tickMinStep"] = 1
    colour = {"field": "series", "type": "nominal", "sort": [*series], "scale": {"domain": [*series]}}
    tooltip.append({"field": "covers", "title": ""})
    x: dict[str, Any] = {"title": None, "axis": axis | {"tickCount": 6}}
    if chart.covers in (WEEK, MONTH):
        x |= {"type": "ordinal", "axis": axis | {"labelAngle": 0}}
    covered = {"calculate": "datum.partial ? 'not the whole period' : 'the whole period'", "as": "covers"}
    return FRAME | {
        "transform": [covered],
        "layer": _bars() if chart.kind == "bar" else _lines(chart.kind == "marked"),
        "encoding": {
            "x": day | x,
            "y": value | {"title": chart.unit, "axis": numbers, "stack": "zero" if chart.kind == "bar" else None},
            **({"color": colour} if len(series) > 1 else {}),
            "tooltip": tooltip,
        },
    }


_IN_FULL = (  # 12,000 and 1.2 M; never 0.5k
    "abs(datum.value) >= 1e6 ? format(datum.value / 1e6, ',.4~r') + ' M' : format(datum.value, ',.6~r')"
)
_BEFORE: dict[str, Any] = {
    "transform": [{"filter": "datum.before"}],
    "mark": {"type": "line", "strokeWidth": 1.5, "strokeDash": [2, 3], "opacity": 0.9},
}


def _bars() -> list[dict[str, Any]]:
    """Stacked bars, lighter where partial; the days before as a line of their sums."""
    shade: dict[str, Any] = {"condition": {"test": "datum.partial", "value": 0.4}, "value": 1}
    sums: dict[str, Any] = {"aggregate": [{"op": "sum", "field": "value", "as": "value"}], "groupby": ["day", "covers"]}
    return [
        {
            "transform": [{"filter": "!datum.before"}],
            "mark": "bar",
            "encoding": {"opacity": shade},
        },
        _BEFORE | {"transform": [*_BEFORE["transform"], sums], "encoding": {"color": {"value": "var(--text)"}}},
    ]


def _lines(marked: bool) -> list[dict[str, Any]]:
    """Lines, dashed from the last whole value to a partial one; the days before dotted, in the series' colours."""
    shown = [{"filter": "!datum.before"}]
    if marked:
        shown.append({"filter": f"datum.series != '{MARK}'"})
    beside: dict[str, Any] = {
        "window": [
            {"op": "lead", "field": "partial", "as": "next_partial"},
            {"op": "lag", "field": "partial", "as": "last_partial"},
        ],
        "sort": [{"field": "day"}],
        "groupby": ["series"],
    }
    # no value, so a gap, between what is partial at the begin and at the end
    edge = "datum.partial || datum.next_partial || datum.last_partial ? datum.value : null"
    layers: list[dict[str, Any]] = [
        {"transform": [*shown, {"filter": "!datum.partial"}], "mark": {"type": "line", "strokeWidth": 1.8}},
        {
            "transform": [*shown, beside, {"calculate": edge, "as": "value"}],
            "mark": {"type": "line", "strokeWidth": 1.8, "strokeDash": [4, 4], "opacity": 0.7},
        },
        {
            "transform": [*shown, {"filter": "datum.partial"}],
            "mark": {"type": "point", "filled": True, "size": 18, "opacity": 0.7},
        },
        _BEFORE,
    ]
    if marked:
        unusual = [{"filter": f"datum.series == '{MARK}' && !datum.partial"}]
        layers.append({"transform": unusual, "mark": {"type": "point", "filled": True, "size": 60}})
    return layers


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


_NAMES = ("text", "line", *(f"series-{number}" for number in range(1, 10)))
_LIGHT, _DARK = ("#1c2733", "#d5dce4", *_ON_LIGHT), ("#e6edf3", "#33404d", *_ON_DARK)
THEMES = {name: dict(zip(_NAMES, colours, strict=True)) for name, colours in (("light", _LIGHT), ("dark", _DARK))}
PLAIN = look(_LIGHT[0], _LIGHT[1], _ON_LIGHT)  # for an image that stands alone
# for the page, whose style gives the colours: a change of theme, or printing, draws nothing again
STYLED = look("var(--text)", "var(--line)", [f"var(--series-{number})" for number in range(1, 10)])

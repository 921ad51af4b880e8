"""How the charts that tables declare are drawn: on the dashboard, and on Dagster's pages of the gold assets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import duckdb

from lakehouse_assets.assets.charts import COVERAGE, COVERS, MARK, MONTH, SECTIONS, WEEK, Card, Chart
from lakehouse_assets.assets.table import Table
from lakehouse_assets.calendar import period_first

FRAME = {
    "$schema": "https://vega.github.io/schema/vega-lite/v6.json",  # names the version; nothing is fetched from there
    "height": 220,
    "background": None,
}
# Okabe and Ito's colours, told apart with every kind of colour vision; brighter ones of the same hues on dark
_ON_LIGHT = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c8c8c", "#b3a200", "#7a4ea3")
_ON_DARK = ("#56b4e9", "#f0883e", "#2bbf92", "#e29ac2", "#f2c14e", "#a5d8f5", "#b0b0b0", "#d6c94a", "#b08fd8")


def charts_of(tables: Mapping[str, Table]) -> list[Chart]:
    """The charts of tables in the order of the page."""
    found = [chart for table in tables.values() for chart in table.charts]
    return sorted(found, key=lambda chart: (SECTIONS.index(chart.section), chart.place, chart.title))


def cards_of(tables: Mapping[str, Table]) -> list[Card]:
    """The cards of tables in the order of the page."""
    return sorted(
        (card for table in tables.values() for card in table.cards), key=lambda card: (card.place, card.title)
    )


def partial_days(connection: duckdb.DuckDBPyConnection) -> dict[str, list[str]]:
    """For each of `COVERS` the days on which a figure does not cover its whole period; a period's is its first one.

    Args:
        connection: one that sees the view `COVERAGE`.
    """
    columns = ", ".join(f"{covers}_is_partial" for covers in COVERS)
    of_days = connection.execute(f"SELECT date, {columns} FROM {COVERAGE} ORDER BY date").fetchall()  # noqa: S608
    found = {}
    for place, covers in enumerate(COVERS, start=1):
        periods = {period_first(row[0], covers) if covers in (WEEK, MONTH) else row[0]: row[place] for row in of_days}
        found[covers] = [str(day) for day, partial in periods.items() if partial]
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


def drawn_in(text: str, line: str, colours: Sequence[str]) -> dict[str, Any]:
    """How all charts on a page are drawn: Vega-Lite's configuration with the colours of texts, lines and series."""
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
PLAIN = drawn_in(_LIGHT[0], _LIGHT[1], _ON_LIGHT)  # for an image that stands alone
# for the page, whose style gives the colours: a change of theme, or printing, draws nothing again
STYLED = drawn_in("var(--text)", "var(--line)", [f"var(--series-{number})" for number in range(1, 10)])

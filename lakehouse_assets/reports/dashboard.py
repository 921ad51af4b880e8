"""The dashboard: one self-contained HTML page with the metrics, which needs no network to look at."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import duckdb

from lakehouse_assets.assets.charts import MONTH, SECTIONS, WEEK, Chart
from lakehouse_assets.assets.table import Table
from lakehouse_assets.reports.charts import STYLED, THEMES, cards_of, charts_of, partial_days, spec
from lakehouse_assets.reports.vega import bundle
from lakehouse_assets.settings import Settings
from lakehouse_assets.storage.catalog import Catalog, newest
from lakehouse_assets.storage.query import connect

DAILY = "gold.daily_metrics"


def write_dashboard(catalog: Catalog, declared: Mapping[str, Table], target: Path) -> Path:
    """Write the page from those of the declared tables that there are, and only once it is whole.

    Returns:
        Where it is.
    """
    connection = connect(catalog)
    tables = {name: declared[name] for name in catalog.names() if name in declared}
    template = files("lakehouse_assets") / "reports" / "page"
    parts = {
        "css": _themes() + (template / "dashboard.css").read_text("utf-8"),
        "script": (template / "dashboard.js").read_text("utf-8"),
        "bundle": bundle(),
        # what was delivered, such as an action's name, stays data: no text can end the script element
        "data": json.dumps(_content(catalog, connection, tables), separators=(",", ":")).replace("<", "\\u003c"),
    }
    before, *rest = (template / "dashboard.html").read_text("utf-8").split("{{")
    page = before + "".join(parts[name] + after for name, after in (one.split("}}", 1) for one in rest))
    temporary = target.with_name(f".{target.name}.tmp")
    temporary.write_text(page, encoding="utf-8")
    temporary.replace(target)
    return target


def _themes() -> str:
    """The colours of each theme as properties that the style and the charts name; paper is light."""
    lines = {name: ";".join(f"--{colour}:{value}" for colour, value in theme.items()) for name, theme in THEMES.items()}
    return f':root{{{lines["light"]}}}\n@media screen{{:root[data-theme="dark"]{{{lines["dark"]}}}}}\n'


def _content(catalog: Catalog, connection: duckdb.DuckDBPyConnection, tables: Mapping[str, Table]) -> dict[str, Any]:
    charts = [_chart(connection, catalog.settings, chart) for chart in charts_of(tables)]
    cards = [
        {
            "title": card.title,
            "definition": card.definition,
            "unit": card.unit,
            "how": card.how,
            "covers": card.covers,
            "chart": _id(card.chart),
            "rows": _rows(connection, f"SELECT * FROM ({card.query}) ORDER BY ALL"),  # noqa: S608
        }
        for card in cards_of(tables)
    ]
    days = [
        row[0] for shown in (*cards, *(c for c in charts if c["covers"] not in (WEEK, MONTH))) for row in shown["rows"]
    ]
    return {
        "first": min(days, default=""),
        "last": max(days, default=""),
        "fresh": _freshness(catalog, connection, tables),
        "partial": partial_days(connection),
        "sections": [{"id": _id(name), "title": name} for name in SECTIONS],
        "config": STYLED,
        "cards": cards,
        "charts": charts,
    }


def _chart(connection: duckdb.DuckDBPyConnection, settings: Settings, chart: Chart) -> dict[str, Any]:
    rows = _rows(connection, chart.sql)
    # one spec for each choice: each has series of its own
    choices = dict.fromkeys(row[3] for row in rows) if chart.choice else {"": None}
    named = {choice: [series for _, series, _, *of in rows if not of or of[0] == choice] for choice in choices}
    return {
        "id": _id(chart.title),
        "section": _id(chart.section),
        "title": chart.title,
        "definition": chart.meaning(settings),
        "unit": chart.unit,
        "covers": chart.covers,
        "compared": chart.compared,
        "least_days": chart.least_days,
        "choice": chart.choice.replace("_", " "),
        "specs": {choice: spec(chart, list(dict.fromkeys(series))) for choice, series in named.items()},
        "rows": rows,
    }


def _id(title: str) -> str:
    return re.sub(r"[^a-z]+", "-", title.lower()).strip("-")


def _rows(connection: duckdb.DuckDBPyConnection, query: str) -> Sequence[Sequence[Any]]:
    return [[str(day), *others] for day, *others in connection.execute(query).fetchall()]


def _freshness(catalog: Catalog, connection: duckdb.DuckDBPyConnection, tables: Collection[str]) -> str:
    bronze = catalog.load("bronze.interactions")
    if bronze is None or DAILY not in tables:
        return "Nothing is computed yet."
    [(computed,)] = connection.execute(f"SELECT max(date) FROM {DAILY}").fetchall()  # noqa: S608  our own name
    read = newest(bronze, "ingested_at")
    return f"Computed up to {computed}; newest file read {read:%Y-%m-%d %H:%M} UTC." if read else f"Up to {computed}."

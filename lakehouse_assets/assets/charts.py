"""Charts and cards that a table declares beside its columns: title, meaning, and SQL.

The dashboard and Dagster's page of the table draw them (`lakehouse_assets.reports.charts`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lakehouse_assets.settings import Settings

COVERAGE = "gold.day_coverage"  # the view of the days whose figures do not cover their whole period
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
_LAST = 1000


@dataclass(frozen=True)
class Chart:
    """A chart of the page.

    Attributes:
        title: what it shows.
        section: one of `SECTIONS`.
        definition: what the numbers mean, in the words of docs/metrics/; ``{session_gap}`` stands for the setting.
        kind: ``line``, ``bar`` (stacked), ``heat``, or ``marked``: lines, and the series `MARK` as points.
        unit: of the values; ``share`` is shown in percent.
        series: for each series its name and the SQL expression of its value; with one of them a plain chart.
        query: instead of ``series``: SQL for rows of day, series and value.
        choice: a further column of ``query``: what one of its values is about is shown at a time.
        covers: the days a figure covers, one of `COVERS`, or one for each series. A week or month stands on its first
            day.
        compared: whether the days before may be laid over it.
        place: where it stands among the charts of its section: by this number.
        table: the table whose declaration has it.
    """

    title: str
    section: str
    definition: str
    kind: str
    unit: str
    series: Mapping[str, str] | None = None
    query: str = ""
    choice: str = ""
    covers: str | Mapping[str, str] = DAY
    compared: bool = True
    place: int = _LAST
    table: str = ""

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
        lines = ", ".join(
            f"{{position: {position}, series: '{name}', value: {value}::DOUBLE}}"
            for position, (name, value) in enumerate(self.series.items())
        )
        lines = f"SELECT date, unnest([{lines}]) AS line FROM {self.table}"  # noqa: S608  our own names; read once
        return f"SELECT date, line.series, line.value FROM ({lines}) ORDER BY line.position, date"  # noqa: S608


@dataclass(frozen=True)
class Card:
    """One number about the chosen days and the same about as many days before.

    Attributes:
        title: what it shows.
        definition: what the number means.
        unit: of the number; ``share`` is shown in percent and compared in percentage points.
        how: ``last`` (of the newest day), ``mean`` (of the days), ``sum`` (over the days) or ``ratio`` (of two sums).
        query: SQL for rows of date and value, and for a ratio what it is divided by.
        chart: title of the chart that shows it day by day.
        covers: the days a figure covers, one of `COVERS`.
        place: where it stands among the cards: by this number.
        table: the table whose declaration has it.
    """

    title: str
    definition: str
    unit: str
    how: str
    query: str
    chart: str
    covers: str = DAY
    place: int = _LAST
    table: str = ""


def _minutes(seconds: int) -> str:
    return f"{seconds // 60} minutes" if seconds % 60 == 0 and seconds > 60 else f"{seconds} seconds"


def largest(table: str, choice: str, name: str, size: str) -> str:
    """A condition on rows: their ``name`` is among the largest of their ``choice`` on the table's newest day."""
    newest = f"SELECT {choice}, {name}, sum({size}) AS size FROM {table} "  # noqa: S608  our own names
    newest += f"WHERE date = (SELECT max(date) FROM {table}) GROUP BY {choice}, {name} "  # noqa: S608
    newest += f"QUALIFY row_number() OVER (PARTITION BY {choice} ORDER BY size DESC, {name}) <= {MOST_VALUES}"
    return f"({choice}, {name}) IN (SELECT ({choice}, {name}) FROM ({newest}))"  # noqa: S608


def whole_periods(period: str, table: str, users: str) -> str:
    """SQL: of each week or month, on its first day, the figure of its last computed day."""
    return (
        f"SELECT date_trunc('{period}', date)::DATE AS date, 'users' AS series, max_by({users}, date)::DOUBLE AS value "  # noqa: S608
        f"FROM {table} GROUP BY ALL ORDER BY ALL"
    )

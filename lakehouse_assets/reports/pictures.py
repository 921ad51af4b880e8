"""A chart as a small SVG image, for a page that shows one beside other things, as Dagster's of a gold table does.

The dashboard draws the same declarations with Vega, where a person chooses and points. A run has an image for each gold
table; to start Vega's engine and draw them with it took a second of each run, so they are put together here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from html import escape
from itertools import pairwise
from typing import NamedTuple

from lakehouse_assets.assets.charts import MARK, MONTH, WEEK, Chart
from lakehouse_assets.reports.charts import THEMES

WIDTH, HEIGHT = 560, 160  # of what is between the axes
_LEFT, _RIGHT, _BELOW, _ROW = 56, 12, 22, 18
_WHOLE = {"users", "sessions", "actions", "rows"}  # units of which there are no parts
_MOST_TICKS, _MOST_DATES, _LETTER = 6, 6, 6.5
_TEXT, _GRID, *_COLOURS = THEMES["light"].values()
_VIRIDIS = [*map(bytes.fromhex, ("440154", "482878", "3e4989", "31688e", "26828e", "1f9e89", "35b779", "6ece58"))]
_VIRIDIS += [*map(bytes.fromhex, ("b5de2b", "fde725"))]
_SHADES = (0.0, 0.05, 0.2, 0.4, 0.6, 0.8, 1.0)  # named in the legend


class Point(NamedTuple):
    """A value of a chart; partial where it does not cover its whole period."""

    day: date
    series: str
    value: float
    partial: bool


def picture(chart: Chart, points: Sequence[Point]) -> str:
    """The image of a chart.

    Args:
        chart: says the kind, the unit and what a figure covers.
        points: the first of each series tells the order of the series.
    """
    names = list(dict.fromkeys(point.series for point in points))
    points = sorted(points, key=lambda point: (names.index(point.series), point.day))
    days = sorted({point.day for point in points})
    if chart.kind == "heat":
        drawn = [*_heat(points, days, names), *_dates(days, _spread(days, HEIGHT), upright=True)]
        legend = [(f"{share:.0%}", _shade(share)) for share in _SHADES]
    else:
        colours = {name: _COLOURS[place % len(_COLOURS)] for place, name in enumerate(names)}
        bars = chart.kind == "bar"
        x = _spread(days, WIDTH) if bars or chart.covers in (WEEK, MONTH) else _in_time(days)
        tops = _stacked(points) if bars else [(point, 0.0, point.value) for point in points]
        ticks = _ticks([0.0, *(bound for _, *bounds in tops for bound in bounds)], whole=chart.unit in _WHOLE)
        height = _heights(ticks)
        drawn = [*_values(ticks, height, chart.unit), *_dates(days, x, months=chart.covers == MONTH)]
        if bars:
            drawn += _bars(tops, names, colours.__getitem__, x, WIDTH / max(len(days), 1), height)
        else:
            drawn += _lines(points, names, colours.__getitem__, x, height)
        legend = list(colours.items()) if len(names) > 1 else []
    return _framed(chart.title, legend, drawn)


def _framed(title: str, legend: Sequence[tuple[str, str]], drawn: Sequence[str]) -> str:
    """The legend in rows above what is drawn."""
    keys: list[str] = []
    left, above = 0.0, 0
    for name, colour in legend:
        wide = 24 + _LETTER * len(name)
        if left and left + wide > WIDTH:
            left, above = 0.0, above + _ROW
        keys.append(f'<rect x="{left:.0f}" y="{above + 4}" width="10" height="10" fill="{colour}"/>')
        keys.append(f'<text x="{left + 14:.0f}" y="{above + 13}">{escape(name)}</text>')
        left += wide
    top = above + _ROW + 4 if legend else 8
    wide, high = _LEFT + WIDTH + _RIGHT, top + HEIGHT + _BELOW
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" width="{wide}" height="{high}" '
        f'role="img" aria-label="{escape(title)}" font-family="system-ui, sans-serif" font-size="11" fill="{_TEXT}">'
        f'<rect width="{wide}" height="{high}" fill="white"/>'
        f'<g transform="translate({_LEFT} 0)">{"".join(keys)}</g>'
        f'<g transform="translate({_LEFT} {top})">{"".join(drawn)}</g></svg>'
    )


def _in_time(days: Sequence[date]) -> dict[date, float]:
    """Days at their places between the first and the last."""
    long = (days[-1] - days[0]).days or 1 if days else 1
    return {day: WIDTH * (day - days[0]).days / long for day in days}


def _spread(days: Sequence[date], length: float) -> dict[date, float]:
    """Days side by side; where the middle of each is."""
    return {day: length * (place + 0.5) / len(days) for place, day in enumerate(days)}


def _ticks(values: Sequence[float], *, whole: bool) -> list[float]:
    """Round values from no more than the least to no less than the most."""
    low, high = min(values), max(values)
    rough = (high - low) / (_MOST_TICKS - 1) or 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-9))
    step = max(step, 1.0) if whole else step
    return [step * number for number in range(math.floor(low / step), math.ceil(high / step - 1e-9) + 1)]


def _heights(ticks: Sequence[float]) -> Callable[[float], float]:
    """How far below the top a value is."""
    span = ticks[-1] - ticks[0] or 1.0
    return lambda value: HEIGHT * (ticks[-1] - value) / span


def _values(ticks: Sequence[float], height: Callable[[float], float], unit: str) -> Iterator[str]:
    for tick in ticks:
        y = height(tick)
        yield f'<path d="M0 {y:.1f}H{WIDTH}" stroke="{_GRID}"/>'
        yield f'<text x="-6" y="{y + 4:.1f}" text-anchor="end">{_number(tick, unit)}</text>'
    aside = f"translate({12 - _LEFT} {HEIGHT / 2}) rotate(-90)"
    yield f'<text transform="{aside}" text-anchor="middle">{escape(unit)}</text>'


def _number(value: float, unit: str) -> str:
    if unit == "share":
        return f"{value * 100:.4g}%"
    return f"{value / 1e6:,.6g} M" if abs(value) >= 1e6 else f"{value:,.6g}"


def _dates(
    days: Sequence[date], at: dict[date, float], *, months: bool = False, upright: bool = False
) -> Iterator[str]:
    for day in days[:: -(-len(days) // _MOST_DATES) or 1]:
        told = day.strftime("%b %Y" if months else "%b %d")
        if upright:
            yield f'<text x="-6" y="{at[day] + 4:.1f}" text-anchor="end">{told}</text>'
        else:
            yield f'<text x="{at[day]:.1f}" y="{HEIGHT + 16}" text-anchor="middle">{told}</text>'


def _stacked(points: Sequence[Point]) -> list[tuple[Point, float, float]]:
    """Where the bar of each point begins and ends: on the one before it of its day, below zero what is negative."""
    ends: dict[tuple[date, bool], float] = {}
    found = []
    for point in points:
        begin = ends.get((point.day, point.value < 0), 0.0)
        ends[point.day, point.value < 0] = end = begin + point.value
        found.append((point, begin, end))
    return found


def _bars(
    tops: Sequence[tuple[Point, float, float]],
    names: Sequence[str],
    colour: Callable[[str], str],
    x: dict[date, float],
    wide: float,
    height: Callable[[float], float],
) -> Iterator[str]:
    """One path for the whole figures of a series and one, lighter, for the partial ones."""
    for name in names:
        for partial in (False, True):
            of_series = [bar for bar in tops if bar[0].series == name and bar[0].partial == partial]
            path = "".join(
                f"M{x[point.day] - wide / 2:.1f} {height(end):.1f}h{wide:.2f}V{height(begin):.1f}h{-wide:.2f}z"
                for point, begin, end in of_series
            )
            lighter = ' opacity="0.4"' if partial else ""
            if path:
                yield f'<path d="{path}" fill="{colour(name)}"{lighter} shape-rendering="crispEdges"/>'


def _lines(
    points: Sequence[Point],
    names: Sequence[str],
    colour: Callable[[str], str],
    x: dict[date, float],
    height: Callable[[float], float],
) -> Iterator[str]:
    """Lines, dashed from and to a partial figure, which is a small dot; what is unusual is a large one."""
    for name in names:
        places = [(x[p.day], height(p.value), p.partial) for p in points if p.series == name]
        if name == MARK:
            yield from (_dot(at, 4.4, colour(name)) for at in places if not at[2])
            continue
        for dashed in (False, True):
            steps = [
                f"M{a:.1f} {b:.1f}L{c:.1f} {d:.1f}"
                for (a, b, begins), (c, d, ends) in pairwise(places)
                if (begins or ends) == dashed
            ]
            dashes = ' stroke-dasharray="4 4" opacity="0.7"' if dashed else ""
            if steps:
                yield f'<path d="{"".join(steps)}" fill="none" stroke="{colour(name)}" stroke-width="1.8"{dashes}/>'
        yield from (_dot(at, 2.4, colour(name)) for at in places if at[2] or len(places) == 1)


def _dot(place: tuple[float, float, bool], radius: float, colour: str) -> str:
    return f'<circle cx="{place[0]:.1f}" cy="{place[1]:.1f}" r="{radius}" fill="{colour}"/>'


def _heat(points: Sequence[Point], days: Sequence[date], names: Sequence[str]) -> Iterator[str]:
    """A cell for each day, downwards, and series, to the right."""
    wide, high = WIDTH / max(len(names), 1), HEIGHT / max(len(days), 1)
    down = {day: place for place, day in enumerate(days)}
    along = {name: place for place, name in enumerate(names)}
    for point in points:
        x, y = along[point.series] * wide, down[point.day] * high
        yield f'<rect x="{x:.1f}" y="{y:.1f}" width="{wide:.2f}" height="{high:.2f}" fill="{_shade(point.value)}"/>'
    for name in names[:: -(-len(names) // 20) or 1]:
        middle = (along[name] + 0.5) * wide
        yield f'<text x="{middle:.1f}" y="{HEIGHT + 16}" text-anchor="middle">{escape(name)}</text>'


def _shade(share: float) -> str:
    """The colour of a share; the square root leaves colours for the weeks after the first, which is always whole."""
    place = math.sqrt(min(max(share, 0.0), 1.0)) * (len(_VIRIDIS) - 1)
    below = min(int(place), len(_VIRIDIS) - 2)
    parts = zip(_VIRIDIS[below], _VIRIDIS[below + 1], strict=True)
    return "#" + "".join(f"{round(low + (high - low) * (place - below)):02x}" for low, high in parts)

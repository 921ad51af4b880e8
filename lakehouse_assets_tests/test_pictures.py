from datetime import date, timedelta
from xml.etree import ElementTree as ET

import pytest

from lakehouse_assets.assets.charts import MARK, Chart
from lakehouse_assets.assets.table import declare
from lakehouse_assets.reports.charts import charts_of
from lakehouse_assets.reports.pictures import HEIGHT, Point, picture
from lakehouse_assets.settings import load_settings

SVG = "{http://www.w3.org/2000/svg}"
FIRST = date(2024, 1, 1)


def chart(kind: str, unit: str = "users") -> Chart:
    return Chart("A & B", "Growth", "what it means", kind, unit)


def drawn(of: Chart, points: list[Point]) -> list[ET.Element]:
    return [*ET.fromstring(picture(of, points)).iter()]


def days(series: str, *values: float, partial: int = -1) -> list[Point]:
    return [Point(FIRST + timedelta(n), series, value, n == partial) for n, value in enumerate(values)]


def texts(elements: list[ET.Element]) -> list[str]:
    return [element.text or "" for element in elements if element.tag == f"{SVG}text"]


def paths(elements: list[ET.Element]) -> list[ET.Element]:
    return [element for element in elements if element.tag == f"{SVG}path" and "H560" not in element.attrib["d"]]


@pytest.mark.parametrize("of", charts_of(declare(load_settings())), ids=lambda of: of.title)
def test_every_chart_can_be_drawn_without_rows_and_with_one(of: Chart) -> None:
    series = next(iter(of.series or {}), next(iter(of.covers), "0") if not isinstance(of.covers, str) else "0")
    for points in ([], days(str(series), 0.0), days(str(series), 0.4, partial=0)):
        assert drawn(of, points)


def test_bars_stand_on_each_other_in_the_order_of_series_whatever_the_order_of_rows() -> None:
    points = [*days("<new>", 1, 2), *days("old", 3, 4), *days("gone", -1, -2)]
    elements = drawn(chart("bar"), points)
    assert texts(elements)[:3] == ["<new>", "old", "gone"]
    assert drawn(chart("bar"), [points[0], *reversed(points[1:4]), *points[4:]])[-1].attrib == elements[-1].attrib
    ticks = [text for text in texts(elements) if text.lstrip("-").isdigit()]
    assert ticks == ["-2", "0", "2", "4", "6"]
    new, old, gone = (element.attrib["d"].split("z")[0] for element in paths(elements))  # of the first day
    assert [new, old, gone] == [
        "M0.0 100.0h280.00V120.0h-280.00",
        "M0.0 40.0h280.00V100.0h-280.00",
        "M0.0 140.0h280.00V120.0h-280.00",
    ]


def test_a_partial_bar_is_lighter_and_a_partial_value_of_a_line_dashed() -> None:
    whole, partial = paths(drawn(chart("bar"), days("a", 1, 2, 3, partial=2)))
    assert ("opacity" in whole.attrib, partial.attrib["opacity"]) == (False, "0.4")
    solid, dashed = paths(drawn(chart("line"), days("a", 1, 2, 3, partial=2)))
    assert (solid.attrib["d"].count("L"), dashed.attrib["d"].count("L")) == (1, 1)
    assert dashed.attrib["stroke-dasharray"] == "4 4"


def test_what_is_unusual_is_a_large_dot() -> None:
    elements = drawn(chart("marked"), [*days("value", 1, 9), *days(MARK, 1, 9)[1:]])
    [dot] = [element for element in elements if element.tag == f"{SVG}circle"]
    assert float(dot.attrib["cy"]) == pytest.approx(HEIGHT * (1 - 9 / 10), abs=0.1)


def test_shares_are_percent_and_large_numbers_short() -> None:
    assert "50%" in texts(drawn(chart("line", "share"), days("a", 0.1, 0.45)))
    assert "1.5 M" in texts(drawn(chart("line"), days("a", 0, 2.4e6)))

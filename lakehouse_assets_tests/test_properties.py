"""Laws that hold for any input, tried on random ones; each is compared with a plain reading of docs/metrics in Python.

A Spark job costs a second whatever its size, so an example holds many histories: far apart in time where windows
must not mix, side by side otherwise.
"""

import csv
import io
import itertools
import random
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from lakehouse_assets.assets.datasets import DATASETS
from lakehouse_assets.assets.division import PART
from lakehouse_assets.assets.frames import in_days
from lakehouse_assets.assets.gold.daily_metrics import daily_metrics
from lakehouse_assets.assets.gold.monthly_metrics import monthly_metrics
from lakehouse_assets.assets.gold.session_metrics import session_metrics
from lakehouse_assets.assets.silver import cleaning
from lakehouse_assets.assets.silver.interactions import deduplicate
from lakehouse_assets.calendar import Days, days_between
from lakehouse_assets.landing import headers
from lakehouse_assets.landing import row_blocks as blocks
from lakehouse_assets.landing.csv_files import read_chunk
from lakehouse_assets.landing.deliver import split
from lakehouse_assets.landing.event_days import DayReader
from lakehouse_assets.landing.files import LandingError
from lakehouse_assets.landing.headers import inspect
from lakehouse_assets.landing.row_blocks import chunks
from lakehouse_assets.landing.sinks import Landed
from lakehouse_assets.landing.zone import LandingZone
from lakehouse_assets.settings import Cleaning
from lakehouse_assets.timestamps import formats_of, instant_of

COLUMNS = DATASETS["interactions"]
HEADER = ",".join(COLUMNS) + "\n"
ACTIONS = ("page_view", "edit", "create", "delete", "share")


def law(examples: int, *, shrink: bool = True) -> settings:
    """The same examples every time, and no clock that could fail a slow machine.

    Without ``shrink`` a failure is the example as it was found, of which only the assertion's words are shown: making
    it small would cost a Spark job a step, and it is long.
    """
    return settings(
        phases=[Phase.generate, Phase.shrink] if shrink else [Phase.generate],
        verbosity=Verbosity.normal if shrink else Verbosity.quiet,
        derandomize=True,
        database=None,
        deadline=None,
        max_examples=examples,
        suppress_health_check=list(HealthCheck),  # they judge speed and size, which are meant
    )


# --- Reading CSV (no Spark) -------------------------------------------------------------------------------------------

Row = tuple[str | None, ...]


def read_bytes(data: bytes, *, block: int, chunk: int) -> tuple[list[Row], list[str]]:
    """Rows and malformed rows of a file, read in blocks and chunks of these sizes."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        path = Path(folder) / "x.csv"
        path.write_bytes(data)
        inspection = inspect(path, COLUMNS)
        patch.setattr(blocks, "BLOCK_BYTES", block)
        patch.setattr(blocks, "CHUNK_BYTES", chunk)
        rows: list[Row] = []
        malformed: list[str] = []
        for part in chunks(inspection, COLUMNS):
            for batch in read_chunk(part):
                for row in batch.to_pylist():
                    if row["malformed_row"] is None:
                        rows.append(tuple(row[name] for name in COLUMNS))
                    else:
                        malformed.append(row["malformed_row"])
        return rows, malformed


sizes = st.integers(1, 90)
printable = st.characters(codec="utf-8", exclude_characters='",\r\n', exclude_categories=["Cc", "Cs"])
plain_values = st.text(printable, max_size=9)
any_values = st.text(st.one_of(st.sampled_from('",\n\r\t éx\u2028'), printable), max_size=9)


@law(150)
@given(
    rows=st.lists(st.tuples(*[any_values] * 6), max_size=12),
    always_quoted=st.booleans(),
    line_end=st.sampled_from(["\n", "\r\n"]),
    end_last_row=st.booleans(),
    block=sizes,
    separator=st.sampled_from(",,;\t|"),
)
def test_any_valid_csv_reads_as_pythons_csv_module_reads_it(
    rows: list[tuple[str, ...]], always_quoted: bool, line_end: str, end_last_row: bool, block: int, separator: str
) -> None:
    def written(value: str) -> str:
        quoted = always_quoted or any(special in value for special in f'"{separator}\r\n')
        return '"' + value.replace('"', '""') + '"' if quoted else value

    header = HEADER.strip().replace(",", separator)
    text = line_end.join([header, *(separator.join(map(written, row)) for row in rows)])
    text += line_end if end_last_row else ""
    given = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    wanted = [tuple(row) for row in given][1:]
    found, malformed = read_bytes(text.encode(), block=block, chunk=1 << 20)
    assert malformed == []
    assert Counter(found) == Counter(wanted) == Counter(rows)


@law(150)
@given(
    rows=st.lists(st.tuples(*[plain_values] * 6), max_size=12),
    line_end=st.sampled_from(["\n", "\r\n", "\r"]),
    block=sizes,
    chunk=sizes,
)
def test_where_a_plain_file_is_cut_never_changes_its_rows(
    rows: list[tuple[str, ...]], line_end: str, block: int, chunk: int
) -> None:
    data = (HEADER + "".join(",".join(row) + "\n" for row in rows)).replace("\n", line_end).encode()
    found, malformed = read_bytes(data, block=block, chunk=chunk)
    assert malformed == []
    assert Counter(found) == Counter(rows)


GOOD_LINES = ["a,t,e,p,1,1", 'q,t,e,"x, ""y""",1,1', "é,t,e,,,"]
DIRTY_LINES = [
    "short,t",
    "long,t,e,p,1,1,more",
    HEADER.strip(),
    "nul,t,e,\x00,1,1",
    "bell,t,e,\x07,1,1",
    'in"side,t,e,p,1,1',
    '"behind"x,t,e,p,1,1',
    '5" screen,t,e,p,1,1',
    "   ",
    '"',
    ",",
    '"open,t,e,p,1,1',
    'open,t,e,p,1,"1',
    "cr\rinside,t,e,p,1,1",
]


@law(200)
@given(lines=st.lists(st.sampled_from(GOOD_LINES * 4 + DIRTY_LINES), max_size=14), block=sizes)
def test_every_line_of_a_dirty_file_is_in_a_row_or_malformed(lines: list[str], block: int) -> None:
    data = (HEADER + "".join(f"{line}\n" for line in lines)).encode()
    rows, malformed = read_bytes(data, block=block, chunk=1 << 20)
    spanned = [sum(value.count("\n") for value in row if value) for row in rows]
    assert len(rows) + sum(spanned) + sum(1 + text.count("\n") for text in malformed) == len(lines)
    assert set(malformed) <= set(lines) | {HEADER.strip()}


@law(150)
@given(
    lines=st.lists(st.sampled_from([line for line in GOOD_LINES * 4 + DIRTY_LINES if '"' not in line]), max_size=14),
    block=sizes,
    chunk=sizes,
)
def test_where_a_dirty_file_is_cut_never_changes_its_rows(lines: list[str], block: int, chunk: int) -> None:
    data = (HEADER + "".join(f"{line}\n" for line in lines)).encode()
    whole = read_bytes(data, block=1 << 20, chunk=1 << 20)
    assert [sorted(part, key=str) for part in read_bytes(data, block=block, chunk=chunk)] == [
        sorted(part, key=str) for part in whole
    ]


@law(150)
@given(
    lines=st.lists(st.sampled_from(GOOD_LINES * 2 + DIRTY_LINES + ["", "b,t,e,p,1,1"]), max_size=14),
    line_end=st.sampled_from(["\n", "\r\n"]),
    top=st.sampled_from(["", "\n\n", "# made by hand\nsep=,\n"]),
    block=sizes,
    chunk=sizes,
)
def test_every_row_has_the_number_of_its_line(
    lines: list[str], line_end: str, top: str, block: int, chunk: int
) -> None:
    data = (top + HEADER + "".join(f"{line}\n" for line in lines)).replace("\n", line_end).encode()
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        path = Path(folder) / "x.csv"
        path.write_bytes(data)
        patch.setattr(headers, "BLOCK_BYTES", len(top) + len(HEADER) + 9 + block)  # a header fits into one
        inspection = inspect(path, COLUMNS)
        patch.setattr(blocks, "BLOCK_BYTES", block)
        patch.setattr(blocks, "CHUNK_BYTES", chunk)
        batches = [batch for part in chunks(inspection, COLUMNS) for batch in read_chunk(part)]
    found = [row for batch in batches for row in batch.to_pylist()]
    written = data.decode().split(line_end)
    for row in found:
        begins = written[row["source_line"] - 1]
        text = row["malformed_row"] if row["malformed_row"] is not None else row["user_id"]
        assert text.split("\n")[0].rstrip("\r") in begins, (row, begins)
    assert len({row["source_line"] for row in found}) == len(found)


def test_a_block_that_ends_after_an_unclosed_quote_costs_no_other_row() -> None:
    lines = ['open,t,e,"p,1,1', 'b,t,e,"two\nlines",1,1', "c,t,e,p,1,1"]
    data = (HEADER + "\n".join(lines) + "\n").encode()
    for block in range(1, 60):
        rows, malformed = read_bytes(data, block=block, chunk=1 << 20)
        assert (sorted(row[0] or "" for row in rows), malformed) == (["b", "c"], [lines[0]]), f"blocks of {block} bytes"


def test_a_quote_inside_an_unquoted_value_reads_the_same_whatever_follows() -> None:
    lines = ['a,t,e,5" screen,1,1', "b,t,e,p,1,1", 'c,t,e,7" screen,1,1']
    outcomes = {}
    for followers in range(3):
        data = HEADER + "\n".join(lines[: followers + 1]) + "\n"
        rows, _ = read_bytes(data.encode(), block=1 << 20, chunk=1 << 20)
        outcomes[followers] = "a" in {row[0] for row in rows}
    assert len(set(outcomes.values())) == 1, f"is the first row a row, by the number of rows behind it: {outcomes}"


# --- Landing (no Spark) -----------------------------------------------------------------------------------------------

TODAY = date(2024, 6, 30)
clock = st.one_of(
    st.sampled_from(["00:00:00", "23:59:59", "00:30:00", "23:30:00", "12:00:00"]),
    st.times().map(lambda t: t.strftime("%H:%M:%S")),
)
instants = st.builds(
    lambda day, separator, time, fraction, zone: f"{day}{separator}{time}{fraction}{zone}",
    st.sampled_from(["2024-02-28", "2024-02-29", "2024-03-01", "2024-03-31", "2024-06-30", "2024-07-01", "1999-12-31"]),
    st.sampled_from(" T"),
    clock,
    st.sampled_from(["", "", ".5", ".123456", ".123456789"]),
    st.sampled_from(["", "", "Z", "+01:00", "-0200", "+14", "-12:00"]),
)
epochs = st.builds(
    lambda seconds, unit: str(seconds * unit),
    st.integers(1_709_078_400, 1_719_792_000),  # 2024-02-28 … 2024-07-01
    st.sampled_from([1, 1000, 1_000_000]),
)
dialects = st.builds(
    lambda before, text, behind: before + text + behind,
    st.sampled_from(["", "", " ", "\t "]),
    st.one_of(instants, instants.map(lambda text: text[:19] + " UTC"), epochs),
    st.sampled_from(["", "", " ", "  "]),
)
unreadable = st.sampled_from(
    ["", "2024-02-30 00:00:00", "2024-13-01 00:00:00", "2024-03-01", "soon", "0001-01-01 00:00:00"]
)


@law(80)
@given(
    texts=st.lists(st.one_of(instants, dialects, unreadable), min_size=1, max_size=40),
    quoted=st.booleans(),
    input_zone=st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu"]),
    reporting_zone=st.sampled_from(["UTC", "America/New_York"]),
)
def test_split_lands_every_row_under_its_day(
    texts: list[str], quoted: bool, input_zone: str, reporting_zone: str
) -> None:
    lines = [
        f"u{i},{text},edit," + ('"a,b"' if quoted and i % 3 == 0 else "x") + ",1,1" for i, text in enumerate(texts)
    ]
    wanted = [_day(text, ZoneInfo(input_zone), ZoneInfo(reporting_zone)) for text in texts]
    readable = [day for day in wanted if day]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.csv"
        path.write_text(HEADER + "".join(f"{line}\n" for line in lines))
        zone = LandingZone(Path(folder) / "landing")

        def land() -> Landed:
            into, reports = ZoneInfo(input_zone), ZoneInfo(reporting_zone)
            return split(zone, path, {}, input_zone=into, reporting_zone=reports, today=TODAY)

        if not readable:
            with pytest.raises(LandingError):
                land()
            return
        landed = land()
        found = {
            line: day
            for day in zone.dates("interactions")
            for line in (zone.folder("interactions", day) / "x.csv").read_text().split("\n")[1:-1]
        }
        assert found == {line: day or max(readable) for line, day in zip(lines, wanted, strict=True)}
        assert landed.rows == Counter(found.values())
        assert landed.unreadable_day == wanted.count(None)


def _day(text: str, input_zone: ZoneInfo, reporting_zone: ZoneInfo) -> date | None:
    text = text.strip(" \t")
    try:
        if text.isdigit():
            instant = datetime.fromtimestamp(int(text) // 1000 ** ((len(text) - 10) // 3), UTC)
        else:
            instant = datetime.fromisoformat(text.replace(" UTC", "Z"))
        if len(text) < 19 and not text.isdigit():
            return None
        day = (instant if instant.tzinfo else instant.replace(tzinfo=input_zone)).astimezone(reporting_zone).date()
    except (ValueError, OverflowError):
        return None
    return day if date(2000, 1, 1) <= day <= TODAY else None


# --- Cleaning ---------------------------------------------------------------------------------------------------------


def frame(spark: SparkSession, rows: Sequence[dict[str, Any]], schema: dict[str, pa.DataType]) -> DataFrame:
    table = pa.Table.from_pylist(list(rows), pa.schema(list(schema.items())))
    return spark.createDataFrame(table, from_arrow_schema(table.schema))


BRONZE = {name: pa.string() for name in (*COLUMNS, "malformed_row")} | {"landing_date": pa.date32(), "row": pa.int64()}
VALID = {
    "event_date": pa.date32(),
    "user_id": pa.string(),
    "timestamp": pa.timestamp("us", "UTC"),
    "action_type": pa.string(),
    "page_id": pa.string(),
    "duration_ms": pa.int64(),
    "app_version": pa.string(),
    "landing_date": pa.date32(),
}
LANDING_DATE = date(2024, 3, 3)
WHOLE = ["0", "7200000", "7200001", "-1", " 7 ", "+7", "-0", "007", "0" * 30, "9" * 20, "-" + "9" * 20]
DURATIONS = [
    *WHOLE,
    "1.0",
    "-7.00",
    " 7.0 ",
    ".0",
    "1.",
    "1.5",
    "1e3",
    "NaN",
    "abc",
    "7L",
    "0x7",
    "1_000",
    "--1",
    "+",
    "-",
    "7 7",
    " ",
    "",
    None,
]
raw_rows = st.fixed_dictionaries(
    {
        "user_id": st.sampled_from(["u", " u ", "ü", "", "  ", None]),
        "timestamp": st.one_of(
            instants,
            st.sampled_from(
                [
                    "2024-03-03 00:00:00",
                    "2024-03-03 23:59:59.999999",
                    "2024-03-04 00:00:00",
                    "2024-02-29 00:00:00",
                    "2024-02-28 23:59:59.999999",
                    "2023-02-29 00:00:00",
                    "2024-03-03 24:00:00",
                    "2024-03-03 23:60:00",
                    "2024-03-03 23:59:60",
                    "2024-03-03",
                    "2024-03-03 10:00",
                    "2024-03-03 1:00:00",
                    " 2024-03-03 10:00:00",
                    "2024-03-03 10:00:00 ",
                    "2024-03-03 10:00:0 ",
                    "2024-03-03 10:00:0Z",
                    "2024-03-03 10:00:00.",
                    "2024-03-03 10:00:00+25:00",
                    "2024-03-03 10:00:00 Europe/Berlin",
                    "2024/03/03 10:00:00",
                    "1709460000",
                    "null",
                    "",
                    None,
                ]
            ),
        ),
        "action_type": st.sampled_from(["edit", "share", "Edit", "edit ", "", None, "hack"]),
        "page_id": st.sampled_from(["p", "", None]),
        "duration_ms": st.one_of(
            st.sampled_from(DURATIONS),
            st.integers(-10, 8_000_000).map(str),
        ),
        "app_version": st.sampled_from(["1.0.0", "", None]),
        "malformed_row": st.sampled_from([None] * 9 + ["cut"]),
        "landing_date": st.just(LANDING_DATE),
    }
)


def reason_of(row: dict[str, Any], late_days: int = 3) -> str | None:
    """The first reason of docs/metrics that holds, in plain Python."""
    try:
        text = (row["timestamp"] or "").strip(" \t")
        well_formed = len(text) >= 19 and text[10] in " T" and text[-1] != "."
        instant = datetime.fromisoformat(text) if well_formed and text[:4].isdigit() else None
        if text.isdigit():
            instant = datetime.fromtimestamp(int(text), UTC)
    except ValueError:
        instant = None
    day = (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).astimezone(UTC).date() if instant else None
    duration = re.sub(r"(?<=[0-9])\.0+$", "", (row["duration_ms"] or "").strip())
    digits = duration[1:] if duration[:1] in ("+", "-") else duration
    whole = int(duration) if digits.isdigit() and digits.isascii() else None
    if row["malformed_row"] is not None:
        return "malformed_row"
    if not (row["user_id"] or "").strip():
        return "missing_user_id"
    if day is None:
        return "bad_timestamp"
    if (row["action_type"] or "").strip(" \t") not in ACTIONS:
        return "unknown_action"
    if whole is None:
        return "bad_duration"
    if whole < 0:
        return "negative_duration"
    if whole > 7_200_000:
        return "duration_over_limit"
    if day > row["landing_date"]:
        return "future_event"
    if day < row["landing_date"] - timedelta(days=late_days):
        return "late_event"
    return None


@law(6, shrink=False)
@given(rows=st.lists(raw_rows, min_size=150, max_size=300))
def test_every_row_gets_the_first_reason_that_holds(spark: SparkSession, rows: list[dict[str, Any]]) -> None:
    bronze = frame(spark, [row | {"row": i} for i, row in enumerate(rows)], BRONZE)
    classified = cleaning.classify(bronze, Cleaning(ACTIONS, 7_200_000, 3))
    found = {row["row"]: row["reason"] for row in classified.select("row", "reason").toArrow().to_pylist()}
    wrong = [(row, found.get(i, "lost")) for i, row in enumerate(rows) if found.get(i, "lost") != reason_of(row)]
    assert wrong[:3] == []
    assert len(found) == len(rows)


FORMATS = (
    "%m/%d/%Y %H:%M",
    "%d.%m.%y %I:%M:%S %p",
    "%a, %d %b %Y %H:%M:%S %Z",
    "%d/%B/%Y:%H:%M:%S.%f %z",
    "%Y%m%d%H%M%S",
    "%Y-%m-%d",
)
pieces = st.sampled_from(
    ["2024-03-31", "2024-02-30", "3/31/2024", "31/3/2024", "31.3.24", "1711850400", "9466848000", " ", "T", "02:30:00",
     "2:30", "12:05:00", "24:00:00", ".5", ".123456789", "Z", " UTC", " GMT", "+05:30", " -0800", "+18", "+19", "AM",
     " pm", "Sun, 31 Mar 2024", "31/March/2024:", "Foo", "20240331023000", "000", "\t", ",", "\n", "٣", "é"]
)  # fmt: skip
written = st.one_of(
    dialects,
    st.lists(pieces, max_size=5).map("".join),
    st.builds(
        lambda instant, form: instant.strftime(form),
        st.integers(946_598_400, 1_893_456_000).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)),
        st.sampled_from([*FORMATS, "%m/%d/%Y %H:%M:%S"]),
    ),
)


@law(4, shrink=False)
@given(
    texts=st.lists(written, min_size=200, max_size=400),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/Sao_Paulo"]),
    formats=st.sampled_from([(), FORMATS, FORMATS[::-1]]),
)
def test_landing_and_silver_read_the_same_instants(
    spark: SparkSession, texts: list[str], zone: str, formats: tuple[str, ...]
) -> None:
    column = cleaning.parse_instant(F.col("text"), zone, formats)
    frames = frame(spark, [{"text": text} for text in texts], {"text": pa.string()})
    found = frames.select("text", F.unix_micros(column).alias("micros")).toArrow().to_pylist()
    for row in found:
        instant = instant_of(row["text"], ZoneInfo(zone), formats_of(formats))
        wanted = (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) if instant else None
        skipped = _skipped(row["text"], zone, formats)
        assert row["micros"] == (None if skipped else wanted), (row, zone, formats)


def _skipped(text: str, zone: str, formats: tuple[str, ...]) -> bool:
    """Whether a text names a wall time that the zone's clocks skip."""
    wall, instant = (instant_of(text, ZoneInfo(name), formats_of(formats)) for name in ("UTC", zone))
    return (
        wall is not None
        and instant is not None
        and wall != instant
        and (instant.astimezone(ZoneInfo(zone)).replace(tzinfo=UTC) != wall)
    )


@law(60)
@given(
    texts=st.lists(st.one_of(dialects, written.filter(lambda text: not set(text) & set('",\n'))), max_size=40),
    at=st.sampled_from([0, 1, 5]),
    line_end=st.sampled_from(["\n", "\r\n"]),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu"]),
    reporting=st.sampled_from(["UTC", "America/New_York", "Europe/Berlin"]),
    formats=st.sampled_from([(), FORMATS]),
)
def test_the_day_of_a_block_is_the_day_of_each_of_its_rows(
    texts: list[str], at: int, line_end: str, zone: str, reporting: str, formats: tuple[str, ...]
) -> None:
    lines = [",".join([f"u{i}"] * at + [text] + ["x"] * (5 - at)) for i, text in enumerate(texts)]
    reader = DayReader(COLUMNS, at, ZoneInfo(zone), ZoneInfo(reporting), TODAY, formats)
    block = "".join(line + line_end for line in lines).encode()
    found: dict[str, date | None] = {}
    for day, rows, count in reader.divide(block):
        taken = rows.decode().split(line_end)[:-1]
        assert len(taken) == count
        found |= dict.fromkeys(taken, day)
    for line, text in zip(lines, texts, strict=True):
        instant = instant_of(text, ZoneInfo(zone), formats_of(formats))
        day = instant.astimezone(ZoneInfo(reporting)).date() if instant else None
        wanted = day if day and date(2000, 1, 1) <= day <= TODAY else None
        # a time of day that no clock has leaves the day of its date
        assert found[line] == wanted or (wanted is None and str(found[line]) == text.strip()[:10]), (line, found[line])


copies = st.fixed_dictionaries(
    {
        "user_id": st.sampled_from("ab"),
        "micros": st.sampled_from([0, 1]),
        "action_type": st.sampled_from(["edit", "share"]),
        "page_id": st.sampled_from([None, "p"]),
        "duration_ms": st.integers(0, 2),
        "app_version": st.sampled_from([None, "1.0.0", "10.0.0", "9.0.0"]),
        "landing_date": st.sampled_from([date(2024, 3, 1), date(2024, 3, 2)]),
    }
)


@law(5, shrink=False)
@given(rows=st.lists(copies, min_size=30, max_size=120), seed=st.integers(0, 9), parts=st.integers(2, 5))
def test_the_survivor_of_duplicates_depends_on_content_alone(
    spark: SparkSession, rows: list[dict[str, Any]], seed: int, parts: int
) -> None:
    midnight = datetime(2024, 3, 1, tzinfo=UTC)
    valid = [
        {n: v for n, v in row.items() if n != "micros"}
        | {"event_date": midnight.date(), "timestamp": midnight + timedelta(microseconds=row["micros"])}
        for row in rows
    ]
    shuffled = random.Random(seed).sample(valid, len(valid))
    divided = frame(spark, shuffled, VALID).repartition(parts, "duration_ms")
    by_user = frame(spark, shuffled, VALID).withColumn(PART, F.abs(F.hash("user_id")) % 3).repartition(3, PART)
    key = ("user_id", "timestamp", "action_type", "page_id")
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in valid:
        groups.setdefault(tuple(row[name] for name in key), []).append(row)
    order = ("landing_date", "duration_ms", "app_version")
    wanted = [
        min(group, key=lambda row: [(row[n] is not None, row[n]) for n in order]) | {"duplicates": len(group) - 1}
        for group in groups.values()
    ]
    for outcome in (deduplicate(divided), deduplicate(by_user).drop(PART)):
        assert _comparable(outcome.toArrow().to_pylist()) == _comparable(wanted)


def _comparable(rows: Iterable[dict[str, Any]]) -> list[list[tuple[str, Any]]]:
    return sorted((sorted(row.items()) for row in rows), key=str)


# --- Sessions ---------------------------------------------------------------------------------------------------------

GAP = 1_800_000_000
gaps = st.one_of(
    st.sampled_from([0, 0, 1, GAP - 1, GAP, GAP + 1, GAP - 1000, 3 * GAP, 20 * GAP]), st.integers(0, 2 * GAP)
)
logs = st.tuples(st.integers(0, 86_399_999_999), st.lists(st.tuples(gaps, st.integers(0, 7_200_000)), max_size=14))


@law(8, shrink=False)
@given(histories=st.lists(logs, min_size=20, max_size=40), seed=st.integers(0, 9))
def test_sessions_are_what_a_walk_through_the_log_finds(
    spark: SparkSession, histories: list[tuple[int, list[tuple[int, int]]]], seed: int
) -> None:
    midnight = datetime(2024, 2, 28, tzinfo=UTC)
    events: list[Event] = []
    for number, (start, steps) in enumerate(histories):
        for micros, (_, duration) in zip(
            itertools.accumulate([start, *[gap for gap, _ in steps[1:]]]), steps, strict=False
        ):
            action = ACTIONS[duration % len(ACTIONS)]
            events.append((f"u_{number}", midnight + timedelta(microseconds=micros), duration, action))
    names = ("event_date", "user_id", "timestamp", "duration_ms", "action_type")
    rows = [
        dict(zip(names, (instant.date(), user, instant, duration, action), strict=True))
        for user, instant, duration, action in random.Random(seed).sample(events, len(events))
    ]
    accepted = frame(spark, rows, {name: VALID[name] for name in names})
    found = session_metrics(accepted, ACTIONS, 1800).toArrow().to_pylist()
    assert _comparable(found) == _comparable(_sessions(events))


Event = tuple[str, datetime, int, str]


def _sessions(events: Iterable[Event]) -> Iterator[dict[str, Any]]:
    for user, of_user in itertools.groupby(sorted(events), key=lambda event: event[0]):
        open_sessions: list[list[Event]] = []
        for event in of_user:
            last = open_sessions[-1][-1][1] if open_sessions else None
            same = last and last.date() == event[1].date() and event[1] - last < timedelta(minutes=30)
            if same:
                open_sessions[-1].append(event)
            else:
                open_sessions.append([event])
        for day, of_day in itertools.groupby(open_sessions, key=lambda session: session[0][1].date()):
            for number, session in enumerate(of_day):
                first, last_instant = session[0][1], session[-1][1]
                yield {
                    "session_id": f"{user}_{day:%Y%m%d}_{number}",
                    "user_id": user,
                    "session_date": day,
                    "session_start_time": first,
                    "session_end_time": last_instant,
                    "actions_per_session": len(session),
                    "session_duration_ms": sum(duration for _, _, duration, _ in session),
                    "session_span_ms": (last_instant - first) // timedelta(milliseconds=1),
                    "first_action_type": min(action for _, instant, _, action in session if instant == first),
                    "last_action_type": max(action for _, instant, _, action in session if instant == last_instant),
                }


# --- Activity ---------------------------------------------------------------------------------------------------------

USER_DAYS = {"event_date": pa.date32(), "user_id": pa.string(), "actions": pa.int64(), "duration_ms": pa.int64()}
APART = 130  # days between two histories: more than the longest window behind the longest history
FIRST = date(2023, 11, 20)  # so that histories lie across new year, leap days and months of every length
offsets = st.one_of(st.sampled_from([0, 1, 6, 7, 8, 27, 28, 29, 30, 31]), st.integers(0, 75))
histories_of_activity = st.lists(
    st.lists(st.tuples(st.sampled_from("abcde"), offsets), min_size=1, max_size=25), min_size=6, max_size=6
)
# as in docs/metrics
WINDOWS = {"weekly_active_users": 7, "monthly_active_users_28d": 28, "monthly_active_users_30d": 30}
Activity = dict[date, set[str]]


def _activity(histories: list[list[tuple[str, int]]]) -> Activity:
    active: Activity = {}
    for number, history in enumerate(histories):
        for user, offset in history:
            active.setdefault(FIRST + timedelta(days=number * APART + offset), set()).add(user)
    return active


def _user_days(spark: SparkSession, active: Activity) -> DataFrame:
    rows = [
        {"event_date": day, "user_id": user, "actions": day.day, "duration_ms": 7 * day.day * (1 + ord(user) % 3)}
        for day, users in active.items()
        for user in users
    ]
    return frame(spark, rows, USER_DAYS)


def _distinct(active: Activity, first: date, last: date) -> int:
    return len(set().union(*(active.get(day, set()) for day in days_between(first, last))))


@law(5, shrink=False)
@given(histories=histories_of_activity)
def test_windows_and_month_to_date_equal_a_count_of_distinct_users(
    spark: SparkSession, histories: list[list[tuple[str, int]]]
) -> None:
    active = _activity(histories)
    user_days = _user_days(spark, active).repartition(3).persist()
    first, last = FIRST - timedelta(days=2), FIRST + timedelta(days=len(histories) * APART)
    daily = {row["date"]: row for row in daily_metrics(user_days, Days(first, last)).toArrow().to_pylist()}
    monthly = {row["date"]: row for row in monthly_metrics(user_days, Days(first, last)).toArrow().to_pylist()}
    user_days.unpersist()
    assert sorted(daily) == sorted(monthly) == days_between(first, last)
    for day in days_between(first, last):
        users = len(active.get(day, ()))
        windows = {n: _distinct(active, day - timedelta(days=w - 1), day) for n, w in WINDOWS.items()}
        wanted = {"date": day, "daily_active_users": users, "total_actions": users * day.day, **windows}
        assert {name: daily[day][name] for name in wanted} == wanted
        month_users = windows["monthly_active_users_30d"]
        assert daily[day]["stickiness"] == (users / month_users if month_users else None), day
        spent = sum(7 * day.day * (1 + ord(user) % 3) for user in active.get(day, ()))
        assert daily[day]["avg_duration_ms"] == (pytest.approx(spent / (users * day.day)) if users else None)
        month = day.replace(day=1)
        assert monthly[day]["month_date"] == month
        assert monthly[day]["monthly_active_users"] == _distinct(active, month, day)
        assert monthly[day]["total_monthly_actions"] == sum(
            len(active.get(d, ())) * d.day for d in days_between(month, day)
        )


@law(3, shrink=False)
@given(history=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 40)), min_size=5, max_size=30))
def test_a_range_is_the_union_of_its_days(spark: SparkSession, history: list[tuple[str, int]]) -> None:
    active = _activity([history])
    user_days = _user_days(spark, active).persist()
    last = FIRST + timedelta(days=41)
    wanted_days = [last - timedelta(days=back) for back in (0, 1)]
    for compute, back in ((daily_metrics, 29), (monthly_metrics, 30)):
        in_range = compute(user_days, Days(wanted_days[-1], last)).toArrow().to_pylist()
        singly: list[dict[str, Any]] = []
        for day in wanted_days:  # of each day no more is read than its table declares
            seen = user_days.where(in_days("event_date", day - timedelta(days=back), day))
            singly += compute(seen, Days(day, day)).toArrow().to_pylist()
        assert _comparable(in_range) == _comparable(singly)
    user_days.unpersist()

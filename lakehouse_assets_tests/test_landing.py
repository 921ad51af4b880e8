"""Landing: what `land` writes where, what is never read, and what is refused. No Spark."""

import bz2
import codecs
import csv
import gzip
import io
import json
import lzma
import os
import re
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest

from lakehouse_assets.assets.datasets import DATASETS
from lakehouse_assets.assets.division import PART
from lakehouse_assets.cli import main
from lakehouse_assets.lakehouse import Lakehouse
from lakehouse_assets.landing import sinks
from lakehouse_assets.landing.csv_files import read_chunk, read_tasks
from lakehouse_assets.landing.deliver import deliver, split
from lakehouse_assets.landing.files import LandingError, parse_date
from lakehouse_assets.landing.headers import inspect
from lakehouse_assets.landing.row_blocks import chunks
from lakehouse_assets.landing.sinks import Landed
from lakehouse_assets.landing.text_files import FileRefused
from lakehouse_assets.landing.zone import LandingZone, landing_zone, signatures
from lakehouse_assets.runner import Plan, Runner
from lakehouse_assets.settings import load_settings
from lakehouse_assets_tests.conftest import HEADERS

HEADER = ",".join(DATASETS["interactions"])
TODAY = date(2024, 6, 30)
DAY = date(2024, 3, 1)


@pytest.fixture
def zone(tmp_path: Path) -> LandingZone:
    return LandingZone(tmp_path / "landing")


def source(tmp_path: Path, text: str | bytes, name: str = "events.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def rows_of(*rows: str, header: str = HEADER, end: str = "\n") -> str:
    return end.join([header, *rows]) + end


def split_utc(zone: LandingZone, path: Path, formats: Sequence[str] = (), **renames: str) -> Landed:
    utc = ZoneInfo("UTC")
    return split(zone, path, renames, input_zone=utc, reporting_zone=utc, formats=formats, today=TODAY)


def landed_lines(zone: LandingZone) -> dict[str, list[str]]:
    """Lines behind the header of every landed file, by landing date."""
    found: dict[str, list[str]] = {}
    for day in zone.dates("interactions"):
        for file in zone.files("interactions", day):
            header, *lines = file.path.read_bytes().decode().splitlines()
            assert header == HEADER
            found.setdefault(str(day), []).extend(lines)
    return found


def delivered_user_ids(zone: LandingZone) -> dict[str, list[str]]:
    """User ids that the pipeline reads from every landing date; None stands for a malformed row."""
    found: dict[str, list[str]] = {}
    for day in zone.dates("interactions"):
        for file in zone.files("interactions", day):
            for chunk in chunks(zone.inspect("interactions", file), DATASETS["interactions"]):
                for batch in read_chunk(chunk):
                    found.setdefault(str(day), []).extend(batch["user_id"].to_pylist())
    return {day: sorted(ids, key=str) for day, ids in found.items()}


def test_split_keeps_every_row_byte_for_byte_under_its_day(zone: LandingZone, tmp_path: Path) -> None:
    rows = [
        f"user{i},2024-0{1 + i % 3}-{1 + i % 28:02} {i % 24:02}:00:00,edit,p{i},{i},1.{i}" + "x" * (i % 5)
        for i in range(500)
    ]
    landed = split_utc(zone, source(tmp_path, rows_of(*rows)))
    found = landed_lines(zone)
    assert Counter(line for lines in found.values() for line in lines) == Counter(rows)
    assert all(line.split(",")[1].startswith(day) for day, lines in found.items() for line in lines)
    assert {str(day): count for day, count in landed.rows.items()} == {d: len(lines) for d, lines in found.items()}
    assert [path.name for path in landed.files] == ["events.csv"] * len(found)


def test_split_puts_every_spelling_of_an_instant_under_its_day(zone: LandingZone, tmp_path: Path) -> None:
    spelled = {
        "plain,2024-03-01 23:59:59,edit,p,1,1": "2024-03-01",
        "t,2024-03-01T23:59:59,edit,p,1,1": "2024-03-01",
        "fraction,2024-03-01 23:59:59.999999999,edit,p,1,1": "2024-03-01",
        "z,2024-03-01T23:59:59Z,edit,p,1,1": "2024-03-01",
        "ahead,2024-03-02T00:30:00+01:00,edit,p,1,1": "2024-03-01",
        "behind,2024-03-01 23:30:00-0200,edit,p,1,1": "2024-03-02",
        "short,2024-03-01 23:30:00-02,edit,p,1,1": "2024-03-02",
        "midnight,2024-03-02 00:00:00,edit,p,1,1": "2024-03-02",
        "fraction_z,2024-03-01 23:59:59.5Z,edit,p,1,1": "2024-03-01",
        "fraction_behind,2024-03-01 23:30:00.5-02:00,edit,p,1,1": "2024-03-02",
        "fraction_ahead,2024-03-02 00:30:00.25+01,edit,p,1,1": "2024-03-01",
        '"quoted",2024-03-01 23:30:00.5-02:00,edit,p,1,1': "2024-03-02",
        "nanoseconds,1709337599999999999,edit,p,1,1": "2024-03-01",
    }
    landed = split_utc(zone, source(tmp_path, rows_of(*spelled)))
    assert {line: day for day, lines in landed_lines(zone).items() for line in lines} == spelled
    assert landed.unreadable_day == 0


def test_split_counts_days_in_the_reporting_zone(zone: LandingZone, tmp_path: Path) -> None:
    path = source(tmp_path, rows_of("berlin,2024-03-31 04:30:00,edit,p,1,1", "utc,2024-03-31T04:30:00Z,edit,p,1,1"))
    split(
        zone, path, {}, input_zone=ZoneInfo("Europe/Berlin"), reporting_zone=ZoneInfo("America/New_York"), today=TODAY
    )
    assert delivered_user_ids(zone) == {"2024-03-30": ["berlin"], "2024-03-31": ["utc"]}


def test_rows_without_a_readable_day_go_to_the_last_date(zone: LandingZone, tmp_path: Path) -> None:
    unreadable = [
        "empty,,edit,p,1,1",
        "month13,2024-13-01 00:00:00,edit,p,1,1",
        "feb30,2024-02-30 00:00:00,edit,p,1,1",
        "ancient,1999-12-31 23:59:59,edit,p,1,1",
        "future,2024-07-01 00:00:00,edit,p,1,1",
        "dateonly,2024-03-01,edit,p,1,1",
        "short,2024-03-01 00:00:00",
        "long,2024-03-01 00:00:00,edit,p,1,1,more",
        '"unclosed,2024-03-01 00:00:00,edit,p,1,1',
    ]
    good = ["b,2024-03-02 00:00:00,edit,p,1,1", "a,2024-03-01 00:00:00,edit,p,1,1", "t,2024-06-30 00:00:00,edit,p,1,1"]
    landed = split_utc(zone, source(tmp_path, rows_of(*good[:2], *unreadable, good[2])))
    found = landed_lines(zone)
    assert found["2024-03-01"] == [good[1]]
    assert found["2024-03-02"] == [good[0]]
    assert sorted(found["2024-06-30"]) == sorted([good[2], *unreadable])
    assert landed.unreadable_day == len(unreadable)
    assert sum(landed.rows.values()) == len(good) + len(unreadable)


def test_a_file_in_one_format_nothing_reads_is_refused_with_the_setting_that_reads_it(
    zone: LandingZone, tmp_path: Path
) -> None:
    rows = rows_of(*(f"u{minute},3/5/2024 10:0{minute},edit,p,1,1" for minute in range(3)))
    path = source(tmp_path, rows)
    with pytest.raises(LandingError) as refused:
        split_utc(zone, path)
    assert str(refused.value) == (
        "no timestamp in events.csv is readable; found '3/5/2024 10:00' in the first row "
        '\'u0,3/5/2024 10:00,edit,p,1,1\'. Its format is "%m/%d/%Y %H:%M" or "%d/%m/%Y %H:%M": set '
        'timestamp_formats = ["%m/%d/%Y %H:%M"] in lakehouse.toml'
    )
    landed = split_utc(zone, path, formats=["%d/%m/%Y %H:%M"])
    assert landed.rows == {date(2024, 5, 3): 3}


def test_a_file_without_any_readable_day_is_refused_and_leaves_nothing(zone: LandingZone, tmp_path: Path) -> None:
    with pytest.raises(LandingError, match=r"no timestamp in events\.csv is readable; .*the first row '"):
        split_utc(zone, source(tmp_path, rows_of("a,yesterday,edit,p,1,1")))
    with pytest.raises(LandingError, match="has a header and no rows"):
        split_utc(zone, source(tmp_path, rows_of()))
    assert [path for path in zone.root.rglob("*") if path.is_file()] == []


def test_quoted_line_ends_stay_inside_their_row(zone: LandingZone, tmp_path: Path) -> None:
    rows = [
        'a,2024-03-01 00:00:00,edit,"two\nlines, ""and"" more",1,1',
        "b,2024-03-02 00:00:00,edit,p,1,1",
        '"c",2024-03-01 00:00:00,edit,"x\r\ny",1,1',
    ]
    landed = split_utc(zone, source(tmp_path, rows_of(*rows)))
    assert landed.rows == {date(2024, 3, 1): 2, date(2024, 3, 2): 1}
    first = (zone.folder("interactions", DAY) / "events.csv").read_bytes().decode()
    assert first == f"{HEADER}\n{rows[0]}\n{rows[2]}\n"


def test_unclosed_quotes_cost_only_their_own_rows(zone: LandingZone, tmp_path: Path) -> None:
    path = source(
        tmp_path,
        rows_of(
            'a,2024-03-01 10:00:00,edit,"open,1,1',
            "b,2024-03-02 10:00:00,edit,p,1,1",
            'c,2024-03-03 10:00:00,edit,"open,1,1',
            "d,2024-03-20 10:00:00,edit,p,1,1",
        ),
    )
    split_utc(zone, path)
    found = delivered_user_ids(zone)
    assert found["2024-03-02"] == ["b"], "a good row between two bad ones was landed under a day that is not its own"
    assert sum(len(ids) for ids in found.values()) == 4


def test_quotes_inside_unquoted_values_cost_only_their_own_rows(zone: LandingZone, tmp_path: Path) -> None:
    path = source(
        tmp_path,
        rows_of(
            'a,2024-03-01 10:00:00,edit,5" screen,1,1',
            "b,2024-03-02 10:00:00,edit,p,1,1",
            'c,2024-03-03 10:00:00,edit,7" screen,1,1',
            "d,2024-03-20 10:00:00,edit,p,1,1",
        ),
    )
    landed = split_utc(zone, path)
    assert delivered_user_ids(zone).get("2024-03-02") == ["b"]
    assert sum(landed.rows.values()) == 4


def test_long_values_keep_their_day_quoted_or_not(zone: LandingZone, tmp_path: Path) -> None:
    long = "x" * 200_000  # beyond the limit of Python's csv module, within ours
    rows = [
        f"plain,2024-03-01 10:00:00,edit,{long},1,1",
        f'quoted,2024-03-02 10:00:00,edit,"{long}",1,1',
        "last,2024-03-20 10:00:00,edit,p,1,1",
    ]
    split_utc(zone, source(tmp_path, rows_of(*rows)))
    assert delivered_user_ids(zone) == {"2024-03-01": ["plain"], "2024-03-02": ["quoted"], "2024-03-20": ["last"]}


def test_a_row_over_the_limit_is_landed_whole(zone: LandingZone, tmp_path: Path) -> None:
    rows = [f"big,2024-03-01 10:00:00,edit,{'x' * 6_000_000},1,1", "a,2024-03-01 10:00:00,edit,p,1,1"]
    split_utc(zone, source(tmp_path, rows_of(*rows)))
    lines = landed_lines(zone)["2024-03-01"]
    assert sorted(len(line) for line in lines) == sorted(len(row) for row in rows)


@pytest.mark.parametrize(
    ("name", "encode"),
    {
        "crlf.csv": lambda text: text.replace("\n", "\r\n").encode(),
        "cr.csv": lambda text: text.replace("\n", "\r").encode(),
        "bom.csv": lambda text: codecs.BOM_UTF8 + text.encode(),
        "gzip.csv.gz": lambda text: gzip.compress(text.encode()),
        "no_last_line_end.csv": lambda text: text.rstrip("\n").encode(),
    }.items(),
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_line_end_bom_and_gzip_splits_into_the_same_rows(
    zone: LandingZone, tmp_path: Path, name: str, encode
) -> None:
    text = rows_of("a,2024-03-01 10:00:00,edit,pé,1,1", "b,2024-03-02 10:00:00,edit,p,1,1")
    landed = split_utc(zone, source(tmp_path, encode(text), name))
    assert delivered_user_ids(zone) == {"2024-03-01": ["a"], "2024-03-02": ["b"]}
    assert {path.name for path in landed.files} == {name.removesuffix(".gz")}
    assert landed.unreadable_day == 0


def test_map_renames_columns_in_split_and_in_deliver(zone: LandingZone, tmp_path: Path) -> None:
    theirs = "uid,ts,extra,action_type,page_id,duration_ms,app_version"
    path = source(tmp_path, rows_of("a,2024-03-01 10:00:00,e,edit,p,1,1", header=theirs))
    split_utc(zone, path, user_id="uid", timestamp="ts")
    packed = source(tmp_path, gzip.compress(path.read_bytes()), "packed.csv.gz")
    deliver(zone, "interactions", packed, date(2024, 3, 2), {"user_id": "uid", "timestamp": "ts"})
    headers = {
        file.path.read_text().splitlines()[0]
        for day in zone.dates("interactions")
        for file in zone.files("interactions", day)
    }
    assert headers == {"user_id,timestamp,extra,action_type,page_id,duration_ms,app_version"}
    assert delivered_user_ids(zone) == {"2024-03-01": ["a"], "2024-03-02": ["a"]}


def test_map_of_a_column_that_is_not_there_is_refused_by_name(zone: LandingZone, tmp_path: Path) -> None:
    path = source(tmp_path, rows_of("a,2024-03-01 10:00:00,edit,p,1,1"))
    with pytest.raises(FileRefused, match="'uid'"):
        split_utc(zone, path, user_id="uid")
    with pytest.raises(FileRefused, match="'uid'"):
        deliver(zone, "interactions", path, DAY, {"user_id": "uid"})
    assert [found for found in zone.root.rglob("*") if found.is_file()] == []


def test_the_same_name_with_new_content_replaces_the_file(zone: LandingZone, tmp_path: Path) -> None:
    split_utc(zone, source(tmp_path, rows_of("a,2024-03-01 10:00:00,edit,p,1,1", "b,2024-03-02 10:00:00,edit,p,1,1")))
    before = {file.path: zone.fingerprint(file) for files in zone.listing("interactions").values() for file in files}
    landed = split_utc(zone, source(tmp_path, rows_of("c,2024-03-01 11:00:00,edit,p,1,1")))
    assert landed.replaced == [date(2024, 3, 1)]
    assert delivered_user_ids(zone) == {"2024-03-01": ["c"], "2024-03-02": ["b"]}
    after = {file.path: zone.fingerprint(file) for files in zone.listing("interactions").values() for file in files}
    assert {path.parent.name for path in before if before[path] != after[path]} == {"date=2024-03-01"}


def test_delivery_under_one_date_keeps_the_bytes(zone: LandingZone, tmp_path: Path) -> None:
    content = gzip.compress(rows_of("a,2024-03-09 10:00:00,edit,p,1,1").encode())
    landed = deliver(zone, "interactions", source(tmp_path, content, "late.csv.gz"), DAY, {})
    assert [path.read_bytes() for path in landed.files] == [content]
    assert delivered_user_ids(zone) == {"2024-03-01": ["a"]}


def tarred(name: str, text: str) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        file = tarfile.TarInfo(name)
        file.size = len(text)
        archive.addfile(file, io.BytesIO(text.encode()))
    return packed.getvalue()


TWO_ROWS = rows_of("a,2024-03-01 10:00:00,edit,p,1,1", "b,2024-03-02 11:00:00,edit,p,1,1")


def zipped(**files: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return packed.getvalue()


def zstd(text: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as packed:
        packed.write(text)
    return sink.getvalue().to_pybytes()


PACKED = {
    "UP.CSV.GZ": gzip.compress(TWO_ROWS.encode()),
    "plain-name.csv": gzip.compress(TWO_ROWS.encode()),
    "x.csv.bz2": bz2.compress(TWO_ROWS.encode()),
    "x.csv.xz": lzma.compress(TWO_ROWS.encode()),
    "x.csv.zst": zstd(TWO_ROWS.encode()),
    "as-pzstd-begins.csv.zst": b"\x50\x2a\x4d\x18\x04\x00\x00\x00size" + zstd(TWO_ROWS.encode()),
    "x.csv.zip": zipped(**{"x.csv": TWO_ROWS, "__MACOSX/x.csv": "?"}),
    "wrong-ending.csv.gz": bz2.compress(TWO_ROWS.encode()),
}


@pytest.mark.parametrize("name", PACKED)
def test_what_a_file_is_packed_with_is_told_by_its_first_bytes(zone: LandingZone, tmp_path: Path, name: str) -> None:
    file = source(tmp_path, PACKED[name], name)
    split_utc(zone, file)
    assert delivered_user_ids(zone) == {"2024-03-01": ["a"], "2024-03-02": ["b"]}
    whole = deliver(zone, "interactions", file, date(2024, 3, 5), {}).files[0]
    assert whole.read_bytes() == PACKED[name]
    assert delivered_user_ids(zone)["2024-03-05"] == ["a", "b"]


REFUSED_ARCHIVES = {
    "several files": ("x.zip", zipped(a="1", b="2"), "is a zip archive of 2 files; unpack it and land each"),
    "none": ("x.zip", zipped(), "is a zip archive of 0 files"),
    "a workbook": ("x.xlsx", zipped(**{"[Content_Types].xml": "", "xl/a": ""}), "is an Excel workbook; save its"),
    "a cut zip": ("x.csv.zip", PACKED["x.csv.zip"][:-30], "damaged or cut zip"),
    "a cut bzip2": ("x.csv.bz2", PACKED["x.csv.bz2"][:-20], "damaged or cut bzip2"),
    "a damaged bzip2": ("x.csv.bz2", b"BZh91AY&SYnothing at all", "damaged or cut bzip2"),
    "a cut xz": ("x.csv.xz", PACKED["x.csv.xz"][:-20], "damaged or cut xz"),
    "a cut zstd": ("x.csv.zst", PACKED["x.csv.zst"][:-9], "damaged or cut zstd"),
    "plain text": ("x.csv.bz2", TWO_ROWS.encode(), r"is named \.bz2 and is not compressed; name it \.csv"),
    "an empty gzip": ("x.csv.gz", gzip.compress(b""), r"is empty \(0 bytes\)"),
    "a tar": ("x.csv", tarred("x.csv", TWO_ROWS), "is a tar archive; unpack it"),
    "a 7-Zip archive": ("x.7z", b"7z\xbc\xaf\x27\x1c\x00\x04", "is a 7-Zip archive; unpack it"),
    "LZ4": ("x.csv.lz4", b"\x04\x22\x4d\x18\x60@", "is compressed with LZ4; unpack it"),
    "an old workbook": ("x.csv", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0\0", "is an Excel workbook; save its sheet"),
    "twice": ("x.csv.gz.gz", gzip.compress(PACKED["UP.CSV.GZ"]), r"is compressed twice; unpack it once \(gzip\)"),
    "a packed tar": ("x.tar.gz", gzip.compress(tarred("x.csv", TWO_ROWS)), "is a tar archive; unpack it"),
}


@pytest.mark.parametrize(("name", "content", "sentence"), REFUSED_ARCHIVES.values(), ids=REFUSED_ARCHIVES)
def test_an_archive_that_is_no_single_csv_file_is_refused_in_a_sentence(
    tmp_path: Path, name: str, content: bytes, sentence: str
) -> None:
    with pytest.raises(FileRefused, match=sentence):
        inspect(source(tmp_path, content, name), DATASETS["interactions"])


HEADERS_THAT_ARE_CLEAR = {
    "capitals": TWO_ROWS.replace(HEADER, HEADER.upper()),
    "blanks around": TWO_ROWS.replace(HEADER, HEADER.replace(",", " , ")),
    "a separator line": "sep=,\n" + TWO_ROWS,
    "blank lines": "\n \r\n" + TWO_ROWS.replace("\na,", "\n\r\n\na,") + "\n\n",
    "comments": "# exported today\n#\n" + TWO_ROWS,
    "a separator at the end": "".join(f"{line},\n" for line in TWO_ROWS.splitlines()),
    "one at the end of the header alone": TWO_ROWS.replace(HEADER, HEADER + ","),
    "one at the end of the rows alone": "".join(f"{line},\n" for line in TWO_ROWS.splitlines()).replace(
        "version,", "version"
    ),
    "row numbers": TWO_ROWS.replace(HEADER, "," + HEADER).replace("\na", "\n0,a").replace("\nb", "\n1,b"),
    "two byte order marks": "\ufeff\ufeff" + TWO_ROWS,
    "a blank that does not break": TWO_ROWS.replace("timestamp", "\xa0timestamp"),
    "line ends made twice": TWO_ROWS.replace("\n", "\r\r\n"),
    "another separator that a line says": "sep=~\n" + TWO_ROWS.replace(",", "~").replace("edit~p", 'edit~"p~"'),
    "semicolons": TWO_ROWS.replace(",", ";"),
    "tabs": TWO_ROWS.replace(",", "\t"),
    "bars": TWO_ROWS.replace(",", "|"),
    "tabs, and commas in a value": TWO_ROWS.replace(",", "\t").replace("edit\tp", "edit\tp,q;r"),
    "semicolons that a line says": "sep=;\r\n" + TWO_ROWS.replace(",", ";").replace("\n", "\r\n"),
    "semicolons and all of it": "\ufeff\n#\n"
    + "".join(f"{line};\n" for line in TWO_ROWS.replace(",", ";").splitlines()).replace("user_id", '"USER_ID"'),
    "all of them": "\ufeff\n#\nsep=,\n" + "".join(f"{line},\n" for line in TWO_ROWS.splitlines()).replace("id,", "ID,"),
}


@pytest.mark.parametrize("kind", HEADERS_THAT_ARE_CLEAR)
def test_a_header_that_is_clear_is_read(zone: LandingZone, tmp_path: Path, kind: str) -> None:
    file = source(tmp_path, HEADERS_THAT_ARE_CLEAR[kind])
    landed = split_utc(zone, file)
    assert (landed.extra, landed.unreadable_day, dict(landed.rows)) == (
        (), 0, {date(2024, 3, 1): 1, date(2024, 3, 2): 1},
    )  # fmt: skip
    assert delivered_user_ids(zone) == {"2024-03-01": ["a"], "2024-03-02": ["b"]}
    deliver(zone, "interactions", file, date(2024, 3, 5), {})
    assert delivered_user_ids(zone)["2024-03-05"] == ["a", "b"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r\r\n"])
def test_a_timestamp_at_the_end_of_a_line_is_read(zone: LandingZone, tmp_path: Path, end: str) -> None:
    header = "user_id,action_type,page_id,duration_ms,app_version,timestamp"
    times = ("2024-03-01 10:00:00", "1709380800", "")
    text = "".join(f"{line}{end}" for line in (header, *(f"a,edit,p,1,1,{one}" for one in times)))
    landed = split_utc(zone, source(tmp_path, text))
    assert (landed.unreadable_day, dict(landed.rows)) == (1, {date(2024, 3, 1): 1, date(2024, 3, 2): 2})


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_quotes_line_ends_and_replacement_go_by_the_files_own_separator(
    zone: LandingZone, tmp_path: Path, separator: str
) -> None:
    rows = [
        ["a", "2024-03-01 10:00:00", "edit", f'"x{separator}y,z"', "1", "1"],
        ["b", "2024-03-01 11:00:00", "edit", '"two\nlines ""and"" more"', "1", "1"],
        ["c", "2024-03-02 11:00:00", "edit", "1,5", "1", "1"],
        ["short", "2024-03-01 12:00:00", "edit"],
    ]
    header = HEADER.replace(",", separator).replace("page_id", "Page")
    text = "\n".join([header, *(separator.join(row) for row in rows)]) + "\n"
    landed = split_utc(zone, source(tmp_path, text), page_id="Page")
    assert (landed.rows, landed.unreadable_day) == ({DAY: 2, date(2024, 3, 2): 2}, 1)
    found = [
        row
        for path in landed.files
        for part in chunks(inspect(path, DATASETS["interactions"]), DATASETS["interactions"])
        for batch in read_chunk(part)
        for row in batch.to_pylist()
    ]
    assert {row["user_id"]: row["page_id"] for row in found if row["user_id"]} == {
        "a": f"x{separator}y,z", "b": 'two\nlines "and" more', "c": "1,5",
    }  # fmt: skip
    assert [row["malformed_row"] for row in found if row["malformed_row"]] == [separator.join(rows[3])]
    with pytest.raises(LandingError, match=r"would replace 2 rows of 2024-03-01 with 1 row; rename it"):
        split_utc(zone, source(tmp_path, text.replace("\nb" + separator, "\nb")), page_id="Page")


def test_the_rows_of_many_small_files_are_passed_on_together(zone: LandingZone, tmp_path: Path) -> None:
    rows = [f"u{day},2024-03-{day:02} 10:00:00,edit,p,1,1" for day in range(1, 30)] + ["no row"]
    split_utc(zone, source(tmp_path, rows_of(*rows)))
    columns = DATASETS["interactions"]
    files = [(day, inspect(file.path, columns)) for day in zone.dates("interactions")
             for file in zone.files("interactions", day)]  # fmt: skip
    tasks = [{PART: 0, "landing_date": day, "chunk": json.dumps(asdict(chunk))}
             for day, found in files for chunk in chunks(found, columns)]  # fmt: skip
    assert len(tasks) == 29
    [batch] = read_tasks(pa.Table.from_pylist(tasks).to_batches())
    found = batch.to_pydict()
    assert sorted(filter(None, found["user_id"])) == sorted(f"u{day}" for day in range(1, 30))
    assert list(filter(None, found["malformed_row"])) == ["no row"]


def test_a_header_after_other_lines_is_renamed_too(zone: LandingZone, tmp_path: Path) -> None:
    text = "sep=,\n\n" + TWO_ROWS.replace("user_id", "Visitor")
    deliver(zone, "interactions", source(tmp_path, text), DAY, {"user_id": "visitor"})
    assert delivered_user_ids(zone) == {"2024-03-01": ["a", "b"]}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a,b\n1,2\n", "required: user_id, .*; found: 'a,b'"),
        ("sep=;\n" + TWO_ROWS, "its first line says that columns are separated by ';', but its header uses ','"),
        (TWO_ROWS.replace(",", "~"), "header not recognised; .*found: 'user_id~timestamp"),
        (TWO_ROWS.replace(",", ";", 3), "are missing"),
        (TWO_ROWS.replace("page_id,", ",page_id,"), "column 4 has no name"),
        (TWO_ROWS.replace("page_id", "USER_ID"), "column 'page_id' is missing"),
    ],
)
def test_a_header_that_is_not_clear_is_shown(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(FileRefused, match=sentence):
        inspect(source(tmp_path, text), DATASETS["interactions"])


def test_rows_of_another_width_than_the_header_are_said_to_be_such(zone: LandingZone, tmp_path: Path) -> None:
    with pytest.raises(
        LandingError, match=r"no row of events\.csv has the 6 values of its header; its first row is 'a,"
    ):
        split_utc(zone, source(tmp_path, TWO_ROWS.replace(",edit", ",edit,more")))


def test_a_column_that_is_called_as_one_of_ours_stays_beside_the_one_that_is_mapped(
    zone: LandingZone, tmp_path: Path
) -> None:
    text = rows_of("a,2024-03-01 10:00:00,edit,p,1,1,x", header=HEADER + ",visitor")
    [file] = split_utc(zone, source(tmp_path, text), user_id="visitor").files
    [batch] = read_chunk(chunks(inspect(file, DATASETS["interactions"]), DATASETS["interactions"])[0])
    assert (batch["user_id"][0].as_py(), batch["extra_columns"][0].as_py()) == ("x", '{"delivered_user_id": "a"}')
    with pytest.raises(FileRefused, match="user_id and page_id would both be read from 'page_id'; map one of them"):
        split_utc(zone, source(tmp_path, text), user_id="page_id")


def test_a_value_in_the_column_without_a_name_is_kept(zone: LandingZone, tmp_path: Path) -> None:
    text = "".join(f"{line},\n" for line in TWO_ROWS.splitlines()).replace("1,1,\nb", "1,1,oh\nb")
    [file] = deliver(zone, "interactions", source(tmp_path, text), DAY, {}).files
    found = inspect(file, DATASETS["interactions"])
    rows = [row for chunk in chunks(found, DATASETS["interactions"]) for batch in read_chunk(chunk)
            for row in batch.to_pylist()]  # fmt: skip
    assert {row["user_id"]: row["extra_columns"] for row in rows} == {"a": '{"": "oh"}', "b": None}


def test_hidden_temporary_and_foreign_names_are_never_read(zone: LandingZone) -> None:
    folder = zone.folder("interactions", DAY)
    folder.mkdir(parents=True)
    for name in (".x.csv", "_x.csv", "_SUCCESS", "x.csv.tmp", "x.tmp", "x.txt", "x.csv~", "x.json", "x.csv.7z"):
        (folder / name).write_text(rows_of("ghost,2024-03-01 10:00:00,edit,p,1,1"))
    (folder / "x.csv").mkdir()
    (folder / "x.csv" / "inner.csv").write_text(rows_of("ghost,2024-03-01 10:00:00,edit,p,1,1"))
    (folder / "y.csv.gz").mkdir()
    assert zone.files("interactions", DAY) == []
    (folder / "real.csv").write_text(rows_of("real,2024-03-01 10:00:00,edit,p,1,1"))
    assert [file.path.name for file in zone.files("interactions", DAY)] == ["real.csv"]


def test_only_date_folders_are_landing_dates(zone: LandingZone) -> None:
    for name in ("date=2024-03-02", "date=2024-03-01", "date=2024-3-3", "2024-03-04", "date=2024-03-05.bak", "_x"):
        (zone.root / "interactions" / name).mkdir(parents=True)
    (zone.root / "interactions" / "date=2024-03-06").write_text("a file")
    assert zone.dates("interactions") == [date(2024, 3, 1), date(2024, 3, 2)]


def test_folders_of_no_landing_date_are_never_read_and_named(zone: LandingZone) -> None:
    (zone.folder("interactions", DAY)).mkdir(parents=True)
    tomorrow = datetime.now(tz=UTC).date() + timedelta(days=1)
    wrong = [
        *(
            "date=2026-13-40",
            "date=2024-02-30",
            "date=0000-00-00",
            "date=9999-99-99",
            "date=2024-3-1",
            "Date=2024-03-01",
        ),
        *("date=1999-12-31", f"date={tomorrow}", "date=\uff12024-03-01", "date=2024-03-01/date=2024-03-02", "date="),
        os.fsdecode(b"date=2024-03-0\xff"),
        "date=2024-03-01" + "x" * 240,
    ]
    for number, name in enumerate(wrong):
        folder = zone.root / "interactions" / name
        folder.mkdir()
        if number % 2 or name.count("=") > 1:  # with a file in it or without
            (folder / "a.csv").write_text(rows_of("a,2024-03-01 10:00:00,edit,p,1,1"))
    (zone.root / "interactions" / "empty").mkdir()
    assert zone.dates("interactions") == [DAY]
    assert {day: list(files) for day, files in zone.listing("interactions").items()} == {DAY: []}
    named = {path.relative_to(zone.root / "interactions").as_posix().removesuffix("/a.csv") for path in zone.strays()}
    assert named == set(wrong)


def test_a_start_after_what_is_landed_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path))
    split_utc(LandingZone(tmp_path / "landing"), source(tmp_path, TWO_ROWS))
    monkeypatch.setenv("LAKEHOUSE_START_DATE", "2024-03-02")
    assert landing_zone(load_settings()).days_before_start() == [date(2024, 3, 1)]
    monkeypatch.setenv("LAKEHOUSE_START_DATE", "2025-01-01")
    said = "LAKEHOUSE_START_DATE is 2025-01-01: 2 landing dates before it, 2024-03-01 … 2024-03-02, left out"
    assert main(["run"]) == 1
    assert f"nothing to compute: {tmp_path}/landing has no files; {said}" in capsys.readouterr().err
    assert main(["status"]) == 0
    assert said in "".join(capsys.readouterr())


def test_broken_links_and_unreadable_files_give_one_clear_sentence(zone: LandingZone, tmp_path: Path) -> None:
    folder = zone.folder("interactions", DAY)
    folder.mkdir(parents=True)
    link = folder / "a.csv"
    link.symlink_to(tmp_path / "nowhere.csv")
    refused_as(zone, f"{link}: is a link to a file that does not exist")
    with pytest.raises(LandingError, match="no such file"):
        split_utc(zone, link)
    link.unlink()
    loop = folder / "b.csv"
    loop.symlink_to(loop)
    refused_as(zone, f"{loop}: can't be read (Too many levels of symbolic links)")
    loop.unlink()
    os.mkfifo(loop)
    refused_as(zone, f"{loop}: is a pipe or a device, not a file; remove it")
    loop.unlink()
    (folder / os.fsdecode(b"\xff.csv")).write_text(rows_of("a,2024-03-01 10:00:00,edit,p,1,1"))
    refused_as(zone, f"{folder}/\ufffd.csv: its name is not UTF-8; rename it")


def refused_as(zone: LandingZone, sentence: str) -> None:
    """The one file of the day is refused by whoever reads it, and looking at it takes nothing from other days."""
    [file] = zone.listing("interactions")[DAY]
    for look in (lambda: zone.inspect("interactions", file), lambda: zone.fingerprint(file)):
        with pytest.raises(FileRefused, match=re.escape(sentence)):
            look()
    assert (zone.known_refusal(file) or "").startswith(sentence)
    assert zone.remove_before("interactions", date(2100, 1, 1), dry_run=True) == (0, 0)


def test_a_folder_that_leads_nowhere_or_in_a_circle_is_refused_as_a_file_is(zone: LandingZone, tmp_path: Path) -> None:
    folder = zone.folder("interactions", DAY)
    folder.parent.mkdir(parents=True)
    folder.symlink_to(folder)
    refused_as(
        zone, f"{folder}: can't be listed (Too many levels of symbolic links); change its permissions or remove it"
    )
    folder.unlink()
    folder.symlink_to(tmp_path / "nowhere")
    refused_as(zone, f"{folder}: can't be listed (No such file or directory); change its permissions or remove it")


def test_folders_and_files_of_another_user_are_refused_by_name(tmp_path: Path) -> None:
    base = tmp_path / "interactions"
    for day in ("2024-03-01", "2024-03-02", "2024-03-03"):
        (base / f"date={day}").mkdir(parents=True)
        (base / f"date={day}/a.csv").write_text(rows_of(f"a,{day} 10:00:00,edit,p,1,1"))
    (base / "date=2024-03-01").chmod(0)
    (base / "date=2024-03-02/a.csv").chmod(0)

    def read() -> None:
        zone = LandingZone(Path())
        for [file] in zone.listing("interactions").values():
            for look in (partial(zone.inspect, "interactions", file), partial(zone.fingerprint, file)):
                try:
                    look()
                    print("read")
                except FileRefused as error:
                    print(error)

    assert said_without_rights(tmp_path, read) == [
        *["interactions/date=2024-03-01: can't be listed (Permission denied); change its permissions or remove it"] * 2,
        *["interactions/date=2024-03-02/a.csv: can't be read (Permission denied)"] * 2,
        *["read"] * 2,
    ]
    base.chmod(0)

    def look() -> None:
        try:
            LandingZone(Path()).listings()
        except LandingError as error:
            print(error)

    told = said_without_rights(tmp_path, look)
    for folder in (base, base / "date=2024-03-01"):
        folder.chmod(0o755)
    assert told == ["interactions can't be listed (Permission denied); change its permissions"]


def said_without_rights(folder: Path, act: Callable[[], None]) -> list[str]:
    """The lines that a child process prints, in a folder, as a user who may not do what root may."""
    folder.chmod(0o755)
    told = folder / "told"
    told.touch()
    child = os.fork()
    if not child:
        with told.open("w") as out, redirect_stdout(out):
            os.chdir(folder)
            if os.geteuid() == 0:
                os.setresuid(65534, 65534, 65534)
            act()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    return told.read_text().splitlines()


def test_a_file_that_cannot_be_opened_is_refused_by_name(zone: LandingZone, tmp_path: Path) -> None:
    path = zone.folder("interactions", DAY) / "a.csv"
    path.parent.mkdir(parents=True)
    path.write_text(rows_of("a,2024-03-01 10:00:00,edit,p,1,1"))
    file = zone.files("interactions", DAY)[0]
    path.unlink()  # root may read any file, so it goes away instead of losing its permissions
    with pytest.raises(FileRefused, match=r"a\.csv: can't be read"):
        zone.inspect("interactions", file)


def test_sources_that_are_no_file_are_refused(zone: LandingZone, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    for path, sentence in ((tmp_path, "is a folder"), (tmp_path / "none.csv", "no such file"), (pipe, "pipe.csv")):
        with pytest.raises(LandingError, match=sentence):
            deliver(zone, "users", path, DAY, {})


def test_what_no_process_has_seen_yet_is_told_in_bytes(zone: LandingZone, tmp_path: Path) -> None:
    deliver(zone, "users", source(tmp_path, HEADERS["users"] + "\n"), DAY, {})
    (file,) = zone.listing("users")[DAY]
    assert zone.new_bytes(zone.listings()) == file.size > 0
    zone.inspect("users", file)
    assert zone.new_bytes(zone.listings()) == 0
    Path(file.location).write_text(HEADERS["users"] + "\nu,2024-01-01,DE,ios,free\n")
    assert zone.new_bytes(zone.listings()) == zone.listing("users")[DAY][0].size > file.size


@pytest.mark.parametrize("which", ["before the first", "after today"])
def test_landing_dates_outside_the_calendar_are_refused(zone: LandingZone, tmp_path: Path, which: str) -> None:
    # today is asked for here and not when tests are collected: a suite that runs past midnight has two of them
    day = date(1999, 12, 31) if which == "before the first" else datetime.now(tz=UTC).date() + timedelta(days=1)
    with pytest.raises(LandingError, match=f"--date {day} is not between"):
        deliver(zone, "users", source(tmp_path, "user_id\n"), day, {})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2024-3-1",
        "2024-02-30",
        "20240301",
        "2024-03-01 ",
        "'; DROP",
        "../../etc",
        "\u0662\u0660\u0662\u0664-03-01",
        "2024-W09-5",
    ],
)
def test_only_a_calendar_date_is_a_date(text: str) -> None:
    with pytest.raises(LandingError, match="is not a date; write it as YYYY-MM-DD"):
        parse_date(text)


@pytest.mark.parametrize("name", ["..csv", "...csv", ".hidden.csv", "_marker.csv", "a'b; $(x).csv", "log"])
def test_a_delivery_stays_in_its_folder_under_a_name_that_is_read(zone: LandingZone, tmp_path: Path, name: str) -> None:
    path = source(tmp_path, rows_of("a,2024-03-01 10:00:00,edit,p,1,1"), name)
    landed = split_utc(zone, path)
    assert [file.parent for file in landed.files] == [zone.folder("interactions", DAY)]
    assert [file.path for file in zone.files("interactions", DAY)] == landed.files


def test_two_sources_that_differ_only_in_their_ending_do_not_replace_each_other(
    zone: LandingZone, tmp_path: Path
) -> None:
    split_utc(zone, source(tmp_path, rows_of("a,2024-03-01 10:00:00,edit,p,1,1"), "events.csv"))
    landed = split_utc(zone, source(tmp_path, rows_of("b,2024-03-01 10:00:00,edit,p,1,1"), "events.log"))
    assert landed.replaced or delivered_user_ids(zone) == {"2024-03-01": ["a", "b"]}, "a replacement is not told"
    for name, user in (("events.csv.zip", "c"), ("events.csv.bz2", "d")):
        text = rows_of(f"{user},2024-03-01 10:00:00,edit,p,1,1")
        packed = zipped(**{"events.csv": text}) if user == "c" else bz2.compress(text.encode())
        assert not split_utc(zone, source(tmp_path, packed, name)).replaced
    assert delivered_user_ids(zone) == {"2024-03-01": ["a", "b", "c", "d"]}


def test_a_file_with_fewer_rows_of_a_day_replaces_the_one_of_its_name_only_when_told_to(
    zone: LandingZone, tmp_path: Path
) -> None:
    rows = [
        "a,2024-03-01 10:00:00,edit,p,1,1",
        'b,2024-03-02 10:00:00,edit,"p\nq",1,1',
        "c,2024-03-02 11:00:00,e,p,1,1",
    ]
    split_utc(zone, source(tmp_path, rows_of(*rows)))
    before = delivered_user_ids(zone)
    fewer = source(tmp_path, rows_of("d,2024-03-01 10:00:00,edit,p,1,1", "d,2024-03-02 10:00:00,edit,p,1,1"))
    with pytest.raises(LandingError, match=r"would replace 2 rows of 2024-03-02 with 1 row;"):
        split_utc(zone, fewer)
    assert delivered_user_ids(zone) == before
    assert not list(zone.root.rglob("*.tmp"))
    landed = split(zone, fewer, {}, input_zone=ZoneInfo("UTC"), reporting_zone=ZoneInfo("UTC"), replace=True)
    assert landed.replaced == [date(2024, 3, 1), date(2024, 3, 2)]
    assert delivered_user_ids(zone) == {"2024-03-01": ["d"], "2024-03-02": ["d"]}


def test_an_interrupted_split_publishes_nothing(
    zone: LandingZone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = rows_of("a,2024-03-01 10:00:00,edit,p,1,1")
    split_utc(zone, source(tmp_path, first))
    monkeypatch.setattr(sinks, "_BUFFERED_BYTES", 1)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        split(
            zone,
            source(tmp_path, first.replace("a,", "b,")),
            {},
            input_zone=ZoneInfo("UTC"),
            reporting_zone=ZoneInfo("UTC"),
            progress=stop,
        )
    assert delivered_user_ids(zone) == {"2024-03-01": ["a"]}
    assert [path.name for path in zone.folder("interactions", DAY).iterdir()] == ["events.csv"]


def test_splitting_in_small_buffers_gives_the_same_files(
    zone: LandingZone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(DATASETS["interactions"])
    for i in range(300):
        writer.writerow(
            [f"u{i}", f"2024-03-{1 + i * 7 % 30:02} 10:00:00", "edit", 'a "b",\nc' if i % 9 == 0 else "p", i, "1"]
        )
    path = source(tmp_path, out.getvalue())
    split_utc(zone, path)
    in_small = LandingZone(tmp_path / "small")
    monkeypatch.setattr(sinks, "_BUFFERED_BYTES", 50)
    for module in ("headers", "row_blocks"):
        monkeypatch.setattr(f"lakehouse_assets.landing.{module}.BLOCK_BYTES", 120)
    split_utc(in_small, path)

    def files(of: LandingZone) -> dict[str, list[str]]:
        return {path.parent.name: sorted(path.read_text().split("\n")) for path in of.root.rglob("*.csv")}

    assert files(in_small) == files(zone)


def test_a_growing_file_is_left_for_the_next_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planned by the real runner; only the Spark run itself is replaced by a list of what it was asked to do."""
    lakehouse = Lakehouse(load_settings(home=tmp_path))
    said: list[str] = []
    asked: list[tuple[date, date]] = []
    runner = Runner(lakehouse, said.append)

    def execute(landed: object, refused: object, phases: Iterable[Plan]) -> None:
        asked.extend((one.first, one.last) for planned, _ in phases for one in planned)

    monkeypatch.setattr(runner, "_execute", execute)
    stable, growing = date(2024, 3, 1), date(2024, 3, 2)
    for day in (stable, growing):
        folder = lakehouse.zone.folder("interactions", day)
        folder.mkdir(parents=True)
        (folder / "a.csv").write_text(rows_of(f"u,{day} 10:00:00,edit,p,1,1"))
    before = lakehouse.zone.listings()
    with (lakehouse.zone.folder("interactions", growing) / "a.csv").open("a") as stream:
        stream.write(f"v,{growing} 11:00:00,edit,p,1,1\n")
    runner.run_stale(before)
    assert {day for work in asked for day in work} == {stable}
    assert said == [f"interactions {growing}: files are still being written; the next run takes them"]

    asked.clear()
    runner.run_stale(lakehouse.zone.listings())
    assert (stable, growing) in asked


def test_a_file_that_is_open_for_writing_is_left_however_quiet_it_is(
    zone: LandingZone, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = zone.folder("interactions", DAY)
    folder.mkdir(parents=True)
    day = {("interactions", DAY)}

    def incomplete(quiet_seconds: float = 0) -> set[tuple[str, date]]:
        seen = signatures(zone.listings())
        return zone.incomplete(seen, seen, quiet_seconds)

    with (folder / "a.csv").open("w") as stream:
        stream.write(rows_of("a,2024-03-01 10:00:00,edit,p,1,1"))
        stream.flush()
        assert incomplete() == day
        with monkeypatch.context() as patch:  # a program that never closes it keeps nothing waiting for ever
            patch.setattr("lakehouse_assets.landing.folder._HELD_SECONDS", 0)
            assert incomplete() == set()
    with (folder / "a.csv").open() as reader:
        reader.read()
        assert incomplete() == set()
    # where the file system can't tell, it is what did not change for a while
    monkeypatch.setattr("lakehouse_assets.landing.folder._is_open_for_writing", lambda path: None)
    assert (incomplete(quiet_seconds=15), incomplete()) == (day, set())


def test_a_file_that_changes_after_it_was_inspected_is_refused(zone: LandingZone, tmp_path: Path) -> None:
    deliver(zone, "interactions", source(tmp_path, rows_of("a,2024-03-01 10:00:00,edit,p,1,1")), DAY, {})
    file = zone.files("interactions", DAY)[0]
    inspection = zone.inspect("interactions", file)
    file.path.write_text(rows_of("a,2024-03-01 10:00:00,edit,p,1,1", "b,2024-03-01 10:00:00,edit,p,1,1"))
    with pytest.raises(FileRefused, match="changed while it was read"):
        [list(read_chunk(chunk)) for chunk in chunks(inspection, DATASETS["interactions"])]


def test_fingerprints_follow_content_and_survive_a_new_process(tmp_path: Path) -> None:
    index = tmp_path / "index.json"
    zone = LandingZone(tmp_path / "landing", index)
    deliver(zone, "interactions", source(tmp_path, rows_of("a,2024-03-01 10:00:00,edit,p,1,1")), DAY, {})
    first = zone.fingerprint(zone.files("interactions", DAY)[0])
    zone.save_index()
    again = LandingZone(tmp_path / "landing", index)
    assert again.fingerprint(again.files("interactions", DAY)[0]) == first
    deliver(zone, "interactions", source(tmp_path, rows_of("b,2024-03-01 10:00:00,edit,p,1,1")), DAY, {})
    assert again.fingerprint(again.files("interactions", DAY)[0]) != first
    index.write_text("{ not json")
    assert LandingZone(tmp_path / "landing", index).fingerprint(again.files("interactions", DAY)[0]) != first

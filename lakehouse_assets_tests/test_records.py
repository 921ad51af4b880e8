"""JSON Lines, Parquet and constant values: what is landed of them, and that every property of CSV holds."""

import gzip
import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakehouse_assets.assets.datasets import DATASETS
from lakehouse_assets.landing import records
from lakehouse_assets.landing.csv_files import read_chunk
from lakehouse_assets.landing.deliver import deliver, split
from lakehouse_assets.landing.files import LandingError
from lakehouse_assets.landing.headers import inspect
from lakehouse_assets.landing.records import value_at
from lakehouse_assets.landing.redivision import divide_again
from lakehouse_assets.landing.row_blocks import chunks
from lakehouse_assets.landing.sinks import Landed
from lakehouse_assets.landing.text_files import FileRefused
from lakehouse_assets.landing.zone import LandingZone
from lakehouse_assets_tests.conftest import in_zones

TODAY = date(2024, 6, 30)
UTC_ZONE = ZoneInfo("UTC")
MAP = {
    "user_id": "who.id",
    "timestamp": "at",
    "action_type": "event",
    "page_id": "params.page",
    "duration_ms": "params.ms",
    "app_version": "device.app.version",
    "plan": "who.plan",
}


@pytest.fixture
def zone(tmp_path: Path) -> LandingZone:
    return LandingZone(tmp_path / "landing")


def land(zone: LandingZone, path: Path, renames: dict[str, str], **more: Any) -> Landed:
    return split(zone, path, renames, input_zone=UTC_ZONE, reporting_zone=UTC_ZONE, today=TODAY, **more)


def bronze(zone: LandingZone, dataset: str = "interactions") -> list[dict[str, Any]]:
    """Every landed row as bronze has it, with its landing date."""
    return sorted(_rows(zone, dataset), key=str)


def _rows(zone: LandingZone, dataset: str) -> Iterator[dict[str, Any]]:
    for day in zone.dates(dataset):
        for file in zone.files(dataset, day):
            for part in chunks(inspect(file.path, DATASETS[dataset]), DATASETS[dataset]):
                for batch in read_chunk(part):
                    yield from ({"day": str(day)} | row for row in batch.to_pylist())


def event(number: int, at: object, **more: object) -> dict[str, Any]:
    return {
        "who": {"id": f"u{number}", "plan": "pro"},
        "at": at,
        "event": "edit",
        "params": [{"key": "page", "value": {"string_value": f"p,{number}"}}, {"key": "ms", "value": {"int_value": 7}}],
        "device": {"app": {"version": "1.0"}},
        **more,
    }


def json_lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def test_json_lines_land_by_day_with_every_value_and_every_line(zone: LandingZone, tmp_path: Path) -> None:
    path = json_lines(
        tmp_path / "events.jsonl",
        event(1, "2024-03-01T10:00:00Z", note='two\nlines, "quoted"', gone=None),
        "",
        event(2, 1709366400.25, big=12345678901234567890, deep={"a": [1, None]}),
        event(3, 1709366400000, who={"id": 33}),
        '{"who": {"id": "cut',
        "[1, 2]",
        event(4, "soon"),
    )
    landed = land(zone, path, MAP)
    assert (landed.rows, landed.unreadable_day, landed.extra) == ({date(2024, 3, 1): 1, date(2024, 3, 2): 5}, 3, ())
    assert [file.name for file in landed.files] == ["events.jsonl.csv"] * 2
    found = bronze(zone)
    good = {row["user_id"]: row for row in found if row["malformed_row"] is None}
    assert {name: (row["day"], row["timestamp"], row["page_id"]) for name, row in good.items()} == {
        "u1": ("2024-03-01", "2024-03-01T10:00:00Z", "p,1"),
        "u2": ("2024-03-02", "1709366400.25", "p,2"),
        "33": ("2024-03-02", "1709366400000", "p,3"),
        "u4": ("2024-03-02", "soon", "p,4"),
    }
    assert {(row["action_type"], row["duration_ms"], row["app_version"]) for row in good.values()} == {
        ("edit", "7", "1.0")
    }
    extra = {name: json.loads(row["extra_columns"]) for name, row in good.items()}
    assert extra["u1"]["note"] == 'two\nlines, "quoted"'
    assert "gone" not in extra["u1"]
    assert (extra["u2"]["big"], extra["u2"]["deep"]) == (12345678901234567890, {"a": [1, None]})
    assert (extra["u1"]["plan"], extra["u1"]["who"], "plan" in extra["33"]) == (
        "pro",
        {"id": "u1", "plan": "pro"},
        False,
    )
    assert sorted(row["malformed_row"] for row in found if row["malformed_row"]) == [
        '"[1, 2]"', '"{""who"": {""id"": ""cut"'
    ]  # fmt: skip


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("read_bytes", [7, 1 << 20])
def test_a_json_array_lands_as_its_items_do_line_by_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, indent: int | None, read_bytes: int
) -> None:
    monkeypatch.setattr(records, "BLOCK_BYTES", read_bytes)
    items = [event(1, "2024-03-01T10:00:00Z", note='two\nlines, "quoted" [é]'), event(2, 1709366400), 1234567, [5]]
    array = tmp_path / "array" / "events.json"
    array.parent.mkdir()
    array.write_text("\ufeff\n" + json.dumps(items, indent=indent, ensure_ascii=False), encoding="utf-8")
    lines = json_lines(tmp_path / "events.json", *items)
    zones = [LandingZone(tmp_path / name) for name in ("one", "other")]
    assert [land(zone, path, MAP).unreadable_day for zone, path in zip(zones, (array, lines), strict=True)] == [2, 2]
    one, other = ([row for row in bronze(zone) if not row["malformed_row"]] for zone in zones)
    assert one == other
    assert len(one) == 2


def test_what_is_landed_of_json_obeys_the_laws_of_csv(zone: LandingZone, tmp_path: Path) -> None:
    rows = [event(hour, f"2024-03-01T{hour:02}:30:00Z") for hour in range(24)]
    path = tmp_path / "events.json.gz"
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    land(zone, path, MAP)
    fewer = json_lines(tmp_path / "events.json", *rows[3:])
    with pytest.raises(LandingError, match=r"would replace 24 rows of 2024-03-01 with 21 rows; rename it"):
        land(zone, fewer, MAP)
    ahead = in_zones("Asia/Kolkata")
    divide_again(zone, ahead, lambda _: None)
    fresh = LandingZone(tmp_path / "fresh")
    split(fresh, path, MAP, input_zone=UTC_ZONE, reporting_zone=ahead.reporting_zone, today=TODAY)
    assert bronze(zone) == bronze(fresh)
    assert {row["day"] for row in bronze(zone)} == {"2024-03-01", "2024-03-02"}
    [users] = deliver(
        zone,
        "users",
        json_lines(tmp_path / "users.ndjson", {"id": 7, "joined": "2024-01-01", "geo": {"cc": "DE"}, "beta": True}),
        date(2024, 3, 1),
        {"user_id": "id", "join_date": "joined", "country": "geo.cc", "device_type": "=ios", "subscription_type": "="},
        today=TODAY,
    ).files
    assert users.name == "users.ndjson.csv"
    [row] = bronze(zone, "users")
    assert row | {"extra_columns": json.loads(row["extra_columns"])} == {
        "day": "2024-03-01", "user_id": "7", "join_date": "2024-01-01", "country": "DE", "device_type": "ios",
        "subscription_type": "", "extra_columns": {"geo": {"cc": "DE"}, "beta": True}, "malformed_row": None,
        "source_line": 2,
    }  # fmt: skip


def typed(number: int) -> dict[str, Any]:
    at = datetime(2024, 3, 1, 22, number, tzinfo=UTC)
    return {
        "user": f"u{number}", "naive": at.replace(tzinfo=None, microsecond=5), "utc": at,
        "berlin": at, "ns": at.replace(tzinfo=None), "kind": "edit",
        "ms": Decimal("100.00"), "float_ms": 1_000_000.0, "half_ms": 0.5, "small": number, "raw": b"\xffab",
        "page": {"path": "/a", "tags": ["x", "y"], "seen": at},
        "params": [{"key": "v", "value": {"string_value": "2.0"}}],
        "day": at.date(), "flags": {"beta": True}, "none": None, "since_1970": 1709330400000000007,
        "took": timedelta(milliseconds=5), "took_part": timedelta(microseconds=5500), "fixed": bytes(15) + b"a",
    }  # fmt: skip


TYPES = pa.schema(
    {
        "user": pa.dictionary(pa.int8(), pa.string()), "naive": pa.timestamp("us"), "utc": pa.timestamp("ms", "UTC"),
        "berlin": pa.timestamp("us", "Europe/Berlin"), "ns": pa.timestamp("ns"), "kind": pa.large_string(),
        "ms": pa.decimal128(12, 2), "float_ms": pa.float64(), "half_ms": pa.float32(), "small": pa.int8(),
        "raw": pa.binary(),
        "page": pa.struct({"path": pa.string(), "tags": pa.list_(pa.string()), "seen": pa.timestamp("us", "UTC")}),
        "params": pa.list_(pa.struct({"key": pa.string(), "value": pa.struct({"string_value": pa.string()})})),
        "day": pa.date32(), "flags": pa.map_(pa.string(), pa.bool_()), "none": pa.null(), "since_1970": pa.int64(),
        "took": pa.duration("us"), "took_part": pa.duration("us"), "fixed": pa.binary(16),
    }
)  # fmt: skip
PARQUET_MAP = {
    "user_id": "USER",
    "timestamp": "utc",
    "action_type": "kind",
    "page_id": "page.path",
    "duration_ms": "ms",
    "app_version": "params.v",
}


def parquet(path: Path, rows: int = 3, **options: Any) -> Path:
    pq.write_table(pa.Table.from_pylist([typed(number) for number in range(rows)], TYPES), path, **options)
    return path


@pytest.mark.parametrize(
    ("columns", "timestamp", "duration"),
    [
        ({}, "2024-03-01 22:00:00.000Z", "100.00"),
        ({"timestamp": "naive", "duration_ms": "float_ms"}, "2024-03-01 22:00:00.000005", "1000000.0"),
        ({"timestamp": "berlin", "duration_ms": "half_ms"}, "2024-03-01 22:00:00.000000Z", "0.5"),
        ({"timestamp": "ns", "duration_ms": "small"}, "2024-03-01 22:00:00.000000", "0"),
        ({"timestamp": "page.seen", "duration_ms": "=5"}, "2024-03-01 22:00:00.000000Z", "5"),
        ({"timestamp": "since_1970", "duration_ms": "took"}, "1709330400000000007", "5"),
        ({"duration_ms": "took_part"}, "2024-03-01 22:00:00.000Z", "5.5"),
    ],
)
def test_parquet_lands_with_its_types_as_text(
    zone: LandingZone, tmp_path: Path, columns: dict[str, str], timestamp: str, duration: str
) -> None:
    landed = land(zone, parquet(tmp_path / "part-0.parquet"), PARQUET_MAP | columns)
    assert (landed.rows, landed.unreadable_day) == ({date(2024, 3, 1): 3}, 0)
    row = bronze(zone)[0]
    assert (row["timestamp"].replace(".000000", ".000"), row["duration_ms"]) == (
        timestamp.replace(".000000", ".000"), duration,
    )  # fmt: skip
    assert (row["user_id"], row["action_type"], row["page_id"], row["app_version"]) == ("u0", "edit", "/a", "2.0")
    kept = json.loads(row["extra_columns"])
    assert kept["page"] == {"path": "/a", "tags": ["x", "y"], "seen": "2024-03-01T22:00:00+00:00"}
    assert (kept["raw"], kept["day"], kept["flags"], "none" in kept) == ("ff6162", "2024-03-01", {"beta": True}, False)


def test_ids_in_bytes_are_texts(zone: LandingZone, tmp_path: Path) -> None:
    land(zone, parquet(tmp_path / "fixed.parquet", rows=1), PARQUET_MAP | {"user_id": "fixed"})
    assert bronze(zone)[0]["user_id"] == "0" * 30 + "61"
    table = pq.read_table(parquet(tmp_path / "uuid.parquet", rows=1))
    ids = pa.array([UUID(int=255).bytes], pa.uuid())
    pq.write_table(table.append_column("uuid", ids), tmp_path / "uuid.parquet")
    land(zone, tmp_path / "uuid.parquet", PARQUET_MAP | {"user_id": "uuid"})
    assert str(UUID(int=255)) in [row["user_id"] for row in bronze(zone)]


def test_a_parquet_column_that_is_there_twice_is_named(zone: LandingZone, tmp_path: Path) -> None:
    table = pq.read_table(parquet(tmp_path / "twice.parquet"))
    pq.write_table(table.append_column("kind", table["kind"]), tmp_path / "twice.parquet")
    with pytest.raises(FileRefused, match="column 'kind' is there twice; name each column once"):
        land(zone, tmp_path / "twice.parquet", PARQUET_MAP)


def test_instants_that_spark_wrote_as_int96_are_in_utc(zone: LandingZone, tmp_path: Path) -> None:
    path = parquet(tmp_path / "spark.parquet", use_deprecated_int96_timestamps=True)
    split(
        zone, path, PARQUET_MAP | {"timestamp": "ns"}, input_zone=ZoneInfo("Asia/Tokyo"), reporting_zone=UTC_ZONE,
        today=TODAY,
    )  # fmt: skip
    assert {row["timestamp"] for row in bronze(zone)} == {f"2024-03-01 22:0{n}:00.000000Z" for n in range(3)}


REFUSED: dict[str, tuple[str, str | bytes, str]] = {
    "cut parquet": ("a.parquet", "cut", "damaged or cut Parquet"),
    "parquet in gzip": ("a.parquet.gz", "packed", "is a Parquet file inside an archive; unpack it"),
    "a column that is missing": (
        "a.parquet",
        "lacking",
        "has no column 'kindof', which action_type is read",
    ),
    "an array of others": ("a.json", b'[{"a": 1}]', r"no row has 'who.id', .* \(found: a\)"),
    "a cut array": ("a.json", b'[{"a": 1}, {"a"', "is a JSON array that is damaged or cut after its item 1; deliver"),
    "a second array": (
        "a.json",
        b'[{"a": 1}]\n[{"a": 2}]\n',
        "goes on after its JSON array ends, behind item 1; write",
    ),
    "an empty array": ("a.json", b" [ ]\n", "has no row"),
    "one object over lines": ("a.json", b'{\n "a": 1\n}\n', "has no JSON object in a line or an array"),
    "no such key": (
        "a.json",
        b'{"a": {"b": 1}, "c": 2}\n',
        r"no row has 'who.id', .* \(found: a\.b, c\); map it: `--map",
    ),
    "Latin-1": ("a.json", '{"a": "é"}\n'.encode("latin-1"), "is not UTF-8"),
    "cut gzip": ("a.json.gz", gzip.compress(b'{"a": 1}\n' * 99)[:-9], "damaged or cut gzip"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_can_not_be_read_is_refused_whole_in_a_sentence(zone: LandingZone, tmp_path: Path, case: str) -> None:
    name, content, sentence = REFUSED[case]
    path, renames = tmp_path / name, dict(MAP)
    if isinstance(content, str):
        parquet(path)
        data = path.read_bytes()
        path.write_bytes({"cut": data[:-40], "packed": gzip.compress(data), "lacking": data}[content])
        renames = PARQUET_MAP | {"action_type": "kindof"}
    else:
        path.write_bytes(content)
    with pytest.raises(FileRefused, match=sentence) as refused:
        land(zone, path, renames)
    assert str(refused.value).startswith(f"{path}: ")
    assert [found for found in zone.root.rglob("*") if found.is_file()] == []


def test_files_of_these_formats_put_into_the_zone_by_hand_are_refused(zone: LandingZone, tmp_path: Path) -> None:
    for name, content in (("a.csv", b'{"user_id": "u"}\n'), ("b.csv", parquet(tmp_path / "x").read_bytes())):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(FileRefused, match="the landing zone holds CSV; remove it and land it with"):
            inspect(path, DATASETS["interactions"])


def test_a_csv_gets_the_constants_of_its_map(zone: LandingZone, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(
        'user_id;timestamp;action_type;page_id\r\na;2024-03-01 10:00:00;edit;"x\ny"\r\n\r\nshort;1\r\n'
        "b;2024-03-01 11:00:00;edit;p"
    )
    landed = land(zone, path, {"duration_ms": "=0", "app_version": "=1;0"})
    assert (landed.rows, landed.unreadable_day) == ({date(2024, 3, 1): 3}, 1)
    assert [
        (r["user_id"], r["page_id"], r["duration_ms"], r["app_version"], r["malformed_row"]) for r in bronze(zone)
    ] == [
        ("a", "x\ny", "0", "1;0", None),
        ("b", "p", "0", "1;0", None),
        (None, None, None, None, 'short;1;0;"1;0"'),
    ]
    with pytest.raises(FileRefused, match="has a column 'page_id', so the map cannot give it"):
        land(zone, path, {"duration_ms": "=0", "app_version": "=", "page_id": "=p"})


@pytest.mark.parametrize("end", ["\r\r\n", ",\n"])
def test_constants_stand_before_the_end_of_any_line(zone: LandingZone, tmp_path: Path, end: str) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(f"user_id,timestamp,action_type,page_id{end}a,2024-03-01 10:00:00,edit,p{end}".encode())
    land(zone, path, {"duration_ms": "=0", "app_version": "=1"})
    [row] = bronze(zone)
    assert (row["page_id"], row["duration_ms"], row["app_version"], row["malformed_row"]) == ("p", "0", "1", None)


@pytest.mark.parametrize(
    ("row", "path", "value"),
    [
        ({"a.b": 1, "a": {"b": 2}}, "a.b", 1),
        ({"a": {"b": {"c": 0}}}, "a.b.c", 0),
        ({"a": [{"b": 1}, {"b": 2}]}, "a.1.b", 2),
        ({"a": [{"key": "k", "value": {"string_value": None, "int_value": 5}}]}, "a.k", 5),
        ({"a": [{"key": "k", "value": {"string_value": None, "int_value": 5}}]}, "a.k.int_value", 5),
        ({"a": {"b": {"string_value": None}}}, "a.b", None),
    ],
)
def test_a_dotted_path_leads_into_objects_lists_and_typed_values(row: dict[str, Any], path: str, value: object) -> None:
    assert value_at(row, path) == value

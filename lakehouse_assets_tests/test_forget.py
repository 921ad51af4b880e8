"""Forgetting users: no byte of their ids is left, nobody else's is touched, and who dies in the middle goes on."""

import bz2
import gzip
import io
import json
import lzma
import re
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.io.pyarrow import schema_to_pyarrow
from sqlalchemy import create_engine, text

from lakehouse_assets.assets.datasets import DATASETS
from lakehouse_assets.cli import main
from lakehouse_assets.lakehouse import Lakehouse
from lakehouse_assets.landing import erasing as landed
from lakehouse_assets.landing.csv_files import read_chunk
from lakehouse_assets.landing.row_blocks import whole_file
from lakehouse_assets.landing.sinks import count_rows
from lakehouse_assets.landing.zone import LandingZone
from lakehouse_assets.orchestration import forget as forgetting
from lakehouse_assets.orchestration.checks import segments_add_up, session_actions_match
from lakehouse_assets.orchestration.forget import RECORD, forget
from lakehouse_assets.orchestration.instance import terminal_instance
from lakehouse_assets.orchestration.records import redact_records
from lakehouse_assets.people import MARK, People
from lakehouse_assets.settings import load_settings
from lakehouse_assets.storage import erasing as stored
from lakehouse_assets.storage.catalog import CATALOG, set_stamps
from lakehouse_assets.storage.data_files import DataFiles
from lakehouse_assets.storage.forgetting import ErasureUnfinished
from lakehouse_assets_tests.conftest import HEADERS

DAYS = ("2024-03-01", "2024-03-02", "2024-03-04")
GONE, ODD = "person-7f3a", 'müller, "q"'
OTHERS = ("person-7f3a-b", "xperson-7f3a", "person-7f3ab", "person-7f3a_2")


# -- searching, apart from how the code under test does it -----------------------------------------------


def hits(folder: Path, one: str) -> list[str]:
    """Files that hold an id, as it is or decoded, and not only as a part of a longer one."""
    forms = {one, one.replace('"', '""'), json.dumps(one)[1:-1], json.dumps(one, ensure_ascii=False)[1:-1]}
    forms |= {json.dumps(form)[1:-1] for form in tuple(forms)}
    either = b"|".join(re.escape(form.encode()) for form in sorted(forms, key=len, reverse=True))
    pattern = re.compile(rb"(?<![A-Za-z0-9-])(?:" + either + rb")(?![A-Za-z0-9-]|_\d(?!\d{7}))")
    files = [path for path in folder.rglob("*") if path.is_file()]
    return sorted(str(path.relative_to(folder)) for path in files if any(map(pattern.search, decoded(path))))


def decoded(path: Path) -> Iterator[bytes]:
    """A file's bytes, and what they are compressed from."""
    raw = path.read_bytes()
    yield raw
    if raw.startswith(b"PAR1") and raw.endswith(b"PAR1"):  # and not what a killed run has begun
        table = pq.read_table(io.BytesIO(raw))
        yield "\n".join(str(value) for column in table.columns for value in column.unique().to_pylist()).encode()
    if raw.startswith(b"Obj\x01"):  # Avro: blocks between marks, of a count, a size and deflated rows
        sync = raw[-16:]
        for block in raw.split(sync)[1:]:
            for begin in range(2, 12):
                try:
                    yield zlib.decompress(block[begin:], -15)
                    break
                except zlib.error:
                    continue
    for magic, unpack in ((b"\x1f\x8b", gzip.decompress), (b"BZh", bz2.decompress), (b"\xfd7z", lzma.decompress)):
        if raw.startswith(magic):
            yield unpack(raw)
    if raw.startswith(b"\x28\xb5\x2f\xfd"):
        yield pa.CompressedInputStream(pa.BufferReader(raw), "zstd").read()
    if raw.startswith(b"PK"):
        archive = zipfile.ZipFile(io.BytesIO(raw))
        yield from map(archive.read, archive.namelist())


def quoted(one: str) -> str:
    return '"' + one.replace('"', '""') + '"' if '"' in one or "," in one else one


def fill(lake: Any, people: tuple[str, ...]) -> None:
    """Three days of interactions, one of users: valid, rejected, doubled, late, malformed, padded rows of everybody."""
    for number, day in enumerate(DAYS):
        rows = [
            f"{quoted(one)},{day} 1{hour}:0{minute}:00,page_view,p{minute},{100 * minute + place},1.{place}"
            for place, one in enumerate((*people, *OTHERS, "u1"))
            for hour in range(2)
            for minute in range(4)
        ]
        for one in people:
            rows += [
                f"{quoted(one)},{day} 10:00:00,fly,p,1,1",
                f"{quoted(one)},{day},short",
                f"  {quoted(one)} ,x,edit,p,1,1",
            ]
            rows.append(f"{quoted(one)},{DAYS[max(number - 1, 0)]} 10:00:00,edit,late,5,1")
        text = "\n".join([HEADERS["interactions"], *rows]).encode()
        name, content = [
            ("a.csv", text + b"\n"),
            ("a.csv.gz", gzip.compress(text)),
            ("a.csv", text),
        ][number]
        lake.deliver(day, content, name=name)
    users = [f"{quoted(one)},2024-01-{place + 1:02},DE,iPhone,free" for place, one in enumerate((*people, *OTHERS))]
    lake.rows(DAYS[0], *users, *[f"{quoted(one)},no date,DE,iPhone,free" for one in people], dataset="users")


def contents(lake: Any, *but: str) -> dict[str, list[str]]:
    """Every row of every table as text, but for when it was read, and but for those of some users."""
    theirs = People(but)
    return {
        name: [
            str({k: v for k, v in row.items() if k != "ingested_at"})
            for row in lake.table(name)
            if str(row.get("user_id")).strip() not in but and not theirs.named_in(row.get("malformed_row") or "")
        ]
        for name in lake.lakehouse.tables
    }


# -- the whole of it -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lake(make_lake: Callable[..., Any], catalog_home: Path) -> Any:
    """A lakehouse with traces of the users wherever there can be any."""
    lake = make_lake(tables=())
    fill(lake, (GONE, ODD, *(f"crash-{n}-user" for n in range(7))))
    lake.under(tables=("silver.rejected_interactions", "silver.users", "gold.session_metrics")).run()
    more = [
        f"{one},{DAYS[1]} 23:00:00,{action},p,1,1" for one, action in ((GONE, "edit"), (GONE, "fly"), ("u1", "edit"))
    ]
    lake.rows(DAYS[1], *more, name="0.csv")  # the first by name, so that it is among the samples
    lake.run()  # so that there are earlier snapshots of some tables
    settings = lake.lakehouse.settings
    data = Path(str(lake.lakehouse.catalog.load("silver.user_days").location()).removeprefix("file://")) / "data"
    pq.write_table(pa.table({"user_id": [GONE]}), data / "staged-by-a-dead-run.parquet")
    (lake.lakehouse.zone.root / "interactions" / ".x.tmp").write_text(f"{GONE},2024-03-01 10:00:00,edit,p,1,1\n")
    profiles = settings.profiles_path / "silver.user_days"
    profiles.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"user_id": [GONE, "u1"]}), profiles / "2024-03-04.parquet")
    (profiles / "2024-03-04.html").write_text(f"<td>{GONE}</td>")
    (profiles / "2024-03-02.html").write_text("<td>u1</td>")
    log = settings.dagster_path / "storage" / "run" / "compute_logs" / "x.err"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(f"row {{'user_id': '{GONE}'}} and '{OTHERS[0]}'\n")
    return lake


def test_no_byte_of_an_id_is_left_and_nobody_else_is_touched(lake: Any, catalog_home: Path) -> None:
    before = contents(lake, GONE, ODD)
    found = hits(catalog_home, GONE)
    kinds = ("landing/interactions", "landing/users", ".tmp", "metadata/", "data/", ".db", "profiles/", ".err")
    assert [kind for kind in kinds if not any(kind in path for path in found)] == [], "the search finds too little"
    assert hits(catalog_home, ODD)

    done = forget(lake.lakehouse, People({GONE, ODD}), lake.said.append)

    assert hits(catalog_home, GONE) == []
    assert hits(catalog_home, ODD) == []
    assert contents(lake) == before
    assert lake.stale() == {}
    assert lake.run() == []
    for other in OTHERS:
        assert any("landing" in path for path in hits(catalog_home, other))
        assert any(row["user_id"] == other for row in lake.table("gold.session_metrics"))
    assert done.left == []
    assert done.landed_rows == done.rows["bronze.interactions"] + done.rows["bronze.users"]
    record = (catalog_home / RECORD).read_text().splitlines()[-1]
    assert json.loads(record)["users"] == 2
    first, last = date.fromisoformat(DAYS[0]), date.fromisoformat(DAYS[-1])
    assert segments_add_up(lake.lakehouse, first, last) == {}
    assert session_actions_match(lake.lakehouse, first, last) == {}
    assert (lake.lakehouse.settings.profiles_path / "silver.user_days" / "2024-03-02.html").exists()
    log = lake.lakehouse.settings.dagster_path / "storage" / "run" / "compute_logs" / "x.err"
    assert log.read_text() == f"row {{'user_id': '{MARK}'}} and '{OTHERS[0]}'\n"
    with terminal_instance(lake.lakehouse.settings) as instance:  # what is left of the records can be read
        events = instance.fetch_materializations(dg.AssetKey(["silver", "rejected_interactions"]), limit=10).records
        assert MARK in str([event.asset_materialization.metadata for event in events if event.asset_materialization])


class Killed(BaseException):
    """As if the process had ended."""


def after(calls: int, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which does not come back from one of its calls."""
    made = iter(range(calls + 1))

    def call(*arguments: Any, **options: Any) -> Any:
        found = function(*arguments, **options)
        if next(made) == calls:
            raise Killed
        return found

    return call


@pytest.mark.parametrize(
    ("user", "module", "name", "calls"),
    [
        (0, landed, "plan", 0),
        (1, stored, "erase", 0),
        (2, stored, "erase", 1),
        (3, LandingZone, "publish", 1),
        (4, stored, "erase", 9),
        (5, stored, "purge", 3),
        (6, forgetting, "redact_records", 0),
    ],
)
def test_who_dies_in_the_middle_goes_on(
    lake: Any, catalog_home: Path, monkeypatch: pytest.MonkeyPatch, user: int, module: Any, name: str, calls: int
) -> None:
    one = f"crash-{user}-user"
    before = contents(lake, one)
    assert hits(catalog_home, one)
    with monkeypatch.context() as patched:
        target = type(lake.lakehouse.zone.storage) if module is LandingZone else module
        patched.setattr(target, name, after(calls, getattr(target, name)))
        with pytest.raises(Killed):
            forget(lake.lakehouse, People({one}), lake.said.append)
    with pytest.raises(ErasureUnfinished, match="with the same users"):
        forget(lake.lakehouse, People({"u1"}), lake.said.append)
    with pytest.raises(ErasureUnfinished, match="is running or was interrupted"):
        lake.lakehouse.warehouse.base("gold.daily_metrics", {})
    assert forget(lake.lakehouse, People({one}), lake.said.append).resumed
    assert hits(catalog_home, one) == []
    assert contents(lake) == before
    assert lake.stale() == {}


def test_days_that_were_stale_stay_stale(lake: Any) -> None:
    lake.rows(DAYS[2], f"new-user,{DAYS[2]} 12:00:00,edit,p,1,1", name="c.csv")
    stale = lake.stale()
    assert {name for name, days in stale.items() if date.fromisoformat(DAYS[2]) in days} >= {"bronze.interactions"}
    forget(lake.lakehouse, People({"new-user"}), lake.said.append)
    assert {name: set(days) for name, days in lake.stale().items()} == {n: set(days) for n, days in stale.items()}


def test_a_run_that_is_going_on_is_waited_for(lake: Any) -> None:
    with terminal_instance(lake.lakehouse.settings) as instance:
        run = instance.create_run_for_job(_job, status=dg.DagsterRunStatus.STARTED)
        with pytest.raises(ErasureUnfinished, match="1 run of Dagster's"):
            forget(lake.lakehouse, People({"u1"}), lake.said.append)
        instance.delete_run(run.run_id)
    lake.lakehouse.warehouse.base("gold.daily_metrics", {})  # nothing has begun


@dg.job
def _job() -> None:
    pass


def test_recomputed_tables_are_those_of_a_lakehouse_without_the_user(
    make_lake: Callable[..., Any], tmp_path: Path
) -> None:
    tables = ("silver.users", "gold.daily_metrics", "gold.retention_weekly")  # metrics of days, cohorts, a history
    lake = make_lake(tables)
    fill(lake, ("recomputed-user",))
    lake.run()
    kept = lake.contents()["gold.daily_metrics"]
    forget(lake.lakehouse, People({"recomputed-user"}), lake.said.append, recompute=True)
    lake.run()
    found = lake.contents()
    assert found["gold.daily_metrics"] != kept
    shutil.copytree(lake.lakehouse.zone.root, tmp_path / "landing")
    anew = make_lake(tables)
    shutil.copytree(tmp_path / "landing", anew.lakehouse.zone.root, dirs_exist_ok=True)
    anew.run()
    assert anew.contents() == found


# -- landed files ----------------------------------------------------------------------------------------

HEAD = "timestamp;user_id;action_type;page_id;duration_ms;app_version\r\n"
ROW = "2024-03-01 10:00:00;{};edit;p;1;1\r\n"


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.csv.bz2", "a.csv.xz", "a.csv.zst", "a.csv.zip"])
@pytest.mark.parametrize("end", ["\r\n", ""])
def test_every_other_byte_of_a_landed_file_stays(tmp_path: Path, name: str, end: str) -> None:
    others = [ROW.format(one) for one in ("u10", "xu1", '"u1;2"', '"two\nlines"', "u1-a")]
    theirs = [ROW.format(one) for one in ("u1", " u1\t", '"u1"')] + ["u1;malformed\r\n"]
    text = HEAD + "".join(one for pair in zip(others, theirs, strict=False) for one in pair) + others[-1]
    wanted = text
    for row in theirs:
        wanted = wanted.replace(row, "\r\n", 1)
    folder = tmp_path / "interactions" / "date=2024-03-01"
    folder.mkdir(parents=True)
    packed(folder / name, text.removesuffix("\r\n") + end)
    zone = LandingZone(tmp_path)
    planned = landed.plan(zone, People({"u1"}))
    landed.carry_out(zone, planned.rewritings)
    assert [one.rows for one in planned.rewritings] == [4]
    assert [*decoded(folder / name)][-1].decode() == wanted.removesuffix("\r\n") + end
    assert zone.fingerprint(zone.files("interactions", date(2024, 3, 1))[0]) == planned.rewritings[0].sha256
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [name]
    assert landed.plan(zone, People({"u1"})).rewritings == []
    inspection = zone.inspect("interactions", zone.files("interactions", date(2024, 3, 1))[0])
    whole = whole_file(inspection, DATASETS["interactions"])
    assert count_rows(whole) == len(others)
    assert [row["malformed_row"] for batch in read_chunk(whole) for row in batch.to_pylist()] == [None] * len(others)


def packed(path: Path, text: str) -> None:
    content = text.encode()
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("inner.csv", content)
    elif path.suffix == ".zst":
        with pa.CompressedOutputStream(str(path), "zstd") as sink:
            sink.write(content)
    else:
        packers: dict[str, Callable[[bytes], bytes]] = {
            ".gz": gzip.compress,
            ".bz2": bz2.compress,
            ".xz": lzma.compress,
        }
        path.write_bytes(packers[path.suffix](content) if path.suffix in packers else content)


def test_rows_of_others_that_name_a_user_stay_and_are_counted(tmp_path: Path) -> None:
    folder = tmp_path / "interactions" / "date=2024-03-01"
    folder.mkdir(parents=True)
    (folder / "a.csv").write_text(HEAD + ROW.format("u2").replace(";p;", ";u1;"))
    planned = landed.plan(LandingZone(tmp_path), People({"u1"}))
    assert (planned.rewritings, planned.mentions) == ([], 1)


def test_a_file_that_can_not_be_read_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "interactions" / "date=2024-03-01"
    folder.mkdir(parents=True)
    (folder / "a.csv").write_bytes("u1".encode("utf-16"))
    assert re.search(r"a\.csv: is not UTF-8", landed.plan(LandingZone(tmp_path), People({"u1"})).unreadable[0])


# -- ids and texts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("u1", MARK),
        (" u1\t", MARK),
        ("u10", "u10"),
        ("u1-a u-u1 u1_a", "u1-a u-u1 u1_a"),
        ("u1_20240301_0", MARK),
        ("u1_2024_0", "u1_2024_0"),
        ("u1,2024-03-01,edit", f"{MARK},2024-03-01,edit"),
        ("{'user_id': 'u1', 'n': 1}", f"{{'user_id': '{MARK}', 'n': 1}}"),
        ('{"user_id": "u1", "n": 1.0}', f'{{"user_id": "{MARK}", "n": 1.0}}'),
        (json.dumps({"a": json.dumps(["x", "u1"])}), json.dumps({"a": json.dumps(["x", MARK])})),
        ("of user u1: bad", f"of user {MARK} bad"),
        ('k="o, \\"x\\"" y', 'k="o, \\"x\\"" y'),
        ('"ö, x",1', f'"{MARK}",1'),
        (json.dumps({"u": "ö, x"}), json.dumps({"u": MARK})),
    ],
)
def test_texts_are_redacted_where_they_name_a_user(text: str, redacted: str) -> None:
    assert People({"u1", "ö, x"}).redacted(text) == redacted


def test_a_thousand_users_at_once() -> None:
    people = People({f"user-{n}" for n in range(1000)})
    values = pa.chunked_array([[f"user-{n}" for n in range(990, 1010)], [None, " user-5\t"]])
    assert people.are(values).to_pylist() == [True] * 10 + [False] * 10 + [False, True]
    assert people.may_be_in(pa.array(["x user-999 y", "user-", None])).to_pylist() == [True, False, False]


def test_the_command_asks_before_it_deletes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path))
    monkeypatch.setattr("sys.stdin", io.StringIO())
    for arguments, words in (
        (["u1"], "for good; add --yes"),
        (["--yes"], "no user_id is given"),
        (["--yes", "--file", str(tmp_path / "none.txt")], "none.txt can't be read"),
        (["u1", "--yes"], "there is no lakehouse in"),
    ):
        assert main(["forget", *arguments]) == 1
        assert words in capsys.readouterr().err


@pytest.mark.spark
def test_spark_reads_and_goes_on_with_what_forgetting_has_left(make_lake: Callable[..., Any]) -> None:
    lake = make_lake(("silver.user_days", "silver.rejected_interactions"))
    for day in DAYS[:2]:
        lake.rows(day, *[f"{one},{day} 10:00:00,{do},p,1,1" for one in (GONE, "u1", "u2") for do in ("edit", "fly")])
    lake.run()
    assert forget(lake.lakehouse, People({GONE}), lambda _: None).rows["silver.interactions"] == 2
    spark = lake.lakehouse.engine.session
    for name in lake.lakehouse.tables:
        rows = spark.table(f"{CATALOG}.{name}").toArrow().to_pylist()
        assert len(rows) == len(lake.table(name)), name
        assert GONE not in str(rows)

    def actions() -> dict[tuple[str, str], int]:
        return {(row["user_id"], str(row["event_date"])): row["actions"] for row in lake.table("silver.user_days")}

    assert actions() == {(one, day): 1 for one in ("u1", "u2") for day in DAYS[:2]}
    lake.rows(DAYS[1], f"u1,{DAYS[1]} 11:00:00,edit,p,1,1", name="b.csv")
    lake.run()
    assert actions() == {(one, day): 1 for one in ("u1", "u2") for day in DAYS[:2]} | {("u1", DAYS[1]): 2}


@pytest.mark.services
def test_in_a_bucket_no_byte_of_an_id_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lakehouse_assets_tests.stack.services import lake_environment, start_s3

    day = date(2024, 3, 1)
    with ExitStack() as services:
        s3 = start_s3(tmp_path / "s3", services)
        for key, value in lake_environment(s3, s3.port, 0, tmp_path / "home").items():
            monkeypatch.setenv(key, value)
        monkeypatch.setenv("LAKEHOUSE_CATALOG_URI", "")
        lakehouse = Lakehouse(load_settings())
        rows = "".join(ROW.format(one) for one in (GONE, *OTHERS))
        staged = tmp_path / "staged"
        staged.write_bytes(gzip.compress((HEAD + rows).encode()))
        lakehouse.zone.storage.publish(staged, "interactions", day, "a.csv.gz")
        stamps = lakehouse.planner.expected("bronze.interactions", [day])
        table = lakehouse.warehouse.base("bronze.interactions", {}).table
        kept = [{"landing_date": day, "user_id": one} for one in OTHERS]
        schema = schema_to_pyarrow(table.schema(), include_field_ids=False)
        writer = DataFiles(table).begin("first.parquet")
        writer.add(pa.Table.from_pylist([{"landing_date": day, "user_id": f" {GONE}"}, *kept], schema))
        with table.transaction() as transaction, transaction.update_snapshot().fast_append() as append:
            append.append_data_file(writer.finished())
        with table.transaction() as transaction:
            set_stamps(transaction, table, [day], stamps)

        def objects() -> dict[str, bytes]:
            client = s3.client()
            listed = client.list_objects_v2(Bucket=s3.bucket)["Contents"]
            keys = [one["Key"] for one in listed if not one["Key"].endswith("/")]  # such are Arrow's empty folders
            return {key: client.get_object(Bucket=s3.bucket, Key=key)["Body"].read() for key in keys}

        def found() -> list[str]:
            shutil.rmtree(tmp_path / "objects", ignore_errors=True)
            for key, content in objects().items():
                path = tmp_path / "objects" / key
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            return hits(tmp_path / "objects", GONE)

        before = found()
        assert [kind for kind in ("landing/", "/data/", "/metadata/") if not any(kind in key for key in before)] == []
        done = forget(lakehouse, People({GONE}), lambda _: None)
        assert (done.landed_rows, done.rows) == (1, {"bronze.interactions": 1})
        assert found() == []
        assert gzip.decompress(objects()[f"landing/interactions/date={day}/a.csv.gz"]).decode() == HEAD + rows.replace(
            ROW.format(GONE), "\r\n"
        )
        left = lakehouse.catalog.iceberg.load_table("bronze.interactions").scan().to_arrow()["user_id"].to_pylist()
        assert left == list(OTHERS)
        again = Lakehouse(load_settings())
        assert again.catalog.stamps("bronze.interactions") == again.planner.expected("bronze.interactions", [day])


@dg.asset
def rejecting(context: dg.AssetExecutionContext) -> None:
    context.log.info(f"rejected {GONE} and {OTHERS[0]}")
    context.add_output_metadata({"samples": dg.MetadataValue.json([{"user_id": one} for one in (GONE, *OTHERS)])})
    raise dg.Failure(f"row {{'user_id': '{GONE}'}}", metadata={"sample": " ".join([GONE] * 1000)})


@pytest.mark.services
def test_in_postgres_no_record_of_dagsters_names_an_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lakehouse_assets_tests.stack.services import start_postgres

    with ExitStack() as services:
        address = start_postgres(tmp_path / "postgres", services)
        monkeypatch.setenv("DAGSTER_POSTGRES_URL", address)
        settings = load_settings(home=tmp_path / "home")
        engine = create_engine(address, isolation_level="AUTOCOMMIT")

        def texts() -> str:
            """Every value of every table, which Postgres itself keeps compressed."""
            with engine.connect() as connection:
                names = connection.execute(
                    text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
                ).scalars()
                rows = [connection.execute(text(f'SELECT t::text FROM "{name}" t')).scalars() for name in names.all()]
                return "\n".join(row for found in rows for row in found)

        def stored() -> list[str]:
            with engine.connect() as connection:
                connection.execute(text("CHECKPOINT"))
            return hits(tmp_path / "postgres" / "data" / "base", GONE)

        with terminal_instance(settings) as instance:
            tags = {"of": GONE, "also": OTHERS[0]}
            dg.materialize([rejecting], instance=instance, tags=tags, raise_on_error=False)
            [run] = instance.get_runs()
            before = len(instance.all_logs(run.run_id))
            assert GONE in texts()
            assert stored() != []
            assert redact_records(settings, People({GONE})) > 0
            assert [one for one in texts().split("\n") if re.search(rf"{GONE}(?![A-Za-z0-9_-])", one)] == []
            assert stored() == []
            # what is left is whole, and names the others
            events = instance.all_logs(run.run_id)
            assert len(events) == before
            assert any(f"rejected {MARK} and {OTHERS[0]}" in event.user_message for event in events)
            assert [one.tags["also"] for one in instance.get_runs()] == [OTHERS[0]]
        engine.dispose()

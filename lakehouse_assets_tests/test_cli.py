"""The command: a mistake is one sentence and status 1; what users deliver is inert in what comes out. No JVM."""

import ast
import csv
import gzip
import io
import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import vl_convert
from pyiceberg.io.pyarrow import schema_to_pyarrow

import lakehouse_assets
from lakehouse_assets import cli
from lakehouse_assets.assets.datasets import DATASETS
from lakehouse_assets.calendar import DAY
from lakehouse_assets.cli import bring, compute, keep
from lakehouse_assets.cli.command import lakehouse
from lakehouse_assets.cli.compute import by_month
from lakehouse_assets.cli.output import UsageError
from lakehouse_assets.cli.summary import rejected
from lakehouse_assets.lakehouse import Lakehouse
from lakehouse_assets.planning.planner import Work
from lakehouse_assets.reports import vega
from lakehouse_assets.reports.charts import charts_of
from lakehouse_assets.reports.dashboard import write_dashboard
from lakehouse_assets.settings import load_settings

HEADER = ",".join(DATASETS["interactions"])
ROW = "u,2024-03-01 10:00:00,edit,p,10,1"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("LAKEHOUSE_LANDING", raising=False)

    def no_spark(*_: object) -> None:
        raise UsageError("a Spark session was asked for")

    for module in (compute, keep):
        monkeypatch.setattr(module, "start_early", lambda settings, size=None: None)
    monkeypatch.setattr("lakehouse_assets.engines.choice.start_spark", no_spark)
    return tmp_path / "home"


@pytest.fixture
def lakehouse_command(home: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process; status, what it printed, what it complained."""

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = cli.main(arguments)
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def source(home: Path, text: str, name: str = "events.csv") -> str:
    path = home.parent / name
    path.write_text(text)
    return str(path)


def landed_file(home: Path, day: str = "2024-03-01", text: str = f"{HEADER}\n{ROW}\n") -> Path:
    folder = home / "landing" / "interactions" / f"date={day}"
    folder.mkdir(parents=True)
    (folder / "a.csv").write_text(text)
    return folder / "a.csv"


def store(home: Path, name: str, rows: Sequence[dict[str, Any]]) -> Lakehouse:
    """A published table, written by PyIceberg so that no JVM is needed; left-out columns are filled."""
    lakehouse = Lakehouse(load_settings(home=home))
    declared = lakehouse.tables[name]
    columns = {field.name: field.dataType.simpleString() for field in declared.spark_schema.fields}
    table = lakehouse.catalog.ensure(name, columns, declared.partition_column)
    fill = {
        "string": "x",
        "bigint": 1,
        "double": 1.0,
        "boolean": False,
        "date": date(2024, 3, 1),
        "timestamp": datetime(2024, 3, 1, 10, tzinfo=UTC),
    }
    whole = [{column: row.get(column, fill[kind]) for column, kind in columns.items()} for row in rows]
    path = Path(table.location().removeprefix("file://")) / "data" / f"{uuid4()}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(whole, schema_to_pyarrow(table.schema(), include_field_ids=False)), path)
    table.add_files([str(path)])
    return lakehouse


def assert_one_sentence(outcome: tuple[int, str, str], words: str) -> None:
    status, _, complaint = outcome
    assert status == 1
    assert re.search(words, complaint), complaint
    assert complaint.startswith("lakehouse: ")
    assert complaint.count("\n") == 1
    assert "Traceback" not in complaint


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run"], "nothing to compute: .*/landing has no files; land one with `lakehouse land interactions FILE`"),
        (["run", "--start", "2024-03-01"], "--start and --end belong together"),
        (["run", "--end", "2024-03-01"], "--start and --end belong together"),
        (["run", "--start", "2024-03-02", "--end", "2024-03-01"], "--end 2024-03-01 is before --start 2024-03-02"),
        (["run", "--start", "yesterday", "--end", "2024-03-01"], "'yesterday' is not a date; write it as YYYY-MM-DD"),
        (["run", "--start", "2024-02-30", "--end", "2024-03-01"], "'2024-02-30' is not a date"),
        (["backfill", "--start", "2024-03-02", "--end", "2024-03-01"], "--end 2024-03-01 is before --start 2024-03-02"),
        (["backfill", "--start", "' OR '1'='1", "--end", "2024-03-01"], "is not a date"),
        (["backfill", "--start", "../../x", "--end", "2024-03-01", "--parallel", "2"], "'../../x' is not a date"),
        (["export", "gold.daily_metrics", "-o", "x.csv"], "there is no table 'gold.daily_metrics'; there are none yet"),
        (["export", "gold.daily_metrics", "--start", "x", "-o", "x.csv"], "'x' is not a date"),
        (["export", "gold'; DROP TABLE x; --", "-o", "x.csv"], "there is no table"),
        (["export", "../../etc/passwd", "-o", "x.csv"], r"there is no table '\.\./\.\./etc/passwd'"),
        (["export", "/etc/passwd", "-o", "x.csv"], "there is no table"),
        (["sql", "select * from nowhere"], "nowhere"),
        (["sql", "select * from gold.x"], "Table with name x does not exist; .*/home has no tables yet$"),
        (["sql", "selekt 1"], "selekt"),
        (["land", "interactions", "nowhere.csv"], "nowhere.csv: no such file"),
        (["land", "interactions", "."], "is a folder; name the files in it"),
        (["land", "users", "nowhere.csv", "--date", "2024-3-1"], "'2024-3-1' is not a date"),
        (["land", "users", "nowhere.csv", "--date", "../../x"], "'../../x' is not a date"),
        (["land", "users", "nowhere.csv", "--date", "1999-12-31"], "--date 1999-12-31 is not between 2000-01-01"),
        (["land", "users", "nowhere.csv", "--date", "9999-12-31"], "--date 9999-12-31 is not between 2000-01-01"),
        (
            ["land", "interactions", "x.csv", "--map", "uid"],
            "--map uid: write it as COLUMN=YOUR_NAME; .* user_id",
        ),
        (["land", "interactions", "x.csv", "--map", "user_id="], "--map user_id=: write it as COLUMN=YOUR_NAME"),
        (["land", "users", "x.csv", "--map", "timestamp=ts"], "--map timestamp=ts: .* one of user_id, join_date"),
        (["generate", "--users", "0", "-o", "made"], "users"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_sentence(lakehouse_command: Run, home: Path, arguments: list[str], words: str) -> None:
    assert_one_sentence(lakehouse_command(*arguments), words)
    assert not (home / "landing").exists()


def test_progress_is_told_in_a_unit_that_is_not_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bring, "time", SimpleNamespace(monotonic=iter((0, 3, 6, 9, 12)).__next__))
    progress = bring._byte_progress("a.csv")
    progress(200_000, 400_000)
    progress(30_000_000, 40_000_000)
    progress(40_000_000, 40_000_000)
    progress(54, 115)  # a machine that is busy takes seconds for it
    told = ["a.csv: 200 of 400 kB, about 3 s left", "a.csv: 30 of 40 MB, about 2 s left"]
    assert [line.strip() for line in capsys.readouterr().out.splitlines()] == told


@pytest.mark.parametrize("arguments", [[], ["walk"], ["land", "sessions", "x.csv"], ["export", "gold.daily_metrics"]])
def test_an_unknown_command_or_a_missing_option_shows_the_usage(lakehouse_command: Run, arguments: list[str]) -> None:
    status, _, complaint = lakehouse_command(*arguments)
    assert status == 2
    assert complaint.startswith("Usage: lakehouse")
    assert "Traceback" not in complaint


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("LAKEHOUSE_LATE_DAYS", "three"),
        ("LAKEHOUSE_LATE_DAYS", "-1"),
        ("LAKEHOUSE_REPORTING_TIMEZONE", "Mars/Olympus"),
        ("LAKEHOUSE_MAX_DURATION_MS", "0"),
        ("LAKEHOUSE_ALLOWED_ACTIONS", " , "),
        ("LAKEHOUSE_START_DATE", "first of may"),
        ("LAKEHOUSE_DRIVER_MEMORY", "lots"),
        ("LAKEHOUSE_ALOWED_ACTIONS", "edit"),
        ("LAKEHOUSE_TIMEZONE", "Asia/Kolkata"),
        ("LAKEHOUSE_INPUT_TIMEZONE", "localtime"),
        ("LAKEHOUSE_ACTIONS", "edit"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(
    lakehouse_command: Run, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    assert_one_sentence(lakehouse_command("tables"), variable)


def test_a_home_that_cannot_be_a_folder_is_one_sentence(
    lakehouse_command: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    occupied = source(home, "a file", "occupied")
    monkeypatch.setenv("LAKEHOUSE_HOME", occupied)
    assert_one_sentence(lakehouse_command("tables"), f"LAKEHOUSE_HOME={occupied} can't be")


def test_a_landing_zone_that_cannot_be_written_is_one_sentence(
    lakehouse_command: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEHOUSE_LANDING", source(home, "a file", "occupied"))
    events = source(home, f"{HEADER}\n{ROW}\n")
    assert_one_sentence(lakehouse_command("land", "interactions", events), "occupied")
    assert_one_sentence(lakehouse_command("land", "interactions", events, "--date", "2024-03-01"), "occupied")


def test_a_refused_file_ends_a_run_with_one_sentence_that_names_it(lakehouse_command: Run, home: Path) -> None:
    path = landed_file(home, text="")
    assert_one_sentence(lakehouse_command("run"), re.escape(f"{path}: is empty (0 bytes)"))
    path.write_text("<html>no such bucket</html>")
    assert_one_sentence(lakehouse_command("run"), re.escape(f"{path}: is an HTML or XML page"))


def test_a_broken_link_ends_a_run_with_one_sentence_that_names_it(lakehouse_command: Run, home: Path) -> None:
    path = landed_file(home)
    path.unlink()
    path.symlink_to(home / "nowhere.csv")
    assert_one_sentence(lakehouse_command("run"), re.escape(f"{path}: is a link to a file that does not exist"))


@pytest.mark.timeout(60)
def test_an_error_nobody_foresaw_is_shown_and_does_not_hang(
    lakehouse_command: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("the disk is on fire")

    landed_file(home)
    monkeypatch.setattr("lakehouse_assets.landing.zone.LandingZone.inspect", fail)
    with pytest.raises(Exception) as failed:  # noqa: PT011  Dagster wraps it
        lakehouse_command("run")
    assert "the disk is on fire" in f"{failed.value} {failed.value.__cause__}"


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("start", "end"), [("1999-01-01", "1999-01-02"), ("2024-03-01", "2999-01-01")])
def test_a_range_outside_the_calendar_is_one_sentence(
    lakehouse_command: Run, home: Path, start: str, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def execute(*_: object) -> None:
        raise UsageError("a run was started")

    landed_file(home)
    monkeypatch.setattr("lakehouse_assets.runner.Runner._execute_one", execute)
    wrong = start if start < "2000" else end
    assert_one_sentence(lakehouse_command("run", "--start", start, "--end", end), wrong)
    assert_one_sentence(lakehouse_command("backfill", "--start", start, "--end", end), wrong)


def test_a_range_is_divided_between_months_as_evenly_as_they_allow() -> None:
    whole = (date(2023, 1, 5), date(2023, 12, 30))
    parts = by_month(*whole, 8)
    assert len(parts) == 8
    assert (parts[0][0], parts[-1][1]) == whole
    assert all(after[0] == before[1] + DAY and after[0].day == 1 for before, after in pairwise(parts))
    assert {(last.month - first.month) for first, last in parts} == {0, 1}
    assert by_month(date(2024, 1, 30), date(2024, 2, 2), 5) == [
        (date(2024, 1, 30), date(2024, 1, 31)),
        (date(2024, 2, 1), date(2024, 2, 2)),
    ]


def test_land_says_what_went_where(lakehouse_command: Run, home: Path) -> None:
    events = source(home, f"{HEADER}\n{ROW}\nu,2024-03-02 10:00:00,edit,p,10,1\nu,never,edit,p,10,1\n")
    status, printed, _ = lakehouse_command("land", "interactions", events)
    assert status == 0
    assert "events.csv: 3 rows, 2 days: 2024-03-01 … 2024-03-02" in printed
    assert "1 row with an unreadable timestamp (such as 'never') landed under 2024-03-02, to be rejected" in printed
    again = lakehouse_command("land", "interactions", events)[1]
    assert "replaced the earlier file of that name on: 2024-03-01 … 2024-03-02" in again
    packed = home.parent / f"{Path(events).name}.gz"
    packed.write_bytes(gzip.compress(Path(events).read_bytes()))
    status, _, said = lakehouse_command("land", "interactions", events, str(packed))
    assert status == 1
    assert "two files would be landed as events.csv, so one would replace the other; rename one" in said
    bare = home.parent / "events"  # landed as it is, it gets the ending that the other has
    bare.write_bytes(Path(events).read_bytes())
    status, _, said = lakehouse_command("land", "interactions", events, str(bare), "--date", "2024-03-05")
    assert status == 1
    assert "two files would be landed as events.csv, so one would replace the other; rename one" in said

    def lines() -> dict[str, int]:
        return {path.parent.name: path.read_text().count("\n") for path in (home / "landing").rglob("events.csv")}

    assert lines() == {"date=2024-03-01": 2, "date=2024-03-02": 3}
    fewer = source(home, f"{HEADER}\nu,2024-03-02 10:00:00,edit,p,10,1\n")
    refused = lakehouse_command("land", "interactions", fewer)
    assert_one_sentence(
        refused, r"events\.csv would replace 2 rows of 2024-03-02 with 1 row; rename it .* or use --replace"
    )
    assert lines() == {"date=2024-03-01": 2, "date=2024-03-02": 3}
    assert lakehouse_command("land", "interactions", fewer, "--replace")[0] == 0
    assert lines() == {"date=2024-03-01": 2, "date=2024-03-02": 2}
    extra = source(home, f"{HEADER},channel\n{ROW},web\n", "extra.csv")
    assert "columns kept in bronze only: channel" in lakehouse_command("land", "interactions", extra)[1]
    users = source(home, "user_id,signup,country\nu,2024-03-01,NO\n", "users.csv")
    assert_one_sentence(
        lakehouse_command("land", "users", users),
        r"columns 'join_date', 'device_type', 'subscription_type' are missing; found: user_id, signup, country",
    )
    renamed = source(home, f"uid{HEADER.removeprefix('user_id')}\n{ROW}\n", "renamed.csv")
    assert lakehouse_command("land", "interactions", renamed, "--map", "user_id=uid", "--date", "2024-03-05")[0] == 0
    assert (home / "landing/interactions/date=2024-03-05/renamed.csv").read_text() == f"{HEADER}\n{ROW}\n"


def test_users_land_under_today_and_give_way_only_to_as_many_rows(lakehouse_command: Run, home: Path) -> None:
    header = ",".join(DATASETS["users"])
    two = source(home, f"{header}\na,2024-01-01,DE,ios,paid\nb,2024-01-01,DE,ios,paid\n", "users.csv")
    told = f"users.csv: delivered as it is under {datetime.now(tz=UTC).date()}, today in UTC; use --date D"
    assert told in lakehouse_command("land", "users", two)[1]
    dated = lakehouse_command("land", "users", two, "--date", "2024-03-01")[1]
    assert "users.csv: delivered as it is under 2024-03-01\n" in dated
    one = source(home, f"{header}\nc,2024-01-01,DE,ios,paid\n", "users.csv")
    refused = lakehouse_command("land", "users", one, "--date", "2024-03-01")
    assert_one_sentence(refused, r"users\.csv would replace 2 rows of 2024-03-01 with 1 row; .* use --replace")
    landed = home / "landing/users/date=2024-03-01/users.csv"
    assert landed.read_text().count("\n") == 3
    assert [path.name for path in landed.parent.iterdir()] == ["users.csv"]
    replaced = lakehouse_command("land", "users", one, "--date", "2024-03-01", "--replace")[1]
    assert "replaced the earlier file of that name on: 2024-03-01" in replaced
    assert landed.read_text().count("\n") == 2
    as_it_is = ("land", "interactions", "events.csv", "--date", "2024-03-01")
    source(home, f"{HEADER}\n{ROW}\n{ROW}\n")
    assert lakehouse_command(*as_it_is)[0] == 0
    source(home, f"{HEADER}\n{ROW}\n")
    assert_one_sentence(lakehouse_command(*as_it_is), r"events\.csv would replace \d+ rows of 2024-03-01 with 1 row")


def test_files_before_a_mistake_stay_landed_and_the_mistake_is_named(lakehouse_command: Run, home: Path) -> None:
    good = source(home, f"{HEADER}\n{ROW}\n", "good.csv")
    bad = source(home, "user;timestamp\n", "bad.csv")
    outcome = lakehouse_command("land", "interactions", good, bad)
    assert_one_sentence(outcome, r"bad\.csv: columns 'user_id', .* are missing; found: user, timestamp")
    assert "good.csv: 1 row, 1 day: 2" in outcome[1]
    assert [path.name for path in (home / "landing").glob("interactions/date=*/*")] == ["good.csv"]


FORMULAS = [
    "=cmd|' /C calc'!A0",
    '=HYPERLINK("http://x","y")',
    "+1+1",
    "-2+3",
    "@SUM(1)",
    "\t=1",
    "\r=1",
    "\n=1",
]
HARMLESS = ["plain", "a=b", "1-1", "'quoted", 'say "hi", twice', "two\nlines", "<script>alert(1)</script>", " ", "ü"]


def test_a_csv_export_keeps_formulas_inert_and_everything_else_as_it_was(lakehouse_command: Run, home: Path) -> None:
    store(home, "silver.interactions", [{"user_id": v, "page_id": v, "duration_ms": 0} for v in FORMULAS + HARMLESS])
    assert lakehouse_command("export", "silver.interactions", "-o", "x.csv")[0] == 0
    with (home.parent / "x.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    for column in ("user_id", "page_id"):
        values = [row[column] for row in rows]
        assert not [value for value in values if value.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))]
        assert sorted(values) == sorted([f"'{value}" for value in FORMULAS] + HARMLESS)
    assert {row["duration_ms"] for row in rows} == {"0"}
    assert {row["timestamp"] for row in rows} == {"2024-03-01 10:00:00"}


@pytest.mark.parametrize("file_format", ["parquet", "json"])
def test_other_exports_keep_every_value(lakehouse_command: Run, home: Path, file_format: str) -> None:
    store(home, "silver.interactions", [{"user_id": value} for value in FORMULAS + HARMLESS])
    assert lakehouse_command("export", "silver.interactions", "--format", file_format, "-o", "x.out")[0] == 0
    path = home.parent / "x.out"
    if file_format == "json":
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    else:
        rows = pq.read_table(path).to_pylist()
    assert sorted(row["user_id"] for row in rows) == sorted(FORMULAS + HARMLESS)


def test_export_takes_the_days_asked_for_in_order(lakehouse_command: Run, home: Path) -> None:
    days = [date(2024, 3, day) for day in (4, 2, 1, 3)]
    store(home, "gold.daily_metrics", [{"date": day, "total_actions": day.day} for day in days])
    outcome = lakehouse_command(
        "export", "gold.daily_metrics", "--start", "2024-03-02", "--end", "2024-03-03", "-o", "x.csv"
    )
    assert outcome[:2] == (0, "2 rows of gold.daily_metrics in x.csv\n")
    rows = list(csv.DictReader(io.StringIO((home.parent / "x.csv").read_text())))
    assert [(row["date"], row["total_actions"]) for row in rows] == [("2024-03-02", "2"), ("2024-03-03", "3")]


def test_export_mistakes_are_one_sentence_and_leave_nothing(lakehouse_command: Run, home: Path) -> None:
    store(home, "gold.daily_metrics", [{}])
    there_are = "there is no table 'gold.daily'; there are gold.daily_metrics"
    assert_one_sentence(lakehouse_command("export", "gold.daily", "-o", "x.csv"), there_are)
    for target in ("nowhere/x.csv", "home"):
        assert_one_sentence(
            lakehouse_command("export", "gold.daily_metrics", "-o", target, "--format", "csv"),
            f"{target} can't be written",
        )
    assert_one_sentence(
        lakehouse_command("export", "gold.daily_metrics", "-o", "x.xlsx"), r"must be one of \.csv, .*--format"
    )
    assert sorted(path.name for path in home.parent.iterdir()) == ["home"]


def test_an_export_that_ends_before_it_starts_is_one_sentence(lakehouse_command: Run, home: Path) -> None:
    store(home, "gold.daily_metrics", [{}])
    backwards = ["--start", "2024-03-02", "--end", "2024-03-01", "-o", "x.csv"]
    assert_one_sentence(
        lakehouse_command("export", "gold.daily_metrics", *backwards), "--end 2024-03-01 is before --start 2024-03-02"
    )


def test_sql_answers_from_the_tables(lakehouse_command: Run, home: Path) -> None:
    store(home, "gold.daily_metrics", [{"total_actions": 4711}])
    status, printed, _ = lakehouse_command("sql", "select total_actions from gold.daily_metrics")
    assert status == 0
    assert "4711" in printed
    close = lakehouse_command("sql", "select total_action from gold.daily_metrics")
    assert_one_sentence(close, 'column "total_action" not found .* "total_actions".*; `lakehouse tables` lists')


@pytest.mark.parametrize(
    "query",
    [
        "select * from read_text('{secret}')",
        "select * from '{secret}'",
        "copy (select 1) to '{secret}'",
        "attach '{secret}' as other",
        "install httpfs",
        "load httpfs",
        "set enable_external_access = true",
        "select * from glob('{home}/*')",
    ],
)
def test_sql_reads_and_writes_nothing_but_the_tables(lakehouse_command: Run, home: Path, query: str) -> None:
    store(home, "gold.daily_metrics", [{}])
    secret = home.parent / "secret.csv"
    secret.write_text("canary\n")
    outcome = lakehouse_command("sql", query.format(secret=secret, home=home))
    assert_one_sentence(outcome, "")
    assert "canary" not in outcome[1] + outcome[2]
    assert secret.read_text() == "canary\n"


def test_a_profile_without_its_package_is_one_sentence(lakehouse_command: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_one_sentence(
        lakehouse_command("profile", "silver.user"), "there is no table 'silver.user'; there are bronze"
    )
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)  # as where the extra is not installed
    assert_one_sentence(lakehouse_command("profile", "silver.users"), "profiles need the package fg-data-profiling")


def test_a_run_says_how_many_rows_were_rejected_and_why(home: Path) -> None:
    first, last = date(2024, 3, 1), date(2024, 3, 2)
    routed: list[dict[str, Any]] = [
        {"landing_date": first, "reason": None, "delivered_rows": 1000},
        {"landing_date": first, "event_date": None, "reason": "bad_timestamp", "delivered_rows": 3},
        {"landing_date": last, "event_date": None, "reason": "unknown_action", "delivered_rows": 2500},
        {"landing_date": date(2024, 3, 3), "event_date": None, "reason": "unknown_action", "delivered_rows": 7},
    ]
    lakehouse = store(home, "silver.interaction_routing", routed)
    work = [Work(("silver.interaction_routing",), first, last), Work(("gold.daily_metrics",), first, last)]
    assert rejected(work, lakehouse.catalog) == [
        "rejected: 2,503 of 3,503 rows (unknown_action 2,500, bad_timestamp 3); see silver.rejected_interactions"
    ]
    assert rejected(work[1:], lakehouse.catalog) == []


def test_a_run_says_how_many_rows_are_duplicates(home: Path) -> None:
    first, last = date(2024, 3, 1), date(2024, 3, 2)
    counted = [{"date": day, "duplicate_rows": rows} for day, rows in ((first, 1200), (last, 4), (date(2024, 3, 3), 7))]
    lakehouse = store(home, "silver.interaction_counts", counted)
    work = [Work(("silver.interaction_counts",), first, last)]
    assert rejected(work, lakehouse.catalog) == [
        "duplicates: 1,204 interactions with the same user, instant, action and page as another, not counted; see "
        "silver.interaction_counts"
    ]


def test_a_range_of_days_without_a_file_is_named_before_it_is_computed(lakehouse_command: Run) -> None:
    status, printed, told = lakehouse_command("run", "--start", "2024-03-05", "--end", "2024-03-06")
    assert "no file of interactions is landed under 2024-03-05 … 2024-03-06; these days get the late rows" in printed
    assert (status, told) == (
        1,
        "lakehouse: no interactions are landed yet; land a file with `lakehouse land interactions FILE`\n",
    )


def test_show_tables_gives_names_that_a_query_can_have(lakehouse_command: Run, home: Path) -> None:
    store(home, "gold.daily_metrics", [{}])
    status, printed, _ = lakehouse_command("sql", "SHOW  tables;")
    assert status == 0
    assert "gold.daily_metrics" in printed
    assert "gold__" not in printed


def test_a_run_says_why_a_history_delivered_under_one_date_is_late(home: Path) -> None:
    day = date(2024, 3, 1)
    rows = [{"landing_date": day, "event_date": None, "reason": "late_event", "delivered_rows": 7}]
    lakehouse = store(home, "silver.interaction_routing", rows)
    _, hint = rejected([Work(("silver.interaction_routing",), day, day)], lakehouse.catalog)
    assert "more than LAKEHOUSE_LATE_DAYS (3) before the landing date" in hint


def test_a_run_says_why_rows_are_of_the_future(home: Path) -> None:
    day = date(2024, 3, 1)
    rows = [{"landing_date": day, "event_date": None, "reason": "future_event", "delivered_rows": 7}]
    lakehouse = store(home, "silver.interaction_routing", rows)
    _, hint = rejected([Work(("silver.interaction_routing",), day, day)], lakehouse.catalog)
    assert "future_event: after the landing date in UTC;" in hint


def test_status_says_what_another_time_zone_divides_again_and_land_does_so_first(
    lakehouse_command: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = source(home, f"{HEADER}\nu,2024-03-01 20:00:00,edit,p,10,1\n")
    assert lakehouse_command("land", "interactions", events)[0] == 0
    monkeypatch.setenv("LAKEHOUSE_REPORTING_TIMEZONE", "Asia/Kolkata")

    def dates() -> list[str]:
        return sorted(path.parent.name for path in (home / "landing").glob("interactions/date=*/*"))

    said = lakehouse_command("status")[1]
    assert (
        "events.csv was split by days of UTC, times without an offset in UTC; the settings now say days of Asia/K"
        in said
    )
    assert "`lakehouse run` splits it again" in said
    assert dates() == ["date=2024-03-01"]
    other = source(home, f"{HEADER}\n{ROW}\n", "other.csv")
    assert "splitting 1 file again" in lakehouse_command("land", "interactions", other)[1]
    assert dates() == ["date=2024-03-01", "date=2024-03-02"]
    assert "split by" not in lakehouse_command("status")[1]


def test_scripts_get_json_and_nothing_else(lakehouse_command: Run, home: Path) -> None:
    assert lakehouse_command("tables", "--json") == (0, "[]\n", "")
    assert lakehouse_command("land", "--quiet", "interactions", source(home, f"{HEADER}\n{ROW}\n")) == (0, "", "")
    code, said, _ = lakehouse_command("status", "--json")
    assert (code, [(one["first"], one["state"]) for one in json.loads(said)]) == (0, [("2024-03-01", "stale")])
    store(home, "gold.daily_metrics", [{}])
    [table] = json.loads(lakehouse_command("tables", "--json")[1])
    assert (table["table"], table["rows"], table["stale_days"]) == ("gold.daily_metrics", 1, 1)


def test_who_only_looks_makes_no_lakehouse(lakehouse_command: Run, home: Path) -> None:
    """The folder may be a mistyped one."""
    for command in (["status"], ["tables"], ["sql", "SELECT 1"], ["cleanup", "--retention-days", "3"]):
        assert lakehouse_command(*command)[0] == 0
    assert_one_sentence(
        lakehouse_command("sql", "FROM gold.daily_metrics"), f"does not exist.* {home} has no tables yet"
    )
    assert_one_sentence(
        lakehouse_command("export", "gold.daily_metrics", "-o", "x.csv"), f"no table .* none yet in {home}"
    )
    assert_one_sentence(lakehouse_command("maintain"), "no tables yet")
    assert_one_sentence(lakehouse_command("run"), "nothing to compute")
    assert not home.exists()


def test_status_says_what_waits(lakehouse_command: Run, home: Path) -> None:
    assert "nothing is landed" in lakehouse_command("status")[1]
    lakehouse_command("land", "interactions", source(home, f"{HEADER}\n{ROW}\n"))
    code, said, _ = lakehouse_command("status")
    assert code == 0
    assert re.search(r"2024-03-01 +1  stale +bronze.interactions: not computed yet \(\d+ tables affected\)", said)
    assert said.endswith("next: lakehouse run, lakehouse dev (computes complete files by itself)\n")
    landing = home / "landing"
    for stray in ("a.csv", "interactions/2024-03-01/a.csv", "interactions/date=2024-03-01/a.txt"):
        (landing / stray).parent.mkdir(exist_ok=True)
        (landing / stray).touch()
        assert f"ignored: {landing / stray}; expected interactions/date=" in lakehouse_command("status")[1]
    for meant in (".a.csv", "interactions/date=2024-03-01/_SUCCESS", "interactions/date=2024-03-01/a.csv.tmp"):
        (landing / meant).touch()
        assert f"{landing / meant} is" not in lakehouse_command("status")[1]
    (landing / "interactions/date=2024-03-01/a.csv").touch()
    assert "failed" not in lakehouse_command("status")[1]  # which reads no file
    assert lakehouse_command("run")[0] == 1
    assert re.search(r"2024-03-01 +2  failed +.*a\.csv: is empty", lakehouse_command("status")[1])


def test_what_is_next_can_be_pasted(lakehouse_command: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", [str(Path(".venv/bin/lakehouse").resolve())])
    monkeypatch.setenv("PATH", "")
    assert (
        "next: .venv/bin/lakehouse land interactions FILE, .venv/bin/lakehouse demo" in lakehouse_command("status")[1]
    )


def test_a_taken_port_is_one_sentence(lakehouse_command: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert_one_sentence(lakehouse_command("dev", "--port", port), f"--port {port} can't be used .*; choose another")


def test_tables_lists_what_is_there(lakehouse_command: Run, home: Path) -> None:
    assert f"no tables yet, no landed files in {home}/landing; next: " in lakehouse_command("tables")[1]
    assert_one_sentence(lakehouse_command("run"), "nothing to compute: .*/landing has no files")  # a catalog is there
    lakehouse_command("land", "interactions", source(home, f"{HEADER}\n{ROW}\n"))
    assert "no tables yet, 1 landed file to compute; next: " in lakehouse_command("tables")[1]
    store(home, "gold.daily_metrics", [{}, {"date": date(2024, 3, 2)}])
    assert re.search(r"gold\.daily_metrics +2 +1 ", lakehouse_command("tables")[1])
    assert_one_sentence(
        lakehouse_command("sql", "FROM gold.x"), "does not exist.* `lakehouse tables` lists the tables$"
    )


@pytest.mark.parametrize("query", ["drop view gold.daily_metrics", "select 1; delete from gold.daily_metrics"])
def test_sql_that_would_change_something_is_refused(lakehouse_command: Run, home: Path, query: str) -> None:
    store(home, "gold.daily_metrics", [{}])
    assert_one_sentence(lakehouse_command("sql", query), "`lakehouse sql` only reads; write a query that begins with")


def test_a_command_that_only_looks_imports_nothing_that_computes(home: Path) -> None:
    """Each of these takes from a fifth of a second to two seconds to import, and the command a second in all."""
    store(home, "gold.daily_metrics", [{}])
    heavy = {"dagster", "pandera", "pysail", "grpc", "pyspark.sql.connect", "requests", "altair"}
    commands = [
        ["sql", "select * from gold.daily_metrics"],
        ["export", "gold.daily_metrics", "-o", "x.csv"],
        ["tables"],  # which, with the next, may import what declares tables
        ["status"],
    ]
    script = (
        "import json, sys; from lakehouse_assets import cli\n"
        "for arguments in json.loads(sys.argv[1]): print('looked:', cli.main(arguments), *sorted(sys.modules))"
    )
    command = [sys.executable, "-c", script, json.dumps(commands)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    looked = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("looked: ")]
    assert [status for status, *_ in looked] == ["0"] * 4, done.stderr
    for (name, *_), (_, *modules), also in zip(commands, looked, ({"pyspark"}, {"pyspark"}, set(), set()), strict=True):
        assert (heavy | also) & set(modules) == set(), name


def test_the_dashboard_keeps_delivered_text_inert_and_needs_no_network(home: Path) -> None:
    attack = "</script><script>alert(1)</script>"
    store(home, "silver.interaction_routing", [{"reason": attack, "event_date": None}])
    store(home, "silver.interaction_counts", [{"accepted_rows": 31_337}])
    store(home, "gold.daily_metrics", [{"daily_active_users": 4711}])
    lakehouse = store(home, "gold.daily_session_metrics", [{"sessions": 2718}])
    page = write_dashboard(lakehouse.catalog, lakehouse.declared, home / "dashboard.html").read_text(encoding="utf-8")
    assert all(number in page for number in ("4711", "2718", "31337")), "the page does not show the metrics"
    assert attack not in page
    assert "\\u003c/script>\\u003cscript>alert(1)" in page
    assert not re.search(r"""<(script|link|img|iframe)\b[^>]*\b(src|href)\s*=\s*["']?(https?:)?//""", page)


def test_every_chart_draws_the_rows_of_its_table(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    charts = charts_of(Lakehouse(load_settings(home=home)).declared)
    for table in {chart.table for chart in charts}:
        row = {"reason": "unknown_action", "cohort_by": "first_activity", "period": "day"}
        lakehouse = store(home, table, [row, row | {"measure": "session_length"}])
    page = write_dashboard(lakehouse.catalog, lakehouse.declared, home / "dashboard.html").read_text(encoding="utf-8")
    content = json.loads(re.findall(r'<script type="application/json" id="data">(.*?)</script>', page)[0])
    assert [chart["title"] for chart in content["charts"]] == [chart.title for chart in charts]
    for chart in content["charts"]:
        assert chart["rows"], chart["title"]
        for choice, drawn in chart["specs"].items():
            rows = [row for row in chart["rows"] if not choice or row[3] == choice]
            values = [dict(zip(("day", "series", "value"), row, strict=False)) for row in rows]
            image = vl_convert.vegalite_to_svg(drawn | {"data": {"values": values}, "width": 300})
            assert "<svg" in image
            with monkeypatch.context() as patched:  # a plot is the same, and is translated once
                patched.setenv("LAKEHOUSE_CACHE", str(tmp_path / "cache"))
                plot = vega.svg(drawn | {"width": 300}, values)
                assert re.sub(r"gradient_\d+", "", plot) == re.sub(r"gradient_\d+", "", image)
                patched.setattr(vl_convert, "vegalite_to_vega", None)
                assert vega.svg(drawn | {"width": 300}, values[:1]).startswith("<svg")


PICKLES = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "jsonpickle"}


def test_nothing_of_ours_pickles() -> None:
    modules = sorted(Path(lakehouse_assets.__file__).parent.rglob("*.py"))
    assert len(modules) > 20
    for module in modules:
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name.split(".")[0] for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [(node.module or "").split(".")[0]]
            elif isinstance(node, ast.Attribute):
                names = ["pickle"] if "pickle" in node.attr else []
            elif isinstance(node, ast.keyword):
                names = ["pickle"] if node.arg == "allow_pickle" else []
            assert not PICKLES & set(names), f"{module}:{getattr(node, 'lineno', '')}"


def test_every_asset_is_stored_by_the_iceberg_manager_and_none_by_dagsters_pickling_one(home: Path) -> None:
    from lakehouse_assets.definitions import build_definitions

    lakehouse = Lakehouse(load_settings(home=home))
    definitions = build_definitions(lakehouse)
    managers = {
        key.to_user_string().replace("/", "."): asset.get_io_manager_key_for_asset_key(key)
        for asset in definitions.resolve_asset_graph().assets_defs
        for key in asset.keys
        if asset.is_executable
        and not asset.op.output_def_named(
            asset.get_output_name_for_asset_key(key)
        ).dagster_type.is_nothing  # what is nothing is handed to nobody
    }
    assert managers == dict.fromkeys(lakehouse.tables, "iceberg")


def test_days_without_a_file_at_the_end_of_a_lake_can_be_taken_back(home, lakehouse_command):
    lakehouse = Lakehouse(load_settings(home=home))
    lakehouse.zone.folder("interactions", date(2024, 3, 2)).mkdir(parents=True)
    assert lakehouse_command("cleanup", "--empty-end") == (
        0,
        "nothing to remove: no day after the last landing date is computed\n",
        "",
    )
    stamps = json.dumps({f"{day:02}": "stamp" for day in (1, 2, 3, 5)})
    table = lakehouse.warehouse.base("bronze.interactions", {}).table
    table.transaction().set_properties({"lakehouse.stamps.2024-03": stamps}).commit_transaction()
    told = "2024-03-03, 2024-03-05: 2 days without a file"
    assert lakehouse_command("cleanup", "--empty-end", "--dry-run") == (0, f"{told} would be removed\n", "")
    assert len(lakehouse.catalog.stamps("bronze.interactions")) == 4
    status, out, _ = lakehouse_command("cleanup", "--empty-end")
    assert (status, out.splitlines()[0]) == (0, f"{told} to be removed")
    assert set(lakehouse.catalog.stamps("bronze.interactions")) == {date(2024, 3, 1), date(2024, 3, 2)}


def test_every_command_is_in_a_group_of_the_help_and_has_an_example(lakehouse_command: Run) -> None:
    assert lakehouse_command("--version") == (0, f"lakehouse {version('lakehouse-assets')}\n", "")
    status, listed, _ = lakehouse_command("--help")
    assert status == 0
    for name in lakehouse.commands:
        assert f"\n  {name} " in listed
        status, told, _ = lakehouse_command(name, "--help")
        assert (status, f"    lakehouse {name}" in told) == (0, True), told


def test_what_is_read_by_a_program_is_plain_and_whole(lakehouse_command: Run, home: Path) -> None:
    store(home, "gold.daily_metrics", [{}])
    status, listed, _ = lakehouse_command("tables")
    header, line, *_ = listed.splitlines()
    assert (status, header.split("  ")[0]) == (0, "table")
    assert line.split() == ["gold.daily_metrics", "1", "1", "0.0", "0", "…"]
    status, asked, _ = lakehouse_command("sql", f"select {', '.join(f'{n} as a_long_name_{n}' for n in range(40))}")
    assert all(f"a_long_name_{n} " in asked for n in range(40))
    assert "\x1b" not in listed + asked


@pytest.mark.parametrize("arguments", [[], ["--retention-days", "9", "--empty-end"]])
def test_cleanup_wants_to_know_which_days(lakehouse_command: Run, arguments: list[str]) -> None:
    status, _, complaint = lakehouse_command("cleanup", *arguments)
    assert status == 2
    assert complaint.endswith("Error: use either --retention-days N or --empty-end\n")

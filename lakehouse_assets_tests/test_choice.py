"""Which engine computes, that nobody else reaches it, and what happens where Sail has not the memory for a table."""

import gzip
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pyspark.sql import SparkSession

from lakehouse_assets.definitions import build_definitions
from lakehouse_assets.engines import door, sail
from lakehouse_assets.engines.choice import ENGINE_TAG
from lakehouse_assets.errors import SetupError
from lakehouse_assets.lakehouse import Lakehouse
from lakehouse_assets.orchestration.instance import terminal_instance
from lakehouse_assets.orchestration.runs import JOB
from lakehouse_assets.planning.intake import Intake
from lakehouse_assets.settings import load_settings

pytestmark = pytest.mark.sail  # a process that has started Spark computes everything with it

DAYS = [date(2024, 3, day) for day in (1, 2, 3)]


def delivered(lake: Any) -> int:
    """Bytes that are delivered; three rows a day."""
    files = [lake.rows(str(day), *(f"{user},{day} 10:00:00,edit,p,5,1" for user in "abc")) for day in DAYS]
    return sum(file.stat().st_size for file in files)


def intake(lake: Any, name: str, day: date, last: date | None = None, enough: int = 0) -> int:
    made = lake.lakehouse
    return Intake(made.tables, made.catalog, made.zone).rows([name], day, last or day, enough)


def test_a_run_reads_what_is_delivered_and_what_is_in_tables_of_other_days(make_lake: Callable[..., Any]) -> None:
    lake = make_lake(("gold.daily_metrics",))
    size = delivered(lake)
    assert intake(lake, "bronze.interactions", DAYS[0], DAYS[2]) == -(-size // 60)
    lake.run()
    assert intake(lake, "gold.daily_metrics", DAYS[2]) == 9  # of 30 days
    assert intake(lake, "gold.daily_metrics", DAYS[0]) == 3  # a third of a file of three days
    assert intake(lake, "gold.daily_metrics", DAYS[0], enough=9) == 9  # all there are, as these are few
    whole = [*lake.lakehouse.tables]
    made = lake.lakehouse
    read = Intake(made.tables, made.catalog, made.zone).rows(whole, DAYS[0], DAYS[2], 0)
    assert read == intake(lake, "bronze.interactions", DAYS[0], DAYS[2])  # the run computes all others itself


def test_a_compressed_file_counts_as_what_it_is_a_part_of(make_lake: Callable[..., Any]) -> None:
    lake = make_lake(("silver.user_days",))
    file = lake.deliver("2024-03-01", gzip.compress(b"user_id,timestamp\n" * 99), name="a.csv.gz")
    assert intake(lake, "bronze.interactions", DAYS[0]) == -(-6 * file.stat().st_size // 60)


@pytest.mark.parametrize(
    ("settings", "computes"),
    [
        (
            {"engine": "auto", "sail_rows": 10},
            "computed by sail (about 5 rows to read)",
        ),
        ({"engine": "auto", "sail_rows": 4}, "computed by spark (about 5 rows to read, more than LAKEHOUSE_SAIL_ROWS)"),
        ({"engine": "sail", "sail_rows": 4}, "computed by sail (LAKEHOUSE_ENGINE=sail)"),
        ({"engine": "spark"}, "computed by spark (LAKEHOUSE_ENGINE=spark)"),
    ],
)
def test_what_computes_a_run_follows_from_the_rows_it_reads(
    tmp_path: Path, settings: dict[str, Any], computes: str
) -> None:
    lakehouse = Lakehouse(load_settings(home=tmp_path, **{"engine": "auto"} | settings))
    folder = tmp_path / "landing" / "interactions" / "date=2024-03-01"
    folder.mkdir(parents=True)
    (folder / "a.csv").write_bytes(b"x" * 300)
    names = ("bronze.interactions", "silver.interaction_routing")
    assert str(lakehouse.begin("a run", names, DAYS[0], DAYS[0])) == computes
    assert lakehouse.engine.name == computes.split()[2]
    (folder / "b.csv").write_bytes(b"x" * 3000)
    assert str(lakehouse.begin("a run", names, DAYS[0], DAYS[0])) == computes  # which it began with


@pytest.mark.parametrize("asked_by", ["terminal", "page"])
def test_a_run_says_what_computes_it(make_lake: Callable[..., Any], asked_by: str) -> None:
    lake = make_lake(("silver.rejected_interactions",))
    delivered(lake)
    with terminal_instance(lake.lakehouse.settings) as instance:
        if asked_by == "terminal":
            lake.run()
        else:  # as Dagster starts a run, which nobody has chosen an engine for
            job = build_definitions(lake.lakehouse).resolve_job_def(JOB)
            assets = [dg.AssetKey(["bronze", "interactions"])]
            job.execute_in_process(instance=instance, asset_selection=assets, partition_key="2024-03-01")
        (run,) = instance.get_runs()
        assert run.tags[ENGINE_TAG] == "sail"
        (made, *_) = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
        assert made.asset_materialization is not None
        assert made.asset_materialization.metadata["engine"].value == "sail"
    if asked_by == "terminal":
        assert any(", computed by sail (" in line for line in lake.said)


def test_nobody_else_reaches_a_server_whose_door_is_shut() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as own, server.accept()[0] as accepted:
            door.shut(port)
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port), 5)
            own.sendall(b"x")
            assert accepted.recv(1) == b"x"


def test_who_was_there_before_the_door_was_shut_is_shown_out_and_told_of() -> None:
    code = "import socket, sys; print(socket.create_connection(('127.0.0.1', int(sys.argv[1]))).recv(1))"
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        command = [sys.executable, "-c", code, str(port)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as stranger, server.accept()[0]:
            with pytest.raises(SetupError, match="another process of this machine connected to Sail"):
                door.shut(port)
            assert stranger.communicate(timeout=30)[0] == "b''\n"  # the connection is ended


def test_shutting_the_door_ends_no_lock_on_a_file(tmp_path: Path) -> None:
    log, path = "PRAGMA journal_mode = WAL; CREATE TABLE events (id); INSERT INTO events VALUES (1)", tmp_path / "index"
    with socket.create_server(("127.0.0.1", 0)) as server, closing(sqlite3.connect(path)) as events:
        events.executescript(log)
        door.shut(server.getsockname()[1])
        come_and_go = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('SELECT * FROM events').fetchall()"
        subprocess.run([sys.executable, "-c", come_and_go, str(path)], check=True)
        events.execute("INSERT INTO events VALUES (2)")
        events.commit()
        assert path.with_name("index-wal").stat().st_size > 0  # the last to leave deletes it, and this process is there


def test_sail_listens_to_its_own_process_alone(spark: SparkSession) -> None:
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(sail._server().listening_address, 5)
    assert spark.range(3).count() == 3


def test_sail_gets_the_keys_of_a_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "credentials").write_text("[mine]\naws_access_key_id = known\naws_secret_access_key = secret\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "mine")
    given = sail.sail_environment(load_settings(home=tmp_path, warehouse="s3://bucket/prefix"))
    assert (given["AWS_ACCESS_KEY_ID"], given["AWS_SECRET_ACCESS_KEY"]) == ("known", "secret")

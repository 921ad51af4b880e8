"""The same lakehouse on an S3 store, a REST catalog and a Spark cluster, all of them real processes on loopback.

Quick: one cluster for the session, whose gold equals that of an embedded run of the same data, and what must hold of
secrets and rights. With the marker `faults`: networks and stores that break.
"""

from __future__ import annotations

import hashlib
import secrets
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from lakehouse_assets import cli, runtime
from lakehouse_assets.io.landing import Bucket, LandingZone, Signatures, deliver, signatures
from lakehouse_assets.io.query import export
from lakehouse_assets.io.s3 import Store
from lakehouse_assets.settings import Settings, load_settings
from lakehouse_assets_tests.conftest import HEADERS, Lake
from lakehouse_assets_tests.stack.services import DEFAULTS, ROOT, Service, Stack, alive_workers, answers, running

TABLES = ("gold.daily_metrics", "gold.monthly_metrics", "gold.daily_session_metrics")
DAYS = ("2024-03-01", "2024-03-02", "2024-03-04")
ROWS = {
    day: [
        *(f"u{n},{day} {8 + n:02}:00:00,edit,p{n},{100 * n},1.0.0" for n in range(1, 2 + index)),
        f"u1,{day} 08:10:00,page_view,p,7,1.0.0",
        f"u1,{day} 08:10:00,page_view,p,7,1.0.0",
        f"u2,{day} 25:10:00,page_view,p,7,1.0.0",
    ]
    for index, day in enumerate(DAYS, start=1)
}
CANARY = "canary" + secrets.token_hex(12)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The services, and a lakehouse on them that has computed `ROWS`."""
    with running(tmp_path_factory.mktemp("stack"), spark=True) as stack:
        stack.environment["LAKEHOUSE_TABLES"] = ",".join(TABLES)
        land_days(stack, ROWS)
        done = stack.lakehouse("run")
        assert done.returncode == 0, done.stdout + done.stderr
        (stack.folder / "said.log").write_text(done.stdout + done.stderr)
        yield stack


@pytest.fixture
def settings(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The stack's settings for this process."""
    for key, value in stack.environment.items():
        monkeypatch.setenv(key, value)
    return load_settings()


def land_days(stack: Stack, rows: Mapping[str, list[str]]) -> None:
    for day, lines in rows.items():
        file = stack.folder / f"{day}.csv"
        file.write_text("\n".join([HEADERS["interactions"], *lines]) + "\n")
        done = stack.lakehouse("land", "interactions", file, "--date", day)
        assert done.returncode == 0, done.stderr


def digests(stack: Stack) -> dict[str, str]:
    """A digest of every gold table, as exported."""
    found = {}
    for table in TABLES:
        file = stack.folder / f"{table}.csv"
        done = stack.lakehouse("export", table, "-o", file)
        assert done.returncode == 0, done.stderr
        found[table] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found


def embedded_digests(make_lake: Callable[..., Lake], folder: Path, rows: Mapping[str, list[str]]) -> dict[str, str]:
    """The same of an embedded run of the same deliveries."""
    lake = make_lake(tables=TABLES)
    for day, lines in rows.items():
        lake.rows(day, *lines, name=f"{day}.csv")
    lake.run()
    found = {}
    for table in TABLES:
        export(lake.lakehouse.catalog, table, folder / table, "csv", None, None)
        found[table] = hashlib.sha256((folder / table).read_bytes()).hexdigest()
    return found


def test_gold_on_the_stack_equals_an_embedded_run(stack: Stack, make_lake: Callable[..., Lake], tmp_path: Path) -> None:
    assert digests(stack) == embedded_digests(make_lake, tmp_path, ROWS)


def test_what_is_there_is_told_without_spark(
    stack: Stack, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["tables"]) == 0
    assert "everything is up to date" in capsys.readouterr().out
    assert cli.main(["status"]) == 0
    assert "everything is up to date" in capsys.readouterr().out
    assert cli.main(["sql", "select sum(daily_active_users)::int as n from gold.daily_metrics"]) == 0
    assert " 9 " in capsys.readouterr().out


def test_a_bucket_is_listed_in_pages_and_only_deliveries_are_read(settings: Settings, stack: Stack) -> None:
    zone = LandingZone(Bucket(Store(settings), f"s3://{stack.s3.bucket}/pages"), marker=True)
    client = stack.s3.client()
    many = [f"pages/interactions/date=2024-03-01/f{n:04}.csv" for n in range(1005)]
    others = [
        "date=2024-03-01/_x.csv",
        "date=2024-03-01/.x.csv",
        "date=2024-03-01/x.tmp",
        "date=2024-03-01/x.csv/y.csv",
    ]
    others += ["date=2024-03-02/_SUCCESS", "date=2024-03-02/a.csv", "elsewhere/a.csv"]
    for key in [*many, *(f"pages/interactions/{name}" for name in others)]:
        client.put_object(Bucket=stack.s3.bucket, Key=key, Body=b"")
    first, second = date(2024, 3, 1), date(2024, 3, 2)
    looked = zone.look("interactions")
    assert {day: len(files) for day, files in looked.items()} == {first: 1005, second: 1}
    assert zone.dates("interactions") == [first, second]
    assert zone.files("interactions", first) == list(looked[first])
    before: Signatures = signatures(zone.look_at_all())
    assert zone.incomplete(before, zone.look_at_all()) == {("interactions", first)}  # only the second has its marker
    assert zone.remove_before("interactions", second) == (1005, 0)
    assert zone.look("interactions").keys() == {first, second}  # the folder stays, as partitions begin with it
    assert zone.files("interactions", first) == []


def test_an_object_replaced_within_a_second_is_another_one(settings: Settings, stack: Stack, tmp_path: Path) -> None:
    zone = LandingZone(Bucket(Store(settings), f"s3://{stack.s3.bucket}/again"))
    file, day = tmp_path / "a.csv", date(2024, 3, 1)
    looks = []
    for user in ("a", "b"):
        file.write_text(f"{HEADERS['interactions']}\n{user},2024-03-01 10:00:00,edit,p,1,1\n")
        landed = deliver(zone, "interactions", file, day, {})
        assert bool(landed.replaced) == (user == "b")
        [found] = zone.files("interactions", day)
        looks.append((found, zone.fingerprint(found), zone.inspect("interactions", found).sha256))
    assert looks[0][0] != looks[1][0]
    assert looks[0][1] == looks[0][2] != looks[1][1] == looks[1][2]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"AWS_SECRET_ACCESS_KEY": CANARY}, "AWS_SECRET_ACCESS_KEY is not the secret of AWS_ACCESS_KEY_ID"),
        ({"AWS_ACCESS_KEY_ID": "nobody"}, "does not know AWS_ACCESS_KEY_ID"),
        ({"LAKEHOUSE_LANDING": "s3://nothing-here/landing"}, "nothing-here"),
        ({"LAKEHOUSE_WAREHOUSE": "s3://nothing-here/warehouse"}, "nothing-here"),
        ({"S3_ENDPOINT": "http://127.0.0.1:9"}, "is S3_ENDPOINT right?"),
        ({"LAKEHOUSE_CATALOG_URI": "http://127.0.0.1:9"}, "is LAKEHOUSE_CATALOG_URI right"),
    ],
)
def test_what_is_set_wrong_fails_at_once_with_one_sentence(
    change: Mapping[str, str],
    sentence: str,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for key, value in change.items():
        monkeypatch.setenv(key, value)
    began = time.monotonic()
    assert cli.main(["tables"]) == 1
    said = capsys.readouterr().err
    assert sentence in said
    assert said.startswith("lakehouse: ")
    assert len(said.splitlines()) == 1
    assert CANARY not in said
    assert time.monotonic() - began < 30


def test_no_secret_is_in_any_log_event_or_record(stack: Stack) -> None:
    looked_at = 0
    for path in stack.folder.rglob("*"):
        if not path.is_file() or path.is_relative_to(stack.folder / "s3"):  # the store itself has to know them
            continue
        looked_at += 1
        content = path.read_bytes()
        for secret in stack.secrets:
            assert secret.encode() not in content, path
    assert looked_at > 10
    assert stack.cluster
    for page in ("", "json/", "environment/"):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{stack.cluster.master_page}/{page}", timeout=5) as answer:
                shown = answer.read()
        except urllib.error.HTTPError:
            continue
        assert not any(secret.encode() in shown for secret in stack.secrets), page


def test_nobody_without_the_secret_joins_the_cluster(stack: Stack) -> None:
    assert stack.cluster
    before = len(alive_workers(stack.cluster.master_page))
    command = [sys.executable, "-m", "lakehouse_assets.cluster", "worker", "--defaults", str(DEFAULTS), "--"]
    command += [
        "--host",
        "127.0.0.1",
        "--cores",
        "1",
        "--memory",
        "512m",
        f"spark://127.0.0.1:{stack.cluster.master_port}",
    ]
    environment = {"_SPARK_AUTH_SECRET": CANARY, "SPARK_LOCAL_IP": "127.0.0.1", "PYTHONPATH": str(ROOT)}
    environment |= {"SPARK_DAEMON_MEMORY": "256m", "LAKEHOUSE_CACHE": str(runtime.cache_dir())}
    log = stack.folder / "intruder.log"
    intruder = Service("intruder", command, environment, log)
    try:
        intruder.start(lambda: "Failed to connect to master" in log.read_text(), seconds=60)
    finally:
        intruder.stop()
    assert len(alive_workers(stack.cluster.master_page)) == before
    assert not answers(6066)  # where Spark would take jobs from anybody


def test_the_keys_of_the_jobs_reach_their_bucket_only(stack: Stack) -> None:
    root, user = stack.s3.client(), stack.s3.client(stack.s3.user)
    root.create_bucket(Bucket="others")
    root.put_object(Bucket="others", Key="secret", Body=b"x")
    for refused in (
        lambda: user.get_object(Bucket="others", Key="secret"),
        lambda: user.list_objects_v2(Bucket="others"),
        lambda: user.put_object(Bucket="others", Key="mine", Body=b""),
        lambda: user.create_bucket(Bucket="new"),
        lambda: user.delete_bucket(Bucket=stack.s3.bucket),
    ):
        with pytest.raises(ClientError, match="AccessDenied"):
            refused()
    assert user.list_objects_v2(Bucket=stack.s3.bucket)["KeyCount"] > 0

"""The same lakehouse on an S3 store, a REST catalog and a Spark cluster, all of them real processes on loopback.

Quick: one cluster for the session, whose gold equals that of an embedded run of the same data, and what must hold of
secrets and rights. With the marker `faults`: networks and stores that break.
"""

from __future__ import annotations

import csv
import hashlib
import random
import secrets
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from functools import cache, partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError

from lakehouse_assets import cli
from lakehouse_assets.cache import cache_dir
from lakehouse_assets.landing import redivision
from lakehouse_assets.landing.bucket import Bucket
from lakehouse_assets.landing.deliver import deliver
from lakehouse_assets.landing.zone import LandingZone, Signatures, signatures
from lakehouse_assets.settings import Settings, load_settings
from lakehouse_assets.storage.catalog import Catalog
from lakehouse_assets.storage.query import connect, export
from lakehouse_assets.storage.s3 import Store, open_object
from lakehouse_assets_tests import test_redivision
from lakehouse_assets_tests.conftest import HEADERS, Lake, in_zones
from lakehouse_assets_tests.stack.proxy import Faults
from lakehouse_assets_tests.stack.services import (
    DEFAULTS,
    ROOT,
    Service,
    Stack,
    alive_workers,
    answers,
    running,
    serves,
)

pytestmark = pytest.mark.services

CORRECTED = "gold.daily_metrics"
TABLES = (CORRECTED, "gold.monthly_metrics", "gold.daily_session_metrics")
ROWS = [
    f"u{n},2024-03-0{day} {time},edit,p{n},{100 * n},1.0.0"
    for day in (1, 2, 4)
    for n in range(1, day + 2)
    for time in ("09:00:00", "09:10:00", "09:10:00", "23:59:59")
]
REJECTED = ["u2,2024-03-04 25:10:00,edit,p,7,1.0.0", "u3,2024-03-04 10:00:00,fly,p,7,1.0.0"]
CANARY = "canary" + secrets.token_hex(12)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The services, and a lakehouse on them that has computed `ROWS`."""
    with running(tmp_path_factory.mktemp("stack"), spark=True) as stack:
        stack.environment["LAKEHOUSE_TABLES"] = ",".join(TABLES)
        land(stack, [*ROWS, *REJECTED])
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


def land(stack: Stack, rows: list[str], *options: str) -> None:
    file = stack.folder / "delivery.csv"
    file.write_text("\n".join([HEADERS["interactions"], *rows]) + "\n")
    done = stack.lakehouse("land", "interactions", file, *options)
    assert done.returncode == 0, done.stderr


def digests(catalog: Catalog, folder: Path) -> dict[str, str]:
    """A digest of every gold table, as exported."""
    found = {}
    for table in TABLES:
        export(catalog, table, folder / "exported.csv", "csv", None, date(2024, 3, 4))
        found[table] = hashlib.sha256((folder / "exported.csv").read_bytes()).hexdigest()
    return found


def test_gold_on_the_stack_equals_an_embedded_run(
    settings: Settings, make_lake: Callable[..., Lake], tmp_path: Path
) -> None:
    lake = make_lake(tables=TABLES, warehouse="", landing="", catalog_uri="", spark_remote="")
    for day in ("2024-03-01", "2024-03-02", "2024-03-04"):
        lake.rows(day, *(row for row in [*ROWS, *REJECTED] if day in row))
    lake.run()
    embedded = digests(lake.lakehouse.catalog, tmp_path)
    assert len(set(embedded.values())) == len(TABLES)
    assert digests(Catalog(settings), tmp_path) == embedded


def test_what_is_there_is_told_without_spark(
    stack: Stack, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["tables"]) == 0
    assert "everything is up to date" in capsys.readouterr().out
    assert cli.main(["status"]) == 0
    assert "everything is up to date" in capsys.readouterr().out
    assert (
        cli.main(
            ["sql", "select sum(daily_active_users)::int as n from gold.daily_metrics where date < date '2024-03-05'"]
        )
        == 0
    )
    assert " 10 " in capsys.readouterr().out


def test_a_table_in_s3_that_is_scanned_twice_at_once_is_counted_right(settings: Settings) -> None:
    """With scans that share a file one query in some 200 fails here; test_query.py has a store so slow that all do."""
    connection = connect(Catalog(settings), ["gold.daily_metrics"])
    [(rows,)] = connection.execute("SELECT count(*) FROM gold.daily_metrics").fetchall()
    assert rows
    joined = "SELECT count(*) FROM gold.daily_metrics a JOIN gold.daily_metrics b ON a.date = b.date"
    twice = "SELECT count(*) FROM (FROM gold.daily_metrics UNION ALL FROM gold.daily_metrics)"
    for _ in range(100):
        assert connection.execute(joined).fetchall() == [(rows,)]
        assert connection.execute(twice).fetchall() == [(2 * rows,)]


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
    with ThreadPoolExecutor(8) as beside:
        for key in [*many, *(f"pages/interactions/{name}" for name in others)]:
            beside.submit(client.put_object, Bucket=stack.s3.bucket, Key=key, Body=b"")
    first, second = date(2024, 3, 1), date(2024, 3, 2)
    looked = zone.listing("interactions")
    assert {day: len(files) for day, files in looked.items()} == {first: 1005, second: 1}
    assert zone.dates("interactions") == [first, second]
    assert zone.files("interactions", first) == list(looked[first])
    strays = [str(path).partition("/pages/")[2] for path in zone.strays()]
    assert strays == ["interactions/date=2024-03-01/x.csv/y.csv", "interactions/elsewhere/a.csv"]
    before: Signatures = signatures(zone.listings())
    assert zone.incomplete(before, before) == {("interactions", first)}  # only the second has its marker
    assert zone.remove_before("interactions", second) == (1005, 0)
    assert zone.listing("interactions").keys() == {first, second}  # the folder stays, as partitions begin with it
    assert zone.files("interactions", first) == []


def test_files_in_a_bucket_are_divided_again(
    settings: Settings, stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed, fresh = (LandingZone(Bucket(Store(settings), f"s3://{stack.s3.bucket}/{name}")) for name in "cf")
    utc, kolkata = in_zones("UTC"), in_zones("Asia/Kolkata")
    for name in ("a.csv", "b.csv"):
        path = test_redivision.source(tmp_path / "given", *test_redivision.rows(random.Random(1), 50), name=name)
        test_redivision.land(changed, path, utc)
        test_redivision.land(fresh, path, kolkata)
    assert test_redivision.landed(changed) != test_redivision.landed(fresh)
    with monkeypatch.context() as patched:  # a process that dies as soon as its plan is written
        patched.setattr(redivision, "_carry_out", lambda *_: set())
        redivision.divide_again(changed, kolkata, lambda _: None)
    assert [one.name for one in redivision.waiting(changed, kolkata)] == ["a.csv", "b.csv"]
    redivision.divide_again(changed, kolkata, lambda _: None)
    assert test_redivision.everything(changed) == test_redivision.everything(fresh)
    deliver(changed, "interactions", path, date(2024, 3, 30), {})
    redivision.divide_again(changed, utc, lambda _: None)
    as_delivered = test_redivision.rows_in(str(path))
    assert test_redivision.landed(changed)["2024-03-30", "b.csv"] == as_delivered


def test_a_few_bytes_are_read_from_a_busy_store(settings: Settings, stack: Stack) -> None:
    stack.s3.client().put_object(Bucket=stack.s3.bucket, Key="few", Body=b"ab")
    path = Store(settings).path(f"s3://{stack.s3.bucket}/few")
    proxy = stack.s3_proxy
    before = proxy.injected
    proxy.faults = Faults(busy=0.5)
    try:
        for _ in range(5):
            stream, size = open_object(path.location)
            with stream:
                assert (stream.read(), size) == (b"ab", 2)
    finally:
        proxy.heal()
    assert proxy.injected > before


def test_many_files_of_a_store_that_answers_late_are_looked_into_at_once(settings: Settings, stack: Stack) -> None:
    store, client = Bucket(Store(settings), f"s3://{stack.s3.bucket}/late"), stack.s3.client()
    for day in range(1, 25):
        key = f"late/interactions/date=2024-03-{day:02}/a.csv"
        client.put_object(Bucket=stack.s3.bucket, Key=key, Body=f"{HEADERS['interactions']}\nu,x,y,z,1,1\n".encode())
    files = [file for found in LandingZone(store).listing("interactions").values() for file in found]
    at_once, one_by_one = LandingZone(store), LandingZone(store)
    stack.s3_proxy.faults = Faults(delay_seconds=0.02)
    try:
        began = time.monotonic()
        at_once.inspect_all("interactions", files)
        middle = time.monotonic()
        looks = [one_by_one.inspect("interactions", file) for file in files]
        ended = time.monotonic()
    finally:
        stack.s3_proxy.heal()
    assert [at_once.inspect("interactions", file) for file in files] == looks
    assert len(looks) == 24
    assert middle - began < (ended - middle) / 2  # a quarter, seen so far


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
    command = [sys.executable, "-m", "lakehouse_assets.stack.cluster", "worker", "--defaults", str(DEFAULTS), "--"]
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
    environment |= {"SPARK_DAEMON_MEMORY": "256m", "LAKEHOUSE_CACHE": str(cache_dir())}
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


@pytest.mark.faults
def test_a_run_waits_for_a_connect_server_that_was_killed_and_begins_its_step_again(stack: Stack) -> None:
    cluster, proxy = stack.cluster, stack.s3_proxy
    assert cluster

    def strike() -> None:
        cluster.connect.kill()
        time.sleep(2)
        cluster.connect.start(lambda: answers(cluster.connect_port))

    land(stack, [f"w{n},2024-03-05 10:00:00,edit,p,{n},1" for n in range(3)])
    before = proxy.injected
    proxy.faults = Faults(losing=r"PUT \S*/gold/daily_metrics/data/", lose=1, meanwhile=strike)
    try:
        done = stack.lakehouse("run", environment={"LAKEHOUSE_TABLES": CORRECTED})
    finally:
        proxy.heal()
    assert proxy.injected > before, "the server was killed while nothing of the table was written"
    assert done.returncode == 0, done.stdout + done.stderr
    active = "select daily_active_users as n from gold.daily_metrics where date = date '2024-03-05'"
    assert " 3 " in stack.lakehouse("sql", active).stdout


# -- Networks and stores that break: each day's correction is computed while something is wrong ------------------------

DAYS = {"spark": "2024-03-08", "sail": "2024-03-06"}


class Correcting:
    """Delivers the same day with one more user each time, so that old and new can be told apart."""

    def __init__(self, stack: Stack, engine: str) -> None:
        self.stack = stack
        self.engine, self.day = engine, DAYS[engine]
        self.middle = {"spark": 6, "sail": 3}[engine]  # seconds from the start of a run to the middle of its work
        self.environment = {"LAKEHOUSE_TABLES": CORRECTED, "LAKEHOUSE_ENGINE": engine}
        self.users = 0
        self.correct()
        self.finish()

    def correct(self) -> None:
        self.users += 1
        land(self.stack, [f"v{n},{self.day} 10:00:00,edit,p,{n},1" for n in range(self.users)])

    def run(self, seconds: float = 400) -> subprocess.CompletedProcess[str]:
        return self.stack.lakehouse("run", environment=self.environment, seconds=seconds)

    def published(self) -> int:
        """The day's users in gold, read whole, whatever else is wrong with the clients."""
        file = self.stack.folder / "published.csv"
        done = self.stack.lakehouse("export", CORRECTED, "-o", file, "--start", self.day, "--end", self.day)
        assert done.returncode == 0, done.stderr
        [row] = csv.DictReader(file.read_text().splitlines())
        return int(row["daily_active_users"])

    def finish(self) -> None:
        """With everything well again the next run converges."""
        done = self.run()
        assert done.returncode == 0, done.stdout + done.stderr
        assert self.published() == self.users

    def run_while(self, wrong: Callable[[], None], seconds: float = 400) -> subprocess.CompletedProcess[str]:
        """Correct the day and compute it, with ``wrong`` going on beside; what is published is old or new."""
        self.correct()
        beside = threading.Thread(target=wrong)
        beside.start()
        done = self.run(seconds)
        beside.join()
        self.stack.s3_proxy.heal()
        self.stack.catalog_proxy.heal()
        assert self.published() in ({self.users} if done.returncode == 0 else {self.users - 1, self.users})
        return done


@pytest.fixture(scope="module")
def correcting(stack: Stack) -> Callable[[str], Correcting]:
    return cache(partial(Correcting, stack))


@pytest.fixture(params=["spark", "sail"])
def well(correcting: Callable[[str], Correcting], request: pytest.FixtureRequest) -> Iterator[Correcting]:
    """With either engine nothing is wrong before a test nor after it, and then the lake converges."""
    found = correcting(request.param)
    yield found
    found.stack.s3_proxy.heal()
    found.stack.catalog_proxy.heal()
    found.finish()


def objects(stack: Stack) -> set[str]:
    """Keys of the data files under the corrected table's folder, whether a snapshot names them or not."""
    prefix = urlsplit(Catalog(load_settings()).iceberg.load_table(CORRECTED).location()).path[1:]
    pages = stack.s3.client().get_paginator("list_objects_v2").paginate(Bucket=stack.s3.bucket, Prefix=f"{prefix}/data")
    return {found["Key"] for page in pages for found in page.get("Contents", ())}


def test_sail_goes_on_with_what_the_cluster_wrote_and_a_kill_while_it_stages_changes_nothing(
    correcting: Callable[[str], Correcting], settings: Settings
) -> None:
    by_sail, stack = correcting("sail"), correcting("sail").stack
    before = objects(stack)
    by_sail.correct()
    killed = stack.python("lakehouse_assets_tests.victim", "staged", CORRECTED, "0", environment=by_sail.environment)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert by_sail.published() == by_sail.users - 1
    left = objects(stack) - before
    assert left  # files that no snapshot names
    by_sail.finish()  # the same day published again
    table = Catalog(settings).iceberg.load_table(CORRECTED)
    engines = [snapshot.summary["lakehouse.engine"] for snapshot in table.snapshots() if snapshot.summary]
    assert engines[-2:] == ["sail", "sail"]
    assert "spark" in engines
    live = {urlsplit(task.file.file_path).path[1:] for task in table.scan().plan_files()}
    assert live.isdisjoint(left)
    assert left <= objects(stack)  # young, so that they may be another run's


@pytest.mark.faults
@pytest.mark.parametrize(("well", "which"), [("spark", 1), ("spark", 2), ("spark", 3), ("sail", 1)], indirect=["well"])
@pytest.mark.parametrize("another", [False, True], ids=["alone", "with another writer in between"])
def test_a_lost_reply_to_a_commit_is_harmless(well: Correcting, settings: Settings, which: int, another: bool) -> None:
    """Commits of a table's write are: its branch and Spark's append to it, which Sail has not, and the publication."""
    direct = Catalog(settings.model_copy(update={"catalog_uri": f"http://127.0.0.1:{well.stack.catalog_port}"}))
    noted = f"test.other-{well.engine}-{which}-{another}"

    def other_writer() -> None:
        with direct.iceberg.load_table("gold.daily_metrics").transaction() as transaction:
            transaction.set_properties({noted: "kept"})

    proxy = well.stack.catalog_proxy
    before = proxy.injected
    faults = Faults(
        losing="POST .*/gold/tables/daily_metrics$", lose=which, meanwhile=other_writer if another else None
    )
    proxy.faults = faults
    done = well.run_while(lambda: None)
    assert proxy.injected == before + 1, "no reply was lost"
    if which == 3 or well.engine == "sail":
        assert done.returncode == 0, done.stderr  # looked up, and found published
    table = direct.iceberg.load_table("gold.daily_metrics")
    assert table.properties.get(noted) == ("kept" if another else None)  # nobody's commit is undone
    assert table.scan().to_arrow().num_rows > 0


@pytest.mark.faults
@pytest.mark.parametrize("seconds", [3, 60])
def test_reset_connections_leave_old_or_new(well: Correcting, seconds: int) -> None:
    proxy = well.stack.s3_proxy

    def wrong() -> None:
        time.sleep(well.middle)
        proxy.faults = Faults(refuse=True)
        proxy.reset_all()
        time.sleep(seconds)
        proxy.heal()

    before = proxy.injected
    well.run_while(wrong)
    assert proxy.injected > before


@pytest.mark.faults
@pytest.mark.parametrize("which", ["s3", "catalog"])
def test_a_black_hole_is_bounded_by_a_timeout(well: Correcting, which: str) -> None:
    proxy = well.stack.s3_proxy if which == "s3" else well.stack.catalog_proxy

    def wrong() -> None:
        time.sleep(well.middle)
        proxy.faults = Faults(swallow=True)
        time.sleep(45)
        proxy.heal()

    before = proxy.injected
    well.run_while(wrong, seconds=600)  # which fails the test if it takes longer
    assert proxy.injected > before


@pytest.mark.faults
def test_a_slow_network_that_cuts_answers_leaves_old_or_new(well: Correcting) -> None:
    proxy = well.stack.s3_proxy
    before = proxy.injected
    proxy.faults = Faults(delay_seconds=0.05, bytes_per_second=1_000_000, cut_answers=0.05)
    well.run_while(lambda: None, seconds=600)
    assert proxy.injected > before


@pytest.mark.faults
def test_a_store_that_asks_to_slow_down_is_obeyed(well: Correcting) -> None:
    proxy = well.stack.s3_proxy
    before = proxy.injected
    proxy.faults = Faults(busy=0.3)
    done = well.run_while(lambda: None, seconds=600)
    assert done.returncode == 0, done.stderr
    assert proxy.injected > before


@pytest.mark.faults
def test_a_store_killed_in_an_upload_leaves_the_old_snapshot(well: Correcting) -> None:
    stack, proxy = well.stack, well.stack.s3_proxy

    def strike() -> None:
        stack.s3.service.kill()
        time.sleep(5)
        stack.s3.service.start(stack.s3.ready)

    proxy.faults = Faults(losing=r"PUT \S*/gold/daily_metrics/data/", lose=1, meanwhile=strike)
    before = proxy.injected
    well.run_while(lambda: None, seconds=600)
    assert proxy.injected > before


@pytest.mark.faults
def test_a_catalog_killed_in_a_run_is_waited_for_or_named(well: Correcting) -> None:
    stack = well.stack

    def wrong() -> None:
        time.sleep(well.middle)
        stack.catalog.kill()
        time.sleep(3)
        stack.catalog.start(lambda: serves(f"http://127.0.0.1:{stack.catalog_port}/v1/config"))

    done = well.run_while(wrong)
    assert done.returncode == 0 or "catalog" in done.stderr

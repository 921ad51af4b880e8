"""A lakehouse in a folder of any name and in any locale, moved, and copied; repair of what can't be seen."""

import hashlib
import os
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import pytest
from pyiceberg.catalog.sql import SqlCatalog
from sqlalchemy import text

from lakehouse_assets import cli
from lakehouse_assets.cache import cache_dir
from lakehouse_assets.lakehouse import Lakehouse
from lakehouse_assets.landing.zone import landing_zone
from lakehouse_assets.orchestration.instance import dagster_home
from lakehouse_assets.settings import SettingsError, load_settings
from lakehouse_assets.storage.catalog import Catalog
from lakehouse_assets.storage.moving import settle
from lakehouse_assets.storage.place import WrongPlace
from lakehouse_assets.storage.query import connect
from lakehouse_assets_tests.conftest import HEADERS
from lakehouse_assets_tests.test_cli import store

NASTY = "a%20b q?m#h 'é\" [x]{y} 漢😀 p%41 a:b=c&d;e,f*g$HOME\\n~+@!|<>^`("
DAYS = "gold.daily_metrics"


def content(folder: Path) -> dict[str, str]:
    """What every file under a folder holds."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def copy(folder: Path, to: Path) -> Path:
    to.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", folder, to], check=True)
    return to


def users_by_day(home: Path, **settings: str) -> dict[str, int]:
    catalog = Catalog(load_settings(home=home, **settings))
    rows = connect(catalog, [DAYS]).execute(f"SELECT date, daily_active_users FROM {DAYS} ORDER BY date").fetchall()
    return {str(day): users for day, users in rows}


def paths_named(home: Path, **settings: str) -> set[str]:
    """Every path that the tables' metadata names."""
    found = set()
    catalog = Catalog(load_settings(home=home, **settings))
    for name in catalog.names():
        table = catalog.iceberg.load_table(name)
        found |= {table.location(), table.metadata_location}
        found |= {entry.metadata_file for entry in table.metadata.metadata_log}
        for snapshot in table.snapshots():
            found.add(snapshot.manifest_list)
            for manifest in snapshot.manifests(table.io):
                found.add(manifest.manifest_path)
                assert Path(manifest.manifest_path).stat().st_size == manifest.manifest_length
                entries = manifest.fetch_manifest_entry(table.io, discard_deleted=False)
                found |= {entry.data_file.file_path for entry in entries}
    return found


@pytest.fixture
def lake_of_two_tables(tmp_path: Path) -> Path:
    """Tables with several snapshots, made without a JVM, and a landed file."""
    home = tmp_path / "made"
    lakehouse = store(home, DAYS, [{"date": date(2024, 3, 1), "daily_active_users": 3}])
    table = lakehouse.catalog.iceberg.load_table(DAYS)
    with table.transaction() as transaction:
        transaction.set_properties({"kept": "yes"})
    table.delete("daily_active_users = 3")
    store(home, DAYS, [{"date": date(2024, 3, 2), "daily_active_users": 5}])
    store(home, "gold.monthly_metrics", [{}])
    file = home / "landing" / "interactions" / "date=2024-03-01" / "a.csv"
    file.parent.mkdir(parents=True)
    file.write_text(HEADERS["interactions"] + "\n")
    zone = landing_zone(load_settings(home=home))
    zone.inspect("interactions", zone.files("interactions", date(2024, 3, 1))[0])
    zone.save_index()
    dagster_home(load_settings(home=home))
    return home


def test_a_moved_lakehouse_works_and_a_copy_leaves_the_original_alone(lake_of_two_tables, tmp_path):
    made = lake_of_two_tables
    rows = users_by_day(made)
    assert rows == {"2024-03-02": 5}
    copied = copy(made, tmp_path / NASTY / "copied")
    before = content(made)
    snapshots = len(Catalog(load_settings(home=made)).iceberg.load_table(DAYS).snapshots())
    assert users_by_day(copied) == rows
    assert all(path.startswith(f"{copied}/") for path in paths_named(copied))
    table = Catalog(load_settings(home=copied)).iceberg.load_table(DAYS)
    assert len(table.snapshots()) == snapshots
    assert table.properties["kept"] == "yes"
    zone = landing_zone(load_settings(home=copied))
    assert zone.new_bytes(zone.listings()) == 0  # though the time of change of a copy is its own
    assert str(made) not in (dagster_home(load_settings(home=copied)) / "dagster.yaml").read_text()
    table.delete("daily_active_users = 5")  # a commit in the copy
    assert content(made) == before

    moved = made.rename(tmp_path / "b")
    assert users_by_day(moved) == rows
    assert all(path.startswith(f"{moved}/") for path in paths_named(moved))
    assert users_by_day(copied) == {}
    led = content(moved / "warehouse")
    assert users_by_day(moved) == rows
    assert content(moved / "warehouse") == led  # once
    inside = moved.rename(tmp_path / "b2")
    (tmp_path / "b").mkdir()
    inside = inside.rename(tmp_path / "b" / "gold")  # below where it was
    assert users_by_day(inside) == rows


def test_an_end_while_a_moved_lakehouse_is_led_leaves_its_tables(lake_of_two_tables, tmp_path, monkeypatch):
    moved = lake_of_two_tables.rename(tmp_path / "moved")
    before = content(moved / "warehouse")
    left = iter(range(2))

    def stops_at_the_third_file(path: str) -> str:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return str(Path(path).with_name(f"{os.urandom(8).hex()}.avro"))

    def stops_at_the_change(sql: str) -> object:
        if sql.startswith("update"):
            raise KeyboardInterrupt
        return text(sql)

    for name, stops in (("_beside", stops_at_the_third_file), ("text", stops_at_the_change)):
        with monkeypatch.context() as patch:
            patch.setattr(f"lakehouse_assets.storage.moving.{name}", stops)
            with pytest.raises(KeyboardInterrupt):
                users_by_day(moved)
        assert before.items() <= content(moved / "warehouse").items()
    assert users_by_day(moved.rename(lake_of_two_tables)) == {"2024-03-02": 5}  # back where the catalog says it is
    assert users_by_day(lake_of_two_tables.rename(moved)) == {"2024-03-02": 5}


def test_folders_that_are_another_lakehouses_are_refused(tmp_path, monkeypatch, capsys):
    home, tables = tmp_path / "home", tmp_path / "tables"
    monkeypatch.setenv("LAKEHOUSE_WAREHOUSE", str(tables))
    store(home, DAYS, [{"date": date(2024, 3, 1), "daily_active_users": 3}])
    before = content(tmp_path)
    copied = copy(home, tmp_path / "copied")
    monkeypatch.setenv("LAKEHOUSE_HOME", str(copied))
    for command in (["tables"], ["sql", "select 1"], ["maintain", "--repair"], ["status"]):
        assert cli.main(command) == 1
        told = capsys.readouterr().err
        assert told.startswith(f"lakehouse: {copied} is a copy of {home}, and LAKEHOUSE_WAREHOUSE still names the ")
        assert told.count("\n") == 1
    assert {path: is_ for path, is_ in content(tmp_path).items() if not path.startswith("copied/")} == before

    monkeypatch.setenv("LAKEHOUSE_WAREHOUSE", str(copy(tables, tmp_path / "tables too")))
    assert users_by_day(copied) == {"2024-03-01": 3}  # with tables of its own
    monkeypatch.setenv("LAKEHOUSE_WAREHOUSE", str(tmp_path / "elsewhere"))
    with pytest.raises(WrongPlace, match=r"gold.daily_metrics was made in .*/tables too, and LAKEHOUSE_WAR"):
        users_by_day(copied)
    monkeypatch.setenv("LAKEHOUSE_WAREHOUSE", "s3://bucket/tables")
    engine = cast("SqlCatalog", Catalog(load_settings(home=home, warehouse=str(tables))).iceberg).engine
    with pytest.raises(WrongPlace, match="can't be moved from or to a bucket"):
        settle(load_settings(home=home), engine)

    monkeypatch.setenv("LAKEHOUSE_WAREHOUSE", str(tables))
    shutil.rmtree(copied)
    assert users_by_day(home.rename(tmp_path / "moved")) == {"2024-03-01": 3}  # nobody else's any more


def test_a_landed_file_in_the_original_is_not_written_to_by_a_copy(tmp_path):
    home = tmp_path / "home"
    settings = {"landing": str(home / "landing")}
    store(home, DAYS, [{}])
    copied = copy(home, tmp_path / "copied")
    with pytest.raises(WrongPlace, match="LAKEHOUSE_LANDING still names the original's"):
        landing_zone(load_settings(home=copied, **settings))


def repair(capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str]:
    capsys.readouterr()
    status = cli.main(["maintain", "--repair", *options])
    printed = capsys.readouterr()
    return status, printed.out + printed.err


def test_repair_takes_out_nothing_that_it_cannot_see(lake_of_two_tables, monkeypatch, capsys):
    home = lake_of_two_tables
    monkeypatch.setenv("LAKEHOUSE_HOME", str(home))
    tables, away = home / "warehouse", home / "away"
    rows, named = users_by_day(home), paths_named(home)
    for mounted in (False, True):  # a disk that is not there, with and without the folder it would be in
        tables.rename(away)
        if mounted:
            tables.mkdir()
        for options in ((), ("--yes",)):
            status, told = repair(capsys, *options)
            assert status == 1
            assert f"{tables} {'holds none of the tables' if mounted else 'is not there'}" in told
        if mounted:
            tables.rmdir()
        away.rename(tables)
    data = list(tables.rglob("*.parquet"))
    kept = {path: path.read_bytes() for path in data}
    for path in data:
        path.unlink()
    status, told = repair(capsys)
    assert status == 1
    assert "nothing is changed yet: most files are not there (" in told
    assert f"{DAYS} would be without these files" in told
    for path, rows_of in kept.items():
        path.write_bytes(rows_of)
    assert (users_by_day(home), paths_named(home)) == (rows, named)

    current = Path(Catalog(load_settings(home=home)).iceberg.load_table(DAYS).metadata_location)
    current.rename(away)
    status, told = repair(capsys)
    assert status == 1
    assert f"nothing is changed yet: {DAYS} would go back to an earlier version" in told
    assert repair(capsys, "--yes")[0] == 0
    assert users_by_day(home) == {}  # the version before the newest rows

    table = Catalog(load_settings(home=home)).iceberg.load_table("gold.monthly_metrics")
    Path(next(iter(table.scan().plan_files())).file.file_path).unlink()  # a single file
    status, told = repair(capsys)
    assert status == 0
    assert "gold.monthly_metrics is without these files now" in told


def test_a_copy_goes_back_to_no_version_of_the_original(lake_of_two_tables, tmp_path, monkeypatch, capsys):
    copied = copy(lake_of_two_tables, tmp_path / "copied")
    before = content(lake_of_two_tables)
    table = Catalog(load_settings(home=copied)).iceberg.load_table(DAYS)
    Path(table.metadata_location).unlink()
    monkeypatch.setenv("LAKEHOUSE_HOME", str(copied))
    assert repair(capsys, "--yes")[0] == 0
    assert all(path.startswith(f"{copied}/") for path in paths_named(copied))
    assert content(lake_of_two_tables) == before


def test_names_that_are_not_utf8_or_too_long_are_refused_in_a_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path / "home"))
    text = f"{HEADERS['interactions']}\nu,2024-03-01 10:00:00,edit,p,10,1\n"
    latin = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.csv"))
    long = tmp_path / ("ж" * 126 + "b.x")
    for path, words in ((latin, "its name is not UTF-8; rename it"), (long, "would have 259 bytes")):
        path.write_text(text)
        assert cli.main(["land", "interactions", str(path)]) == 1
        told = capsys.readouterr().err
        assert words in told
        assert told.count("\n") == 1
    landed = tmp_path / "home" / "landing" / "interactions" / "date=2024-03-01"
    landed.mkdir(parents=True)
    latin.rename(landed / latin.name)
    assert cli.main(["status"]) == 0
    assert "\ufffd.csv: its name is not UTF-8; rename it" in capsys.readouterr().out
    with pytest.raises(SettingsError, match=r"LAKEHOUSE_HOME=.*: its name is not UTF-8"):
        load_settings(home=latin.with_suffix(""))


def test_java_is_told_utf8_in_a_locale_that_is_not(tmp_path):
    code = "from lakehouse_assets.engines.java import utf8_locale; print(utf8_locale())"
    for locale, needed in (({"LC_ALL": "C"}, {"LC_ALL": "C.UTF-8"}), ({"LC_ALL": "C.UTF-8"}, {}), ({}, {})):
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), **locale}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout == f"{needed}\n", locale


@pytest.mark.spark
def test_a_copy_at_a_place_of_any_name_runs_in_the_c_locale(make_lake, tmp_path):
    """The whole way, with a Java of its own: what Spark, PyIceberg, SQLite, Dagster and DuckDB make of such names."""
    lake = make_lake(("gold.daily_metrics",))
    lake.rows("2024-03-01", "a,2024-03-01 10:00:00,edit,p,5,1.0.0", "b,2024-03-01 10:00:00,edit,p,5,1.0.0")
    lake.run()
    original = lake.lakehouse.settings.home_path
    home = copy(original, tmp_path / NASTY / "lake")
    before = content(original)
    file = tmp_path / NASTY / "évén%20 ts?#.csv"
    file.write_text(f"{HEADERS['interactions']}\nc,2024-03-02 10:00:00,edit,p,10,1\n")
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | {
        "LC_ALL": "C",
        "LAKEHOUSE_CACHE": str(cache_dir()),
        "LAKEHOUSE_ENGINE": "spark",
        "LAKEHOUSE_HOME": str(home),
        "LAKEHOUSE_TABLES": "gold.daily_metrics",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    out = file.with_name("out%20?#é.csv")
    commands = [["land", "interactions", str(file)], ["run"], ["maintain"], ["export", DAYS, "-o", str(out)]]
    code = f"from lakehouse_assets.cli import main; print([main(c) for c in {[*commands, ['maintain', '--repair']]}])"
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, env=environment, cwd=file.parent, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.stdout.endswith("[0, 0, 0, 0, 0]\n"), done.stderr
    assert "every file of every table can be read" in done.stdout
    assert users_by_day(home, tables="gold.daily_metrics") == {"2024-03-01": 2, "2024-03-02": 1}
    assert len(out.read_text().splitlines()) == 3
    assert all(path.startswith(f"{home}/") for path in paths_named(home))
    assert content(original) == before
    assert {path.name for path in tmp_path.iterdir()} == {NASTY}  # no stray file or folder beside it
    assert {path.name for path in (tmp_path / NASTY).iterdir()} == {"lake", file.name, out.name}
    assert Lakehouse(load_settings(home=home)).zone.files("interactions", date(2024, 3, 2))[0].path.name == file.name


def test_a_folder_that_cannot_be_entered_is_named() -> None:
    as_root = os.geteuid() == 0  # whom no mode keeps out
    with TemporaryDirectory() as folder:
        opened, locked = Path(folder) / "opened", Path(folder) / "locked"
        for one, mode in ((Path(folder), 0o755), (opened, 0o755), (locked, 0)):
            one.mkdir(exist_ok=True)
            one.chmod(mode)
        if as_root:
            os.seteuid(65534)
        try:
            load_settings(home=opened)
            with pytest.raises(SettingsError, match=r"the folder \S*/locked/lake can't be entered: let its owner give"):
                load_settings(home=locked / "lake")
        finally:
            if as_root:
                os.seteuid(0)
            locked.chmod(0o755)

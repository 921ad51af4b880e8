"""Sail stages files that no reader sees until a commit names them; run with ``--engine=sail``."""

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.types import LongType
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from lakehouse_assets import cli
from lakehouse_assets.assets.division import PART, REPEATS
from lakehouse_assets.calendar import ALL_DAYS
from lakehouse_assets.engines.sail import FileStaging
from lakehouse_assets.engines.spill import own_folder
from lakehouse_assets.errors import SetupError
from lakehouse_assets.runner import DaysLeftOut
from lakehouse_assets.storage.warehouse import ContractViolation, PublishConflict

pytestmark = pytest.mark.sail

TABLE = "silver.user_days"
DAY = "2024-03-01"


def three_users(lake: Any) -> None:
    lake.rows(DAY, *(f"{user},{DAY} 10:00:00,edit,p,5,1" for user in "abc"))


@pytest.fixture
def lake(computed_lake: Callable[..., Any]) -> Any:
    return computed_lake(("gold.daily_metrics",), three_users)


def data_files(lake: Any) -> set[Path]:
    return set(Path(lake.lakehouse.catalog.load(TABLE).location()).joinpath("data").rglob("*.parquet"))


def rewrite(lake: Any, **changed: Any) -> None:
    """Publish the day of `TABLE` again, with other values."""
    warehouse = lake.lakehouse.warehouse
    day = datetime.fromisoformat(DAY).date()
    base = warehouse.base(TABLE, {})
    rows = warehouse.read(TABLE, *ALL_DAYS)
    frame = rows.withColumns({name: F.lit(value).cast(rows.schema[name].dataType) for name, value in changed.items()})
    warehouse.publish(warehouse.begin(TABLE, frame, day, day, base), {})


def test_commits_and_files_say_what_iceberg_and_people_ask(lake: Any) -> None:
    table = lake.lakehouse.catalog.load(TABLE)
    assert table.current_snapshot().summary["lakehouse.engine"] == "sail"
    (file,) = [task.file for task in table.scan().plan_files()]
    assert file.record_count == 3
    day = table.schema().find_field("event_date").field_id
    assert file.lower_bounds[day] == file.upper_bounds[day]
    assert Path(file.file_path) in data_files(lake)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"actions": -7}, "columns_valid .* failed for 3 rows, on 2024-03-01"),
        ({"user_id": "a"}, "no_duplicate_key .* failed for 2 rows, on 2024-03-01"),
        ({"event_date": datetime(2024, 3, 2, tzinfo=UTC).date()}, "failed for 3 rows of other days"),
    ],
)
def test_what_breaks_a_law_is_not_published_and_leaves_no_file(lake: Any, changed: dict[str, Any], why: str) -> None:
    before, files = lake.table(TABLE), data_files(lake)
    with pytest.raises(ContractViolation, match=why):
        rewrite(lake, **changed)
    assert (lake.table(TABLE), data_files(lake)) == (before, files)


def test_a_repeated_key_is_counted_across_batches_and_nulls_are_equal(lake: Any) -> None:
    table = lake.lakehouse.catalog.load(TABLE)
    staging = FileStaging(lake.lakehouse.engine, table, timedelta(hours=2), ("user_id", "page_id"))
    for users, pages in (("aab", [None, None, "p"]), ("b", ["p"]), ("bcc", [None, None, "p"])):
        staging._count_repeats(pa.table({"user_id": list(users), "page_id": pa.array(pages, pa.string())}))
    assert staging.met([]) == {REPEATS: 2}


def test_a_batch_without_rows_is_staged_as_nothing(lake: Any) -> None:
    before = lake.table(TABLE)
    written = FileStaging.write

    def with_an_empty_batch(staging: FileStaging, batches: Any) -> None:
        first = next(batches)
        written(staging, iter([first.slice(0, 0), first, first.slice(0, 0), *batches]))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FileStaging, "write", with_an_empty_batch)
        rewrite(lake, duration_ms=8)
    assert len(lake.table(TABLE)) == len(before)


def test_a_repeated_key_is_counted_where_rows_are_sorted_by_something_else(lake: Any) -> None:
    engine = lake.lakehouse.engine
    schema = f"{PART} int, country string, user_id string, page_id string"
    rows = [(1, "a", "x", None), (1, "b", "x", None), (1, "a", "x", "p"), (2, "a", "y", "p")]
    marked = engine.repeats_marked(
        engine.session.createDataFrame(rows, schema), [PART, "country", "user_id", "page_id"], ["user_id", "page_id"]
    )
    assert sorted(row[REPEATS] for row in marked.collect()) == [1, 1, 1, 2]


def test_what_was_staged_too_long_ago_is_not_published(lake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before, files = lake.table(TABLE), data_files(lake)
    write = FileStaging.write

    def for_a_day(staging: FileStaging, batches: Any) -> None:
        write(staging, batches)
        staging._published_before -= timedelta(hours=23, minutes=1)

    monkeypatch.setattr(FileStaging, "write", for_a_day)
    with pytest.raises(PublishConflict, match="LAKEHOUSE_ABANDONED_HOURS"):
        rewrite(lake, duration_ms=9)
    assert (lake.table(TABLE), data_files(lake)) == (before, files)


def test_a_run_killed_with_files_staged_leaves_the_old_rows_and_the_next_one_heals(
    lake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, files = lake.table(TABLE), data_files(lake)
    lake.rows(DAY, f"d,{DAY} 10:00:00,edit,p,5,1")
    settings = lake.lakehouse.settings
    monkeypatch.setenv("LAKEHOUSE_HOME", str(settings.home_path))
    monkeypatch.setenv("LAKEHOUSE_TABLES", ",".join(settings.tables))
    victim = [sys.executable, "-m", "lakehouse_assets_tests.victim", "staged", TABLE, "0"]
    done = subprocess.run(victim, start_new_session=True, check=False, timeout=300)
    assert done.returncode == -9
    assert lake.table(TABLE) == before
    (left,) = data_files(lake) - files
    lake.run()
    assert [row["user_id"] for row in lake.table(TABLE)] == ["d"]
    assert left in data_files(lake)  # young, so that it may be another run's
    day_old = (datetime.now(tz=UTC) - timedelta(days=2)).timestamp()
    os.utime(left, (day_old, day_old))
    assert cli.main(["maintain"]) == 0
    assert left not in data_files(lake)
    assert [row["user_id"] for row in lake.table(TABLE)] == ["d"]


def test_a_column_that_the_settings_no_longer_make_is_null(lake: Any) -> None:
    with lake.lakehouse.catalog.load(TABLE).update_schema() as update:
        update.add_column("gone_actions", LongType())
    rewrite(lake, duration_ms=7)
    found = lake.lakehouse.catalog.load(TABLE).scan().to_arrow()
    assert (len(found), found["gone_actions"].null_count) == (3, 3)


@pytest.mark.parametrize("damage", ["missing", "empty"])
def test_a_file_that_is_missing_or_empty_is_an_error_and_not_no_rows(lake: Any, damage: str) -> None:
    (file,) = [Path(task.file.file_path) for task in lake.lakehouse.catalog.load(TABLE).scan().plan_files()]
    content = file.read_bytes()
    file.unlink()
    if damage == "empty":
        file.touch()
    day = datetime.fromisoformat(DAY).date()
    with pytest.raises(OSError, match=file.name):
        lake.lakehouse.warehouse.read(TABLE, day, day)
    lake.rows("2024-03-02", "d,2024-03-02 10:00:00,edit,p,5,1")  # whose metrics look back on the day before
    with pytest.raises(DaysLeftOut, match=rf"{file.name} .*maintain --repair"):
        lake.run()
    file.write_bytes(content)


# what is special in an address, in a pattern of files, and a letter of more than one byte
@pytest.mark.parametrize("folder", ["a b%20c#d", "Müller[1]{1,2}", "st*r q?x"])
def test_a_warehouse_may_be_called_anything(
    make_lake: Callable[..., Any], spark: SparkSession, tmp_path: Path, folder: str
) -> None:
    lake = make_lake(("silver.user_days",), warehouse=str(tmp_path / folder))
    lake.rows(DAY, f"a,{DAY} 10:00:00,edit,p,5,1")
    lake.run()
    assert len(lake.table(TABLE)) == 1
    for name in lake.lakehouse.catalog.names():
        lake.lakehouse.catalog.iceberg.drop_table(name)
    assert spark.range(1).count() == 1


def test_what_does_not_fit_in_the_memory_goes_to_the_folder_of_the_settings(tmp_path: Path) -> None:
    spill = tmp_path / "spilled [1]"
    script = """if True:
        import threading
        from pathlib import Path
        from pyspark.sql import Window
        from lakehouse_assets.engines.sail import start_sail
        from lakehouse_assets.settings import load_settings
        from lakehouse_assets.stopping import STOP

        def run():
            settings, written, done = load_settings(), set(), threading.Event()
            def watch():
                while not done.wait(0.02):
                    written.update(path.name for path in settings.spill_path.rglob("*") if path.is_file())
            watching = threading.Thread(target=watch)
            watching.start()
            session = start_sail(settings)
            from pyspark.sql import functions as F  # of Spark Connect only now
            along = Window.partitionBy(F.col("id") % 2).orderBy("hash")
            rows = session.range(6_000_000).select("id", F.xxhash64("id").alias("hash"))
            [found] = rows.withColumn("place", F.row_number().over(along)).agg(F.max("place"), F.count("*")).collect()
            done.set()
            watching.join()
            print(*found, bool(written))
            return 0
        STOP.guard(run)  # as commands run and end
    """
    own = {"LAKEHOUSE_HOME": str(tmp_path), "LAKEHOUSE_SPILL": str(spill), "LAKEHOUSE_DRIVER_MEMORY": "120m"}
    environment = {name: value for name, value in os.environ.items() if name != "SPARK_LOCAL_DIRS"} | own
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout == "3000000 6000000 True\n", done.stderr
    assert not list(spill.iterdir())


def test_what_a_killed_process_left_in_the_spill_folder_is_removed_and_a_living_ones_is_kept(tmp_path: Path) -> None:
    make = "; ".join(
        (
            "import sys, pathlib, lakehouse_assets.engines.spill as spill",
            "own = spill.own_folder(pathlib.Path(sys.argv[1]))",
            "(own / 'rows').write_text('x')",
            "print(own, flush=True)",
            "sys.stdin.read()",
        )
    )

    def started() -> tuple[subprocess.Popen[str], Path]:
        process = subprocess.Popen(
            [sys.executable, "-c", make, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout
        return process, Path(process.stdout.readline().strip())

    (killed, left), (living, kept) = started(), started()
    killed.kill()
    killed.communicate()
    assert left.exists()
    third, own = started()
    assert sorted(tmp_path.iterdir()) == sorted([kept, own])
    for process in (living, third):
        process.communicate()
    assert not list(tmp_path.iterdir())


def test_a_spill_folder_that_cannot_be_made_is_named_with_its_setting(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match=r"/file can't take what .* set LAKEHOUSE_SPILL to another one"):
        own_folder(tmp_path / "file")

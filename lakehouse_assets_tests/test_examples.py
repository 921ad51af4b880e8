"""Settings in a file, and logs of other shapes that land through one (examples/)."""

import io
import os
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from lakehouse_assets import cli
from lakehouse_assets.settings import Settings, SettingsError, load_settings, settings_template

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, and no setting in the environment."""
    for variable in [name for name in os.environ if name.startswith("LAKEHOUSE_")]:
        monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lakehouse(*arguments: str) -> tuple[int, str]:
    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(out):
        status = cli.main(arguments)
    return status, out.getvalue()


def test_the_environment_goes_before_the_file_and_the_file_before_the_default(folder, monkeypatch):
    (folder / "lakehouse.toml").write_text(
        'session_gap_seconds = 60\nlate_days = 1\nallowed_actions = ["a", "b"]\ns3_region = "eu-west-1"\n'
        'map_users = { user_id = "id" }\nhome = "elsewhere"\n'
    )
    monkeypatch.setenv("LAKEHOUSE_LATE_DAYS", "2")
    monkeypatch.setenv("LAKEHOUSE_MAP_INTERACTIONS", "user_id=who, timestamp=at")
    settings = load_settings(segments="country")
    assert (settings.session_gap_seconds, settings.late_days, settings.max_duration_ms) == (60, 2, 7_200_000)
    assert (settings.allowed_actions, settings.segments) == (("a", "b"), ("country",))
    assert (settings.map_interactions, settings.map_users) == ({"user_id": "who", "timestamp": "at"}, {"user_id": "id"})
    assert (settings.s3_region, settings.home_path) == ("eu-west-1", folder / "elsewhere")
    monkeypatch.setenv("S3_REGION", "us-west-2")
    assert load_settings().s3_region == "us-west-2"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("late_days = 99", "lakehouse.toml: late_days = 99 can't be used: must be a whole number from 0 to 60."),
        ("retention_days = 0", "retention_days = 0 can't be used: must be a whole number of at least 1."),
        ("run_timeout_hours = 0", "can't be used: must be a number above 0."),
        ('success_marker = "maybe"', "can't be used: must be true or false."),
        ('engine = "duck"', "can't be used: must be one of auto, sail, spark."),
        ('driver_memory = "4"', "can't be used: must be written like 4g."),
        ("allowed_actions = 3", "can't be used: must be a list such as page_view,edit,create,delete,share."),
        ("late_day = 3", "lakehouse.toml: there is no setting 'late_day'; did you mean late_days?"),
        ("xyz = 3", "`lakehouse init` writes a file with all there are"),
        ("late_days = ", "lakehouse.toml can't be read as TOML: Invalid value"),
        ('webhook_url = "https://x"', "webhook_url is a secret; give it as LAKEHOUSE_WEBHOOK_URL"),
        ('segments = ["a b"]', "segments = ['a b'] can't be used"),
        ('segments = ["user_id"]', "user_id is reserved and can't be a segment"),
        ('segments = ["Country"]', "Country is written country"),
    ],
)
def test_a_wrong_file_is_one_sentence(folder, text, complaint):
    (folder / "lakehouse.toml").write_text(text)
    with pytest.raises(SettingsError) as raised:
        load_settings()
    assert complaint in str(raised.value)
    assert lakehouse("tables") == (1, f"lakehouse: {raised.value}\n")


def test_the_file_in_the_lakehouses_folder_counts_too_but_not_both(folder, monkeypatch):
    monkeypatch.setenv("LAKEHOUSE_HOME", str(folder / "home"))
    assert lakehouse("init")[0] == 0
    assert (folder / "home" / "lakehouse.toml").exists()
    (folder / "home" / "lakehouse.toml").write_text("late_days = 5")
    assert load_settings().late_days == 5
    (folder / "lakehouse.toml").write_text("late_days = 6")
    with pytest.raises(
        SettingsError, match=r"there are two settings files, .*/home/lakehouse.toml and .*/lakehouse.toml; keep"
    ):
        load_settings()


def test_init_writes_every_setting_with_its_default_and_never_over_a_file(folder):
    status, said = lakehouse("init")
    assert (status, said.splitlines()[-1]) == (0, "next: lakehouse land interactions FILE")
    written = (folder / "lakehouse.toml").read_text()
    assert written == settings_template()
    defaults = load_settings()
    examples = {name for name, field in Settings.model_fields.items() if field.examples}
    for line in [line for line in written.splitlines() if line.startswith("# ") and " = " in line]:
        name = line[2:].split(" = ")[0]
        if name not in Settings.model_fields:
            continue
        (folder / "lakehouse.toml").write_text(line[2:])
        assert name in examples or getattr(load_settings(), name) == getattr(defaults, name), name
    (folder / "lakehouse.toml").write_text("late_days = 4")
    assert lakehouse("init") == (1, "lakehouse: lakehouse.toml exists already and was not changed\n")
    assert load_settings().late_days == 4


def test_a_wrong_column_in_the_mapping_is_named(folder):
    (folder / "lakehouse.toml").write_text('map_interactions = { user = "id" }')
    (folder / "x.csv").write_text("id\n")
    status, said = lakehouse("land", "interactions", "x.csv")
    assert status == 1
    assert said.startswith(
        "lakehouse: map_interactions user=id: write it as COLUMN=YOUR_NAME; COLUMN is one of user_id,"
    )


def landed(folder: Path) -> dict[str, int]:
    files = sorted((folder / ".lakehouse" / "landing").glob("interactions/*/*.csv"))
    return {file.parent.name: len(file.read_text().splitlines()) - 1 for file in files}


def test_a_web_log_lands_through_its_settings_and_becomes_metrics(folder, make_lake):
    shutil.copy(EXAMPLES / "web_log" / "lakehouse.toml", folder)
    with (EXAMPLES / "web_log" / "access.log").open() as log, (folder / "requests.csv").open("w") as requests:
        command = [sys.executable, str(EXAMPLES / "web_log" / "to_csv.py")]
        done = subprocess.run(command, stdin=log, stdout=requests, stderr=subprocess.PIPE, text=True, check=True)
    assert done.stderr == "1 lines are no request in the combined format\n"
    status, said = lakehouse("land", "interactions", "requests.csv")
    assert status == 0, said
    # half past eleven at night in UTC is the next day in Berlin
    assert landed(folder) == {"date=2024-03-01": 6, "date=2024-03-02": 2, "date=2024-03-03": 1}

    settings = load_settings()
    chosen = {name: getattr(settings, name) for name in ("allowed_actions", "reporting_timezone", "segments")}
    lake = make_lake(tables=("gold.daily_session_metrics", "gold.action_metrics"), **chosen)
    shutil.copytree(settings.landing_uri, lake.lakehouse.zone.root)
    lake.run()
    assert {row["user_id"] for row in lake.table("silver.user_days")} == {"203.0.113.7", "203.0.113.8", "alice"}
    assert [row["sessions"] for row in lake.table("gold.daily_session_metrics")] == [3, 2, 1]
    put = next(row for row in lake.table("gold.action_metrics") if row["action_type"] == "PUT" and row["users"])
    assert (str(put["date"]), put["actions"]) == ("2024-03-01", 1)


def test_a_git_history_lands_through_its_settings(folder):
    shutil.copy(EXAMPLES / "git_history" / "lakehouse.toml", folder)
    repository = folder / "repository"

    def git(*arguments: str, day: str = "2024-03-01") -> None:
        moment = f"{day}T12:00:00+01:00"
        fixed = {"GIT_AUTHOR_DATE": moment, "GIT_COMMITTER_DATE": moment, "GIT_CONFIG_GLOBAL": "/dev/null"}
        who = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main"]
        subprocess.run(["git", *who, "-C", str(repository), *arguments], env=os.environ | fixed, check=True)

    repository.mkdir()
    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "first")
    git("checkout", "-q", "-b", "other")
    git("commit", "-q", "--allow-empty", "-m", "second", day="2024-03-02")
    git("checkout", "-q", "main")
    git("merge", "-q", "--no-ff", "-m", "both", "other", day="2024-03-04")
    with (folder / "history.csv").open("w") as history:
        subprocess.run(["sh", str(EXAMPLES / "git_history" / "history.sh")], cwd=repository, stdout=history, check=True)
    status, said = lakehouse("land", "interactions", "history.csv")
    assert status == 0, said
    assert landed(folder) == {"date=2024-03-01": 1, "date=2024-03-02": 1, "date=2024-03-04": 1}
    merge = (folder / ".lakehouse/landing/interactions/date=2024-03-04/history.csv").read_text().splitlines()
    assert merge[0] == "user_id,timestamp,action_type,page_id,duration_ms,app_version"
    assert merge[1].startswith("a@example.org,2024-03-04T12:00:00+01:00,merge,")


@pytest.mark.sail
def test_the_demo_neither_needs_nor_fetches_a_java(folder):
    environment = {name: value for name, value in os.environ.items() if name not in ("JAVA_HOME", "SPARK_HOME")}
    environment |= {"HOME": str(folder), "LAKEHOUSE_CACHE": str(folder / "cache"), "PATH": "/nowhere"}
    environment |= {"LAKEHOUSE_TABLES": "gold.daily_metrics,gold.segment_metrics"}
    command = [sys.executable, "-m", "lakehouse_assets.cli", "demo"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert (folder / ".lakehouse" / "dashboard.html").exists()
    assert not {"java", "java.json", "jars", "classes"} & {file.name for file in (folder / "cache").glob("*")}

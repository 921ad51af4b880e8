"""Exports of analytics tools land through the settings beside them (examples/exports); `land --try` says so before."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pytest

from lakehouse_assets import cli
from lakehouse_assets.landing.deliver import split
from lakehouse_assets.landing.trial import told, try_file
from lakehouse_assets.settings import Settings, load_settings
from lakehouse_assets_tests.conftest import HEADERS

EXPORTS = Path(__file__).parents[1] / "examples" / "exports"
# user, instant (UTC), action, page, duration and version of every row, in plain SQL
COUNTED_APART = {
    "segment": """SELECT anonymousId, originalTimestamp::TIMESTAMP, event, properties.path, 0, context.app.version
        FROM read_json_auto('{file}')""",
    "amplitude": """SELECT user_id, event_time::TIMESTAMP, event_type, event_properties.screen,
        event_properties.duration, version_name FROM read_json_auto('{file}')""",
    "mixpanel": """SELECT properties.distinct_id, make_timestamp(properties.time * 1000000), event,
        properties."$current_url", properties.dwell_ms::BIGINT, properties."$app_version_string"
        FROM read_json_auto('{file}')""",
    "ga4": """SELECT user_pseudo_id, make_timestamp(event_timestamp::BIGINT), event_name,
        event_params[1].value.string_value, event_params[2].value.int_value::BIGINT, app_info.version
        FROM read_json_auto('{file}')""",
    "posthog": """SELECT distinct_id, timezone('UTC', timestamp), event, properties->>'$."$pathname"',
        (properties->>'$.spent_ms')::BIGINT, properties->>'$."$lib_version"' FROM '{file}'""",
    "snowplow": """SELECT domain_userid, collector_tstamp::TIMESTAMP, event_name, page_urlpath, 0, v_tracker
        FROM read_csv('{file}', delim='\\t', header=true, auto_detect=true)""",
}
ACTIONS = ("Sign Up", "Sign Up", "login", "sign_up")
METRICS = """
    SELECT at::DATE, count(DISTINCT who), count(*), round(avg(ms), 6) FROM events GROUP BY at::DATE ORDER BY at::DATE
"""


@pytest.fixture(autouse=True)
def current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def file_of(tool: str) -> Path:
    [file] = [path for path in (EXPORTS / tool).iterdir() if path.name != "lakehouse.toml"]
    return file


def settings_of(tool: str, folder: Path) -> Settings:
    shutil.copy(EXPORTS / tool / "lakehouse.toml", folder)
    settings = load_settings()
    (folder / "lakehouse.toml").unlink()
    return settings


@pytest.mark.parametrize("tool", COUNTED_APART)
def test_a_trial_accepts_an_export_with_its_settings_and_proposes_such_without(
    make_lake: Any, tmp_path: Path, tool: str
) -> None:
    engine, file, settings = make_lake().lakehouse.engine, file_of(tool), settings_of(tool, tmp_path)
    trial = try_file(engine, settings, "interactions", file, settings.map_interactions, None)
    assert (trial.rows, trial.counts, trial.proposed) == (12, {"accepted": 12}, {}), "\n".join(told(file.name, trial))
    assert trial.refusal == ""
    assert {day.day for day in trial.days or ()} == ({4} if tool == "ga4" else {4, 5})

    guessed = try_file(engine, load_settings(), "interactions", file, {}, None)
    assert guessed.refusal or guessed.accepted < guessed.rows
    # Segment's userId is likelier than anonymousId, and not every event has it
    accepted = guessed.then.accepted if guessed.then else 0
    assert accepted == (9 if tool == "segment" else 12), "\n".join(told(file.name, guessed))


def test_exports_land_and_their_rows_and_metrics_are_those_counted_apart(make_lake: Any, tmp_path: Path) -> None:
    chosen = {tool: settings_of(tool, tmp_path) for tool in COUNTED_APART}
    actions = tuple(dict.fromkeys(action for settings in chosen.values() for action in settings.allowed_actions))
    lake = make_lake(tables=("gold.daily_metrics", "silver.rejected_interactions"), allowed_actions=actions)
    utc = ZoneInfo("UTC")
    for tool, settings in chosen.items():
        renames = settings.map_interactions
        landed = split(lake.lakehouse.zone, file_of(tool), renames, input_zone=utc, reporting_zone=utc)
        assert (sum(landed.rows.values()), landed.unreadable_day) == (12, 0), tool
    lake.run()
    assert lake.table("silver.rejected_interactions") == []
    connection = duckdb.connect()
    rows = " UNION ALL ".join(f"({query.format(file=file_of(tool))})" for tool, query in COUNTED_APART.items())
    connection.execute(f'CREATE TABLE events(who, "at", what, page, ms, version) AS {rows}')
    columns = ("user_id", "timestamp", "action_type", "page_id", "duration_ms", "app_version")
    found = [tuple(row[name] for name in columns) for row in lake.table("silver.interactions")]
    wanted = connection.execute('SELECT * REPLACE ("at" AT TIME ZONE \'UTC\' AS "at") FROM events').fetchall()
    assert sorted((*row[:1], row[1].astimezone(utc), *row[2:]) for row in found) == sorted(
        (*row[:1], row[1].astimezone(utc), *row[2:]) for row in wanted
    )
    assert [
        (row["date"], row["daily_active_users"], row["total_actions"], round(row["avg_duration_ms"], 6))
        for row in lake.table("gold.daily_metrics")
    ] == connection.execute(METRICS.replace("at:", '"at":')).fetchall()


def test_a_trial_tells_reasons_samples_and_settings_and_leaves_nothing(make_lake: Any, tmp_path: Path) -> None:
    lake = make_lake()
    file = tmp_path / "events.csv"
    rows = [
        "a,3/5/2024 10:00,login,p,5,1", "a,3/5/2024 10:00,login,p,5,1", "b,3/25/2024 10:01,edit,p,x,1",
        ",3/5/2024 10:02,edit,p,5,1", "short,1",
    ]  # fmt: skip
    file.write_text("\n".join([HEADERS["interactions"] + ",plan", *(f"{row},pro" for row in rows)]) + "\n")
    settings = load_settings()
    trial = try_file(lake.lakehouse.engine, settings, "interactions", file, {}, None)
    assert trial.counts == {"bad_timestamp": 3, "malformed_row": 1, "missing_user_id": 1}
    assert trial.samples["bad_timestamp"] == {"3/5/2024 10:00": 2, "3/25/2024 10:01": 4}
    assert any(line.endswith("missing_user_id: user_id '' (line 5)") for line in told("events.csv", trial))
    assert trial.unused == ["plan"]
    assert trial.proposed == {"timestamp_formats": ["%m/%d/%Y %H:%M"], "allowed_actions": ["login", "edit"]}
    assert trial.then
    assert trial.then.counts == {"accepted": 2, "bad_duration": 1, "malformed_row": 1, "missing_user_id": 1}
    assert trial.then.duplicates == 1
    shown = "\n".join(told("events.csv", trial)).partition("rejected even then:")[2]
    assert "bad_duration: duration_ms 'x' (line 4)" in shown
    assert "and 2 of 5 rows would be accepted:" in "\n".join(told("events.csv", trial))
    assert [path.name for path in tmp_path.iterdir()] == ["events.csv"]
    assert trial.doubts == []
    dirty = ["3/25/2024 10:00", "3/5/2024 10:00", "3/6/2024 10:01", "n/a", "25/3/2024 10:00"]
    file.write_text("\n".join([HEADERS["interactions"], *(f"a,{one},edit,p,5,1" for one in dirty)]))
    of_times = try_file(lake.lakehouse.engine, settings, "interactions", file, {}, None)
    assert of_times.proposed == {"timestamp_formats": ["%m/%d/%Y %H:%M"]}
    assert of_times.then
    assert of_times.then.samples == {"bad_timestamp": {"25/3/2024 10:00": 6, "n/a": 5}}
    file.write_text("\n".join([HEADERS["interactions"], *(f"a,3/5/2024 10:00, {one},p,5,1" for one in ACTIONS)]))
    of_actions = try_file(lake.lakehouse.engine, settings, "interactions", file, {}, None)
    assert of_actions.proposed == {"timestamp_formats": ["%m/%d/%Y %H:%M"], "allowed_actions": ["Sign Up", "login"]}
    assert load_settings(**of_actions.proposed).allowed_actions == ("Sign Up", "login")
    assert list(of_actions.doubts) == [
        "no value tells %m/%d/%Y %H:%M from %d/%m/%Y %H:%M: look which it is",
        "'sign_up' and 'Sign Up' differ in case or punctuation only; write them alike",
    ]
    users = tmp_path / "users.csv"
    users.write_text("id,joined,country,device,plan\nu,2024-01-01,DE,ios,pro\n,2024-01-01,DE,ios,pro\n")
    of_users = try_file(lake.lakehouse.engine, settings, "users", users, {}, None)
    assert "columns 'user_id'," in of_users.refusal
    assert of_users.proposed == {
        "map_users": {"user_id": "id", "join_date": "joined", "device_type": "device", "subscription_type": "plan"}
    }
    assert of_users.counts == {"accepted": 1, "missing_user_id": 1}


def test_the_command_prints_a_trial_ends_with_0_only_if_every_row_would_be_accepted_and_lands_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LAKEHOUSE_ENGINE", "sail")
    command = ["land", "interactions", "--try", "events.jsonl"]
    shutil.copy(file_of("ga4"), tmp_path / "events.jsonl")
    shutil.copy(EXPORTS / "ga4" / "lakehouse.toml", tmp_path)
    process = [sys.executable, "-m", "lakehouse_assets.cli", *command]
    good = subprocess.run(process, capture_output=True, text=True, check=False)
    assert (good.returncode, good.stderr) == (0, "")
    assert "page_id            from event_params.page_location, such as 'https://example.test/0'" in good.stdout
    assert "       12 accepted" in good.stdout
    (tmp_path / "lakehouse.toml").unlink()
    assert cli.main(command) == 1
    bad = capsys.readouterr()
    assert bad.err == "lakehouse: events.jsonl would be refused\n"
    proposed = bad.out.partition("put this into lakehouse.toml, and 12 of 12 rows would be accepted:\n")[2]
    (tmp_path / "lakehouse.toml").write_text("".join(line.strip() + "\n" for line in proposed.splitlines()))
    assert cli.main(command) == 0
    assert not (tmp_path / "home").exists()

"""The generator against independent readings of its files: Python's csv module and plain SQL in DuckDB."""

import csv
import hashlib
import io
import re
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from statistics import fmean
from typing import Any

import duckdb
import pandas as pd
import pytest

from lakehouse_assets.sample_data.generate import generate
from lakehouse_assets.sample_data.plan import ACTIONS, BLOCK_ROWS, INTERACTION_COLUMNS, USER_COLUMNS, Generated

DATA = Path(__file__).parent.parent / "data"
SAMPLE: dict[str, Any] = {"users": 300, "days": 14, "rows": 2_000, "seed": 7}  # as data/README.md says
REASONS = (
    "malformed_row",
    "missing_user_id",
    "bad_timestamp",
    "unknown_action",
    "bad_duration",
    "negative_duration",
    "duration_over_limit",
)


def records(path: Path) -> Iterator[list[str]]:
    yield from csv.reader(io.StringIO(path.read_text(encoding="utf-8"), newline=""), strict=True)


def reason(record: list[str]) -> str | None:
    """Why docs/metrics refuses a record of a file split by event date, or None."""
    if len(record) != len(INTERACTION_COLUMNS):
        return "malformed_row"
    user_id, timestamp, action, _, duration, _ = record
    if not user_id.strip():
        return "missing_user_id"
    try:
        datetime.fromisoformat(f"{timestamp}+00:00")
    except ValueError:
        return "bad_timestamp"
    if action not in ACTIONS:
        return "unknown_action"
    if not re.fullmatch(r"-?\d+", duration):
        return "bad_duration"
    if int(duration) < 0:
        return "negative_duration"
    return "duration_over_limit" if int(duration) > 7_200_000 else None


def digests(generated: Generated) -> list[str]:
    paths = [generated.interactions_path, generated.users_path, generated.late_path]
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths if path]


def valid_rows(path: Path) -> pd.DataFrame:
    rows = [record for record in list(records(path))[1:] if reason(record) is None]
    frame = pd.DataFrame(rows, columns=list(INTERACTION_COLUMNS))
    return frame.astype({"timestamp": "datetime64[us]", "duration_ms": "int64"})


def ask(sql: str, log: pd.DataFrame | Path, **options: Any) -> list[tuple[Any, ...]]:
    """Answer of DuckDB about `log`, a frame or a CSV file read with these options."""
    with duckdb.connect() as connection:
        relation = connection.read_csv(str(log), **options) if isinstance(log, Path) else connection.from_df(log)
        relation.create_view("log")
        return connection.execute(sql).fetchall()


SESSIONS = """
    with starts as (
        select user_id, day, coalesce(epoch(timestamp) - lag(epoch(timestamp)) over w >= 1800, true) as starts
        from (select user_id, timestamp, cast(timestamp as date) as day from log)
        window w as (partition by user_id, day order by timestamp)
    )
    select count(*) filter (starts), count(distinct (user_id, day)), count(*) from starts
"""


@pytest.fixture(scope="module")
def realistic(tmp_path_factory: pytest.TempPathFactory) -> Generated:
    return generate(tmp_path_factory.mktemp("realistic"), users=5_000, days=90, rows=50_000, seed=11)


@pytest.fixture(scope="module")
def log(realistic: Generated) -> pd.DataFrame:
    return valid_rows(realistic.interactions_path)


@pytest.mark.parametrize("uniform", [False, True])
def test_same_seed_gives_same_bytes_and_another_seed_others(tmp_path: Path, uniform: bool) -> None:
    first, again, other = (
        generate(tmp_path / name, users=700, days=20, rows=5_000, seed=seed, uniform=uniform)
        for name, seed in (("first", 1), ("again", 1), ("other", 2))
    )
    assert digests(first) == digests(again)
    assert not set(digests(first)) & set(digests(other))


def test_samples_are_what_their_readme_says(tmp_path: Path) -> None:
    generated = generate(tmp_path, **SAMPLE)
    interactions, users = DATA / "interactions_sample.csv", DATA / "users_sample.csv"
    assert generated.interactions_path.read_bytes() == interactions.read_bytes()
    assert generated.users_path.read_bytes() == users.read_bytes()
    assert interactions.stat().st_size + users.stat().st_size <= 200_000
    command = "lakehouse generate " + " ".join(f"--{name} {value}" for name, value in SAMPLE.items())
    readme = (DATA / "README.md").read_text()
    assert command in readme
    for name, count in generated.rejected.items():
        assert re.search(rf"\| {name}\b.*\| {count} \|", readme)
    assert all(generated.rejected.values())
    assert all(generated.duplicates.values())
    pages = {record[3] for record in records(interactions) if len(record) == 6}
    assert {"docs/a,b", 'say "hi"', "two\nlines", ""} <= pages


@pytest.mark.parametrize(
    ("users", "days", "rows", "skew"),
    [
        (5_000, 90, 50_000, None),
        (300, 14, 2_000, None),
        (3, 1, 30_000, None),
        (50, 2, 20_000, 0.9),
        (40, 30, 450, None),
    ],
)
def test_every_planted_count_is_found_again(
    tmp_path: Path, users: int, days: int, rows: int, skew: float | None
) -> None:
    generated = generate(tmp_path, users=users, days=days, rows=rows, seed=5, skew=skew)
    header, *body = records(generated.interactions_path)
    assert tuple(header) == INTERACTION_COLUMNS
    assert len(body) == rows == generated.rows
    found = Counter(reason(record) for record in body)
    assert {name: found[name] for name in REASONS} == generated.rejected
    valid = [record for record in body if reason(record) is None]
    exact, keys = Counter(map(tuple, valid)), Counter(tuple(record[:4]) for record in valid)
    duplicates = {"exact": len(valid) - len(exact), "conflicting": len(exact) - len(keys)}
    assert duplicates == generated.duplicates
    if rows >= 500:
        assert all(generated.rejected.values())
        assert all(duplicates.values())
        assert 0.015 < (sum(generated.rejected.values()) + sum(duplicates.values())) / rows < 0.025
    quoted = [record for record in body if any(re.search('[,"\n]', value) for value in record)]
    assert len(quoted) == generated.quoted_page_rows
    assert all(record[3] and reason(record) in (None, *REASONS[1:]) for record in quoted)


def test_late_file_is_late_on_its_delivery_date(realistic: Generated) -> None:
    assert realistic.late_path is not None
    assert realistic.late_date is not None
    assert realistic.late_date == date(2023, 1, 1) + timedelta(89)
    header, *body = records(realistic.late_path)
    assert tuple(header) == INTERACTION_COLUMNS
    assert [reason(record) for record in body] == [None] * realistic.late_rows
    found: Counter[str] = Counter()
    for record in body:
        days_late = (realistic.late_date - date.fromisoformat(record[1][:10])).days
        assert days_late == -1 or 1 <= days_late <= 13
        found["future_event" if days_late < 0 else "accepted" if days_late <= 3 else "late_event"] += 1
    assert found == realistic.late
    assert set(found) == {"accepted", "late_event", "future_event"}
    delivered = {tuple(record[:4]) for record in records(realistic.interactions_path)}
    assert not delivered & {tuple(record[:4]) for record in body}


def test_data_of_one_day_has_nothing_accepted_late(tmp_path: Path) -> None:
    generated = generate(tmp_path, users=10, days=1, rows=100, seed=1)
    assert generated.late["accepted"] == 0
    assert generated.late_rows == len(list(records(tmp_path / "interactions_late.csv"))) - 1 > 0


def test_realistic_log_stands_in_time_order_inside_its_days(log: pd.DataFrame) -> None:
    assert log["timestamp"].is_monotonic_increasing
    assert log["timestamp"].dt.date.min() == date(2023, 1, 1)
    assert log["timestamp"].dt.date.nunique() == 90
    assert log["timestamp"].dt.date.max() == date(2023, 1, 1) + timedelta(89)


def test_realistic_log_has_the_shape_of_a_product(log: pd.DataFrame) -> None:
    [(sessions, user_days, rows)] = ask(SESSIONS, log)
    assert sessions / rows == pytest.approx(0.25, abs=0.02)
    assert 0.7 < user_days / sessions < 1
    [(weekend, weekday, first, last, views, versions, pages, top_page)] = ask(
        """
        select count(*) filter (isodow(timestamp) > 5) / 2, count(*) filter (isodow(timestamp) <= 5) / 5,
               count(*) filter (timestamp < '2023-01-29'), count(*) filter (timestamp >= '2023-03-04'),
               count(*) filter (action_type = 'page_view') / count(*), count(distinct app_version),
               count(distinct page_id), max(n)
        from log, (select count(*) as n from log where page_id <> '' group by page_id order by n desc limit 1)
        """,
        log,
    )
    assert weekend < 0.8 * weekday
    assert last > 1.1 * first  # both are 28 days
    assert 0.7 < views < 0.8
    assert versions >= 5
    assert pages > 1_000
    assert top_page / rows > 0.05
    [(top_user, users)] = ask(
        "select max(n) / sum(n), count(*) from (select count(*) as n from log group by user_id)", log
    )
    assert top_user > 10 / users  # the most active one: ten times the mean and more
    assert log["duration_ms"].between(0, 7_200_000).all()
    assert 8_000 < log["duration_ms"].median() < 16_000 < log["duration_ms"].mean()


def test_users_join_leave_and_come_back(realistic: Generated, log: pd.DataFrame) -> None:
    seen = pd.read_csv(realistic.users_path, dtype=str).drop_duplicates("user_id")
    active = log.assign(day=log["timestamp"].dt.normalize()).drop_duplicates(["user_id", "day"])
    first_day = active.groupby("user_id")["day"].min()
    joined = seen.dropna(subset=["join_date"]).set_index("user_id")["join_date"].astype("datetime64[us]")
    both = pd.concat([first_day, joined], axis=1, join="inner")
    assert (both["day"] >= both["join_date"]).all()
    assert (both["day"] == both["join_date"]).mean() > 0.05  # active on the very day, far above chance
    absent_days = active.sort_values(["user_id", "day"]).groupby("user_id")["day"].diff().dt.days
    assert (absent_days > 28).sum() > 20
    assert (active.groupby("user_id")["day"].max() < "2023-03-01").mean() > 0.2


def test_users_file_repeats_and_omits_ids(realistic: Generated) -> None:
    header, *body = records(realistic.users_path)
    assert tuple(header) == USER_COLUMNS
    assert len(body) == realistic.user_rows
    ids = Counter(record[0] for record in body)
    assert set(ids.values()) == {1, 2}
    assert sum(count == 2 for count in ids.values()) == realistic.repeated_users == 50
    assert 5_000 - len(ids) == realistic.users_without_metadata == 25
    by_id: dict[str, list[list[str]]] = {}
    for record in body:
        by_id.setdefault(record[0], []).append(record[1:])
    for values in by_id.values():
        assert len(values) == 1 or all(one != two for one, two in zip(*values, strict=True))


def test_a_million_rows_in_a_year_make_a_quarter_million_sessions(tmp_path: Path) -> None:
    """The size that the README and the benchmarks speak of: about 250,000 sessions and 220,000 user-days."""
    generated = generate(tmp_path, users=25_000, days=365, rows=1_000_000, seed=1)
    valid = """
        select user_id, try_cast(timestamp as timestamp) as timestamp from all_rows
        where trim(user_id) <> '' and try_cast(timestamp as timestamp) is not null
    """
    with duckdb.connect() as connection:
        connection.read_csv(
            str(generated.interactions_path),
            all_varchar=True,
            quotechar='"',
            escapechar='"',
            ignore_errors=True,  # rows too short or too long
            parallel=False,  # quoted line breaks
        ).create_view("all_rows")
        connection.execute(f"create table log as {valid}")
        [(sessions, user_days, rows)] = connection.execute(SESSIONS).fetchall()
    assert rows > 990_000
    assert 235_000 < sessions < 260_000
    assert 210_000 < user_days < 230_000


def test_uniform_values_fill_their_ranges(tmp_path: Path) -> None:
    generated = generate(tmp_path, users=1_000, days=365, rows=200_000, seed=3, uniform=True)
    assert (generated.late_path, generated.late_date, generated.rejected) == (None, None, {})
    path = generated.interactions_path
    assert tuple(next(records(path))) == INTERACTION_COLUMNS
    [ranges] = ask(
        """
        select count(*), min(user_id), max(user_id), count(distinct user_id),
               min(cast(timestamp as date)), max(cast(timestamp as date)), count(distinct cast(timestamp as date)),
               min(duration_ms) between 100 and 150, max(duration_ms) between 299_950 and 300_000,
               bool_and(regexp_full_match(page_id, 'p[0-9]{6}')),
               bool_and(regexp_full_match(app_version, '[0-9]+\\.[0-9]+\\.[0-9]+'))
        from log
        """,
        path,
    )
    assert ranges == (
        *(200_000, "u0000001", "u0001000", 1_000),
        *(date(2023, 1, 1), date(2023, 12, 31), 365),
        *(True, True, True, True),
    )
    # A count of 200,000 at 1 in 5 has a standard error of 179; the mean second of the day, of 56 s.
    actions = dict(ask("select action_type, count(*) from log group by 1", path))
    assert set(actions) == set(ACTIONS)
    assert all(abs(count - 40_000) < 5 * 179 for count in actions.values())
    [(mean_second, in_order)] = ask(
        """
        select avg(second % 86400), avg(cast(second >= before as int))
        from (select epoch(timestamp) as second, lag(epoch(timestamp)) over () as before from log)
        """,
        path,
    )
    assert mean_second == pytest.approx(43_199.5, abs=5 * 56)
    assert in_order == pytest.approx(0.5, abs=0.01)
    user_rows = [record[0] for record in records(generated.users_path)][1:]
    assert len(user_rows) == generated.user_rows == 1_010
    assert len(set(user_rows)) == 1_000


def test_uniform_activity_meets_its_closed_form(tmp_path: Path) -> None:
    """N rows over U users and T days: E[DAU] = U (1 - (1 - 1/(U T))^N), of a 31-day month U (1 - (1 - 31/(U T))^N).

    Standard errors. The sum of all DAU is N less the rows that fall into a (user, day) another row has: about
    N^2 / (2 U T) = 1,374 of them, nearly Poisson, so +-37, and the mean over 364 days is off by +-0.10.
    A single DAU is nearly Poisson too: +-52. A month's rows are binomial (85,165 +- 279) and each adds a new user with
    probability e^-0.085 = 0.918; with the occupancy's own spread the month is off by less than the binomial
    sqrt(U q (1 - q)) = 274, q = 0.0816, and the mean of six months by less than 274 / sqrt(6) = 112.
    """
    users, days, rows = 1_000_000, 364, 1_000_000
    expected_dau = users * (1 - (1 - 1 / (users * days)) ** rows)
    expected_mau = users * (1 - (1 - 31 / (users * days)) ** rows)
    assert expected_dau == pytest.approx(2_743.5, abs=0.05)
    assert expected_mau == pytest.approx(81_639, abs=0.5)
    generated = generate(tmp_path, users=users, days=days, rows=rows, seed=2023, uniform=True)
    path = generated.interactions_path
    daily = [dau for (dau,) in ask("select count(distinct user_id) from log group by cast(timestamp as date)", path)]
    assert len(daily) == days
    assert fmean(daily) == pytest.approx(expected_dau, abs=5 * 0.10)
    assert max(abs(dau - expected_dau) for dau in daily) < 5 * 52
    months = """
        select count(distinct user_id) from log group by month(timestamp)
        having count(distinct cast(timestamp as date)) = 31
    """
    monthly = [mau for (mau,) in ask(months, path)]
    assert len(monthly) == 6  # December has only 30 of these days
    assert fmean(monthly) == pytest.approx(expected_mau, abs=4 * 112)
    assert max(abs(mau - expected_mau) for mau in monthly) < 5 * 274


@pytest.mark.parametrize("uniform", [False, True])
def test_skew_gives_one_user_its_share(tmp_path: Path, uniform: bool) -> None:
    generated = generate(tmp_path, users=5_000, days=30, rows=50_000, seed=4, skew=0.3, uniform=uniform)
    ids = Counter(record[0] for record in records(generated.interactions_path))
    (user_id, count), (_, runner_up) = ids.most_common(2)
    assert user_id == "u0000001"
    # Sessions are given, about 12,500 of them with a length of 4 +- 3.5: the share's standard error is 0.0055.
    assert count / 50_000 == pytest.approx(0.3, abs=4 * 0.0055)
    assert runner_up / 50_000 < 0.02


@pytest.mark.parametrize("uniform", [False, True])
def test_memory_does_not_grow_with_the_rows(tmp_path: Path, uniform: bool) -> None:
    def peak(blocks: int) -> int:
        tracemalloc.start()
        try:
            generate(tmp_path, users=100, days=1, rows=blocks * BLOCK_ROWS, seed=1, uniform=uniform)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    small, large = peak(2), peak(5)
    dirt = 0 if uniform else 3 * BLOCK_ROWS * 0.02 * 40  # 10 bytes a dirty row, four times that while it is planted
    assert large < 1.1 * small + dirt
    assert large < 64 * 1024 * 1024


@pytest.mark.parametrize("uniform", [False, True])
def test_progress_counts_up_to_the_rows(tmp_path: Path, uniform: bool) -> None:
    calls: list[tuple[int, int]] = []
    rows = 2 * BLOCK_ROWS + 10
    generate(tmp_path, users=100, days=3, rows=rows, seed=1, uniform=uniform, progress=lambda *call: calls.append(call))
    assert len(calls) >= 3
    assert [done for done, _ in calls] == sorted({done for done, _ in calls})
    assert calls[-1] == (rows, rows)
    assert {total for _, total in calls} == {rows}


@pytest.mark.parametrize("uniform", [False, True])
def test_an_interrupted_call_leaves_what_was_there(tmp_path: Path, uniform: bool) -> None:
    before = generate(tmp_path, users=100, days=3, rows=1_000, seed=1)
    expected, names = digests(before), sorted(tmp_path.iterdir())

    def interrupt(_done: int, _total: int) -> None:
        assert len(list(tmp_path.iterdir())) > len(names)  # what is being written, under hidden names
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path, users=100, days=3, rows=1_000, seed=2, uniform=uniform, progress=interrupt)
    assert sorted(tmp_path.iterdir()) == names
    assert digests(before) == expected


def test_uniform_data_takes_the_place_of_a_realistic_late_file(tmp_path: Path) -> None:
    generate(tmp_path, users=100, days=3, rows=1_000, seed=1)
    generate(tmp_path, users=100, days=3, rows=1_000, seed=1, uniform=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["interactions.csv", "users.csv"]


@pytest.mark.parametrize(
    ("option", "wrong"),
    [
        ("users", 0),
        ("users", 10_000_000),
        ("days", 0),
        ("days", 4_000_000),
        ("rows", 0),
        ("seed", -1),
        ("start", date(1969, 12, 31)),
        ("start", date(9999, 1, 1)),
        ("skew", 0.0),
        ("skew", 1.5),
        ("skew", float("nan")),
    ],
)
def test_wrong_arguments_are_refused_by_name(tmp_path: Path, option: str, wrong: object) -> None:
    arguments: dict[str, Any] = {"users": 10, "days": 10, "rows": 10, "seed": 1, option: wrong}
    with pytest.raises(ValueError, match=rf"^--{option} must [^\n]*\.$"):
        generate(tmp_path / "new", **arguments)
    assert not (tmp_path / "new").exists()


def test_a_file_is_no_folder_to_write_to(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"^--output must be a folder"):
        generate(tmp_path / "file", users=10, days=10, rows=10, seed=1)


def test_last_possible_day_is_written(tmp_path: Path) -> None:
    generated = generate(tmp_path, users=10, days=2, rows=100, seed=1, start=date(9998, 12, 30))
    assert generated.late_date == date(9998, 12, 31)
    assert {record[1][:4] for record in records(tmp_path / "interactions.csv") if reason(record) is None} == {"9998"}

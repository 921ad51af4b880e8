"""Profiles with the package that draws them: what is sampled, what is kept, what is compared, and nothing leaves."""

import importlib
import re
from datetime import date, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from lakehouse_assets.calendar import days_between
from lakehouse_assets.reports.profiles import ProfileError, write_profile
from lakehouse_assets_tests.test_cli import store

pytestmark = pytest.mark.profiles
LAST = date(2024, 3, 31)


def test_profiles_are_kept_by_date_and_compared_with_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    common = importlib.import_module("data_profiling.utils.common")
    told: list[str] = []
    monkeypatch.setattr(common.requests, "get", told.append)
    folder = tmp_path / "profiles"

    def profile(home: str, last: date, action: str, rows: int = 50, against: date | None = None):
        days = days_between(date(2024, 3, 1), last)
        made = [
            {"event_date": day, "user_id": "the-only-user", "action_type": action} for day in days for _ in range(3)
        ]
        lakehouse = store(tmp_path / home, "silver.interactions", made)
        return write_profile(lakehouse.catalog, lakehouse.tables["silver.interactions"], folder, rows, against)

    first = profile("a", LAST - timedelta(days=7), "edit")
    assert (first.rows, first.of_rows, first.drift) == (50, 72, None)
    assert (first.first, first.last) == (date(2024, 3, 1), LAST - timedelta(days=7))
    assert pq.read_table(first.page.with_suffix(".parquet")).num_rows == 50

    second = profile("b", LAST, "share", rows=1000)
    assert (second.rows, second.first, second.against) == (84, date(2024, 3, 4), LAST - timedelta(days=7))
    assert second.drift is not None
    drift = second.drift.read_text(encoding="utf-8")
    assert {"edit", "share"} <= set(re.findall(r"\b(edit|share)\b", drift))
    assert sorted(path.name for path in second.page.parent.iterdir()) == [
        "2024-03-24.html",
        "2024-03-24.parquet",
        "2024-03-24_2024-03-31.html",
        "2024-03-31.html",
        "2024-03-31.parquet",
    ]
    for page in (first.page, second.page, second.drift):
        outside = re.findall(
            r"<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)\s*=\s*[\"']?https?://[^>]*", page.read_text()
        )
        assert outside == []
    assert told == []
    with pytest.raises(ProfileError, match="no profile of 2024-01-01; there are 2024-03-24"):
        profile("c", LAST, "edit", against=date(2024, 1, 1))

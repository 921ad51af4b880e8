"""After a change of time zones what was landed is divided again, and is what landing it anew would be. No Spark."""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lakehouse_assets.landing import divisions
from lakehouse_assets.landing.deliver import deliver, split
from lakehouse_assets.landing.divisions import FOLDER, Zones
from lakehouse_assets.landing.folder import Folder
from lakehouse_assets.landing.redivision import divide_again, told, waiting
from lakehouse_assets.landing.text_files import open_text_bytes
from lakehouse_assets.landing.zone import LandingZone
from lakehouse_assets.settings import Settings, load_settings
from lakehouse_assets_tests.conftest import HEADERS, in_zones
from lakehouse_assets_tests.histories import SEED

HEADER = HEADERS["interactions"]
CHANGES = [
    (("UTC", "UTC"), ("UTC", "Asia/Kolkata")),
    (("UTC", "Asia/Kolkata"), ("UTC", "UTC")),
    (("UTC", "America/Los_Angeles"), ("UTC", "Asia/Kolkata")),
    (("UTC", "Pacific/Kiritimati"), ("UTC", "Pacific/Niue")),
    (("UTC", "Pacific/Niue"), ("UTC", "Pacific/Kiritimati")),
    (("UTC", "UTC"), ("Europe/Berlin", "Europe/Berlin")),
    (("Pacific/Niue", "UTC"), ("Pacific/Kiritimati", "UTC")),
    (("America/New_York", "Asia/Tokyo"), ("Asia/Kolkata", "America/Los_Angeles")),
]


def under(zones: tuple[str, str]) -> Settings:
    return in_zones(zones[1], zones[0])


def rows(chance: random.Random, count: int) -> list[str]:
    """Rows around midnights, over a clock change in Berlin, with offsets and without, some without a readable day."""
    found = []
    for number in range(count):
        at = datetime(2024, 3, 29, tzinfo=UTC) + timedelta(hours=12 * chance.randint(0, 8))
        at += timedelta(seconds=chance.choice([0, -1, 1, 1800, 3600, 7200, chance.randint(-40_000, 40_000)]))
        offset = chance.choice(["", "", "", "Z", "+05:30", "-1000", "+14", ".5"])
        when = chance.choice([f"{at:%Y-%m-%d %H:%M:%S}{offset}"] * 9 + ["soon", "2024-02-30 00:00:00", ""])
        page = chance.choice(["p", "", '"a,b"', '"two\nlines"', "Zoë"])
        found.append(f"u{number},{when},edit,{page},{number},1.0")
    return found


def source(folder: Path, *given: str, name: str = "events.csv", header: str = HEADER) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text("\n".join([header, *given]) + "\n", encoding="utf-8")
    return path


def land(zone: LandingZone, path: Path, settings: Settings) -> None:
    given, reporting = settings.input_zone, settings.reporting_zone
    formats = settings.timestamp_formats
    split(zone, path, {}, input_zone=given, reporting_zone=reporting, formats=formats, today=settings.today())


def landed(zone: LandingZone) -> dict[tuple[str, str], Counter[str]]:
    """The rows of every landed file by its date and name, in no order."""
    return {
        (str(day), file.path.name): rows_in(file.location)
        for day, files in zone.listing("interactions").items()
        for file in files or [pytest.fail(f"{day} has a folder and no file")]
    }


def rows_in(location: str) -> Counter[str]:
    with open_text_bytes(location) as stream:
        return Counter(stream.read().decode().replace('"two\nlines"', "two lines").splitlines())


def everything(zone: LandingZone) -> dict[str, Any]:
    return {"files": landed(zone), "notes": {note: zone.storage.read_note(note) for note in zone.storage.notes(FOLDER)}}


@pytest.mark.parametrize(("before", "after"), CHANGES)
def test_what_is_divided_again_is_what_landing_it_anew_gives(
    tmp_path: Path, before: tuple[str, str], after: tuple[str, str]
) -> None:
    chance = random.Random(SEED)
    paths = [source(tmp_path / "given", *rows(chance, 150), name=name) for name in ("a.csv", "b.csv")]
    zone, fresh = LandingZone(tmp_path / "landing"), LandingZone(tmp_path / "fresh")
    for path in paths:
        land(zone, path, under(before))
        land(fresh, path, under(after))
    assert landed(zone) != landed(fresh), "the zones make no difference"
    said: list[str] = []
    assert waiting(zone, under(before)) == []
    assert [one.name for one in waiting(zone, under(after))] == ["a.csv", "b.csv"]
    divide_again(zone, under(after), said.append)
    assert everything(zone) == everything(fresh)
    assert said == [
        f"the time zone has changed: a.csv, b.csv were split by days of {before[1]}, times without an offset in "
        f"{before[0]}; the settings now say days of {after[1]}, times without an offset in {after[0]}; "
        "splitting 2 files again"
    ]
    assert divide_again(zone, under(after), said.append) == set()
    assert len(said) == 1
    divide_again(zone, under(before), said.append)
    divide_again(zone, under(after), said.append)
    assert everything(zone) == everything(fresh)


def test_formats_named_later_divide_what_is_landed_again(tmp_path: Path) -> None:
    us = [f"us{day},3/{day}/2024 10:0{day},edit,p,1,1" for day in range(1, 6)]
    path = source(tmp_path / "given", *us, *(f"iso{day},2024-03-0{day} 10:00:00,edit,p,1,1" for day in (2, 9)))
    formats = ("%m/%d/%Y %H:%M", "%d.%m.%y, %H/%M")
    before, after = in_zones("UTC"), in_zones("UTC", timestamp_formats=formats)
    zone, fresh = LandingZone(tmp_path / "landing"), LandingZone(tmp_path / "fresh")
    land(zone, path, before)
    land(fresh, path, after)
    assert set(landed(zone)[("2024-03-09", "events.csv")]) >= set(us)
    said: list[str] = []
    divide_again(zone, after, said.append)
    assert everything(zone) == everything(fresh)
    assert said == [
        "the formats of timestamps have changed: events.csv was split by days of UTC, times without an offset in "
        "UTC; the settings now say days of UTC, times without an offset in UTC, times also as %m/%d/%Y %H:%M and "
        "%d.%m.%y, %H/%M; splitting 1 file again"
    ]
    divide_again(zone, before, said.append)
    assert set(landed(zone)[("2024-03-09", "events.csv")]) >= set(us)


@pytest.fixture
def dying(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[str]]:
    """Let every change of the landing zone after so many fail as if the process died; what was done until then."""

    def die_after(changes: int) -> list[str]:
        done: list[str] = []

        def dies(name: str) -> Callable[..., Any]:
            real = getattr(Folder, name)

            def step(self: Folder, *given: Any, **more: Any) -> Any:
                if len(done) == changes:
                    raise KeyboardInterrupt
                done.append(name)
                return real(self, *given, **more)

            return step

        for name in ("publish", "vacate", "write_note", "publish_note", "drop_note"):
            monkeypatch.setattr(Folder, name, dies(name))
        return done

    return die_after


def test_a_process_that_dies_while_it_divides_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dying: Callable[[int], list[str]]
) -> None:
    path = source(tmp_path / "given", *rows(random.Random(SEED), 40))
    before, after = under(("UTC", "UTC")), under(("UTC", "Asia/Kolkata"))
    fresh = LandingZone(tmp_path / "fresh")
    land(fresh, path, after)
    deaths = 0
    for changes in range(100):
        zone = LandingZone(tmp_path / f"landing{changes}")
        land(zone, path, before)
        as_it_was = landed(zone)
        done = dying(changes)
        try:
            divide_again(zone, after, lambda _: None)
        except KeyboardInterrupt:
            deaths += 1
            monkeypatch.undo()
            planned = any("/plans/" in note for note in zone.storage.notes(FOLDER))
            assert planned or landed(zone) in (as_it_was, landed(fresh))
            assert waiting(zone, after) != [] or landed(zone) == landed(fresh)
            divide_again(zone, after, lambda _: None)
        monkeypatch.undo()
        assert everything(zone) == everything(fresh), changes
        if len(done) < changes:
            break
    assert deaths > 10


def test_files_put_there_otherwise_stay_where_they_are(tmp_path: Path) -> None:
    utc, kolkata = under(("UTC", "UTC")), under(("UTC", "Asia/Kolkata"))
    zone, given = LandingZone(tmp_path / "landing"), tmp_path / "given"
    evening = "a,2024-03-01 20:00:00,edit,p,1,1", "b,2024-03-02 20:00:00,edit,p,1,1"
    land(zone, source(given, *evening), utc)
    deliver(zone, "interactions", source(given, evening[1]), date(2024, 3, 2), {})  # in the place of a divided one
    deliver(zone, "interactions", source(given, evening[0], name="whole.csv"), date(2024, 3, 1), {})
    by_hand = zone.folder("interactions", date(2024, 3, 1)) / "hand.csv"
    by_hand.write_text(f"{HEADER}\n{evening[0]}\n")
    divide_again(zone, kolkata, lambda _: None)
    assert sorted(landed(zone)) == [
        ("2024-03-01", "hand.csv"),
        ("2024-03-01", "whole.csv"),
        ("2024-03-02", "events.2.csv"),  # beside the file of its name, which stays
        ("2024-03-02", "events.csv"),
    ]
    assert landed(zone)["2024-03-02", "events.2.csv"] == Counter([HEADER, evening[0]])
    assert landed(zone)["2024-03-02", "events.csv"] == Counter([HEADER, evening[1]])
    divide_again(zone, utc, lambda _: None)
    assert landed(zone)["2024-03-01", "events.2.csv"] == Counter([HEADER, evening[0]])
    assert landed(zone)["2024-03-02", "events.csv"] == Counter([HEADER, evening[1]])


def test_deliveries_of_one_name_keep_their_rows_whatever_their_headers(tmp_path: Path) -> None:
    utc, kolkata = under(("UTC", "UTC")), under(("UTC", "Asia/Kolkata"))
    zone, given = LandingZone(tmp_path / "landing"), tmp_path / "given"
    days = [[f"u{hour},2024-03-0{day} {hour}:00:00,edit,p,1,1" for hour in (10, 20)] for day in (1, 2, 3)]
    land(zone, source(given, *days[0]), utc)
    land(zone, source(given, *days[1]), utc)
    land(zone, source(given, *(f"{row},x" for row in days[2]), header=f"{HEADER},more"), utc)
    as_it_was = landed(zone)
    divide_again(zone, kolkata, lambda _: None)
    found = landed(zone)
    assert found["2024-03-02", "events.csv"] == Counter([HEADER, days[0][1], days[1][0]])
    assert found["2024-03-03", "events.csv"] == Counter([HEADER, days[1][1]])
    assert found["2024-03-03", "events.2.csv"] == Counter([f"{HEADER},more", f"{days[2][0]},x"])
    assert found["2024-03-04", "events.csv"] == Counter([f"{HEADER},more", f"{days[2][1]},x"])
    divide_again(zone, utc, lambda _: None)
    back = landed(zone)
    assert sum(back.values(), Counter()) == sum(as_it_was.values(), Counter()) + Counter({f"{HEADER},more": 1})
    assert {day for day, _ in back} == {day for day, _ in as_it_was}


def test_a_file_landed_again_replaces_what_the_new_zone_makes_of_it(tmp_path: Path) -> None:
    utc, kolkata = under(("UTC", "UTC")), under(("UTC", "Asia/Kolkata"))
    zone, given = LandingZone(tmp_path / "landing"), tmp_path / "given"
    path = source(given, "a,2024-03-01 20:00:00,edit,p,1,1", "b,2024-03-02 10:00:00,edit,p,1,1")
    land(zone, path, utc)
    divide_again(zone, kolkata, lambda _: None)  # as the command does first
    land(zone, path, kolkata)
    assert sorted(landed(zone)) == [("2024-03-02", "events.csv")]
    noted = divisions.read(zone.storage, divisions.key_of("events.csv"), Zones.of(kolkata))
    assert noted == ("events.csv", [[date(2024, 3, 2)]])


def test_what_can_not_be_divided_is_said_and_stays(tmp_path: Path) -> None:
    utc, kolkata = under(("UTC", "UTC")), under(("UTC", "Asia/Kolkata"))
    zone, given = LandingZone(tmp_path / "landing"), tmp_path / "given"
    for name in ("a.csv", "b.csv"):
        land(zone, source(given, "u,2024-03-01 20:00:00,edit,p,1,1", name=name), utc)
    (zone.folder("interactions", date(2024, 3, 1)) / "a.csv").write_bytes(b"")
    said: list[str] = []
    divide_again(zone, kolkata, said.append)
    assert "a.csv stays as it was split before" in said[1]
    assert "is empty (0 bytes)" in said[1]
    assert [str(file.path.name) for file in zone.files("interactions", date(2024, 3, 2))] == ["b.csv"]
    (one,) = waiting(zone, kolkata)
    assert told([one], kolkata).startswith(
        "a.csv was split by days of UTC, times without an offset in UTC; the settings now say"
    )


def test_with_a_marker_the_dates_of_a_complete_delivery_are_complete(tmp_path: Path) -> None:
    utc = load_settings(success_marker=True)
    kolkata = load_settings(success_marker=True, reporting_timezone="Asia/Kolkata")
    zone = LandingZone(tmp_path / "landing", marker=True)
    land(zone, source(tmp_path / "given", "a,2024-03-01 10:00:00,edit,p,1,1", "b,2024-03-02 20:00:00,edit,p,1,1"), utc)
    for day in zone.dates("interactions"):
        (zone.folder("interactions", day) / "_SUCCESS").touch()
    divide_again(zone, kolkata, lambda _: None)
    assert [str(day) for day in sorted(zone.storage.marked("interactions"))] == ["2024-03-01", "2024-03-03"]
    assert zone.dates("interactions") == [date(2024, 3, 1), date(2024, 3, 3)]


@pytest.mark.faults
def test_hundreds_of_files_divided_again_and_again_equal_fresh_ones(tmp_path: Path) -> None:
    for round_, (before, after) in enumerate(_pairs(40)):
        chance = random.Random(SEED + round_)
        path = source(tmp_path / "given", *rows(chance, chance.randint(1, 400)), "u,2024-03-30 12:00:00,edit,p,1,1")
        zone, fresh = LandingZone(tmp_path / f"landing{round_}"), LandingZone(tmp_path / f"fresh{round_}")
        land(zone, path, under(before))
        land(fresh, path, under(after))
        divide_again(zone, under(after), lambda _: None)
        assert everything(zone) == everything(fresh), (SEED + round_, before, after)


def _pairs(count: int) -> Iterator[tuple[tuple[str, str], tuple[str, str]]]:
    chance = random.Random(SEED)
    every = sorted({zone for change in CHANGES for zones in change for zone in zones})
    for _ in range(count):
        yield (chance.choice(every), chance.choice(every)), (chance.choice(every), chance.choice(every))

"""Deliveries in which everything goes wrong that a file can hold, from a seed: what two engines must agree on."""

import csv
import random
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

FIRST = date(2024, 2, 26)  # over a leap day and the end of a month
DAYS = 9
USERS = (
    "a",
    "B",
    " b ",
    "\tä",
    "ä",
    "ß",
    "用户",
    "é",
    "e\u0301",
    "😀",
    "u" * 300,
    "0",
    "-1",
    "null",
    "",
    " ",
    "O'x",
    "a,b",
)
ACTIONS = (*["page_view", "edit", "create", "delete", "share"] * 4, "Edit", "edit ", "", "hack")
PAGES = ("", "p", "p", "seite/ä", "a b", 'q"')
DURATIONS = (
    "0",
    "1",
    "5",
    "5",
    "100",
    "100.0",
    "+7",
    "-0",
    "-1",
    " 12 ",
    "7200000",
    "7200001",
    "1e3",
    "0x1f",
    "",
    "NaN",
)
FURTHER_DURATIONS = (
    "9" * 25,
    "-" + "9" * 25,
    "9223372036854775807",
    "9223372036854775808",
    "\u0661\u0662",  # Arabic digits
    "\uff11\uff12",  # wide ones
    "1_000",
    "1.5",
    ".",
)
VERSIONS = ("1.0.0", "1.0.10", "1.0.9", "", "v2", "2.0", "é", "😀")
CLOCKS = (
    "00:00:00",
    "23:59:59",
    "10:00:00",
    "10:30:00",
    "10:59:59",
    "02:30:00",
    "10:00:00.000001",
    "10:00:00.999999999",
)
TAILS = ("", "", "", "Z", "+00:00", "-0500", "+14", "-12:00", "+05:45", ".5Z", ".", "+25:00", "z", " UTC", "[UTC]")
TIMES = (
    "",
    "soon",
    "2024-02-30 10:00:00",
    "2024-13-01 10:00:00",
    "2024-2-9 10:00:00",
    "2024-03-01",
    "2024-03-01 24:00:00",
    "2024-03-01 23:59:60",
    "1969-12-31 23:59:59",
    "0001-01-01 00:00:00",
    "9999-12-31 23:59:59",
    "2024-03-01 1:00:00",
    "\uff12\uff10\uff12\uff14-03-01 10:00:00",
    "2024-03-01\u00a010:00:00",
    "1709287200",
    "2024-03-31 02:30:00",
    "2024-10-27 02:30:00",
)
JOINED = (
    "2024-01-01",
    "2023-12-31",
    "2024-02-29",
    "2024-02-30",
    "",
    "soon",
    "2024-1-1",
    "0001-01-01",
    "2024-01-01 10:00:00",
)
COUNTRIES = ("DE", "de", "", " FR ", "Österreich", "日本", "null", "DE")
DEVICES = ("web", "ios", "", "an,droid")
PLANS = ("free", "pro", "")


def deliver(landing: Path, seed: int, rows: int, name: str) -> None:
    """Write files of interactions and users into a landing zone; the same for the same seed."""
    chance = random.Random(f"{seed} {name}")
    by_day: dict[date, list[list[str]]] = {}
    for _ in range(rows):
        day = FIRST + timedelta(chance.randrange(DAYS))
        duration = chance.choice(DURATIONS if chance.random() < 0.9 else FURTHER_DURATIONS)
        row = [chance.choice(USERS), _time(chance, day), chance.choice(ACTIONS), chance.choice(PAGES), duration]
        delivered = day + timedelta(chance.choice([0] * 12 + [1, 2, 3, 4, -1]))
        by_day.setdefault(delivered, []).append([*row, chance.choice(VERSIONS)])
        for _ in range(chance.choice([0] * 4 + [1, 2])):  # duplicates, which may say something else, on any day
            twin = [*row[:4], chance.choice(DURATIONS), chance.choice(VERSIONS)]
            by_day.setdefault(delivered + timedelta(chance.choice([0, 0, 1])), []).append(twin)
    header = ["user_id", "timestamp", "action_type", "page_id", "duration_ms", "app_version"]
    for day, of_day in by_day.items():
        write_file(landing / "interactions" / f"date={day}" / name, header, of_day)
    for day in sorted(chance.sample(sorted(by_day), 3)):
        people = [
            [user, *map(chance.choice, (JOINED, COUNTRIES, DEVICES, PLANS))]
            for user in chance.choices(USERS, k=2 * len(USERS))
        ]
        header = ["user_id", "join_date", "country", "device_type", "subscription_type"]
        write_file(landing / "users" / f"date={day}" / name, header, people)


def _time(chance: random.Random, day: date) -> str:
    if chance.random() < 0.08:
        return chance.choice(TIMES)
    if chance.random() < 0.5:
        instant = datetime.combine(day, time(), UTC) + timedelta(seconds=chance.randrange(0, 86_400, 599))
        text = f"{instant:%Y-%m-%d %H:%M:%S}"
    else:
        text = f"{day} {chance.choice(CLOCKS)}"
    if chance.random() < 0.2:
        text = text.replace(" ", "T")
    return text + (chance.choice(TAILS) if chance.random() < 0.3 else "")


def write_file(path: Path, header: list[str], rows: list[list[str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
        file.write("a,b\n")  # no row of this header

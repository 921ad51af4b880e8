"""users.csv: some users have two rows, some none."""

from datetime import timedelta
from typing import BinaryIO

import numpy as np

from lakehouse_assets.sample_data.drawing import STREAM_USERS, Integers, by_weight, draw, generator
from lakehouse_assets.sample_data.plan import BLOCK_ROWS, USER_COLUMNS, Plan
from lakehouse_assets.sample_data.records import (
    as_texts,
    blank_records,
    csv_bytes,
    day_texts,
    header_of,
    record_type,
    set_user,
)

_COUNTRIES = ("US", "IN", "BR", "DE", "GB", "FR", "JP", "MX", "CA", "ES", "AU", "NG")
_COUNTRY_WEIGHTS = (26, 17, 10, 8, 8, 6, 6, 5, 4, 4, 3, 3)
_DEVICES = ("iPhone", "Android", "Web", "iPad", "Desktop")
_DEVICE_WEIGHTS = (30, 38, 17, 5, 10)
_SUBSCRIPTIONS = ("free", "basic", "premium", "enterprise")
_SUBSCRIPTION_WEIGHTS = (70, 14, 13, 3)
_USER_LAYOUT = record_type(
    user_high=4, user_low=4, comma_1=1, join=10, comma_2=1, country=2, comma_3=1, device=7, comma_4=1,
    subscription=10, end=1,
)  # fmt: skip
_USERS_PER_REPEAT = 100  # one id of each hundred has two rows
_USERS_PER_MISSING = 200  # one id of each two hundred has none (realistic kind)
JOIN_HISTORY_DAYS = 730  # how long before the first event the earliest user may have joined


def write_users(file: BinaryIO, plan: Plan, joins: Integers | None) -> tuple[int, int, int]:
    """Write users.csv; `joins` are days from the start per user (None: uniform).

    Returns rows, ids with two rows, and ids without a row. Second rows, with other values, stand at the end.
    """
    days = day_texts(plan.start - timedelta(JOIN_HISTORY_DAYS), JOIN_HISTORY_DAYS + plan.days, "")
    realistic = joins is not None
    columns = (
        ("country", as_texts(_COUNTRIES), by_weight(1 << 12, _COUNTRY_WEIGHTS if realistic else [1] * len(_COUNTRIES))),
        ("device", as_texts(_DEVICES), by_weight(1 << 12, _DEVICE_WEIGHTS if realistic else [1] * len(_DEVICES))),
        (
            "subscription",
            as_texts(_SUBSCRIPTIONS),
            by_weight(1 << 12, _SUBSCRIPTION_WEIGHTS if realistic else [1] * len(_SUBSCRIPTIONS)),
        ),
    )
    file.write(header_of(USER_COLUMNS))
    second_rows: list[bytes] = []
    missing = repeated = 0
    for block, first in enumerate(range(0, plan.users, BLOCK_ROWS)):
        index = np.arange(first, min(first + BLOCK_ROWS, plan.users), dtype=np.int64)
        random = generator(plan.seed, STREAM_USERS, block)
        join = draw(random, plan.days, index.size) if joins is None else joins[index]
        position = index + 1
        repeat = position % _USERS_PER_REPEAT == 0
        absent = position % _USERS_PER_MISSING == _USERS_PER_MISSING // 4 if realistic else np.zeros_like(repeat)
        records = blank_records(_USER_LAYOUT, index.size)
        set_user(records, position)
        records["join"] = days[join + JOIN_HISTORY_DAYS]
        if realistic:
            records["join"][draw(random, 256, index.size) == 0] = b""
        other = blank_records(_USER_LAYOUT, int(repeat.sum()))
        set_user(other, position[repeat])
        other["join"] = days[join[repeat] + JOIN_HISTORY_DAYS - 1]
        for name, texts, table in columns:
            choice = table[draw(random, table.size, index.size)]
            records[name] = texts[choice]
            other[name] = texts[(choice[repeat] + 1) % texts.size]
        file.write(csv_bytes(records[~absent]))
        second_rows.append(csv_bytes(other))
        missing += int(absent.sum())
        repeated += int(repeat.sum())
    for rows in second_rows:
        file.write(rows)
    return plan.users - missing + repeated, repeated, missing

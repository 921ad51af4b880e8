"""Groups stale days of many tables into few runs: which tables share a run, and which days it covers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import date
from itertools import pairwise

from lakehouse_assets.calendar import DAY, days_between, stretches

# What a run costs in days of a table: starting its process and Spark, and planning and publishing each of its tables.
# Measured on 2 cores a run takes 7 to 15 s before its first table, a table about 0.5 s whatever its days, and a day of
# a table 0.01 to 0.1 s (up to 80,000 rows a day).
_A_RUN, _A_TABLE = 30, 5

Days = frozenset[date]
Group = tuple[tuple[str, ...], Days]  # tables that share runs, and the days these go over


def grouped(
    stale: Mapping[str, Days], inputs: Mapping[str, Collection[str]], up_to_date: Mapping[str, Collection[date]]
) -> list[Group]:
    """Tables grouped into the cheapest runs, each after its inputs.

    Args:
        stale: days to compute of each table, in the order of the tables.
        inputs: the tables that each is computed from.
        up_to_date: days of each table that may be computed again where that saves a run; no others are.
    """
    allowed = {name: days.union(up_to_date.get(name, ())) for name, days in stale.items()}
    groups: list[Group] = []
    for name, days in stale.items():
        if not days:
            continue
        own = _bridged((name,), days, allowed)
        # a table may join an earlier run only if none of its inputs comes later
        feeding = [position for position, (names, _) in enumerate(groups) if not set(names).isdisjoint(inputs[name])]
        best, joined, saves = len(groups), own, 0
        for position in range(max(feeding, default=0), len(groups)):
            names, covered = groups[position]
            both = _bridged((*names, name), covered | own[1], allowed)
            saved = _cost(groups[position]) + _cost(own) - _cost(both)
            if saved > saves and all(both[1] <= allowed[other] for other in both[0]):
                best, joined, saves = position, both, saved
        groups[best : best + 1] = [joined]
    return groups


def _bridged(names: tuple[str, ...], days: Days, allowed: Mapping[str, Days]) -> Group:
    """Tables and days, with the days between stretches if one run over them costs less than two."""
    found = set(days)
    every = stretches(days)
    for (_, before), (after, _) in pairwise(every):
        if (after - before).days - 1 < _A_TABLE + _A_RUN / len(names):
            between = days_between(before + DAY, after - DAY)
            if all(allowed[name].issuperset(between) for name in names):
                found.update(between)
    return names, frozenset(found)


def _cost(group: Group) -> int:
    """What the runs of a group cost, in days of a table."""
    names, days = group
    return len(stretches(days)) * (_A_RUN + len(names) * _A_TABLE) + len(names) * len(days)

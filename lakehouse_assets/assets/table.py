"""A table is a file: its declaration, and below it the function that computes it.

Planner, writer, checks, Dagster's assets, tests, docs and diagrams all read the declaration; nothing of it is said
twice. A function takes what its parameters name: its inputs, the `Days` to compute, settings, and `divide`.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import cached_property, partial, reduce
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias, TypeVar

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import types as T

from lakehouse_assets.assets.charts import Card, Chart
from lakehouse_assets.assets.columns import Column, pandera_schema
from lakehouse_assets.assets.users_as_of import UsersAsOf
from lakehouse_assets.calendar import Days, days_between, period_first, period_last
from lakehouse_assets.settings import GROUPS, Settings, SettingsError

if TYPE_CHECKING:
    import pandera.pyspark as pa

IN_ITS_PARTITION = "rows_in_their_partition"
NO_DUPLICATE_KEY = "no_duplicate_key"
VALID_COLUMNS = "columns_valid"
EVER = -36_500  # days back that no lakehouse reaches: landing dates begin in 2000
LAYERS = ("bronze", "silver", "gold")

Calendar = Literal["events", "landings", "users"]
Function = Callable[..., DataFrame]
Declared = TypeVar("Declared", bound=Function)
_Value = TypeVar("_Value")
SETTINGS = Settings.model_fields.keys() | GROUPS.keys()  # what a table's function may take by name
Settled: TypeAlias = _Value | Callable[[Settings], _Value]  # what depends on settings is a function of them


class Divide(Protocol):
    """Divides rows among write tasks."""

    def __call__(self, rows: DataFrame, day: str, user: str, key: Sequence[str] = ()) -> DataFrame:
        """The rows with the columns of `DIVIDED`.

        Args:
            rows: of a table's days.
            day: the column of the day.
            user: that of the user.
            key: columns that the rows are grouped by next, beside `DIVIDED` and the day and in this order.
        """


def undivided(rows: DataFrame, day: str, user: str, key: Sequence[str] = ()) -> DataFrame:
    """The rows as they are, as where nobody writes them."""
    return rows


@dataclass(frozen=True)
class Rule:
    """What every row of a table obeys; a null outcome is a breach. Its name is the asset check's name.

    A rule that says several things has a part for each, so that a breach is told by the one that is broken.
    """

    name: str
    description: str
    holds: Callable[[], SparkColumn]
    parts: tuple[Rule, ...] = ()


@dataclass(frozen=True)
class Input:
    """A table another one is computed from: day D reads days D + first_offset … D + last_offset of it.

    With ``within`` (``week`` or ``month``) the content of D follows only from those of them that are of D's own ISO
    week or calendar month. A table may be an input of itself, of days before D: then its day D follows from everything
    before it. Of versions of users it may read the state ``as_of`` D alone: of the newest delivery by then, before the
    first delivery of the first.
    """

    table: str
    first_offset: int = 0
    last_offset: int = 0
    within: str | None = None
    as_of: bool = False

    @property
    def reads_other_days(self) -> bool:
        """Whether a day reads more than the same day of the table."""
        return self.as_of or (self.first_offset, self.last_offset) != (0, 0)

    @property
    def in_words(self) -> str:
        """Which days of the table a day reads, as text: ``of the day``, ``from day -29 to the day``."""
        if self.as_of:
            return "as of the day"
        if not self.reads_other_days:
            return "of the day"
        begin, end = _offset_in_words(self.first_offset, "first"), _offset_in_words(self.last_offset, "last")
        return f"from {begin} to {end}" + (f" within the {self.within}" if self.within else "")

    def span_read(self, first: date, last: date) -> tuple[date, date]:
        """The first and the last day that the days ``first`` … ``last`` read."""
        (low, _), (_, high) = (self._around(day, self.first_offset, self.last_offset) for day in (first, last))
        return low, high

    def days_reached(self, stretch: tuple[date, date], first: date, last: date) -> list[date]:
        """The days from ``first`` to ``last`` whose content follows from one of the days of a stretch."""
        low, _ = self._around(stretch[0], -self.last_offset, -self.first_offset)
        _, high = self._around(stretch[1], -self.last_offset, -self.first_offset)
        return days_between(max(low, first), min(high, last))

    def _around(self, day: date, begin: int, end: int) -> tuple[date, date]:
        low, high = day + timedelta(begin), day + timedelta(end)
        if self.within:
            low, high = max(low, period_first(day, self.within)), min(high, period_last(day, self.within))
        return low, high


def _offset_in_words(days: int, extreme: str) -> str:
    if abs(days) >= -EVER:
        return f"the {extreme} day"
    return f"day {days:+d}" if days else "the day"


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        name: ``layer.table``.
        description: one sentence for the catalog and the UI.
        columns: by name, in order.
        partition_column: the date column that daily partitions go by.
        function: computes it.
        reads: for each parameter of the function, and each further name, a table it is computed from.
        landed: instead, the deliveries it is read from.
        calendar: the days that it has: of its own landed files (``users``, ``landings``), or of ``events``, which only
            their rows tell.
        key: columns that identify a row; empty where rows repeat as delivered.
        rules: what a row obeys beside its columns' checks.
        checks: names of rules shown as asset checks of their own; the audit before publication counts them all.
        by_month: few rows a day: all days of a month share a file and are rewritten together.
        sorted_by: columns that the rows of a file are sorted by before its days and its key.
        settings: names of the settings that change its content; part of its stamps.
        version: raised by hand when its computation changes, so that every day counts as stale.
        charts: what the dashboard draws of it; the first one also stands on its page in Dagster.
        cards: numbers at the top of the dashboard.
    """

    name: str
    description: str
    columns: Mapping[str, Column]
    partition_column: str
    function: Function
    reads: Mapping[str, Input]
    landed: str
    calendar: Calendar
    key: tuple[str, ...]
    rules: tuple[Rule, ...]
    checks: tuple[str, ...]
    by_month: bool
    sorted_by: tuple[str, ...]
    settings: tuple[str, ...]
    version: int
    charts: tuple[Chart, ...]
    cards: tuple[Card, ...]

    @property
    def inputs(self) -> tuple[Input, ...]:
        """What it is computed from."""
        return tuple(self.reads.values())

    @property
    def reads_itself(self) -> bool:
        """Whether each day follows from all days before, so that its stamp vouches for them too."""
        return any(i.table == self.name for i in self.inputs)

    @property
    def layer(self) -> str:
        """``bronze``, ``silver`` or ``gold``."""
        return self.name.split(".")[0]

    @property
    def spark_schema(self) -> T.StructType:
        """The columns as Spark types."""
        return T.StructType([T.StructField(name, c.spark_type, c.nullable) for name, c in self.columns.items()])

    @cached_property
    def schema(self) -> pa.DataFrameSchema:
        """The columns as a pandera schema: types, nullability and checks of single values."""
        return pandera_schema(self.columns)

    def contract(self) -> list[Rule]:
        """Every rule of a row, the columns' own first: what the audit counts breaches of."""
        parts: dict[str, list[Rule]] = {VALID_COLUMNS: []}
        for name, column in self.columns.items():
            for check in column.every_check:
                rule = check.rule or VALID_COLUMNS
                said = f"{name}{' ' if check.description.startswith('is ') else ': '}{check.description}"
                parts.setdefault(rule, []).append(Rule(rule, said, partial(check.holds, name)))
        return [*(_together(name, of_rule) for name, of_rule in parts.items()), *self.rules]

    def rows(
        self,
        frames: Mapping[str, DataFrame | UsersAsOf],
        days: Days,
        settings: Settings,
        divide: Divide = undivided,
    ) -> DataFrame:
        """Compute it.

        Args:
            frames: by the function's parameters what it is computed from.
            days: first and last day wanted.
            settings: of the lakehouse.
            divide: divides rows among the tasks that write them; default not at all.
        """
        given = {"days": days, "divide": divide, **frames}
        left = optional(self.function) - given.keys() - SETTINGS
        named = [name for name in parameters(self.function) if name not in left]
        return self.function(**{name: given[name] if name in given else getattr(settings, name) for name in named})


def _together(name: str, parts: Sequence[Rule]) -> Rule:
    description = "; ".join(part.description for part in parts)
    return Rule(name, description, partial(_all, [part.holds for part in parts]), tuple(parts))


def _all(conditions: list[Callable[[], SparkColumn]]) -> SparkColumn:
    return reduce(operator.and_, (condition() for condition in conditions))


def parameters(function: Function) -> list[str]:
    """The names of a function's parameters."""
    return list(inspect.signature(function).parameters)


def optional(function: Function) -> set[str]:
    """Parameters that have a default, as for a table that is read under some settings alone."""
    return {name for name, one in inspect.signature(function).parameters.items() if one.default is not one.empty}


class _Declaration(NamedTuple):
    """What declares a table: the module it stands in, the setting without which there is none, and the table."""

    module: str
    only_with: str
    under: Callable[[Settings], Table]


_DECLARATIONS: dict[str, _Declaration] = {}


def table_asset(
    name: str,
    *,
    description: str,
    columns: Settled[Mapping[str, Column]],
    partition_column: str,
    reads: Settled[Mapping[str, Input]] | None = None,
    landed: str = "",
    calendar: Calendar = "events",
    key: tuple[str, ...] = (),
    rules: Settled[tuple[Rule, ...]] = (),
    checks: tuple[str, ...] = (),
    by_month: bool = False,
    sorted_by: tuple[str, ...] = (),
    settings: tuple[str, ...] = (),
    known_by_inputs: tuple[str, ...] = (),
    only_with: str = "",
    version: int = 1,
    charts: tuple[Chart, ...] = (),
    cards: tuple[Card, ...] = (),
) -> Callable[[Declared], Declared]:
    """Declare the table that a function computes; the function stays as it is.

    What depends on settings is given as a function of them. A setting that the function takes, by itself or in one of
    the `GROUPS`, is part of the table's stamps, so that every day is stale when it changes.

    Args:
        name: see `Table`, as for all that is not said here.
        description: see `Table`.
        columns: see `Table`.
        partition_column: see `Table`.
        reads: see `Table`.
        landed: see `Table`.
        calendar: see `Table`.
        key: see `Table`.
        rules: see `Table`.
        checks: see `Table`.
        by_month: see `Table`.
        sorted_by: see `Table`.
        settings: further settings that its content depends on, as its columns and rules may.
        known_by_inputs: settings that the function takes and whose change its inputs' stamps tell already.
        only_with: a setting without which there is no such table.
        version: see `Table`.
        charts: see `Table`.
        cards: see `Table`.
    """

    def declared(function: Declared) -> Declared:
        taken = [n for name in parameters(function) if name in SETTINGS for n in settings_in(name)]
        stamped = tuple(dict.fromkeys([*(n for n in taken if n not in known_by_inputs), *settings]))

        def under(chosen: Settings) -> Table:
            table = Table(
                name=name,
                description=description,
                columns=_settled(columns, chosen),
                partition_column=partition_column,
                function=function,
                reads=_settled(reads or {}, chosen),
                landed=landed,
                calendar=calendar,
                key=key,
                rules=_settled(rules, chosen),
                checks=checks,
                by_month=by_month,
                sorted_by=sorted_by,
                settings=stamped,
                version=version,
                charts=tuple(replace(chart, table=name) for chart in charts),
                cards=tuple(replace(card, table=name) for card in cards),
            )
            _check_parameters(table)
            return table

        there = _DECLARATIONS.get(name)
        if there and there.module != function.__module__:
            raise TypeError(f"{name} is declared twice, in {there.module} and in {function.__module__}")
        if name.split(".")[0] not in LAYERS:
            raise TypeError(f"{name}: name it by its layer, as in gold.{name.split('.')[-1]}")
        _DECLARATIONS[name] = _Declaration(function.__module__, only_with, under)
        return function

    return declared


def _settled(value: Settled[_Value], settings: Settings) -> _Value:
    return value(settings) if callable(value) else value


def _check_parameters(table: Table) -> None:
    there = {*table.reads, "days", "divide", *(["delivered"] if table.landed else []), *SETTINGS}
    there |= optional(table.function)
    if unknown := [name for name in parameters(table.function) if name not in there]:
        raise TypeError(
            f"{table.name}: its function takes {unknown[0]}, which is neither one of what it reads "
            f"({', '.join(table.reads) or 'nothing'}), nor days, divide or a setting"
        )


def declare(settings: Settings) -> Mapping[str, Table]:
    """All tables of a lakehouse with these settings, by name, each after what it is computed from.

    Raises:
        SettingsError: a module of LAKEHOUSE_TABLE_MODULES can't be imported.
    """
    for layer in LAYERS:
        package = import_module(f"lakehouse_assets.assets.{layer}")
        for module in iter_modules(package.__path__):
            import_module(f"{package.__name__}.{module.name}")
    for name in settings.table_modules:
        try:
            import_module(name)
        except ImportError as error:
            raise SettingsError(f"LAKEHOUSE_TABLE_MODULES names {name}, which can't be imported: {error}") from error
    homes = ("lakehouse_assets.assets", *settings.table_modules)
    tables = {
        name: one.under(settings)
        for name, one in _DECLARATIONS.items()
        if any(f"{one.module}.".startswith(f"{home}.") for home in homes)
        and (not one.only_with or getattr(settings, one.only_with))
    }
    waiting = sorted(tables.values(), key=lambda t: (LAYERS.index(t.layer), t.name))
    ordered: dict[str, Table] = {}
    while waiting:
        ready = next((t for t in waiting if all(i.table in ordered or i.table == t.name for i in t.inputs)), None)
        if ready is None:
            raise TypeError(
                f"{waiting[0].name} is computed from itself in a circle, or from a table that is not declared"
            )
        ordered[ready.name] = ready
        waiting.remove(ready)
    return ordered


def selected(declared: Mapping[str, Table], names: Sequence[str]) -> Mapping[str, Table]:
    """The named tables and all they are computed from, in the order of ``declared``; no name means every table.

    Raises:
        SettingsError: there is no such table.
    """
    unknown = [name for name in names if name not in declared]
    if unknown:
        raise SettingsError(f"LAKEHOUSE_TABLES names {unknown[0]!r}; there are {', '.join(declared)}")
    wanted = set(names or declared)
    for table in reversed(list(declared.values())):
        if table.name in wanted:
            wanted |= {i.table for i in table.inputs}
    return {name: table for name, table in declared.items() if name in wanted}


def settings_in(name: str) -> tuple[str, ...]:
    """The settings that a parameter of a table's function stands for: one of its name, or those of a group."""
    return GROUPS[name]._fields if name in GROUPS else (name,)


def settings_of(table: Table, settings: Settings) -> dict[str, Any]:
    """The settings, by name, that change the content of a table.

    Which of the segments are columns of events changes it too; where none is, nothing is added.
    """
    found = {name: getattr(settings, name) for name in table.settings}
    of_events = [name for name in settings.segments if name in settings.extra_columns]
    return found | ({"segments_of_events": of_events} if of_events and "segments" in found else {})

"""One lakehouse: its settings, tables, landing zone, catalog and engine, wired together once.

Engines and writer are imported when they are first needed, because most commands only read.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from copy import copy
from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING

from lakehouse_assets.assets.table import declare, selected
from lakehouse_assets.landing import redivision
from lakehouse_assets.landing.zone import LandingZone, landing_zone
from lakehouse_assets.planning.planner import Planner
from lakehouse_assets.settings import Settings, load_settings
from lakehouse_assets.storage.catalog import Catalog
from lakehouse_assets.storage.trouble import Troubles

if TYPE_CHECKING:
    from lakehouse_assets.engines.choice import Choice, Engines
    from lakehouse_assets.storage.engine import Engine
    from lakehouse_assets.storage.maintenance import Maintenance
    from lakehouse_assets.storage.repair import Repair
    from lakehouse_assets.storage.warehouse import Warehouse


class Lakehouse:
    """Everything that assets, checks and commands need. Parts are made at their first use."""

    def __init__(self, settings: Settings | None = None, engine: Callable[[Catalog], Engine] | None = None) -> None:
        """A lakehouse.

        Args:
            settings: read from the environment when left out.
            engine: makes the engine, called once; default as the settings say.
        """
        self._read_settings = (lambda: settings) if settings else load_settings
        self.settings = self._read_settings()
        self.declared = declare(self.settings)
        self.tables = selected(self.declared, self.settings.tables)
        self.catalog = Catalog(self.settings)
        self.trouble = Troubles()
        self._given = engine

    @property
    def engine(self) -> Engine:
        """The engine that computes the current table."""
        return self.engines.now

    @cached_property
    def engines(self) -> Engines:
        """Sail and Spark, and the choice between them."""
        from lakehouse_assets.engines.choice import Engines

        return Engines(self.settings, self.catalog, self._given(self.catalog) if self._given else None)

    def begin(self, run_id: str, names: Collection[str], first: date, last: date) -> Choice:
        """Choose the engine of a run over the days ``first`` … ``last``."""
        from lakehouse_assets.planning.intake import Intake

        look = Intake(self.tables, self.catalog, self.zone)
        return self.engines.begin(run_id, lambda: look.rows(names, first, last, self.settings.sail_rows))

    def changed_settings(self) -> list[str]:
        """Settings whose value in the environment or the file has changed since this object was made.

        A process that starts now uses the new values. Settings that were passed in don't change.

        Raises:
            SettingsError: they can't be used any more.
        """
        now = self._read_settings()
        return [name for name in Settings.model_fields if getattr(now, name) != getattr(self.settings, name)]

    def without(self, names: Collection[str]) -> Lakehouse:
        """The same lakehouse without these tables and those that depend on them."""
        rest = copy(self)
        rest.tables = {}
        for name, table in self.tables.items():
            if name not in names and all(i.table in rest.tables or i.table == name for i in table.inputs):
                rest.tables[name] = table
        for part in ("warehouse", "maintenance", "repair", "planner"):
            vars(rest).pop(part, None)
        return rest

    @cached_property
    def zone(self) -> LandingZone:
        """The landing zone."""
        return landing_zone(self.settings)

    def divide_again(self, say: Callable[[str], None]) -> set[date]:
        """Split landed files again where the settings' time zones have changed; returns the changed landing dates."""
        return redivision.divide_again(self.zone, self.settings, say)

    @cached_property
    def warehouse(self) -> Warehouse:
        """Reads and writes tables."""
        from lakehouse_assets.storage.warehouse import Warehouse

        return Warehouse(self.settings, self.tables, self.catalog, lambda: self.engine)

    @cached_property
    def maintenance(self) -> Maintenance:
        """Compaction, expiry and cleanup."""
        from lakehouse_assets.storage.maintenance import Maintenance

        return Maintenance(self.warehouse, self.zone.dates, self.engines.with_memory)

    @cached_property
    def repair(self) -> Repair:
        """Finds and repairs damaged tables."""
        from lakehouse_assets.storage.repair import Repair

        return Repair(self.warehouse, self.planner.first_day)

    @cached_property
    def planner(self) -> Planner:
        """Which days are up to date."""
        return Planner(self.settings, self.tables, self.catalog, self.zone)

"""How a catalog fails, and how long its answers are waited for."""

from __future__ import annotations

from lakehouse_assets.errors import LakehouseError

CONNECT_SECONDS, ANSWER_SECONDS = 10, 60  # longest waits for a REST catalog, which PyIceberg would wait for for ever


class CatalogError(LakehouseError):
    """The catalog or the warehouse can't be used; the message says why."""


class CatalogLocked(CatalogError):
    """Another process has held the catalog longer than a commit waits; it passes."""


class CatalogUnreachable(CatalogError):
    """The catalog gave no answer; what it was asked to do it may have done or not."""

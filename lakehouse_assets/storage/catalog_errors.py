"""Errors of the catalog, and how long to wait for its answers."""

from __future__ import annotations

from lakehouse_assets.errors import LakehouseError

CONNECT_SECONDS, ANSWER_SECONDS = 10, 60  # timeouts of a REST catalog; PyIceberg has none


class CatalogError(LakehouseError):
    """The catalog or the warehouse can't be used; the message says why."""


class CatalogLocked(CatalogError):
    """Another process has held the catalog longer than a commit waits; a later attempt may succeed."""


class CatalogUnreachable(CatalogError):
    """The catalog did not answer; it may or may not have done what it was asked."""

"""Events of days as the texts that Dagster stores, which differ from day to day in a few places only."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from json.encoder import encode_basestring_ascii
from typing import Any

import dagster as dg

from lakehouse_assets.orchestration.dagster_internals import (
    AssetMaterializationPlannedData,
    StepMaterializationData,
    replaced,
    serialize_value,
)

ROWS = "dagster/row_count"
# stand for what differs: none of them is ever a day, an instant or a number of rows
_PLACES: Sequence[Any] = ("\0 a day", -1e300, -(10**30))
_DAY, _INSTANT, _NUMBER = _PLACES
_BETWEEN = re.compile("|".join(f"({re.escape(json.dumps(place))})" for place in _PLACES))


class EventTexts:
    """Writes the event of a day as Dagster does, going through the parts that it shares with the one before only once.

    A run over a year has tens of thousands; Dagster takes each apart, which was a quarter of such a run.
    """

    def __init__(self) -> None:
        self._known: tuple[dg.EventLogEntry | None, list[tuple[str, int]]] = (None, [])  # read and set by any thread

    def text(self, event: dg.EventLogEntry) -> str:
        """The text of an event."""
        shared, leaves = _taken_apart(event)
        if shared is None:
            return serialize_value(event)
        known, parts = self._known
        if shared != known:
            parts = _between_places(serialize_value(shared))
            self._known = shared, parts
        return "".join([text + (leaves[leaf] if leaf >= 0 else "") for text, leaf in parts])


def _taken_apart(event: dg.EventLogEntry) -> tuple[dg.EventLogEntry | None, Sequence[str]]:
    """An event with places for what differs between days, and the JSON that belongs there.

    None for an event of another kind.
    """
    happened = event.dagster_event
    data = happened.event_specific_data if happened else None
    number = None
    if isinstance(data, StepMaterializationData):
        made = data.materialization
        metadata = made.metadata
        if isinstance(rows := metadata.get(ROWS), dg.IntMetadataValue):
            metadata, number = {**metadata, ROWS: dg.IntMetadataValue(_NUMBER)}, rows.value
        day = made.partition
        shared: Any = data._replace(materialization=made._replace(partition=_DAY, metadata=metadata))
    elif isinstance(data, AssetMaterializationPlannedData):
        day = data.partition
        shared = data._replace(partition=_DAY)
    elif isinstance(data, dg.AssetCheckEvaluation):
        day, target = data.partition, data.target_materialization_data
        if target:
            target, number = replaced(target, storage_id=_NUMBER), target.storage_id
        shared = replaced(data, partition=_DAY, target_materialization_data=target)
    else:
        return None, ()
    if happened is None or day is None:
        return None, ()
    whole = event._replace(timestamp=_INSTANT, dagster_event=happened._replace(event_specific_data=shared))
    return whole, (encode_basestring_ascii(day), repr(event.timestamp), str(number))


def _between_places(text: str) -> list[tuple[str, int]]:
    """The texts between the places, each with which of the leaves follows it; -1 for none."""
    parts, end = [], 0
    for place in _BETWEEN.finditer(text):
        parts.append((text[end : place.start()], (place.lastindex or 0) - 1))
        end = place.end()
    return [*parts, (text[end:], -1)]

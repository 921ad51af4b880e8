"""What is told to `LAKEHOUSE_WEBHOOK_URL`: JSON with a ``text`` that chat services show."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from logging import Logger

from lakehouse_assets.settings import Settings

_SECONDS = 10


def post(settings: Settings, text: str, **more: object) -> None:
    """Post a message.

    Raises:
        OSError: the webhook does not take it; the message does not show its address.
    """
    request = urllib.request.Request(  # noqa: S310  the settings only take http and https
        settings.webhook_url.get_secret_value(),
        json.dumps({"text": text, **more}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=_SECONDS):  # noqa: S310
        pass


class Complaints:
    """What keeps a sensor or schedule from its work, told to the webhook once until it is over."""

    def __init__(self, settings: Settings, name: str) -> None:
        self._settings = settings
        self._name = name
        self._told: set[str] = set()

    def tell(self, log: Logger, complaints: Collection[str]) -> None:
        """Tell those that are new; what is not among them is over."""
        self._told.intersection_update(complaints)
        self._post(log, complaints)

    @contextmanager
    def telling(self, log: Logger) -> Iterator[None]:
        """Tell the error that ends a tick, which Dagster shows in its pages only."""
        try:
            yield
        except Exception as error:
            self._post(log, [str(error) or type(error).__name__])
            raise

    def _post(self, log: Logger, complaints: Collection[str]) -> None:
        new = [text for text in complaints if text not in self._told]
        if not new or not self._settings.webhook_url:
            return
        try:
            post(self._settings, f"lakehouse {self._name}: {'; '.join(new)}", reasons=new)
        except OSError as error:  # tried again by the next tick
            log.warning("the webhook can't be told: %s", error)
            return
        self._told.update(new)

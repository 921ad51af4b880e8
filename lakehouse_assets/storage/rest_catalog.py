"""A REST catalog with timeouts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.exceptions import RESTError
from requests import PreparedRequest, Response, Session
from requests.adapters import HTTPAdapter
from requests.exceptions import ConnectionError as NoConnection
from requests.exceptions import RequestException, Timeout
from urllib3.util import Retry

from lakehouse_assets.storage.catalog_errors import ANSWER_SECONDS, CONNECT_SECONDS, CatalogError, CatalogUnreachable


def open_rest_catalog(name: str, properties: Mapping[str, str]) -> RestCatalog:
    """PyIceberg's catalog at the property ``uri``.

    Raises:
        CatalogError: it can't be used.
    """
    try:
        return _PatientRestCatalog(name, **properties)
    except (RESTError, RequestException, ValueError) as error:  # the last for an answer that is none
        why = f"{error.__class__.__name__}: {error}"
        raise CatalogError(
            f"the REST catalog at {properties['uri']} can't be used ({why}); "
            "look at LAKEHOUSE_CATALOG_URI, LAKEHOUSE_CATALOG_NAME and LAKEHOUSE_CATALOG_CREDENTIAL"
        ) from None


class _Patient(HTTPAdapter):
    """Adds timeouts, and repeats requests that are safe to repeat, which a commit never is."""

    def __init__(self) -> None:
        again = Retry(total=4, backoff_factor=0.3, status_forcelist=(502, 503, 504), raise_on_status=False)
        super().__init__(max_retries=again)  # which repeats GET and HEAD, and what never reached the server

    def send(self, request: PreparedRequest, *arguments: Any, **options: Any) -> Response:
        try:
            return super().send(request, *arguments, **options | {"timeout": (CONNECT_SECONDS, ANSWER_SECONDS)})
        except (NoConnection, Timeout) as error:
            raise CatalogUnreachable(
                f"the catalog did not answer ({error.__class__.__name__} at {request.url}); "
                "is LAKEHOUSE_CATALOG_URI right, and the catalog running?"
            ) from error


class _PatientRestCatalog(RestCatalog):
    def _create_session(self) -> Session:
        session = super()._create_session()
        for scheme in ("http://", "https://"):
            session.mount(scheme, _Patient())
        return session

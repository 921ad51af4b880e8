"""Vega: what it draws as an image without a browser, and the program that draws charts on a page.

It releases Python's lock while it draws, so a thread can wait for it while another computes.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import vl_convert

from lakehouse_assets.cache import made_once, short_hash

vl_convert.configure(base_url=False, allowed_base_urls=[])  # a chart has its rows with it: nothing is fetched
logging.getLogger("vl_convert").setLevel("ERROR")  # a layer without rows, as where no day is partial, is a warning
logging.getLogger("swc_ecma_transforms_optimization").setLevel("CRITICAL")  # each pass over the program is an error


def warm_up() -> None:
    """Start it, so that the first image need not wait for that."""
    vl_convert.warm_up_workers()


def svg(drawn: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """A Vega-Lite chart of rows as an image. It is translated to Vega once for a machine."""
    text = json.dumps({**drawn, "data": {"name": "rows"}})
    name = f"charts/{short_hash(text, version('vl-convert-python'))}.json"
    vega = json.loads(made_once(name, lambda: json.dumps(vl_convert.vegalite_to_vega(text))))
    next(data for data in vega["data"] if data["name"] == "rows")["values"] = rows
    return str(vl_convert.vega_to_svg(json.dumps(vega)))  # a text is taken faster than objects


def bundle() -> str:
    """The program that draws charts on a page; putting it together takes more than a second."""
    name = f"charts/vega-{vl_convert.get_vega_version()}-by-{version('vl-convert-python')}.js"
    return made_once(name, lambda: str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")))

"""The diagrams show the sources beside them, and the data flow the declared tables."""

import struct
import zlib
from pathlib import Path

import pytest

from diagrams import draw

SOURCES = sorted(draw.FOLDER.glob("*.puml"))


def source_in(image: Path) -> str:
    """The PlantUML source that PlantUML keeps, compressed, in a text chunk of the images it draws."""
    data, at = image.read_bytes(), 8
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        keyword, _, rest = data[at + 8 : at + 8 + length].partition(b"\0")
        if (kind, keyword) == (b"iTXt", b"plantuml"):
            return zlib.decompress(rest[2:].split(b"\0", 2)[2]).decode()
        at += 12 + length
    raise AssertionError(f"{image.name} says of no source")


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_an_image_is_of_its_source(source):
    assert source_in(source.with_suffix(".png")).startswith(source.read_text(encoding="utf-8")), "run make diagrams"


def test_there_is_a_source_for_every_image_and_the_data_flow_is_that_of_the_tables():
    assert {path.stem for path in SOURCES} == {path.stem for path in draw.FOLDER.glob("*.png")} >= {"data_flow"}
    assert draw.DATA_FLOW.read_text(encoding="utf-8") == draw.data_flow(), "run make diagrams"

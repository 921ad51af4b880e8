"""`make diagrams`: the data flow out of the declared tables, then every PlantUML source beside this file as PNG."""

import subprocess
import sys
from pathlib import Path

from lakehouse_assets.assets.table import declare
from lakehouse_assets.engines.jars import Jar, fetched
from lakehouse_assets.engines.java import java_home
from lakehouse_assets.errors import SetupError
from lakehouse_assets.settings import load_settings

# Draws the diagrams; the MIT build brings a layout engine of its own (Smetana), so that Graphviz is not needed.
PLANTUML = Jar(
    "net.sourceforge.plantuml",
    "plantuml-mit",
    "1.2026.9",
    sha256="e84e45b37ad3030cf802e7be18a687d209eca55733a5679b1f1f1a515f7f70dd",
    size=17_893_615,
)
FOLDER = Path(__file__).parent
DATA_FLOW = FOLDER / "data_flow.puml"
_COLOURS = {"bronze": "#f3e3d3", "silver": "#e9edf1", "gold": "#fbf0c4"}


def data_flow() -> str:
    """The tables and what each is computed from, as PlantUML."""
    tables = declare(load_settings())
    lines = [
        "@startuml",
        "!pragma layout smetana",
        "title Data flow: every table and what it is computed from (made from the declared tables)",
        "skinparam defaultFontName sans-serif",
        "skinparam shadowing false",
        "left to right direction",
        'folder "landing zone\\nCSV files" as landing',
    ]
    for layer, colour in _COLOURS.items():
        lines.append(f'rectangle "{layer}" {colour} {{')
        lines += [f'  database "{t.name.split(".")[1]}" as {_id(t.name)}' for t in tables.values() if t.layer == layer]
        lines.append("}")
    lines.append('file "dashboard.html" as dashboard')
    for table in tables.values():
        if not table.inputs:
            lines.append(f"landing --> {_id(table.name)}")
        lines += [f"{_id(i.table)} --> {_id(table.name)}" for i in table.inputs if i.table != table.name]
    lines += ["gold --> dashboard", "@enduml", ""]
    return "\n".join(lines)


def _id(name: str) -> str:
    return name.replace(".", "_")


def main() -> int:
    """Draw all diagrams."""
    DATA_FLOW.write_text(data_flow(), encoding="utf-8")
    try:
        java: list[str | Path] = [java_home() / "bin" / "java", "-Djava.awt.headless=true", "-jar", fetched(PLANTUML)]
        draw = [*java, "-charset", "UTF-8", "-failfast2", "-tpng", *sorted(FOLDER.glob("*.puml"))]
        done = subprocess.run(draw, check=False)
    except SetupError as error:
        print(f"diagrams: {error}", file=sys.stderr)
        return 1
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())

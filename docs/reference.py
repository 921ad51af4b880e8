"""`make docs` begins with this: docs/settings.md out of settings.py and docs/tables.md out of the declared tables."""

from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic_core import PydanticUndefined

from lakehouse_assets.assets.table import Input, Table, declare
from lakehouse_assets.settings import Settings, load_settings

FOLDER = Path(__file__).parent
_MADE = "<!-- Made by `make docs`; edit {source} instead. -->\n\n"


def settings_page() -> str:
    """Every setting: variable, default, meaning."""
    lines = [
        _MADE.format(source="lakehouse_assets/settings.py") + "# Settings",
        "",
        "From the environment, or from a file `lakehouse.toml` (`lakehouse init` writes one); the environment wins. A "
        "value that can't be used ends a command with one sentence that names it.",
        "",
        "| variable | default | meaning |",
        "|---|---|---|",
    ]
    for name, field in Settings.model_fields.items():
        variable = field.validation_alias or f"LAKEHOUSE_{name.upper()}"
        lines.append(f"| `{variable}` | {_default(field.default)} | {field.description} |")
    cache = "Java, jars and the class archive that `make setup` fetches and makes once."
    lines += [f"| `LAKEHOUSE_CACHE` | `~/.cache/lakehouse_assets` | {cache} |", ""]
    return "\n".join(lines)


def _default(value: Any) -> str:
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, tuple):
        value = ",".join(value)
    if isinstance(value, bool):
        value = str(value).lower()
    return "" if value in (None, "", {}, PydanticUndefined) else f"`{value}`"


def tables_page() -> str:
    """Every table: what it holds, what it is computed from, its columns and laws."""
    tables = declare(load_settings())
    lines = [
        _MADE.format(source="lakehouse_assets/assets/") + "# Tables",
        "",
        "What each metric means, with a worked example: [metrics](metrics/README.md). All laws of a table are counted "
        "on what is about to be published; one breach, and nothing is.",
    ]
    for layer in ("bronze", "silver", "gold"):
        lines += ["", f"## {layer.title()}"]
        for table in tables.values():
            if table.layer == layer:
                lines += ["", *_table(table)]
    return "\n".join(lines) + "\n"


def _table(table: Table) -> list[str]:
    storage = "a file for the days of a month" if table.by_month else "a file for a day or for several small ones"
    facts = [
        f"One day by `{table.partition_column}`; {storage}.",
        f"Key: {', '.join(f'`{c}`' for c in table.key)}." if table.key else "No key: rows repeat as delivered.",
        f"Computed from {'; '.join(map(_input, table.inputs))}." if table.inputs else "Read from the landing zone.",
    ]
    if table.settings:
        facts.append(f"Changes with the settings {', '.join(f'`{name}`' for name in table.settings)}.")
    lines = [f"### {table.name}", "", table.description, "", *(f"- {fact}" for fact in facts), ""]
    lines += ["| column | type | null | meaning |", "|---|---|---|---|"]
    for name, column in table.columns.items():
        checks = "".join(f" ({check.description})" for check in column.checks)
        null = "yes" if column.nullable else ""
        lines.append(f"| `{name}` | {column.kind} | {null} | {column.description}{checks} |")
    if table.rules:
        lines += ["", *(f"- `{rule.name}`: {rule.description}" for rule in table.rules)]
    return lines


def _input(i: Input) -> str:
    return f"[{i.table}](#{i.table.replace('.', '')}) {i.in_words}"


PAGES = {"settings.md": settings_page, "tables.md": tables_page}


def main() -> None:
    """Write both pages."""
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()

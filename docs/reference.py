"""`make docs` begins with this: the pages that are made from the code: settings, tables, checks and commands."""

import io
import os
import re
from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

from pydantic import SecretStr
from pydantic_core import PydanticUndefined

from lakehouse_assets.assets.table import Input, Table, declare
from lakehouse_assets.cli import main as lakehouse_command
from lakehouse_assets.definitions import build_definitions
from lakehouse_assets.lakehouse import Lakehouse
from lakehouse_assets.settings import Settings, load_settings

FOLDER = Path(__file__).parent
_MADE = "<!-- Made by `make docs`; edit {source} instead. -->\n\n"


def settings_page() -> str:
    """Every setting: variable, default, where it may stand, meaning."""
    lines = [
        _MADE.format(source="lakehouse_assets/settings.py") + "# Settings",
        "",
        "A setting comes from the environment, else from the file `lakehouse.toml`, else it has its default. The file "
        "is in `LAKEHOUSE_HOME` or in the current folder, not in both; `lakehouse init` writes one with every setting "
        "commented out. There a setting's name is that of its variable without `LAKEHOUSE_`, in small letters: "
        "`late_days = 3`. In the environment a list is written with commas, and pairs as `ours=theirs`.",
        "",
        "A value that cannot be used ends the command with one sentence that names it. A misspelt variable or key is "
        "refused.",
        "",
        "| variable | default | in the file | meaning |",
        "|---|---|---|---|",
    ]
    for name, field in Settings.model_fields.items():
        variable = field.validation_alias or f"LAKEHOUSE_{name.upper()}"
        place = "no: a secret" if field.annotation is SecretStr else f"`{name}`"
        lines.append(f"| `{variable}` | {_default(field.default)} | {place} | {field.description} |")
    cache = "Folder for Java, jars and the class archive of Spark, which are fetched or made once a machine."
    lines += [f"| `LAKEHOUSE_CACHE` | `~/.cache/lakehouse_assets` | no | {cache} |", ""]
    lines += [
        "S3 keys come from the AWS chain (`AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, a profile, a role).",
        "",
        "**Changing a setting** makes exactly the days stale whose tables depend on it: each table's section on "
        "[tables](tables.md) names its settings.",
        "",
    ]
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
    """Every table: what it holds, what it is computed from, its columns and rules."""
    tables = declare(load_settings())
    lines = [
        _MADE.format(source="lakehouse_assets/assets/") + "# Tables",
        "",
        "What each metric means, with a worked example: [metrics](metrics/README.md). Every rule of a table, its "
        "column types and its key are checked on the rows that are about to be published. If one row fails, the run "
        "publishes none of that table.",
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


def checks_page() -> str:
    """Every asset check: what it says, and whether it blocks."""
    lines = [
        _MADE.format(source="lakehouse_assets/orchestration/checks.py") + "# Checks",
        "",
        "Dagster shows a result for each day. A *blocking* check that fails stops the tables that depend on its table; "
        "the others warn. The rules of a table are counted before publication anyway, so a blocking check fails only "
        "when something else has touched the table. Reasons for rejecting a row: [which rows count]"
        "(metrics/cleaning.md).",
        "",
        "| table | check | blocks | says |",
        "|---|---|---|---|",
    ]
    for step in build_definitions(Lakehouse()).asset_checks or ():
        for spec in step.check_specs:
            says = (spec.description or "").split(". Without chosen days")[0]
            blocks = "yes" if spec.blocking else ""
            lines.append(f"| {'.'.join(spec.asset_key.path)} | `{spec.name}` | {blocks} | {says} |")
    return "\n".join(lines) + "\n"


def commands_page() -> str:
    """Every command with its options, as its own help says."""
    lines = [
        _MADE.format(source="lakehouse_assets/cli/") + "# Commands",
        "",
        "Exit codes and JSON output: [monitor](monitor.md).",
    ]
    for name in command_names():
        lines += ["", f"## lakehouse {name}", "", "```", command_help(name), "```"]
    return "\n".join(lines) + "\n"


def command_names() -> Sequence[str]:
    """The commands that `lakehouse --help` lists."""
    return re.findall(r"^ {2,4}([a-z]+)(?: {2,}|$)", command_help(), re.MULTILINE)


def command_help(*command: str) -> str:
    """What ``--help`` prints in a terminal of 100 columns."""
    with redirect_stdout(io.StringIO()) as said, suppress(SystemExit), patch.dict(os.environ, COLUMNS="100"):
        lakehouse_command([*command, "--help"])
    return said.getvalue().rstrip()


PAGES = {
    "settings.md": settings_page,
    "tables.md": tables_page,
    "checks.md": checks_page,
    "commands.md": commands_page,
}


def main() -> None:
    """Write these pages."""
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()

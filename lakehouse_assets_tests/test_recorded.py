"""What a change must not do by accident: the definitions that Dagster loads, the stamps of a fixed lake, tables' code.

Where a change is meant `python -m lakehouse_assets_tests.test_recorded` writes them down again. If a table's rows
change with its code, raise its `version` first: without that, days that are computed already count as up to date.
"""

import ast
import hashlib
import importlib
import shutil
import tempfile
from collections.abc import Iterator
from datetime import date
from functools import cache
from pathlib import Path

from lakehouse_assets.definitions import build_definitions
from lakehouse_assets.lakehouse import Lakehouse
from lakehouse_assets.planning.planner import Work
from lakehouse_assets.settings import load_settings
from lakehouse_assets.storage import catalog

RECORDED = Path(__file__).parent / "recorded"
COMPUTING = ("lakehouse_assets.assets", "lakehouse_assets.timestamps")
DECLARING = tuple(
    f"lakehouse_assets.assets.{name}"
    for name in ("table", "charts", "columns", "datasets", "delivered", "versions", "division")
)
GIVEN = Path(__file__).parent / "golden" / "segments_versions_and_performance" / "given"


def definitions(lakehouse: Lakehouse) -> Iterator[str]:
    """Assets with their inputs, columns, laws and checks; jobs, sensors and schedules, a line each."""
    loaded = build_definitions(lakehouse)
    graph = loaded.resolve_asset_graph()
    for key in sorted(graph.get_all_asset_keys()):
        node = graph.get(key)
        yield f"asset {key.to_user_string()}: {', '.join(sorted(k.to_user_string() for k in node.parent_keys))}"
        for check in sorted(node.check_keys):
            spec = graph.get_check_spec(check)
            yield f"  check {check.name}{' (blocking)' if spec.blocking else ''}: {spec.description}"
    for name in sorted(lakehouse.tables):
        table = lakehouse.tables[name]
        yield f"table {name}: by {table.partition_column}, days of {table.calendar}, version {table.version}"
        yield f"  storage: {'month' if table.by_month else 'day'}, sorted by {table.sorted_by}, key {table.key}"
        yield f"  settings: {', '.join(sorted(table.settings))}"
        yield from (f"  input {i.table} {i.in_words}" for i in sorted(table.inputs, key=lambda i: i.table))
        for column, declared in table.columns.items():
            laws = ", ".join(check.description for check in declared.checks)
            yield f"  column {column} {declared.kind}{' null' if declared.nullable else ''} {laws}".rstrip()
        yield from (f"  law {law.name}: {law.description}" for law in table.contract())
    for job in sorted(loaded.resolve_all_job_defs(), key=lambda job: job.name):
        selected = job.asset_layer.selected_asset_keys
        yield f"job {job.name}: {len(selected)} assets"
    repository = loaded.get_repository_def()
    for sensor in sorted(repository.sensor_defs, key=lambda one: one.name):
        yield f"sensor {sensor.name}: {sensor.default_status.value}"
    for schedule in sorted(repository.schedule_defs, key=lambda one: one.name):
        yield f"schedule {schedule.name}: {schedule.default_status.value}, {schedule.cron_schedule}"


def stamps(lakehouse: Lakehouse) -> Iterator[str]:
    """What every table's days of the fixed lake follow from, as one hash a table."""
    [aims] = lakehouse.planner.aims([Work(tuple(lakehouse.tables), date(2024, 4, 1), date(2024, 4, 4))])
    return (f"{name} {aims[name]}" for name in sorted(aims))


def code(lakehouse: Lakehouse) -> Iterator[str]:
    """Version and code of every table: its function and all of the package that this uses, without texts and names."""
    for name in sorted(lakehouse.tables):
        table = lakehouse.tables[name]
        used = "".join(computing(module) for module in sorted(modules(table.function.__module__)))
        yield f"{name} version {table.version}: {hashlib.sha256(used.encode()).hexdigest()[:16]}"


def modules(name: str) -> set[str]:
    """A module of the package and those it imports from where tables are computed."""
    found, waiting = set(), [name]
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            tree = ast.parse(Path(importlib.import_module(module).__file__ or "").read_text())
            imported = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
            waiting += [other for other in imported if other.startswith(COMPUTING) and other not in DECLARING]
    return found


@cache
def computing(module: str) -> str:
    """The code of a module but for imports, docstrings and declarations."""
    tree = ast.parse(Path(importlib.import_module(module).__file__ or "").read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
            if ast.get_docstring(node):
                node.body = node.body[1:] or [ast.Pass()]
            if isinstance(node, ast.FunctionDef):
                node.decorator_list = []
    return "\n".join(ast.unparse(node) for node in tree.body if not isinstance(node, ast.Import | ast.ImportFrom))


def found(home: Path) -> dict[str, list[str]]:
    lakehouse = Lakehouse(load_settings(home=home))
    shutil.copytree(GIVEN, lakehouse.zone.root)
    return {
        "definitions": [*definitions(lakehouse)],
        "stamps": [*stamps(lakehouse)],
        "code": [*code(lakehouse)],
    }


def test_definitions_stamps_and_code_are_those_written_down(tmp_path: Path) -> None:
    for name, lines in found(tmp_path).items():
        assert lines == (RECORDED / f"{name}.txt").read_text().splitlines(), f"{name}: see the head of this file"


def test_what_tables_say_of_their_days_has_the_names_it_had() -> None:
    """Under another name the next version finds nothing computed, and computes every lake again."""
    assert (catalog._STAMPS, catalog._KEPT_FROM, catalog._SETTINGS) == (
        "lakehouse.stamps.",
        "lakehouse.kept-from",
        "lakehouse.settings",
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        for name, lines in found(Path(folder)).items():
            (RECORDED / f"{name}.txt").write_text("\n".join([*lines, ""]))

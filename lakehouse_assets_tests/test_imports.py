"""Which module may import which: the house has floors, and no import runs up or in a circle."""

import ast
import importlib
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import lakehouse_assets

PACKAGE = lakehouse_assets.__name__
HOME = Path(lakehouse_assets.__file__).parent

# from the ground up; a folder or a module beside them imports from its own and from floors below it
FLOORS = (
    {"errors", "addresses", "cache", "calendar", "timestamps", "people", "stopping"},
    {"settings"},
    {"assets"},  # declarations and pure functions: no file, no store, no Dagster
    {"storage"},
    {"landing", "engines"},
    {"planning", "reports", "sample_data"},
    {"lakehouse"},  # wires what is below
    {"orchestration"},
    {"resources"},
    {"definitions"},
    {"runner"},
    {"etl", "stack", "io", "automation"},  # the last two are names that users' dagster.yaml may have
    {"cli"},
)


def names_of_modules() -> dict[str, Path]:
    """Every module of the package, and its file."""
    found = {}
    for file in HOME.rglob("*.py"):
        parts = (PACKAGE, *file.relative_to(HOME).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


MODULES = names_of_modules()


def imported_by(file: Path) -> Iterator[tuple[int, str]]:
    """Lines of a file and what they import, in functions and for the type checker too."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}:{node.lineno}: a relative import, of which this test sees nothing"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield node.lineno, whole if whole in MODULES else str(node.module)


def room(module: str) -> str:
    """The folder or module at the top of the package that a module belongs to; empty for the package itself."""
    return f"{module}.".split(".")[1]


def test_no_import_runs_up() -> None:
    """Each folder imports from floors below it, and a floor's folders not from each other."""
    floor = {name: number for number, names in enumerate(FLOORS) for name in names}
    ours = {room(module) for module in MODULES} - {""}
    assert ours == floor.keys()
    up = [
        f"{file.relative_to(HOME)}:{line}: {room(module)} imports {imported}"
        for module, file in MODULES.items()
        for line, imported in imported_by(file)
        if imported.startswith(f"{PACKAGE}.")
        and room(imported) != room(module)
        and floor[room(imported)] >= floor[room(module)]
    ]
    assert up == []


def test_no_import_runs_in_a_circle() -> None:
    """No module needs itself, also within a folder."""
    needs = {module: {name for _, name in imported_by(file) if name in MODULES} for module, file in MODULES.items()}
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        raise AssertionError(" imports ".join(reversed(error.args[1]))) from None


def test_what_is_dagsters_own_is_imported_in_one_module() -> None:
    """Dagster may change it in any release; who upgrades it looks in one place."""
    internal = re.compile(r"\bdagster(_\w+)?\._")
    found = [module for module, file in MODULES.items() if internal.search(file.read_text(encoding="utf-8"))]
    assert found == ["lakehouse_assets.orchestration.dagster_internals"]


def test_whether_something_is_on_s3_is_asked_in_one_place() -> None:
    asks = re.compile(r"""startswith\((SCHEME|["']s3:)""")
    assert [module for module, file in MODULES.items() if asks.search(file.read_text(encoding="utf-8"))] == [
        "lakehouse_assets.addresses"
    ]


def test_what_benchmarks_examples_and_notebooks_import_is_there() -> None:
    """They are run by hand or seldom; what moved under them shows here."""
    missing = [
        f"{file.relative_to(HOME.parent)}:{node.lineno}: {node.module}.{alias.name}"
        for folder in ("benchmarks", "examples", "notebooks")
        for file in (HOME.parent / folder).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith(f"{PACKAGE}.")
        for alias in node.names
        if f"{node.module}.{alias.name}" not in MODULES
        and not hasattr(importlib.import_module(str(node.module)), alias.name)
    ]
    assert missing == []

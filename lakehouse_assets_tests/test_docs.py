"""The docs are true: pages made from the code are this code's, links lead somewhere, and what is named exists.

Nothing here computes: commands, options, settings, targets, files, functions, tables, tests, counts and pins that a
page names are looked up in the code.
"""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from docs import reference
from docs.hooks import PAGES
from lakehouse_assets.assets.datasets import DATASETS
from lakehouse_assets.assets.table import declare
from lakehouse_assets.engines.jars import JARS
from lakehouse_assets.settings import Settings, load_settings

ROOT = reference.FOLDER.parent
MADE = {"commands.md", "tables.md", "settings.md", "checks.md"}
WRITTEN = sorted(
    file.relative_to(ROOT).as_posix()
    for file in [
        *ROOT.glob("*.md"),
        *(file for file in (ROOT / "docs").rglob("*.md") if file.name not in MADE),
        *(ROOT / name / "README.md" for name in ("benchmarks", "data", "examples", "lakehouse_assets_tests/golden")),
    ]
)
NOW = [name for name in WRITTEN if name != "CHANGELOG.md"]  # which tells of what was, too
NOT_OURS = {"LAKEHOUSE_CACHE", "LAKEHOUSE_SEED", "LAKEHOUSE_CAMPAIGN_SHARE"}  # variables that are no settings
OF_EXAMPLES = {"gold.daily_busy_users", "gold.actions_per_user", "gold.x", "gold.y"}
# other programs' options on a line with one of our commands
OTHERS = re.compile(r"\s(?:#|\|\|?|&&|;)(?:\s|$)")


@cache
def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def code_in(page: str) -> Iterator[str]:
    """Lines of code blocks and texts of code spans."""
    fenced = False
    for line in text_of(page).splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            yield line.strip()
        else:
            yield from re.findall(r"`([^`]+)`", line)


def anchors_of(page: Path) -> set[str]:
    """Ids of a page's headings, as GitHub and MkDocs make them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", title.lower()).strip()) for title in titles}


@cache
def options_of(command: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", reference.command_help(command)))


@cache
def variables() -> set[str]:
    return NOT_OURS | {str(f.validation_alias or f"LAKEHOUSE_{n.upper()}") for n, f in Settings.model_fields.items()}


@pytest.mark.parametrize("page", reference.PAGES)
def test_a_page_made_from_the_code_is_up_to_date(page):
    assert (reference.FOLDER / page).read_text(encoding="utf-8") == reference.PAGES[page](), "run make docs"


def test_the_site_builds_without_a_warning(tmp_path):
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "gold.daily_metrics" in (tmp_path / "site" / "tables.html").read_text(encoding="utf-8")


def test_links_lead_to_files_and_headings_that_exist():
    dead = []
    for page in WRITTEN:
        for in_text, in_image in re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", text_of(page)):
            link, _, anchor = (in_text or in_image).partition("#")
            if "://" in link or link.startswith("mailto:"):
                continue
            of_site = link in PAGES and page.startswith("docs/")
            file = ROOT / (PAGES[link] if of_site else page) if of_site or not link else (ROOT / page).parent / link
            if not file.exists() or (anchor and anchor not in anchors_of(file)):
                dead.append(f"{page}: {link}#{anchor}")
    assert not dead


def test_commands_and_their_options_exist():
    unknown = []
    for page in NOW:
        for code in code_in(page):
            for command, rest in re.findall(r"(?:^|[\s/$])lakehouse (?!lakehouse)([a-z]+)(?![a-z]*:)(.*)", code):
                named = set(re.findall(r"(?<=[\s\[])--?[a-z][a-z-]*", OTHERS.split(rest)[0]))
                if command not in reference.command_names():
                    unknown.append(f"{page}: lakehouse {command}")
                elif odd := named - options_of(command):
                    unknown.append(f"{page}: lakehouse {command} {' '.join(sorted(odd))}")
    assert not unknown


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z0-9-]+):", text_of("Makefile"), re.MULTILINE))
    unknown = [
        f"{page}: make {target}"
        for page in WRITTEN
        for code in code_in(page)
        for words in re.findall(r"(?:^|[\s&])make((?: [a-z0-9-]+)+)", OTHERS.split(code)[0])
        for target in words.split()
        if target not in targets
    ]
    assert not unknown


def test_settings_exist():
    columns = {column for dataset in DATASETS.values() for column in dataset}
    unknown = []
    for page in NOW:
        named = set(re.findall(r"\bLAKEHOUSE_[A-Z_0-9]+\b", text_of(page)))
        in_files = {key for code in code_in(page) for key in re.findall(r"^([a-z_]+) = [\"\[{0-9]", code)}
        odd = (named - variables()) | (in_files - Settings.model_fields.keys() - columns)
        unknown += [f"{page}: {name}" for name in sorted(odd)]
    assert not unknown


def test_files_and_what_is_named_in_them_exist():
    """A file named in code, and a function, class or constant named right behind it."""
    folders = r"(?:lakehouse_assets\w*|docs|examples|benchmarks|spark|notebooks|data|diagrams)"
    missing = []
    for page in NOW:
        for path, name in re.findall(rf"`({folders}/[\w./-]*)`(?: `(\w+)`)?", text_of(page)):
            if not (ROOT / path).exists():
                missing.append(f"{page}: {path}")
            elif name and not re.search(rf"^\s*(?:class|def) {name}\b|^{name}\b.* = ", text_of(path), re.MULTILINE):
                missing.append(f"{page}: {path} {name}")
    assert not missing


def test_tables_exist():
    there = {*declare(load_settings(extra_columns="plan")), "gold.day_coverage", *OF_EXAMPLES}
    unknown = [
        f"{page}: {name}"
        for page in NOW
        for name in re.findall(r"\b((?:bronze|silver|gold)\.[a-z_0-9]+)\b(?!\.py)", text_of(page))
        if name not in there and not name.endswith("_")
    ]
    assert not unknown


def test_tests_that_pages_name_exist():
    tests = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "lakehouse_assets_tests").glob("test_*.py"))
    there = set(re.findall(r"def (test_\w+)", tests)) | {
        f.stem for f in (ROOT / "lakehouse_assets_tests").glob("test_*")
    }
    named = {name for page in NOW for name in re.findall(r"`(test_\w+)(?:\.py)?`", text_of(page))}
    assert not named - there


def test_pages_that_the_code_names_exist():
    code = [
        file
        for folder in ("lakehouse_assets", "lakehouse_assets_tests", "spark")
        for file in (ROOT / folder).rglob("*")
        if file.is_file()
    ]
    code += [ROOT / "docker-compose.yaml", ROOT / "Makefile", ROOT / "pyproject.toml"]
    named = {
        name
        for file in code
        if file.suffix in {".py", ".yaml", ".toml", ".conf", ""}
        for name in re.findall(r"\bdocs/[\w/-]+\.md\b", file.read_text(encoding="utf-8", errors="ignore"))
    }
    assert not [name for name in named if not (ROOT / name).exists()]


def test_counts_and_pins_that_pages_quote_are_those_of_the_code():
    tables = len(declare(load_settings()))
    for page in ("README.md", "docs/index.md"):
        assert f"{tables} tables" in text_of(page), page
    requirements = tomllib.loads(text_of("pyproject.toml"))["project"]["dependencies"]
    pins = dict(one.split("==") for one in requirements if "==" in one)
    iceberg = next(jar.version for jar in JARS if jar.artifact.startswith("iceberg"))
    versions = dict(re.findall(r"^\| ([\w ]+) \| ([\d.]+) \|", text_of("docs/compatibility.md"), re.MULTILINE))
    assert versions == {
        "Dagster": pins["dagster"],
        "PySpark": pins["pyspark[connect]"],
        "Iceberg for Spark": iceberg,
        "Sail": pins["pysail"],
    }


def test_the_readmes_metric_is_a_table(tmp_path, monkeypatch):
    [code] = re.findall(r"```python\n(.*?)```", text_of("README.md"), re.DOTALL)
    (tmp_path / "my_metrics.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    table = declare(load_settings(table_modules="my_metrics"))["gold.daily_busy_users"]
    assert [*table.columns] == ["date", "busy_users"]
    assert [one.name for one in table.contract()] == ["columns_valid"]


def test_a_decision_is_one_page_of_forty_lines():
    pages = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    lines = {page.name: page.read_text(encoding="utf-8").splitlines() for page in pages}
    assert not {name: len(text) for name, text in lines.items() if len(text) > 40}
    assert not [name for name, text in lines.items() if sum(line.startswith("# ") for line in text) != 1]


def test_modules_that_a_user_is_told_to_import_are_called_stable():
    own = (file.read_text(encoding="utf-8") for file in (ROOT / "examples").rglob("*.py"))
    shown = "\n".join([*(line for page in NOW for line in code_in(page)), *own])
    imported = set(re.findall(r"^from (lakehouse_assets[\w.]*) import", shown, re.MULTILINE))
    stable = text_of("docs/compatibility.md").partition("## Stability")[2]
    assert imported
    assert {module for module in imported if f"`{module}`" not in stable} == set()

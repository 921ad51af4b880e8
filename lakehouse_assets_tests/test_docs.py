"""The docs: pages made from the code are those of this code, and the site builds without a broken link."""

import subprocess
import sys

import pytest

from docs import reference


@pytest.mark.parametrize("page", reference.PAGES)
def test_a_page_made_from_the_code_is_up_to_date(page):
    assert (reference.FOLDER / page).read_text(encoding="utf-8") == reference.PAGES[page](), "run make docs"


def test_the_site_builds_without_a_warning(tmp_path):
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(build, cwd=reference.FOLDER.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "gold.daily_metrics" in (tmp_path / "site" / "tables.html").read_text(encoding="utf-8")

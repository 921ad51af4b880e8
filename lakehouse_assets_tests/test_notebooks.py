"""Each notebook is there twice, as Python and as .ipynb; both are the same (`make test-notebooks` runs them)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jupytext
import pytest

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted({path.stem for path in FOLDER.iterdir() if path.suffix in (".py", ".ipynb")})


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_both_halves_of_a_pair_hold_the_same_cells_and_no_cell_failed(name):
    python, notebook = (jupytext.read(FOLDER / f"{name}{suffix}") for suffix in (".py", ".ipynb"))
    assert [(c.cell_type, c.source) for c in notebook.cells] == [(c.cell_type, c.source) for c in python.cells], (
        "run make notebooks"
    )
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not [out for cell in code for out in cell.outputs if out.output_type == "error"]


def test_the_tables_can_be_asked_from_a_notebook(tmp_path):
    """In a kernel, where libraries behave differently from a terminal."""
    code = "from lakehouse_assets.storage.query import connect\nfrom lakehouse_assets.lakehouse import Lakehouse\n"
    code += "assert connect(Lakehouse().catalog).sql('select 1').fetchall() == [(1,)]"
    cell: dict[str, object] = {
        "cell_type": "code",
        "source": code,
        "metadata": {},
        "outputs": [],
        "execution_count": None,
    }
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = tmp_path / "asks.ipynb"
    notebook.write_text(json.dumps({"cells": [cell], "metadata": kernel, "nbformat": 4, "nbformat_minor": 4}))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--nbmake", "--rootdir", str(tmp_path), str(notebook)],
        env=os.environ | {"LAKEHOUSE_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout

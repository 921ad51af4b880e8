"""Each notebook is there twice, as Python and as .ipynb; both are the same (`make test-notebooks` runs them)."""

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

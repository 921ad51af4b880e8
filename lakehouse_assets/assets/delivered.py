"""The columns of delivered rows: the file's own as text, then where each row came from."""

from __future__ import annotations

from lakehouse_assets.assets.columns import Column, at_least, day, instant, text, whole
from lakehouse_assets.assets.datasets import DATASETS


def delivered(dataset: str) -> dict[str, Column]:
    """The columns of a bronze table."""
    return {
        "landing_date": day("Day the file was delivered under."),
        **{name: text(f"`{name}` as delivered.", nullable=True) for name in DATASETS[dataset]},
        "extra_columns": text("Delivered columns beyond the expected ones, as a JSON object.", nullable=True),
        "malformed_row": text(
            "The row as delivered where it does not fit the header; the other columns are null.", nullable=True
        ),
        "source_file": text("Name of the delivered file."),
        "source_line": whole("Line of that file, as landed, on which the row begins.", at_least(1), nullable=True),
        "ingested_at": instant("When the run that read the file began."),
    }

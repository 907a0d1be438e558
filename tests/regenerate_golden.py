"""Write tests/golden/ anew from the records stored there: `python tests/regenerate_golden.py`, then read the diff.

The records are inputs and stay as they are. Costs are the models' own; accuracies, speeds and devices are invented.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from reproduce.paper import load_paper
from reproduce.records import load_records
from reproduce.render import render
from reproduce.tables import TableInputs, table_specs

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = Path("tests/golden")  # relative, because reasons of cells that were not run name the folder
RECORDS = GOLDEN / "records"
TABLES = ("table1", "table5", "ablations", "esc50")
SUFFIXES = {"terminal": "txt", "markdown": "md", "csv": "csv", "json": "json"}


def golden_texts() -> Iterator[tuple[Path, str]]:
    """Path relative to the repository, and what it should hold; the working directory must be the repository."""
    inputs = TableInputs(load_paper(), load_records(RECORDS), RECORDS)
    for name in TABLES:
        table = table_specs()[name].build(inputs)
        for format, suffix in SUFFIXES.items():
            yield GOLDEN / f"{name}.{suffix}", render(table, format)


if __name__ == "__main__":
    os.chdir(ROOT)
    for path, text in golden_texts():
        path.write_text(text, encoding="utf-8")
        print(path)

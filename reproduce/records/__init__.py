"""Read, write and choose stored measurements. No torch here.

from reproduce.records import load_frame
frame = load_frame()            # all measurements as a pandas DataFrame, one row per run
frame[frame.kind == "train"].groupby(["model", "recipe_name"]).top1.mean()
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas


def load_frame(folder: str | Path | None = None) -> pandas.DataFrame:
    """Load every measurement under `folder` as a DataFrame: one row per run, typed columns (see `records.COLUMNS`).

    Args:
        folder: folder of `<kind>.jsonl` files; None loads the records in this repository.

    Raises:
        InputError: the folder does not exist, or a line in it is not a record.
    """
    from reproduce.errors import InputError
    from reproduce.records.store import RECORDS_DIR, ROOT, load_records

    records_dir = ROOT / RECORDS_DIR if folder is None else Path(folder).expanduser()
    if not records_dir.is_dir():
        raise InputError(f"{records_dir}: no such folder of records; pass the folder that you passed to --records")
    return load_records(records_dir).frame

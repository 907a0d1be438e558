"""The cache of resampled scores: nothing is resampled twice, nothing stale or damaged is used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from make_records import make_run, ranked

from reproduce.metrics import paired
from reproduce.paper import load_paper
from reproduce.records.record import RunRecord
from reproduce.records.records import Records
from reproduce.tables import Table, TableInputs, build


@pytest.fixture
def resampled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many clips were resampled, an entry per score."""
    counted: list[int] = []
    original = paired.mean_replicates

    def counting(outcomes: np.ndarray, counts: np.ndarray) -> np.ndarray:
        counted.append(len(outcomes))
        return original(outcomes, counts)

    monkeypatch.setattr(paired, "mean_replicates", counting)
    return counted


def store_runs(folder: Path, mast: str = "000110") -> list[RunRecord]:
    clips = "a b c d e f"
    return [
        make_run(folder, model, "kinetics_sounds", ranked(clips, label=ranks), variant="ks32")
        for model, ranks in (("ast_base", "001100"), ("mast_base", mast))
    ]


def table2(folder: Path, records: list[RunRecord]) -> Table:
    return build("table2", TableInputs(load_paper(), Records.of(records), folder))


def test_a_second_table_resamples_nothing_and_shows_the_same(tmp_path: Path, resampled: list[int]) -> None:
    records = store_runs(tmp_path)
    first = table2(tmp_path, records)
    assert len(resampled) == 4  # top-1 and top-5 of both models
    assert table2(tmp_path, records) == first
    assert len(resampled) == 4


def test_one_command_builds_a_table_once(tmp_path: Path) -> None:
    inputs = TableInputs(load_paper(), Records.of(store_runs(tmp_path)), tmp_path)
    assert build("table2", inputs) is build("table2", inputs)


def test_other_predictions_are_resampled_anew(tmp_path: Path, resampled: list[int]) -> None:
    table2(tmp_path, store_runs(tmp_path))
    changed = table2(tmp_path, store_runs(tmp_path, mast="000000"))
    assert len(resampled) == 6
    assert next(row for row in changed.rows if row.key == "mast").cells["top1"].measured == 100.0


def test_a_damaged_cache_is_replaced(tmp_path: Path, resampled: list[int]) -> None:
    records = store_runs(tmp_path)
    first = table2(tmp_path, records)
    for path in (tmp_path / "replicates").glob("*.npz"):
        path.write_bytes(path.read_bytes()[:40])
    assert table2(tmp_path, records) == first and len(resampled) == 8
    assert table2(tmp_path, records) == first and len(resampled) == 8


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path, resampled: list[int]) -> None:
    records = store_runs(tmp_path)
    (tmp_path / "replicates").write_text("a file where the cache would be")
    assert table2(tmp_path, records) == table2(tmp_path, records)
    assert len(resampled) == 8


def test_git_ignores_the_cache(tmp_path: Path) -> None:
    table2(tmp_path, store_runs(tmp_path))
    assert (tmp_path / "replicates/.gitignore").read_text() == "*\n"

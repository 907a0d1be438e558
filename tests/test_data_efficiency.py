"""Training on a part of the clips: which clips, which keys, the table, the figure and the command."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from make_audio import make_esc50_folder
from make_studies import column, inputs_of, make_predictions, make_stored_run

from reports.plots.beyond import draw_data_efficiency
from reproduce.__main__ import main
from reproduce.datasets import ClipIndex, read_dataset
from reproduce.experiments.comparisons import cross_validation
from reproduce.experiments.data_efficiency import DATA_EFFICIENCY, FRACTIONS, on_parts
from reproduce.experiments.experiment import Experiment
from reproduce.experiments.presets import PRESETS
from reproduce.experiments.training_subset import training_positions
from reproduce.records.records import Records
from reproduce.records.runs import TrainedRun
from reproduce.records.selection import comparisons, equal_macs_groups
from reproduce.records.store import load_records
from reproduce.tables import build

BOTH = cross_validation(PRESETS["coarse"], "esc50", ("1", "2"), ("2",), seeds=(0,))


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> ClipIndex:
    return read_dataset("esc50", make_esc50_folder(tmp_path_factory.mktemp("parts") / "esc50", per_fold=20, folds=2))


def clips(index: ClipIndex, fraction: float, experiment: Experiment = BOTH[0]) -> list[str]:
    positions = training_positions(replace(experiment, train_fraction=fraction), index)
    return [str(index.clip_ids[int(position)]) for position in positions]


def test_every_class_keeps_its_share_and_the_smaller_part_is_within_the_larger(index: ClipIndex) -> None:
    parts = {fraction: clips(index, fraction) for fraction in (0.1, 0.25, 0.5, 1.0)}
    assert {fraction: len(part) for fraction, part in parts.items()} == {0.1: 4, 0.25: 10, 0.5: 20, 1.0: 40}
    for smaller, larger in ((0.1, 0.25), (0.25, 0.5), (0.5, 1.0)):
        assert set(parts[smaller]) < set(parts[larger])
    kept = index.take(training_positions(replace(BOTH[0], train_fraction=0.1), index))
    assert kept.targets("label").sum(axis=0).tolist() == [2, 2]
    assert set(kept.splits.tolist()) == {"1"}


def test_models_share_the_part_seeds_do_not_and_order_is_no_matter(index: ClipIndex) -> None:
    ast, mast = BOTH
    assert clips(index, 0.25, ast) == clips(index, 0.25, mast)
    assert clips(index, 0.25, ast) != clips(index, 0.25, replace(ast, seed=1))
    turned = index.take(np.arange(len(index))[::-1])
    assert set(clips(turned, 0.25)) == set(clips(index, 0.25))
    assert len(clips(index, 0.001)) == 2  # one clip of each class


def test_a_part_is_in_the_key_and_the_whole_leaves_it_as_it_was() -> None:
    whole = BOTH[0]
    assert "train_fraction" not in whole.to_dict()
    assert replace(whole, train_fraction=0.5).to_dict()["train_fraction"] == 0.5
    for fraction in (0.0, 1.5):
        with pytest.raises(ValueError, match="train_fraction"):
            replace(whole, train_fraction=fraction)


def test_every_part_has_about_as_many_steps() -> None:
    parts = on_parts(BOTH[:1])
    assert [part.train_fraction for part in parts] == list(FRACTIONS)
    assert {round(part.recipe.epochs * part.train_fraction) for part in parts} == {BOTH[0].recipe.epochs}


def runs(folder: Path) -> list[TrainedRun]:
    """AST gains 25 points from half of the clips to all, MAST none."""
    records = []
    for model, rights in (("ast_debug", ("1000", "1100")), ("mast_debug", ("1110", "1110"))):
        for fraction, right in zip((0.5, 1.0), rights, strict=True):
            on = {"recipe_name": DATA_EFFICIENCY, **({"train_fraction": fraction} if fraction < 1 else {})}
            for fold in "12":
                key = f"{model} {fraction} {fold}"
                stored = make_predictions(right * 4, fold)
                records.append(make_stored_run(folder, model, stored, fold, key=key, experiment=on))
    return list(Records.of(records).of_kind(TrainedRun))


def test_the_table_pairs_the_models_on_every_part(tmp_path: Path) -> None:
    inputs = inputs_of(tmp_path, [run.record for run in runs(tmp_path)])
    table = build("data_efficiency", inputs)
    assert column(table, "ast_debug") == {"50 %": 25, "100 %": 50}
    assert column(table, "mast_debug - ast_debug") == {"50 %": 50, "100 %": 25}
    gain = table.rows[0].cells["mast_debug - ast_debug"]
    assert gain.ci is not None and gain.ci[0] <= 50 <= gain.ci[1]
    (beyond,) = (note for note in table.notes if "Beyond the spread" in note)
    assert "the models differ in 2 of 2 rows: 50 % (+50.0 points), 100 % (+25.0 points)." in beyond
    assert comparisons(inputs.records, "esc50") == equal_macs_groups(inputs.records, "esc50") == []
    drawn = draw_data_efficiency(inputs)
    assert drawn is not None and "50 % ast_debug 25.0 %, mast_debug 75.0 %" in drawn.alt
    assert draw_data_efficiency(inputs_of(tmp_path, [])) is None


def test_from_sounds_to_table_and_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_esc50_folder(tmp_path / "esc50", per_fold=8, folds=2)
    where = ["--data", f"esc50={folder}", "--records", str(tmp_path / "records"), "--runs", str(tmp_path / "runs")]
    options = ["--preset", "debug", "--folds", "1", "--format", "json", "--figures", str(tmp_path / "figures")]
    assert main(["data_efficiency", *options, *where]) == 0
    first = json.loads(capsys.readouterr().out)
    cells = {(cell["row"], cell["column"]): cell["measured"] for cell in first["rows"]}
    assert [cells[f"{fraction:g}", "clips"] for fraction in FRACTIONS] == [2, 4, 8, 16]
    assert [cells[f"{fraction:g}", "epochs"] for fraction in FRACTIONS] == [10, 4, 2, 1]
    assert {path.suffix for path in (tmp_path / "figures").iterdir()} == {".png", ".svg"}
    trained = load_records(tmp_path / "records").of_kind(TrainedRun)
    assert len(trained) == 2 * len(FRACTIONS)
    assert {run.train_kept for run in trained} == {2, 4, 8, 16}
    for extra in ([], ["--run", "none"]):  # found again, with the clips decoded and without
        assert main(["data_efficiency", *options, *where, *extra]) == 0
        again = capsys.readouterr()
        assert json.loads(again.out)["rows"] == first["rows"] and "8 recorded, 0 to train" in again.err

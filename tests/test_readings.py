"""Table 6 and Figure 2 by both readings of "second last layer", and the probes of the same features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from make_embeddings import add_run, blobs
from make_models import make_input, make_model
from make_runs import make_model as make_trained_model
from make_runs import make_store
from make_runs import run as train

from reproduce.data.batches import evaluation_batches
from reproduce.errors import InputError
from reproduce.evaluation.clustering import fill_clusterings, fill_projections, load_features
from reproduce.evaluation.predict import merge, predict
from reproduce.evaluation.probes import fill_probes, knn_predictions, linear_predictions, probe_folds
from reproduce.figures.figure2 import write_figure2
from reproduce.paper import load_paper
from reproduce.records.clusterings import (
    BLOCK,
    INPUT,
    PROBE_FOLDS,
    clusterings_of,
    probe_of,
    projection_of,
    runs_to_cluster,
)
from reproduce.records.predictions import load_predictions
from reproduce.records.runs import TrainedRun
from reproduce.records.store import load_records
from reproduce.tables import Table, TableInputs, table_specs


def build(name: str, folder: Path) -> Table:
    return table_specs()[name].build(TableInputs(load_paper(), load_records(folder), folder))


def block(table: Table, name: str) -> Table:
    (found,) = (part for part in table.blocks if part.name == name)
    return found


def add_both_readings(folder: Path, scale: str = "paper") -> None:
    """The classes are apart in the classifier's input and mixed in the second-last block."""
    values, labels = blobs(4, 10)
    mixed = np.random.default_rng(1).normal(size=values.shape).astype(np.float32)
    for model in ("ast", "mast"):
        add_run(folder, f"{model}_{'base' if scale == 'paper' else 'tiny'}", values, labels, scale, second_last=mixed)


@pytest.mark.parametrize("name", ["ast_debug", "mast_debug", "ast_mbt_debug"])
def test_both_layers_of_one_pass_are_those_of_the_model(name: str) -> None:
    model, x = make_model(name, input_size=(32, 96)), make_input()
    tokens, block_tokens = model.forward_two_layers(x)
    assert tokens.equal(model.forward_features(x))
    assert model.norm(model.blocks[-1](block_tokens)).equal(tokens)


def test_both_readings_are_clustered_and_have_tables_of_their_own(tmp_path: Path, planes: list[int]) -> None:
    add_both_readings(tmp_path)
    assert fill_clusterings(tmp_path) == []
    records = load_records(tmp_path)
    (ast,) = runs_to_cluster(records, "paper")["ast"]
    scores = {r: np.mean([c.metrics["ari"] for c in clusterings_of(records, ast, "P2", r)]) for r in (INPUT, BLOCK)}
    assert scores[INPUT] == 1.0 and abs(scores[BLOCK]) < 0.3
    table = build("table6", tmp_path)
    other = block(table, "table6 second-last block")
    assert [row.key for row in other.rows][:4] == ["ast P1", "mast P1", "ast P2", "mast P2"]
    cells = next(row.cells for row in other.rows if row.key == "ast P2")
    assert cells["ari"].measured == pytest.approx(scores[BLOCK]) and cells["ari"].paper is None
    assert any("second-last block" in note for note in other.notes)


def test_runs_from_before_the_second_reading_have_the_first_alone(tmp_path: Path, planes: list[int]) -> None:
    add_run(tmp_path, "ast_base", *blobs(4, 10), scale="paper")
    fill_clusterings(tmp_path)
    records = load_records(tmp_path)
    (ast,) = runs_to_cluster(records, "paper")["ast"]
    assert len(clusterings_of(records, ast, "P1")) == 5 and not clusterings_of(records, ast, "P1", BLOCK)
    assert not [part for part in build("table6", tmp_path).blocks if "second-last" in part.name]
    with pytest.raises(InputError, match="no output of the second-last block"):
        load_features(ast, tmp_path, BLOCK)


def test_figure_2_has_a_panel_per_reading(tmp_path: Path, planes: list[int]) -> None:
    add_both_readings(tmp_path)
    assert fill_projections(tmp_path) == []
    records = load_records(tmp_path)
    (ast,) = runs_to_cluster(records, "paper")["ast"]
    panels = [projection_of(records, ast, reading) for reading in (INPUT, BLOCK)]
    assert None not in panels and len({str(panel.coordinates) for panel in panels if panel}) == 2
    second = block(build("figure2", tmp_path), "figure2 second-last block")
    assert [row.key for row in second.rows] == ["ast", "mast"]
    names = {path.stem for path in write_figure2(records, tmp_path, tmp_path / "out")}
    assert names == {"figure2", "figure2_second_last_block"}


# --- probes ---


def test_a_probe_reads_off_separate_classes_and_not_mixed_ones(tmp_path: Path) -> None:
    add_both_readings(tmp_path, "demo")
    assert fill_probes(tmp_path) == []
    assert fill_probes(tmp_path) == []  # once
    records = load_records(tmp_path)
    runs = [run for group in runs_to_cluster(records, "demo").values() for run in group]
    for run in runs:
        apart, mixed = (probe_of(records, run, reading) for reading in (INPUT, BLOCK))
        assert apart is not None and (apart.metrics["knn"], apart.metrics["linear"]) == (100.0, 100.0)
        assert mixed is not None and mixed.metrics["knn"] < 60 and mixed.metrics["linear"] < 60
    probes = block(build("table6", tmp_path), "table6 demo probes")
    assert [row.key for row in probes.rows] == [f"{m} {r}" for r in (INPUT, BLOCK) for m in ("ast", "mast")]
    assert any("clips of one recording are in one fold" in note for note in probes.notes)


def test_folds_never_divide_a_recording_and_spread_the_classes() -> None:
    groups = np.repeat(np.arange(60), 3)
    labels = groups % 4
    folds = probe_folds(labels, groups)
    assert set(folds) == set(range(PROBE_FOLDS))
    assert all(len(set(folds[groups == group])) == 1 for group in set(groups))
    assert all(set(labels[folds == fold]) == {0, 1, 2, 3} for fold in range(PROBE_FOLDS))


def test_a_stand_in_with_few_clips_of_a_class_has_fewer_folds(tmp_path: Path) -> None:
    add_run(tmp_path, "ast_tiny", *blobs(8, 3))
    assert fill_probes(tmp_path) == []
    (run,) = runs_to_cluster(load_records(tmp_path), "demo")["ast"]
    probe = probe_of(load_records(tmp_path), run, INPUT)
    assert probe is not None and (probe.metrics["folds"], probe.metrics["knn"]) == (3, pytest.approx(100.0))


def test_the_probes_follow_their_definitions() -> None:
    rng = np.random.default_rng(0)
    train_clips, labels = rng.normal(size=(40, 6)), np.arange(40) % 2
    test_clips = rng.normal(size=(9, 6))
    near = (test_clips @ train_clips.T) / np.linalg.norm(train_clips, axis=1)
    votes = [labels[np.argsort(-row)[:15]].mean() > 0.5 for row in near]
    assert knn_predictions(train_clips, labels, test_clips).tolist() == [int(vote) for vote in votes]
    shifted = train_clips + 4 * labels[:, None]
    assert linear_predictions(shifted, labels, test_clips + 4).tolist() == [1] * 9


def test_too_few_clips_for_a_probe_are_one_line(tmp_path: Path) -> None:
    add_run(tmp_path, "ast_tiny", *blobs(2, 2))
    (problem,) = fill_probes(tmp_path)
    assert "5 folds" in problem and "\n" not in problem


# --- what a run stores ---


def test_predictions_hold_the_pooled_output_of_the_second_last_block(tmp_path: Path) -> None:
    store = make_store(tmp_path / "data", 8, 8)
    model = make_trained_model("mast_debug")
    plain, both = (
        merge([predict(model, evaluation_batches(store, 4, "cpu"), False, second_last=asked)])
        for asked in (False, True)
    )
    assert plain.second_last is None and both.second_last is not None
    assert np.array_equal(plain.embeddings, both.embeddings) and len(both.second_last) == len(both) == 16
    assert both.second_last.shape[1] != 0 and not np.array_equal(both.second_last, both.embeddings)


def test_a_run_stores_the_second_reading_only_where_table_6_needs_it(tmp_path: Path) -> None:
    record = train(make_store(tmp_path / "data", 16, 16), tmp_path)
    (run,) = load_records(tmp_path / "records").of_kind(TrainedRun)
    stored = load_predictions(tmp_path / "records", run)
    assert record.experiment["dataset"] == "esc50" and stored is not None and stored.second_last is None

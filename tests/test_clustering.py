"""Clustering of stored embeddings: scores with a known answer, what is measured again, and the cells of Table 6."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from make_embeddings import add_run, blobs

from reproduce.errors import InputError
from reproduce.evaluation.clustering import (
    agreement,
    fill_clusterings,
    kmeans,
    measure_clustering,
    project,
    silhouette,
)
from reproduce.paper import load_paper
from reproduce.records.clusterings import CLUSTERING_SEEDS, PROTOCOLS, clusterings_of, missing_clusterings
from reproduce.records.predictions import load_predictions, save_predictions
from reproduce.records.reading import read_run
from reproduce.records.record import RunRecord
from reproduce.records.records import Records
from reproduce.records.runs import ClusteringRun, TrainedRun
from reproduce.records.store import load_records
from reproduce.tables import Cell, Table, TableInputs, table_specs
from reproduce.tables.render import reasons
from reproduce.tables.table6 import SILHOUETTE_NOTE, STRUCTURELESS_SILHOUETTE


def trained(record: RunRecord) -> TrainedRun:
    run = read_run(record)
    assert isinstance(run, TrainedRun)
    return run


def measure(record: RunRecord, folder: Path, protocol: str, seed: int) -> RunRecord:
    return measure_clustering(trained(record), folder, protocol, seed)


def table6(folder: Path, *more: RunRecord) -> Table:
    runs = Records((*load_records(folder), *map(read_run, more)))
    return table_specs()["table6"].build(TableInputs(load_paper(), runs, folder))


def cell(table: Table, row: str, column: str) -> Cell:
    (found,) = (r.cells[column] for r in table.rows if r.key == row)
    return found


def clustering_lines(folder: Path) -> list[str]:
    return (folder / "clustering.jsonl").read_text(encoding="utf-8").splitlines()


# --- scores ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["P2", "P3"])
def test_distant_blobs_are_separated_without_error(tmp_path: Path, protocol: str) -> None:
    run = add_run(tmp_path, "ast_tiny", *blobs(4, 10))
    metrics = measure(run, tmp_path, protocol, 0).metrics
    assert (metrics["ari"], metrics["homogeneity"]) == (1.0, 1.0)
    assert float(metrics["silhouette"] or 0) > 0.7
    assert (metrics["clips"], metrics["clusters"]) == (40, 4)


def test_umap_separates_blobs_and_its_seed_determines_the_plane(tmp_path: Path) -> None:
    run = add_run(tmp_path, "ast_tiny", *blobs(4, 20))
    first, again = (measure(run, tmp_path, "P1", 0) for _ in range(2))
    assert first.metrics == again.metrics and first.key == again.key
    assert (first.metrics["ari"], first.metrics["homogeneity"]) == (1.0, 1.0)
    assert first.experiment["umap"]["n_neighbors"] == 15 and first.experiment["umap"]["min_dist"] == 0.1
    values = blobs(4, 20)[0]
    assert np.array_equal(project(values, 0), project(values, 0))
    assert not np.array_equal(project(values, 0), project(values, 1))


def test_random_labels_score_near_zero(tmp_path: Path) -> None:
    values, labels = blobs(5, 60)
    run = add_run(tmp_path, "ast_tiny", values, np.random.default_rng(0).permutation(labels))
    metrics = measure(run, tmp_path, "P2", 0).metrics
    assert abs(float(metrics["ari"] or 0)) < 0.03
    assert float(metrics["homogeneity"] or 0) < 0.06
    assert float(metrics["silhouette"] or 0) > 0.7  # of the clusters, whatever the labels


def test_the_silhouette_of_four_points_is_that_by_hand() -> None:
    points = np.array([[0.0], [1.0], [10.0], [11.0]])
    # Outer points: distance 1 within the group, 10.5 on average to the other; inner points: 1 and 9.5.
    assert silhouette(points, np.array([0, 0, 1, 1])) == pytest.approx(((1 - 1 / 10.5) + (1 - 1 / 9.5)) / 2)


def test_a_cluster_that_mixes_two_classes_halves_homogeneity() -> None:
    labels, clusters = np.array([0, 0, 1, 1, 2, 2, 3, 3]), np.array([0, 0, 0, 0, 1, 1, 1, 1])
    # Two bits of classes, one bit of clusters; homogeneity = 1 - H(class | cluster) / H(class).
    assert agreement(clusters, labels)["homogeneity"] == pytest.approx(0.5)


def test_unit_length_ignores_the_length_of_features(tmp_path: Path) -> None:
    values, labels = blobs(4, 10)
    lengths = np.random.default_rng(1).uniform(0.02, 5, size=(len(values), 1))
    run = add_run(tmp_path, "ast_tiny", (values * lengths).astype(np.float32), labels)
    assert measure(run, tmp_path, "P3", 0).metrics["ari"] == 1.0
    assert float(measure(run, tmp_path, "P2", 0).metrics["ari"] or 0) < 0.9


def test_p4_is_the_silhouette_of_the_true_labels_without_clusters(tmp_path: Path, planes: list[int]) -> None:
    values, labels = blobs(4, 10)
    run = add_run(tmp_path, "ast_tiny", values, labels)
    metrics = measure(run, tmp_path, "P4", 0).metrics
    assert metrics["silhouette"] == pytest.approx(silhouette(values[:, :2], labels))
    assert not {"ari", "homogeneity"} & set(metrics)


def test_the_order_of_the_stored_clips_does_not_matter(tmp_path: Path) -> None:
    values, labels = blobs(4, 10, apart=1.0)
    run = add_run(tmp_path, "ast_tiny", values, labels)
    before = measure(run, tmp_path, "P2", 0).metrics
    stored = load_predictions(tmp_path, run)
    assert stored is not None
    shuffled = stored.of_clips(np.random.default_rng(0).permutation(stored.clip_ids))
    save_predictions(tmp_path, Path(str(run.predictions)).stem, shuffled)
    assert measure(run, tmp_path, "P2", 0).metrics == before


def test_predictions_that_are_written_again_are_read_again_and_cannot_be_changed_in_memory(tmp_path: Path) -> None:
    run = add_run(tmp_path, "ast_tiny", *blobs(4, 10))
    stored = load_predictions(tmp_path, run)
    assert stored is not None
    with pytest.raises(ValueError, match="read-only"):
        stored.embeddings[0] = 1
    save_predictions(tmp_path, Path(str(run.predictions)).stem, replace(stored, embeddings=stored.embeddings[::-1]))
    again = load_predictions(tmp_path, run)
    assert again is not None
    assert np.array_equal(again.embeddings, stored.embeddings[::-1])


# --- input that cannot be clustered ---------------------------------------------------------------------------------


def with_arrays(tmp_path: Path, run: RunRecord, **changes: np.ndarray) -> RunRecord:
    """Replace arrays in the predictions of a run."""
    stored = load_predictions(tmp_path, run)
    assert stored is not None
    targets = {"label": changes.pop("targets")} if "targets" in changes else stored.targets
    save_predictions(tmp_path, Path(str(run.predictions)).stem, replace(stored, targets=targets, **changes))
    return run


@pytest.mark.parametrize(
    ("classes", "per_class", "protocol", "message"),
    [(3, 5, "P1", "15 neighbours"), (20, 1, "P2", "more clips than classes"), (1, 20, "P2", "at least two classes")],
)
def test_too_few_clips_or_classes_are_one_line(
    tmp_path: Path, classes: int, per_class: int, protocol: str, message: str
) -> None:
    run = add_run(tmp_path, "ast_tiny", *blobs(classes, per_class))
    with pytest.raises(InputError, match=message) as caught:
        measure(run, tmp_path, protocol, 0)
    assert str(run.predictions) in str(caught.value) and "\n" not in str(caught.value)


def test_fifteen_clips_are_too_few_for_umap_alone(tmp_path: Path) -> None:
    run = add_run(tmp_path, "ast_tiny", *blobs(3, 5))
    assert measure(run, tmp_path, "P2", 0).metrics["ari"] == 1.0


def test_embeddings_or_labels_that_cannot_be_clustered_are_one_line(tmp_path: Path) -> None:
    values, labels = blobs(4, 10)
    run = add_run(tmp_path, "ast_tiny", values, labels)
    with pytest.raises(InputError, match="not finite"):
        measure(with_arrays(tmp_path, run, embeddings=values * np.nan), tmp_path, "P2", 0)
    with pytest.raises(InputError, match="one label"):
        measure(with_arrays(tmp_path, run, targets=np.ones((40, 4), np.uint8)), tmp_path, "P2", 0)
    (tmp_path / str(run.predictions)).unlink()
    with pytest.raises(InputError, match="--run all"):
        measure(run, tmp_path, "P2", 0)


def test_an_unknown_protocol_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="P5"):
        measure(add_run(tmp_path, "ast_tiny", *blobs(4, 10)), tmp_path, "P5", 0)


@pytest.mark.filterwarnings("ignore:Number of distinct clusters")
def test_equal_features_have_no_silhouette(tmp_path: Path, planes: list[int]) -> None:
    values, labels = blobs(4, 10)
    for model in ("ast_base", "mast_base"):
        add_run(tmp_path, model, np.ones_like(values), labels, scale="paper")
    assert fill_clusterings(tmp_path) == []
    table = table6(tmp_path)
    assert cell(table, "mast", "silhouette").status == "not run"
    assert "not a number" in cell(table, "mast", "silhouette").conditions
    assert cell(table, "mast", "ari").measured == 0.0


# --- what is measured, and what is not measured again ---------------------------------------------------------------


def test_every_protocol_and_seed_is_measured_once_with_one_umap_per_seed(tmp_path: Path, planes: list[int]) -> None:
    run = add_run(tmp_path, "ast_tiny", *blobs(4, 10))
    stages: list[tuple[int, int, str]] = []
    assert fill_clusterings(tmp_path, lambda *stage: stages.append(stage)) == []
    assert planes == list(CLUSTERING_SEEDS)
    records = load_records(tmp_path)
    for protocol in PROTOCOLS:
        found = clusterings_of(records, trained(run), protocol)
        assert [clustering.seed for clustering in found] == list(CLUSTERING_SEEDS)
        assert {clustering.of for clustering in found} == {run.key}
    assert stages[0][:2] == (0, 20) and stages[-1][:2] == (19, 20)
    assert len({record.key for record in records.of_kind(ClusteringRun)}) == 20

    before = clustering_lines(tmp_path)
    assert fill_clusterings(tmp_path) == []
    assert clustering_lines(tmp_path) == before and planes == list(CLUSTERING_SEEDS)


def test_only_what_is_missing_is_measured(tmp_path: Path, planes: list[int]) -> None:
    add_run(tmp_path, "ast_tiny", *blobs(4, 10))
    fill_clusterings(tmp_path)
    planes.clear()

    def definition(line: str) -> tuple[str, int]:
        experiment = json.loads(line)["experiment"]
        return experiment["protocol"], experiment["seed"]

    removed = {("P4", 2), ("P2", 3)}
    whole = clustering_lines(tmp_path)
    kept = [line for line in whole if definition(line) not in removed]
    (tmp_path / "clustering.jsonl").write_text("\n".join(kept) + "\n", encoding="utf-8")
    fill_clusterings(tmp_path)
    now = clustering_lines(tmp_path)
    assert now[: len(kept)] == kept
    assert {definition(line) for line in now[len(kept) :]} == removed and len(now) == len(whole)
    assert planes == [2]


def test_a_run_trained_again_is_clustered_again(tmp_path: Path, planes: list[int]) -> None:
    old = add_run(tmp_path, "ast_tiny", *blobs(4, 10))
    fill_clusterings(tmp_path)
    new = add_run(tmp_path, "ast_tiny", *blobs(4, 10, apart=0.0), stamp="20260202T000000")
    assert new.key == old.key
    assert {job.run.predictions for job in missing_clusterings(load_records(tmp_path), tmp_path)} == {new.predictions}
    fill_clusterings(tmp_path)
    (block,) = table6(tmp_path).blocks
    assert cell(block, "ast P2", "ari").measured == pytest.approx(0.0, abs=0.2)


def test_a_run_that_cannot_be_clustered_is_named_and_the_others_are_measured(tmp_path: Path, planes: list[int]) -> None:
    add_run(tmp_path, "ast_tiny", *blobs(3, 5))
    add_run(tmp_path, "mast_tiny", *blobs(3, 5), dataset={"test_sha256": "15 clips"})
    paper = add_run(tmp_path, "ast_base", *blobs(4, 10), scale="paper")
    problems = fill_clusterings(tmp_path)
    assert len(problems) == 2 and all("15 neighbours" in problem for problem in problems)
    assert len(clusterings_of(load_records(tmp_path), trained(paper), "P1")) == 5


def test_nothing_heavy_is_imported_while_nothing_is_missing(tmp_path: Path, planes: list[int]) -> None:
    add_run(tmp_path, "ast_tiny", *blobs(4, 10))
    fill_clusterings(tmp_path)
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from reproduce.evaluation.clustering import fill_clusterings, fill_projections\n"
        f"assert fill_clusterings(Path({str(tmp_path)!r})) == []\n"
        "print(sorted({'umap', 'numba', 'sklearn', 'torch', 'matplotlib'} & set(sys.modules)))"
    )
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "[]"


# --- Table 6 --------------------------------------------------------------------------------------------------------


def test_paper_cells_hold_mean_and_sd_over_seeds(tmp_path: Path, planes: list[int]) -> None:
    for model in ("ast_base", "mast_base"):
        add_run(tmp_path, model, *blobs(4, 10, apart=2.0), scale="paper")
    fill_clusterings(tmp_path)
    rewritten = []
    for line in clustering_lines(tmp_path):
        record = json.loads(line)
        if record["experiment"]["protocol"] == "P1":
            record["metrics"]["ari"] = record["experiment"]["seed"] / 10  # 0, 0.1, 0.2, 0.3, 0.4
        rewritten.append(json.dumps(record))
    (tmp_path / "clustering.jsonl").write_text("\n".join(rewritten) + "\n", encoding="utf-8")
    table = table6(tmp_path)
    filled = cell(table, "mast", "ari")
    assert (filled.paper, filled.status, filled.seeds, filled.n) == (0.375, "measured", (0, 1, 2, 3, 4), 40)
    assert filled.measured == pytest.approx(0.2)
    assert filled.sd == pytest.approx(0.1 * 2.5**0.5)  # sample variance of 0..4 is 2.5
    assert "k = 4" in filled.conditions and "umap-learn" in filled.conditions and "mast_base" in filled.conditions
    assert cell(table, "mast", "top1").measured == 100.0
    (alternates,) = table.blocks
    assert [row.key for row in alternates.rows] == ["ast P2", "mast P2", "ast P3", "mast P3", "ast P4", "mast P4"]
    assert set(alternates.rows[-1].cells) == {"silhouette", "top1"}
    assert all(c.paper is None for row in alternates.rows for c in row.cells.values())


def test_training_runs_are_averaged_and_their_sd_is_named(tmp_path: Path, planes: list[int]) -> None:
    for seed, apart in ((0, 20.0), (1, 0.0)):
        add_run(tmp_path, "ast_base", *blobs(4, 10, apart=apart), scale="paper", seed=seed)
    fill_clusterings(tmp_path)
    records = load_records(tmp_path)
    first, second = (r for r in records.of_kind(TrainedRun))
    means = [np.mean([r.metrics["ari"] for r in clusterings_of(records, run, "P1")]) for run in (first, second)]
    filled = cell(table6(tmp_path), "ast", "ari")
    assert means[0] != means[1] and filled.measured == pytest.approx(np.mean(means))
    assert "sd over 2 training runs" in filled.conditions and "seeds 0, 1" in filled.conditions


def test_runs_of_other_recipes_and_data_fill_no_paper_cell(tmp_path: Path, planes: list[int]) -> None:
    empty = table6(tmp_path)
    values = blobs(4, 10)
    for model in ("ast_base", "mast_base"):
        add_run(tmp_path, model, *values)  # the stand-in, at demo scale
        add_run(tmp_path, model, *values, scale="paper", recipe_name="mast, batch_size=12")
        add_run(tmp_path, model, *values, scale="paper", dataset={"standin": {"standin": True}}, seed=1)
        add_run(tmp_path, model, *values, scale="paper", dataset={"name": "esc50"}, seed=2)
    add_run(tmp_path, "mast_tiny", *values, scale="paper", seed=3)
    assert fill_clusterings(tmp_path) == []
    table = table6(tmp_path)
    assert table.rows == empty.rows
    (demo,) = table.blocks
    assert "STAND-IN" in demo.title and "Demo scale" in demo.title
    assert cell(demo, "mast P2", "ari").measured == 1.0 and cell(demo, "mast P2", "ari").paper is None


def test_without_runs_every_cell_names_the_command_to_run(tmp_path: Path) -> None:
    table = table6(tmp_path)
    assert {c.status for row in table.rows for c in row.cells.values()} == {"not run"} and table.blocks == ()
    assert cell(table, "ast", "silhouette").paper == 0.343
    for reason in reasons(table):
        assert "python -m reproduce table6" in reason and "vggsound" in reason


def test_a_run_without_clusterings_or_file_has_the_reason_in_its_cell(tmp_path: Path) -> None:
    run = add_run(tmp_path, "ast_base", *blobs(4, 10), scale="paper")
    assert "is not clustered" in cell(table6(tmp_path), "ast", "ari").conditions
    (tmp_path / str(run.predictions)).unlink()
    assert str(run.predictions) in cell(table6(tmp_path), "ast", "ari").conditions
    assert missing_clusterings(load_records(tmp_path), tmp_path) == []


def test_models_tested_on_different_clips_have_a_warning(tmp_path: Path, planes: list[int]) -> None:
    add_run(tmp_path, "ast_base", *blobs(4, 10), scale="paper")
    add_run(tmp_path, "mast_base", *blobs(4, 11), scale="paper")
    assert any("different clips" in note for note in table6(tmp_path).notes)


def test_points_without_structure_have_the_silhouette_of_the_note() -> None:
    rng = np.random.default_rng(0)
    angle, radius = rng.uniform(0, 2 * np.pi, 1279), np.sqrt(rng.uniform(size=1279))
    disc = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    assert silhouette(disc, kmeans(disc, 31, 0)) == pytest.approx(STRUCTURELESS_SILHOUETTE, abs=0.02)
    assert str(STRUCTURELESS_SILHOUETTE) in SILHOUETTE_NOTE


def test_a_clustering_without_its_run_fills_no_cell(tmp_path: Path, planes: list[int]) -> None:
    add_run(tmp_path, "ast_base", *blobs(4, 10), scale="paper")
    fill_clusterings(tmp_path)
    (tmp_path / "train.jsonl").unlink()
    assert cell(table6(tmp_path), "ast", "ari").status == "not run"

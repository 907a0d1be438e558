"""The baseline and what a comparison shows beside it: balanced accuracy, majority class, recall, best epoch."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from make_audio import make_esc50_folder, tone
from make_records import make_record
from sklearn.metrics import balanced_accuracy_score, recall_score

from reports.document import plain_text
from reports.findings import accuracy_finding
from reports.source import Source
from reproduce.__main__ import main
from reproduce.errors import InputError
from reproduce.metrics.balanced import balanced_accuracy, balanced_interval, recalls
from reproduce.paper import load_paper
from reproduce.records.predictions import StoredPredictions, save_predictions
from reproduce.records.record import RunRecord
from reproduce.records.records import Records
from reproduce.records.runs import BaselineRun, TrainedRun
from reproduce.records.store import RECORDS_DIR, append_record, load_records, remove_records
from reproduce.tables import TableInputs
from reproduce.tables.glance import baselines_of
from reproduce.training.baseline_features import FRONT_END, STATISTICS, log_mel_statistics
from reproduce.training.logistic import TrainingRows, fit_and_score

# --- metrics ---


def test_recall_and_balanced_accuracy_equal_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    classes = rng.choice(4, 200, p=[0.7, 0.2, 0.05, 0.05])
    predicted = np.where(rng.random(200) < 0.6, classes, rng.choice(4, 200))
    correct = (classes == predicted).astype(float)
    assert recalls(correct, classes, 4) == pytest.approx(100 * recall_score(classes, predicted, average=None))
    assert balanced_accuracy(correct, classes) == pytest.approx(100 * balanced_accuracy_score(classes, predicted))
    low, high = balanced_interval(correct, classes, None) or (0.0, 0.0)
    assert low < balanced_accuracy(correct, classes) < high


def test_a_constant_predictor_is_one_class_balanced() -> None:
    classes = np.array([0] * 90 + [1] * 10)
    assert balanced_accuracy((classes == 0).astype(float), classes) == 50.0


def test_fewer_independent_units_make_a_wider_interval() -> None:
    classes = np.tile([0, 1], 100)
    correct = np.repeat(np.array([0.0, 1.0] * 5), 20)
    units = np.repeat(np.arange(10), 20).astype(str)
    alone, together = (balanced_interval(correct, classes, u) or (0.0, 0.0) for u in (None, units))
    assert together[1] - together[0] > 2 * (alone[1] - alone[0])
    assert balanced_interval(correct, classes, np.zeros(200).astype(str)) is None


def test_a_class_without_clips_has_no_recall() -> None:
    assert np.isnan(recalls(np.ones(2), np.array([0, 2]), 3)[1])


# --- features and regression ---


@pytest.mark.parametrize("seconds", [0.001, 0.02, 0.5, 25.0])
def test_clips_of_any_length_have_the_same_statistics(seconds: float) -> None:
    row = log_mel_statistics(tone(500, seconds))
    assert row.shape == (len(STATISTICS) * FRONT_END.mels,)
    assert np.isfinite(row).all()


def rows(classes: np.ndarray, count: int, **changes: bool) -> TrainingRows:
    features = np.stack([np.cos(classes * 2.0), np.sin(classes * 2.0)], axis=1)
    features = features + 0.1 * np.random.default_rng(0).standard_normal(features.shape)
    options = {"multilabel": False, "balanced": False, **changes}
    groups = [str(i) for i in range(len(classes))]
    return TrainingRows(features=features, targets=np.eye(count)[classes], groups=groups, **options)


@pytest.mark.parametrize("count", [2, 3])
def test_the_regression_separates_what_can_be_separated(count: int) -> None:
    classes = np.arange(60) % count
    training = rows(classes, count)
    logits, strength = fit_and_score(training, training.features)
    assert (logits.argmax(axis=1) == classes).all()
    assert strength > 0


def test_a_class_without_training_clips_is_never_predicted() -> None:
    training = rows(np.arange(30) % 2, 4)
    logits, _ = fit_and_score(training, training.features)
    assert np.isfinite(logits).all()
    assert set(logits.argmax(axis=1)) == {0, 1}
    alone, _ = fit_and_score(rows(np.zeros(6, int), 3), training.features)
    assert set(alone.argmax(axis=1)) == {0}


def test_several_labels_have_a_regression_each() -> None:
    training = rows(np.arange(40) % 2, 2, multilabel=True)
    logits, _ = fit_and_score(training, training.features)
    assert ((logits > 0) == (training.targets > 0)).all()


# --- from audio to the table ---


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("baseline")
    make_esc50_folder(folder / "esc50", per_fold=3, folds=2)
    assert main(study(folder)) == 0
    return folder


def study(folder: Path, *options: str) -> list[str]:
    where = ["--records", str(folder / "records"), "--runs", str(folder / "runs"), "--data", f"esc50={folder}/esc50"]
    return ["esc50", "--preset", "debug", "--format", "json", *where, *options]


def test_the_baseline_is_recorded_per_fold_with_its_predictions(trained: Path) -> None:
    baselines = load_records(trained / "records").of_kind(BaselineRun)
    assert sorted(run.fold for run in baselines) == ["1", "2"]
    assert all(run.metric("top1") == 100.0 for run in baselines)
    assert all((trained / "records" / str(run.predictions)).is_file() for run in baselines)
    assert all(run.majority["label"] in ("low", "high") for run in baselines)


def test_a_second_call_fits_and_trains_nothing(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = len(load_records(trained / "records"))
    capsys.readouterr()
    assert main(study(trained)) == 0
    table = json.loads(capsys.readouterr().out)
    assert len(load_records(trained / "records")) == before
    top1 = {cell["row"]: cell["measured"] for cell in table["rows"] if cell["column"] == "top1"}
    assert top1["baseline"] == 100.0
    assert top1["majority class"] == 50.0
    assert "top5" not in {cell["column"] for cell in table["rows"] if cell["row"] == "majority class"}
    notes = "\n".join(table["notes"])
    assert "mast_debug - logistic regression = " in notes
    assert "Recall of ast_debug: lowest " in notes


def test_a_table_keeps_the_baseline_of_its_settings_when_another_is_newer(trained: Path) -> None:
    records = load_records(trained / "records")
    baselines, runs = records.of_kind(BaselineRun), records.of_kind(TrainedRun)
    newer = [
        replace(
            run,
            key=f"other{number}",
            created="2999-01-01T00:00:00+00:00",
            record=replace(run.record, experiment={**run.record.experiment, "balanced": True}),
        )
        for number, run in enumerate(baselines)
    ]
    both = Records((*records, *newer))
    assert [run.key for run in baselines_of(both, runs)] == [run.key for run in baselines]


def test_without_a_baseline_the_table_is_as_before(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (trained / "records/baseline.jsonl").rename(trained / "records/baseline.away")
    try:
        capsys.readouterr()
        assert main(study(trained, "--run", "none")) == 0
        table = json.loads(capsys.readouterr().out)
    finally:
        (trained / "records/baseline.away").rename(trained / "records/baseline.jsonl")
    assert {cell["row"] for cell in table["rows"]} == {"ast_debug", "mast_debug", "ratio"}
    assert not table["blocks"]


def test_the_report_says_first_where_the_baseline_beats_the_models(trained: Path) -> None:
    records = load_records(trained / "records")
    runs = [
        replace(run, metrics={**run.metrics, "correct": 1, "top1": 100 / run.metric("clips")})
        if isinstance(run, TrainedRun)
        else run
        for run in records
    ]
    told = [
        plain_text(accuracy_finding(Source(TableInputs(load_paper(), Records(tuple(shown)), trained / "records"))))
        for shown in (runs, [run for run in runs if isinstance(run, TrainedRun)])
    ]
    assert (
        "logistic regression 100.0 %" in told[0]
        and "Where the regression scores higher, both models are below a simple baseline" in told[0]
    )
    assert "start from published weights" in told[0] and "logistic regression" not in told[1]


# --- runs by name ---


def own_record(folder: Path, model: str, fold: str, predicted: str) -> RunRecord:
    """A run on three clips of one fold of the corpus "birds"; a digit per clip is the predicted class."""
    eye = np.eye(4, dtype=np.float32)
    ids = np.array([f"{fold}{i}" for i in range(3)])
    clips = StoredPredictions(ids, {"label": eye[[int(c) for c in predicted]]}, {"label": eye[:3]}, np.zeros((3, 2)))
    key = f"{model}{fold}".encode().hex()
    experiment = {"dataset": "folder"}
    record = make_record(model, fold, experiment=experiment, dataset={"name": "folder", "corpus": "birds"}, clips=3)
    correct = sum(int(c) == i for i, c in enumerate(predicted))
    metrics = {**record.metrics, "correct": correct}
    return replace(record, key=key, metrics=metrics, predictions=save_predictions(folder, key, clips))


@pytest.fixture
def birds(tmp_path: Path) -> Path:
    for model, predicted in (("ast_debug", "000"), ("mast_debug", "012")):
        for fold in "12":
            append_record(tmp_path, own_record(tmp_path, model, fold, predicted))
    return tmp_path


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    status = main(list(arguments))
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def test_names_are_compared_over_all_folds(birds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("birds/ast_debug", "birds/mast_debug")
    status, out, _ = call(capsys, "compare", *names, "--records", str(birds), "--format", "json")
    assert status == 0
    top1 = {cell["row"]: cell for cell in json.loads(out)["rows"] if cell["column"] == "top1"}
    assert [(cell["n"], round(cell["measured"])) for cell in top1.values()] == [(6, 33), (6, 100)]


def test_a_name_of_several_models_asks_for_one(birds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, error = call(capsys, "compare", "birds", "birds/mast_debug", "--records", str(birds))
    assert status == 2
    assert "birds/ast_debug or birds/mast_debug" in error


def test_runs_are_listed_shown_and_removed_by_name(birds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ("--records", str(birds), "--runs", str(birds / "runs"))
    status, out, _ = call(capsys, "runs", "list", *where)
    assert status == 0 and out.count("birds/") == 4
    status, out, _ = call(capsys, "runs", "show", "birds/mast_debug/2", *where)
    assert status == 0 and "birds/mast_debug/2/0" in out and "birds/mast_debug/1" not in out
    status, _, error = call(capsys, "runs", "rm", "birds/ast_debug", *where)
    assert status == 2 and "add --yes" in error
    assert len(load_records(birds)) == 4
    weights = birds / "runs" / f"{b'ast_debug1'.hex()}.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(b"")
    status, out, _ = call(capsys, "runs", "rm", "birds/ast_debug", "--yes", *where)
    assert status == 0 and "removed 2 records" in out
    assert {run.model for run in load_records(birds).of_kind(TrainedRun)} == {"mast_debug"}
    assert not weights.exists()
    assert len(list((birds / "predictions").iterdir())) == 2


def test_an_unknown_name_lists_the_known_ones(birds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, error = call(capsys, "runs", "show", "cats", "--records", str(birds))
    assert status == 2
    assert "no run called 'cats' (known: birds/ast_debug, birds/mast_debug)" in error


@pytest.mark.parametrize("folder", [RECORDS_DIR, Path(__file__).parents[1] / RECORDS_DIR])
def test_the_projects_records_are_never_removed(folder: Path) -> None:
    with pytest.raises(InputError, match="only appended to"):
        remove_records(folder, {"no such key"})

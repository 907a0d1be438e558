"""Calibration and balanced accuracy: against definitions and scikit-learn, as a table, as a figure, as a command."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from make_studies import column, inputs_of, make_predictions, make_stored_run
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from sklearn.metrics import balanced_accuracy_score, log_loss

from reproduce.__main__ import main
from reproduce.figures.calibration import largest_pooled, write_calibration_figure
from reproduce.figures.classes import plot_classes, write_classes_figure
from reproduce.metrics.calibration import (
    balanced_accuracy,
    brier_scores,
    calibration_error,
    confidence_of,
    log_losses,
    reliability,
    weighted_mean,
)
from reproduce.metrics.headline import softmax
from reproduce.records.record import RunRecord
from reproduce.records.store import append_record
from reproduce.tables import build
from reproduce.tables.classes import ClassScores, class_scores
from reproduce.tables.pooled_clips import PooledClips, pool_clips

ONE = np.ones((4, 1))


@pytest.fixture
def probabilities() -> np.ndarray:
    return softmax(np.random.default_rng(0).normal(size=(200, 5)) * 2)


@pytest.fixture
def targets() -> np.ndarray:
    return np.random.default_rng(1).integers(5, size=200)


def test_the_calibration_error_is_the_mean_gap_of_the_bins() -> None:
    confidence, correct = np.array([0.95, 0.97, 0.55, 0.58]), np.array([1, 1, 0, 1])
    # Bins of 0.1: mean confidence 0.96 at accuracy 1, and 0.565 at accuracy 0.5.
    expected = (2 * 0.04 + 2 * 0.065) / 4
    assert calibration_error(confidence, correct, ONE, bins=10)[0] == pytest.approx(expected)
    # A clip that counts twice is two clips.
    twice = calibration_error(confidence, correct, np.array([[1.0], [1.0], [2.0], [0.0]]), bins=10)
    assert twice[0] == pytest.approx((2 * 0.04 + 2 * 0.55) / 4)


def test_perfect_confidence_of_correct_clips_has_no_error() -> None:
    assert calibration_error(np.ones(4), np.ones(4), ONE)[0] == 0
    assert calibration_error(np.ones(4), np.zeros(4), ONE)[0] == 1


def test_the_diagram_holds_every_clip_once_and_its_gaps_are_the_error(
    probabilities: np.ndarray, targets: np.ndarray
) -> None:
    confidence, correct = confidence_of(probabilities), probabilities.argmax(1) == targets
    bins = reliability(confidence, correct.astype(float))
    assert bins.share.sum() == pytest.approx(1)
    gaps = np.nansum(bins.share * np.abs(bins.accuracy - bins.confidence))
    assert gaps == pytest.approx(calibration_error(confidence, correct, np.ones((200, 1)))[0])
    filled = bins.share > 0
    assert (bins.confidence[filled] <= bins.edges[1:][filled] + 1e-12).all()
    assert (bins.confidence[filled] > bins.edges[:-1][filled]).all()


def test_scores_equal_scikit_learns(probabilities: np.ndarray, targets: np.ndarray) -> None:
    weights = np.ones((200, 1))
    predicted = probabilities.argmax(1)
    ours = balanced_accuracy((predicted == targets).astype(float), targets, weights)[0]
    assert ours == pytest.approx(balanced_accuracy_score(targets, predicted))
    assert log_losses(probabilities, targets).mean() == pytest.approx(log_loss(targets, probabilities))
    hot = np.eye(5)[targets]
    assert brier_scores(probabilities, targets).mean() == pytest.approx(((probabilities - hot) ** 2).sum(1).mean())
    drawn = np.random.default_rng(2).integers(3, size=(200, 7)).astype(float)
    values = np.random.default_rng(3).random(200)
    assert weighted_mean(values, drawn)[3] == pytest.approx(np.average(values, weights=drawn[:, 3]))


def pair(folder: Path, ast: str, mast: str, margin: float = 2.0) -> list[RunRecord]:
    return [
        make_stored_run(folder, model, make_predictions(right, fold, margin), fold, seed)
        for model, right in (("ast_debug", ast), ("mast_debug", mast))
        for fold in "12"
        for seed in (0, 1)
    ]


def test_the_table_shows_each_model_and_their_paired_difference(tmp_path: Path) -> None:
    table = build("calibration", inputs_of(tmp_path, pair(tmp_path, "11101110", "11111111")))
    assert column(table, "top1") == {"ast_debug": 75, "mast_debug": 100, "mast_debug - ast_debug": 25}
    sure = 100 * float(softmax(np.array([[2.0, 0, 0, 0]])).max())
    assert column(table, "confidence")["ast_debug"] == pytest.approx(sure)
    assert column(table, "ece")["mast_debug"] == pytest.approx(100 - sure)
    assert column(table, "ece")["ast_debug"] == pytest.approx(abs(75 - sure))
    difference = table.rows[-1].cells["top1"]
    assert difference.ci is not None and difference.ci[0] <= 25 <= difference.ci[1]
    assert "8 recordings of 16 test clips" in table.notes[0]


def test_stand_ins_and_absent_predictions_give_no_rows(tmp_path: Path) -> None:
    runs = pair(tmp_path, "1110", "1111")
    standin = [replace(run, dataset={**run.dataset, "standin": {"title": "x"}}) for run in runs]
    assert build("calibration", inputs_of(tmp_path, standin)).rows == ()
    absent = [replace(run, predictions=None) for run in runs]
    table = build("calibration", inputs_of(tmp_path, absent))
    assert "absent" in table.notes[0] and not table.blocks


def test_both_models_are_scored_on_the_clips_that_both_have(tmp_path: Path) -> None:
    fewer = make_predictions("11111111")
    runs = [
        make_stored_run(tmp_path, "ast_debug", make_predictions("11100000")),
        make_stored_run(tmp_path, "mast_debug", fewer.of_clips(fewer.clip_ids[:4])),
    ]
    rows = {run.model: [run] for run in inputs_of(tmp_path, runs).records}  # type: ignore[attr-defined]
    pooled = pool_clips(inputs_of(tmp_path, runs), rows)
    assert not isinstance(pooled, str)
    assert {len(clips.clip_ids) for clips in pooled.values()} == {4}
    assert pooled["ast_debug"].correct.sum() == 3


def test_classes_are_scored_and_compared_on_their_own_clips(tmp_path: Path) -> None:
    # Clips are of dog, rain, clock and saw in turn: AST misses every second clock, MAST every second rain.
    table = build("classes", inputs_of(tmp_path, pair(tmp_path, "11011111", "10111111")))
    assert column(table, "ast_debug") == {"clock": 50, "dog": 100, "saw": 100, "rain": 100, "balanced accuracy": 87.5}
    assert column(table, "mast_debug - ast_debug") == {"clock": 50, "dog": 0, "saw": 0, "rain": -50}
    assert list(column(table, "clips").values()) == [4] * 4
    assert "better in 0 classes and worse in 0 classes" in table.notes[1]
    gains = {row.label: row.cells["mast_debug - ast_debug"] for row in table.rows if row.label != "balanced accuracy"}
    assert {label: cell.ci is None for label, cell in gains.items()} == {
        "clock": False, "dog": True, "saw": True, "rain": False,
    }  # fmt: skip
    # Each class has 4 test clips, each of its own recording: 2 of 2**4 sign patterns are as far from 0 as the farthest.
    assert "0 remain at p < 0.013 (Bonferroni), which 4 recordings cannot reach: p is at least 0.12" in table.notes[1]


def test_a_class_whose_units_all_gain_a_third_has_no_interval() -> None:
    names, units = np.array(list("abcdefg")), np.array(list("aabccde"))

    def of(*right: bool) -> PooledClips:
        """A seed each; all clips are of class 0."""
        probabilities = np.array([[[seed, 1.0 - seed]] * len(names) for seed in right], float)
        targets = np.zeros(len(names), np.int64)
        return PooledClips(
            clip_ids=names, units=units, unit="recording", targets=targets, probabilities=probabilities, runs=()
        )

    (row,) = class_scores({"first": of(False, False, False), "second": of(True, True, False)}, ["dog", "rain"])
    value, interval, _ = row.gains["second"]
    assert value == pytest.approx(200 / 3) and interval is None


@pytest.mark.parametrize("name", ["calibration", "classes"])
def test_the_command_prints_the_table_and_writes_the_figure(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for run in pair(tmp_path, "11101110", "11111111"):
        append_record(tmp_path, run)
    figures = tmp_path / "figures"
    command = [name, "--records", str(tmp_path), "--figures", str(figures), "--format", "json"]
    assert main(command) == 0
    printed = capsys.readouterr()
    shown = {"ast_debug", "mast_debug"} if name == "calibration" else {"dog", "balanced accuracy"}
    assert {cell["row"] for cell in json.loads(printed.out)["rows"]} >= shown
    assert printed.err.count("wrote") == 2
    assert {path.name for path in figures.iterdir()} == {f"{name}.png", f"{name}.svg"}


def test_nothing_is_drawn_of_nothing(tmp_path: Path) -> None:
    assert largest_pooled(inputs_of(tmp_path, [])) is None
    for write in (write_calibration_figure, write_classes_figure):
        assert write(inputs_of(tmp_path, []), tmp_path / "figures") == []


@pytest.mark.parametrize(
    ("value", "interval", "p", "coloured"),
    [
        (50.0, (0.0, 100.0), 0.06, False),
        (-40.0, (-75.0, 0.0), 0.05, False),
        (50.0, (0.0, 100.0), 0.04, False),
        (50.0, (10.0, 90.0), 0.01, True),
        (-50.0, (-90.0, -10.0), 0.01, True),
    ],
)
def test_a_class_whose_interval_holds_0_is_grey(
    value: float, interval: tuple[float, float], p: float, coloured: bool
) -> None:
    gains = {"mast_debug": (value, interval, p)}
    row = ClassScores(name="dog", clips=8, units=8, values={"ast_debug": 50.0, "mast_debug": 50.0 + value}, gains=gains)
    axes = plot_classes(Figure().add_subplot(), [row], "ast_debug", "mast_debug")
    red, green, blue = to_rgb(axes.lines[0].get_color())
    assert (red == green == blue) is not coloured

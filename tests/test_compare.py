"""Two recorded runs side by side: equal clip sets, the intersection of unequal ones, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from make_records import make_record

from reproduce.__main__ import main
from reproduce.errors import InputError
from reproduce.metrics.headline import score
from reproduce.records.predictions import StoredPredictions, save_predictions
from reproduce.records.store import append_record
from reproduce.tables.compare import compare, find_record

CLASSES = 3


def make_predictions(clips: str, predicted: str, targets: str) -> StoredPredictions:
    """One character a clip: ids, predicted class, true class."""
    eye = np.eye(CLASSES, dtype=np.float32)
    logits, truth = eye[[int(c) for c in predicted]], eye[[int(c) for c in targets]]
    return StoredPredictions(np.array(list(clips)), {"label": logits}, {"label": truth}, np.zeros((len(clips), 2)))


def store(folder: Path, key: str, predictions: StoredPredictions) -> None:
    record = make_record(model="ast_tiny", fold="1", seed=0, correct=1, clips=len(predictions))
    append_record(folder, replace(record, key=key, predictions=save_predictions(folder, key, predictions)))


def test_equal_clip_sets_are_scored_and_paired_whatever_their_order(tmp_path: Path) -> None:
    store(tmp_path, "aa", make_predictions("abcd", "0120", "0121"))
    store(tmp_path, "bb", make_predictions("dcba", "1000", "1210"))
    table = compare(tmp_path, "aa", "bb", on_intersection=False)
    assert [row.cells["top1"].measured for row in table.rows] == [75.0, 50.0]
    assert "only the first is correct on 2, only the second on 1" in table.notes[1]


def test_runs_with_several_labels_a_clip_are_paired_by_their_map(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    targets = (rng.random((60, CLASSES)) < 0.4).astype(np.float32)
    ids, empty = np.array([f"{i:02}" for i in range(60)]), np.zeros((60, 2))
    for key, noise in (("aa", 3.0), ("bb", 0.3)):
        logits = (targets + noise * rng.standard_normal(targets.shape)).astype(np.float32)
        predictions = StoredPredictions(ids, {"label": logits}, {"label": targets}, empty)
        record = make_record(model="ast_tiny", clips=60)
        metrics = score(predictions.logits, predictions.targets, multilabel=True)
        stored = save_predictions(tmp_path, key, predictions)
        append_record(tmp_path, replace(record, key=key, metrics=metrics, predictions=stored))
    table = compare(tmp_path, "aa", "bb", on_intersection=False)
    worse, better = (row.cells["map"].measured for row in table.rows)
    assert worse is not None and better is not None and better > worse + 20
    assert f"{better - worse:+.1f} points" in table.notes[1]
    assert "p <= 0.004" in table.notes[1]  # as small as 500 resamples can tell


def test_clips_of_one_speaker_are_named_and_drawn_together(tmp_path: Path) -> None:
    speakers = np.array(["ann", "ann", "bob", "bob"])
    for key, predicted in (("aa", "0100"), ("bb", "0101")):
        predictions = replace(make_predictions("abcd", predicted, "0101"), groups=speakers)
        record = make_record(correct=3, clips=4, dataset={"unit": "speaker"})
        append_record(tmp_path, replace(record, key=key, predictions=save_predictions(tmp_path, key, predictions)))
    note = compare(tmp_path, "aa", "bb", on_intersection=False).notes[1]
    assert "p = 1 (as if clips of one speaker were independent)" in note
    assert "the second - the first = +25.0 [+0.0, +50.0] points, bootstrap over the 2 speakers of these clips" in note


def test_independent_clips_carry_no_caveat(tmp_path: Path) -> None:
    store(tmp_path, "aa", make_predictions("abcd", "0120", "0121"))
    store(tmp_path, "bb", make_predictions("abcd", "0121", "0121"))
    note = compare(tmp_path, "aa", "bb", on_intersection=False).notes[1]
    assert "as if" not in note and "bootstrap over these 4 clips" in note


def test_unequal_sets_are_refused_unless_the_intersection_is_asked_for(tmp_path: Path) -> None:
    store(tmp_path, "aa", make_predictions("abc", "012", "012"))
    store(tmp_path, "bb", make_predictions("bcd", "122", "120"))
    with pytest.raises(InputError, match=r"2 clips are in one run alone \(a, d\): add --on-intersection"):
        compare(tmp_path, "aa", "bb", on_intersection=False)
    table = compare(tmp_path, "aa", "bb", on_intersection=True)
    assert [row.cells["top1"].n for row in table.rows] == [2, 2]
    assert [row.cells["top1"].measured for row in table.rows] == [100.0, 100.0]
    assert table.notes[0].startswith("2 clips in both runs; 3 of ")
    assert table.title == "Two runs on the same clips of ESC-50 layout"


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (("xyz", "012", "012"), "no clip in common"),
        (("abc", "012", "210"), "carry other label targets"),
    ],
)
def test_runs_that_cannot_be_compared_are_one_line(tmp_path: Path, second: tuple[str, str, str], message: str) -> None:
    store(tmp_path, "aa", make_predictions("abc", "012", "012"))
    store(tmp_path, "bb", make_predictions(*second))
    with pytest.raises(InputError, match=message):
        compare(tmp_path, "aa", "bb", on_intersection=True)


def test_absent_and_damaged_predictions_are_named(tmp_path: Path) -> None:
    for key in ("aa", "bb"):
        store(tmp_path, key, make_predictions("abc", "012", "012"))
    (tmp_path / "predictions/bb.npz").write_bytes(b"cut off")
    with pytest.raises(InputError, match=r"bb\.npz: damaged predictions"):
        compare(tmp_path, "aa", "bb", on_intersection=False)
    (tmp_path / "predictions/bb.npz").unlink()
    with pytest.raises(InputError, match=r"bb\.npz: the predictions of bb are absent"):
        compare(tmp_path, "aa", "bb", on_intersection=False)


def test_keys_may_be_cut_short_but_must_name_one_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for key in ("aab", "aac"):
        store(tmp_path, key, make_predictions("abc", "012", "012"))
    assert find_record(tmp_path, "aab").key == "aab"
    assert main(["compare", "aa", "aab", "--records", str(tmp_path)]) == 2
    assert "2 keys begin with 'aa' (aab, aac): give more digits" in capsys.readouterr().err
    assert main(["compare", "aab", "aac", "--records", str(tmp_path)]) == 0
    assert "100.0" in capsys.readouterr().out


def store_fold(folder: Path, model: str, fold: str, *, lr: float = 0.001, day: int = 1) -> str:
    """A run on a fold of two clips, all of them right; returns its key."""
    key = f"{model[0]}{fold}{day}"
    record = make_record(model=model, fold=fold, clips=2, correct=2, dataset={"corpus": "mine"})
    recipe = {**record.experiment["recipe"], "lr": lr}
    experiment = {**record.experiment, "recipe": recipe}
    stored = save_predictions(folder, key, make_predictions(f"{fold}{chr(ord(fold) + 32)}", "01", "01"))
    created = f"2026-01-0{day}T00:00:00+00:00"
    append_record(folder, replace(record, key=key, experiment=experiment, predictions=stored, created=created))
    return key


def test_a_name_never_pools_runs_of_other_settings(tmp_path: Path) -> None:
    for model in ("ast_debug", "mast_debug"):
        store_fold(tmp_path, model, "1", lr=0.003, day=1)
        store_fold(tmp_path, model, "2", lr=0.003, day=1)
        store_fold(tmp_path, model, "2", lr=0.001, day=2)
    table = compare(tmp_path, "mine/ast_debug", "mine/mast_debug", on_intersection=False)
    assert [row.key for row in table.rows] == ["a22", "m22"]
    (note,) = [note for note in table.notes if note.startswith("mine/ast_debug")]
    assert "lr 0.001" in note and "a11 (lr 0.003, " in note and "a21 (lr 0.003, " in note


def test_names_are_compared_on_the_folds_that_both_have(tmp_path: Path) -> None:
    for fold in "12":
        store_fold(tmp_path, "ast_debug", fold)
    for fold in "23":
        store_fold(tmp_path, "mast_debug", fold, lr=0.002)  # each model may have its own rate
    table = compare(tmp_path, "mine/ast_debug", "mine/mast_debug", on_intersection=False)
    assert [row.key for row in table.rows] == ["a21", "m21"]
    assert any("not a11 (" in note for note in table.notes)


def test_an_action_is_right_only_where_verb_and_noun_both_are() -> None:
    eye = np.eye(2)
    scores = score({"verb": eye, "noun": eye[[0, 0]]}, {"verb": eye, "noun": eye}, multilabel=False)
    assert (scores["verb_correct"], scores["noun_correct"], scores["action_correct"]) == (2, 1, 1)
    assert (scores["action_top1"], scores["action_top5"]) == (50.0, 100.0)


def test_multilabel_clips_have_map_and_auc_over_the_classes_that_can_be_scored() -> None:
    targets = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 0]])
    scores = score({"label": targets * 2.0 - 1.0}, {"label": targets}, multilabel=True)
    assert (scores["map"], scores["mauc"], scores["classes_without_positives"]) == (100.0, 100.0, 1)
    assert "top1" not in scores

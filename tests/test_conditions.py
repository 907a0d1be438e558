"""Trained models under noise, low-pass, shift and at other lengths: the sound, the records, tables and commands."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from make_audio import make_esc50_folder
from make_studies import column, inputs_of, make_predictions, make_stored_run

from reports.plots.beyond import draw_calibration, draw_robustness, draw_transfer
from reproduce.__main__ import main
from reproduce.audio.corruptions import add_noise, low_pass, repeated, shift
from reproduce.audio.spec import AudioSpec
from reproduce.data.waveform_store import load_waveforms
from reproduce.datasets import read_dataset
from reproduce.errors import InputError
from reproduce.evaluation.conditions import under_condition
from reproduce.experiments.conditions import AS_TRAINED, NOISE, ROBUSTNESS, TRANSFER, Condition
from reproduce.figures.conditions import draw_conditions
from reproduce.records.condition_runs import RobustnessRun, TransferRun
from reproduce.records.outcomes import Outcomes, load_outcomes, save_outcomes
from reproduce.records.record import RunRecord
from reproduce.records.runs import TrainedRun
from reproduce.records.store import load_records
from reproduce.tables import build
from reproduce.tables.robustness import condition_scores

RATE = 16000


@pytest.fixture
def tone() -> np.ndarray:
    return np.sin(2 * np.pi * 500 * np.arange(RATE) / RATE).astype(np.float32)


def power(waveform: np.ndarray) -> float:
    return float(np.mean(np.square(waveform, dtype=np.float64)))


# --- sound


@pytest.mark.parametrize("snr_db", [30.0, 0.0])
def test_noise_has_the_ratio_that_was_asked_for(tone: np.ndarray, snr_db: float) -> None:
    noise = add_noise(tone, snr_db, "clip") - tone
    assert 10 * np.log10(power(tone) / power(noise)) == pytest.approx(snr_db, abs=0.1)


def test_the_noise_of_a_clip_is_the_same_at_every_level_and_anothers_is_not(tone: np.ndarray) -> None:
    loud, soft = (add_noise(tone, snr_db, "clip").astype(np.float64) - tone for snr_db in (0.0, 20.0))
    np.testing.assert_allclose(loud, 10 * soft, atol=1e-5)
    assert np.array_equal(add_noise(tone, 10.0, "clip"), add_noise(tone, 10.0, "clip"))
    assert not np.array_equal(add_noise(tone, 10.0, "clip"), add_noise(tone, 10.0, "other"))
    assert not np.array_equal(add_noise(tone, 10.0, "clip"), add_noise(tone, 10.0, "clip", seed=1))


def test_a_silent_or_empty_clip_stays_what_it_is() -> None:
    assert not add_noise(np.zeros(10, np.float32), 0.0, "clip").any()
    assert len(add_noise(np.zeros(0, np.float32), 0.0, "clip")) == 0
    assert len(low_pass(np.ones(1, np.float32), 1000.0, RATE)) == 1


def test_the_low_pass_keeps_what_is_below_removes_what_is_above_and_does_not_delay(tone: np.ndarray) -> None:
    high = np.sin(2 * np.pi * 3000 * np.arange(RATE) / RATE).astype(np.float32)
    kept = low_pass(tone + high, 1000.0, RATE)
    np.testing.assert_allclose(kept[2000:-2000], tone[2000:-2000], atol=1e-3)
    at_cutoff = np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)
    ratio = power(low_pass(at_cutoff, 1000.0, RATE)[2000:-2000]) / power(at_cutoff)
    assert 10 * np.log10(ratio) == pytest.approx(-6.02, abs=0.1)


def test_a_shift_loses_nothing_and_a_repetition_has_the_length_asked_for() -> None:
    waveform = np.arange(5, dtype=np.float32)
    assert shift(waveform, 2).tolist() == [3, 4, 0, 1, 2]
    assert repeated(waveform, 12).tolist() == [*range(5), *range(5), 0, 1]
    assert repeated(waveform, 3) is waveform


def test_every_study_starts_as_trained_and_names_its_conditions_once() -> None:
    for conditions in (ROBUSTNESS, TRANSFER):
        assert conditions[0] == AS_TRAINED
        assert len({condition.name for condition in conditions}) == len(conditions)
    assert Condition(NOISE, 10.0).name == "noise 10 dB"


# --- records and tables


def make_retested(
    folder: Path, run: RunRecord, outcomes: dict[Condition, str], kind: str = "robustness", **changes: object
) -> RunRecord:
    """A record of a run's clips under conditions: right where the digits are 1, repeated over the clips."""
    clips = make_predictions("0" * 8, run.experiment["test_splits"][0])
    assert clips.groups is not None
    correct = np.array([[digit == "1" for digit in right * (8 // len(right))] for right in outcomes.values()])
    stored = Outcomes(clip_ids=clips.clip_ids, units=clips.groups, correct=correct)
    conditions = [{"kind": c.kind, "level": c.level} for c in outcomes]
    name = save_outcomes(folder, f"{kind}-{run.key}".replace(" ", "-"), stored)
    return replace(
        run,
        kind=kind,
        key=f"{kind} of {run.key}",
        experiment={**run.experiment, "of": run.key, "conditions": conditions},
        metrics={c.name: 100.0 * float(row.mean()) for c, row in zip(outcomes, correct, strict=True)},
        details={"outcomes": name},
        predictions=None,
        **changes,  # type: ignore[arg-type]
    )


def both(folder: Path) -> list[RunRecord]:
    """AST falls from 100 to 25 % under noise, MAST from 75 to 50 %, on two folds."""
    loud = Condition(NOISE, 0.0)
    records = []
    for model, trained, noisy in (("ast_debug", "1111", "1000"), ("mast_debug", "1110", "1100")):
        for fold in "12":
            run = make_stored_run(folder, model, make_predictions(trained * 2, fold), fold)
            records += [run, make_retested(folder, run, {AS_TRAINED: trained, loud: noisy})]
    return records


def test_the_table_pairs_the_models_under_every_condition(tmp_path: Path) -> None:
    table = build("robustness", inputs_of(tmp_path, both(tmp_path)))
    assert column(table, "ast_debug") == {"as trained": 100, "noise 0 dB": 25}
    assert column(table, "mast_debug") == {"as trained": 75, "noise 0 dB": 50}
    assert column(table, "mast_debug - ast_debug") == {"as trained": -25, "noise 0 dB": 25}
    assert column(table, "mast_debug change") == {"noise 0 dB": 50}
    gap = table.rows[1].cells["mast_debug - ast_debug"]
    assert gap.ci is not None and gap.ci[0] <= 25 <= gap.ci[1]
    assert "8 recordings of the same 16 test clips" in table.notes[0]


def test_outcomes_of_other_weights_do_not_count(tmp_path: Path) -> None:
    records = both(tmp_path)
    again = [replace(r, weights_sha256="of another training") if r.kind == "train" else r for r in records]
    assert "not run" in build("robustness", inputs_of(tmp_path, again)).notes[0]
    assert "not run" in build("transfer", inputs_of(tmp_path, records)).notes[0]


def test_the_figure_has_a_panel_per_kind(tmp_path: Path) -> None:
    (scores,) = condition_scores(inputs_of(tmp_path, both(tmp_path)), RobustnessRun)
    figure = draw_conditions(scores)
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["none", "0"]
    assert {text.get_text() for text in figure.legends[0].get_texts()} == {"AST (debug)", "MAST (debug)"}


def test_the_report_draws_what_was_measured_and_nothing_else(tmp_path: Path) -> None:
    inputs = inputs_of(tmp_path, both(tmp_path))
    drawn = draw_robustness(inputs)
    assert drawn is not None and "ast_debug 100.0, 25.0 %" in drawn.alt
    assert draw_transfer(inputs) is None
    reliable = draw_calibration(inputs)
    assert reliable is not None and "16 test clips" in reliable.caption


def test_damaged_outcomes_are_refused_by_name(tmp_path: Path) -> None:
    run = next(r for r in inputs_of(tmp_path, both(tmp_path)).records if isinstance(r, RobustnessRun))
    assert load_outcomes(tmp_path, replace(run, outcomes="conditions/absent.npz")) is None
    one = replace(run, conditions=(AS_TRAINED,))
    with pytest.raises(InputError, match="damaged outcomes"):
        load_outcomes(tmp_path, one)


# --- commands


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sounds, and both debug models trained on them."""
    folder = tmp_path_factory.mktemp("conditions")
    make_esc50_folder(folder / "esc50", per_fold=3, folds=2)
    assert main(["esc50", "--preset", "debug", "--folds", "1", *_where(folder)]) == 0
    return folder


def _where(folder: Path) -> list[str]:
    return [
        *("--data", f"esc50={folder / 'esc50'}"),
        *("--records", str(folder / "records"), "--runs", str(folder / "runs")),
    ]


@pytest.mark.parametrize(("study", "kind"), [("robustness", RobustnessRun), ("transfer", TransferRun)])
def test_from_weights_to_the_table(
    work: Path, study: str, kind: type[RobustnessRun], capsys: pytest.CaptureFixture[str]
) -> None:
    command = [study, "--format", "json", "--figures", str(work / "figures"), *_where(work)]
    capsys.readouterr()
    assert main(command) == 0
    first = capsys.readouterr()
    rows = {cell["row"] for cell in json.loads(first.out)["rows"]}
    conditions = ROBUSTNESS if study == "robustness" else TRANSFER
    assert rows == {condition.name for condition in conditions}
    records = load_records(work / "records")
    runs, trained = records.of_kind(kind), {run.key: run for run in records.of_kind(TrainedRun)}
    assert {run.model for run in runs} == {"ast_debug", "mast_debug"}
    for run in runs:  # the same weights on the same clips give the recorded score
        assert run.metric("as trained") == pytest.approx(trained[run.of].metric("top1"))
        outcomes = load_outcomes(work / "records", run)
        assert outcomes is not None
        assert run.metric("as trained") == pytest.approx(100 * outcomes.correct[0].mean())
    assert {path.suffix for path in (work / "figures").glob(f"{study}.*")} == {".png", ".svg"}
    assert main(command) == 0
    again = capsys.readouterr()
    assert "0 to measure" in again.err and again.out == first.out
    recorded = [study, "--format", "json", "--figures", str(work / "figures"), "--records", str(work / "records")]
    for without_clips in ([], ["--run", "none"]):
        assert main([*recorded, *without_clips]) == 0
        assert capsys.readouterr().out == first.out
    assert main([*recorded, "--run", "all"]) != 0
    assert "needs the clips: add --data esc50=DIR" in capsys.readouterr().err


def test_a_command_without_clips_weights_or_record_says_what_to_do(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["robustness", "--records", str(work / "nothing")]) != 0
    assert "add --data esc50=DIR" in capsys.readouterr().err
    elsewhere = ["--data", f"esc50={work / 'esc50'}", "--records", str(work / "records")]
    assert main(["robustness", *elsewhere, "--runs", str(work / "nowhere")]) != 0
    assert "no weights of the 2 runs on esc50" in capsys.readouterr().err
    assert main(["robustness", *elsewhere, "--model", str(work / "none.safetensors")]) != 0
    assert "no such file" in capsys.readouterr().err
    (weights, *_) = sorted((work / "runs").glob("*.safetensors"))
    other = work / "other.safetensors"
    other.write_bytes(weights.read_bytes())
    assert main(["robustness", *elsewhere, "--model", str(other)]) != 0
    assert "no record of other" in capsys.readouterr().err


def test_weights_of_another_run_are_refused(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ast, mast = (
        next(run for run in load_records(work / "records").of_kind(TrainedRun) if run.family == family)
        for family in ("ast", "mast")
    )
    swapped = work / "swapped"
    swapped.mkdir()
    (swapped / f"{ast.key}.safetensors").write_bytes((work / "runs" / f"{mast.key}.safetensors").read_bytes())
    command = ["robustness", "--run", "all", *_where(work)[:4], "--runs", str(swapped)]
    assert main(command) != 0
    assert "not the weights of record" in capsys.readouterr().err


def test_a_run_of_several_crops_is_tested_on_whole_clips_and_one_of_one_crop_on_their_start(tmp_path: Path) -> None:
    store = load_waveforms(
        read_dataset("esc50", make_esc50_folder(tmp_path / "esc50", per_fold=1, folds=1)),
        AudioSpec(mels=32, frames=32, frame_shift_ms=10.0),
        whole=True,
    )
    length = len(store.waveforms[0])
    assert length > store.spec.samples
    noise = Condition(NOISE, 10.0)
    assert len(under_condition(store, noise, whole=True).waveforms[0]) == length
    start = under_condition(store, noise).waveforms[0]
    assert np.array_equal(
        start, add_noise(store.waveforms[0][: store.spec.samples], 10.0, str(store.index.clip_ids[0]))
    )
    longer = under_condition(store, Condition("length", 2.0))
    assert longer.spec.frames == 64 and len(longer.waveforms[0]) == longer.spec.samples

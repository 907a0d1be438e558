"""Whole runs: averages and best epochs beside the last one, every source of clips, and disks that fill."""

from __future__ import annotations

import errno
import json
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from make_audio import cut_short
from make_records import load_stored
from make_runs import (
    ALWAYS_S,
    LONG,
    RECIPE,
    SPEC,
    finish,
    lengthen_debug,
    make_execution,
    make_experiment,
    make_model,
    make_store,
    make_uneven_folder,
    outcome,
    run,
    start,
)
from safetensors import SafetensorError
from safetensors.torch import load_file

from models.base import SpectrogramTransformer
from reproduce.__main__ import main
from reproduce.data.batches import evaluation_batches
from reproduce.data.shard_reader import in_memory, open_shards
from reproduce.data.waveform_store import DecodedWaveforms, WaveformStore, load_waveforms, stream_waveforms
from reproduce.datasets import read_dataset
from reproduce.errors import InputError
from reproduce.evaluation.predict import predict
from reproduce.experiments.presets import PRESETS
from reproduce.experiments.recipe import Recipe
from reproduce.metrics.headline import score
from reproduce.training.checkpoint_files import lock_run
from reproduce.training.epoch_log import EPOCH_LOG
from reproduce.training.execution import Progress, RunSettings
from reproduce.training.model_building import build_model
from reproduce.training.run_keys import RunKeys
from reproduce.training.runner import run_experiment
from reproduce.training.trainer import Trainer, TrainingRun

pytestmark = pytest.mark.usefixtures("one_thread")

TRAIN, TEST = 20, 12
SHORT = replace(RECIPE, epochs=1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_uneven_folder(tmp_path_factory.mktemp("tones") / "data", TRAIN, TEST)


@pytest.fixture(scope="module")
def store(data: Path) -> WaveformStore:
    return load_waveforms(read_dataset("esc50", data), SPEC)


# --- what is reported -----------------------------------------------------------------------------------------------


def scores(model: SpectrogramTransformer, test: WaveformStore) -> dict[str, float | int]:
    predictions = predict(model, evaluation_batches(test, 5, "cpu"), multilabel=False)
    return score(predictions.logits, {"label": test.index.targets()}, multilabel=False)


def test_last_averaged_and_best_scores_are_those_of_their_weights(store: WaveformStore, tmp_path: Path) -> None:
    """The weights after every epoch are kept here, averaged by hand and scored again."""
    recipe = replace(LONG, epochs=4, average_from=3, warmup_steps=6, lr=3e-4)
    experiment = make_experiment(recipe=recipe)
    train, test = store.where_split("1"), store.where_split("2")
    model = build_model(experiment, store.index)
    weights: list[dict[str, torch.Tensor]] = []
    keep = Progress(on_epoch=lambda *_: weights.append({k: v.clone() for k, v in model.state_dict().items()}))
    folder = tmp_path / "alone"
    run_ = TrainingRun(experiment=experiment, model=model, train=train, test=test, folder=folder)
    Trainer(run_, make_execution(), keep).train()
    record = run(store, tmp_path, recipe=recipe)
    assert len(weights) == 4
    other = make_model("mast_debug")

    def score_of(state: dict[str, torch.Tensor]) -> dict[str, Any]:
        other.load_state_dict(state)
        return pytest.approx(scores(other, test))

    by_epoch = [score_of(state) for state in weights]
    names = ("top1", "top5", "map", "clips", "correct")
    assert {name: record.metrics[name] for name in names} == pytest.approx(
        {name: by_epoch[-1].expected[name] for name in names}
    )
    mean = {name: (weights[2][name] + weights[3][name]) / 2 for name in weights[3]}
    averaged = record.details["averaged"]
    assert (averaged["from_epoch"], averaged["to_epoch"]) == (3, 4)
    assert averaged["metrics"] == score_of(mean)
    top1 = [expected.expected["top1"] for expected in by_epoch]
    assert [epoch["top1"] for epoch in record.history] == pytest.approx(top1)
    best = record.details["best"]
    assert best["epoch"] == 1 + int(np.argmax(top1))  # the first of equals
    assert best["metrics"] == by_epoch[best["epoch"] - 1]

    # The files hold the last weights, and the averaged ones under a name that says so.
    last, mean_file = (load_file(tmp_path / f"runs/{record.key}{suffix}.safetensors") for suffix in ("", "-averaged"))
    assert all(torch.equal(last[name], weights[3][name]) for name in last)
    assert all(torch.allclose(mean_file[name], mean[name], atol=1e-7) for name in mean_file)


class CountingWaveforms(DecodedWaveforms):
    """Clips in memory that write down how often each is read."""

    reads: list[int]

    def __getitem__(self, position: Any, /) -> Any:
        self.reads.append(position)
        return super().__getitem__(position)


def test_test_clips_are_read_once_at_the_end_unless_the_best_epoch_is_asked_for(
    store: WaveformStore, tmp_path: Path
) -> None:
    train, test = store.where_split("1"), store.where_split("2")
    for report_best, expected in ((False, 1), (True, 2)):
        counting = CountingWaveforms(test.waveforms)
        counting.reads = []
        recipe = replace(RECIPE, report_best=report_best)
        experiment = make_experiment(recipe=recipe)
        trainer = Trainer(
            TrainingRun(
                experiment=experiment,
                model=build_model(experiment, store.index),
                train=train,
                test=replace(test, waveforms=counting),
                folder=tmp_path / str(report_best),
            ),
            make_execution(),
        )
        if (predictions := trainer.train()) is None:
            predictions = trainer.predict_test()
        assert len(predictions) == TEST
        assert len(counting.reads) == expected * TEST  # of two epochs; those of the last one serve the record as well
        assert ["top1" in epoch for epoch in trainer.state.history] == [report_best] * 2


def test_a_flat_loss_is_a_warning(tmp_path: Path) -> None:
    """One clip at a rate of 0, whose loss is the same in every epoch."""
    warned: list[str] = []
    recipe = Recipe(epochs=3, batch_size=1, lr=0.0, warmup_steps=0)
    store = make_store(tmp_path / "data", 1, 2)
    run(store, tmp_path, recipe=recipe, progress=Progress(on_warning=warned.append))
    assert len(warned) == 1 and warned[0].startswith("warning: the loss does not fall: ")


def test_the_trainer_leaves_the_callers_accelerator_alone(store: WaveformStore, tmp_path: Path) -> None:
    execution, environment = make_execution(), dict(os.environ)
    before = {name: value for name, value in vars(execution.accelerator).items() if not name.startswith("_")}
    settings = RunSettings(records=tmp_path / "records", runs=tmp_path / "runs", execution=execution)
    run_experiment(make_experiment(recipe=SHORT), store, settings)
    assert {name: vars(execution.accelerator)[name] for name in before} == before
    assert dict(os.environ) == environment


# --- what is logged -------------------------------------------------------------------------------------------------


def scalars_of(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """TensorBoard's scalars by name: (epoch, value)."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (events,) = {path.parent for path in folder.rglob("events.out.tfevents.*")}
    accumulator = EventAccumulator(str(events)).Reload()
    return {name: [(e.step, e.value) for e in accumulator.Scalars(name)] for name in accumulator.Tags()["scalars"]}


def test_every_epoch_is_in_the_log_the_tracker_and_the_record(store: WaveformStore, tmp_path: Path) -> None:
    record = run(store, tmp_path, recipe=RECIPE)
    folder = tmp_path / "runs" / record.key
    logged = [json.loads(line) for line in (folder / EPOCH_LOG).read_text().splitlines()]
    assert logged == list(record.history)
    assert {"data_share", "model_share", "optimizer_share"} <= set(logged[0])
    scalars = scalars_of(folder)
    assert set(scalars) == set(logged[0]) - {"epoch"}
    assert scalars["loss"] == [(e["epoch"], pytest.approx(e["loss"])) for e in logged]


def test_without_a_tracker_there_is_only_the_log(store: WaveformStore, tmp_path: Path) -> None:
    record = run(store, tmp_path, recipe=SHORT, log_with="none")
    assert sorted(path.name for path in (tmp_path / "runs" / record.key).iterdir()) == [EPOCH_LOG, "lock"]


WANDB = """
config = type("Config", (dict,), {"update": lambda self, values, **_: calls.append(["config", values])})()
calls = []
class Run:
    def log(self, values, step, **_): calls.append([step, values])
    def finish(self): calls.append(["finish"])
def init(**options):
    calls.append(["init", options])
    return Run()
"""


def train_with_wandb(data: Path, folder: Path) -> None:
    """In another process: Accelerate looks for trackers once."""
    sys.path.insert(0, str(folder / "site"))
    store = load_waveforms(read_dataset("esc50", data), SPEC)
    run(store, folder, recipe=RECIPE, log_with="wandb")
    (folder / "calls.json").write_text(json.dumps(sys.modules["wandb"].calls))


def test_another_tracker_receives_every_epoch(data: Path, tmp_path: Path) -> None:
    """A stand-in for wandb, which is not installed here."""
    for name, text in (("wandb.py", WANDB), ("wandb-1.dist-info/METADATA", "Name: wandb\nVersion: 1\n")):
        (tmp_path / "site" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "site" / name).write_text(text)
    assert finish(start(train_with_wandb, data, tmp_path)) == [0]
    calls = json.loads((tmp_path / "calls.json").read_text())
    (record,) = load_stored(tmp_path / "records")
    assert calls[0] == ["init", {"project": "mast-vs-ast", "name": record.key}]
    assert calls[1][1]["model"] == "mast_debug"
    assert [(step, values["loss"]) for step, values in calls[2:4]] == [(e["epoch"], e["loss"]) for e in record.history]
    assert calls[4:] == [["finish"]]


@pytest.mark.parametrize(("name", "message"), [("aim", "the package is not installed"), ("tensorbord", "choose one")])
def test_a_tracker_that_cannot_be_had_is_one_line(
    store: WaveformStore, tmp_path: Path, name: str, message: str
) -> None:
    with pytest.raises(InputError, match=f"--log-with {name}: .*{message}"):
        run(store, tmp_path, recipe=SHORT, log_with=name)


def test_a_half_written_line_of_the_log_does_not_stop_a_run(store: WaveformStore, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / RunKeys(store).key(make_experiment(recipe=SHORT))
    folder.mkdir(parents=True)
    (folder / EPOCH_LOG).write_text('{"epoch": 1, "lo')
    record = run(store, tmp_path, recipe=SHORT)
    assert [json.loads(line) for line in (folder / EPOCH_LOG).read_text().splitlines()] == list(record.history)


# --- where clips come from ------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_streamed_clips_give_the_result_of_clips_in_memory(data: Path, store: WaveformStore, tmp_path: Path) -> None:
    first = run(store, tmp_path / "memory", recipe=SHORT)
    streamed = stream_waveforms(read_dataset("esc50", data), SPEC)
    for workers in (0, 2):
        again = run(streamed, tmp_path / f"stream{workers}", recipe=SHORT, workers=workers)
        assert again.key == first.key
        assert outcome(again) == outcome(first)


def test_shards_give_the_files_key_and_one_result_from_disk_and_memory(
    data: Path, store: WaveformStore, tmp_path: Path
) -> None:
    pytest.importorskip("webdataset", reason="writing shards needs webdataset")
    from reproduce.data.shard_writer import write_shards

    write_shards(store.index, tmp_path / "shards", clips_per_shard=7)
    shards = open_shards(tmp_path / "shards", SPEC)
    streamed = run(shards, tmp_path / "stream", recipe=SHORT)
    loaded = run(in_memory(shards), tmp_path / "memory", recipe=SHORT)
    files = run(store.with_digests(None), tmp_path / "files", recipe=SHORT)
    assert streamed.key == loaded.key == files.key
    assert outcome(streamed) == outcome(loaded)
    # Shards hold 16 bits of each clip scaled to its peak: close to the files, not the same.
    assert streamed.history[0]["loss"] == pytest.approx(files.history[0]["loss"], abs=1e-3)


def test_a_broken_clip_is_left_out_named_once_and_recorded(tmp_path: Path) -> None:
    make_store(tmp_path / "data", TRAIN, TEST)
    cut_short(tmp_path / "data/audio/1-0-0.wav")
    cut_short(tmp_path / "data/audio/2-0-1.wav")
    warned: list[str] = []
    streamed = stream_waveforms(read_dataset("esc50", tmp_path / "data"), SPEC)
    record = run(streamed, tmp_path, recipe=RECIPE, progress=Progress(on_warning=warned.append))
    assert [line.split("/")[-1].split(":")[0] for line in warned] == ["1-0-0.wav"]  # of two epochs
    assert {problem["clip_id"]: problem["reason"] for problem in record.dataset["problems"]} == {
        "1-0-0": "truncated",
        "2-0-1": "truncated",
    }
    assert record.dataset["multilabel"] is False
    assert record.dataset["unit"] == streamed.index.unit
    assert (record.metrics["clips"], record.dataset["test_kept"], record.dataset["kept"]) == (TEST - 1, TEST - 1, 30)
    assert [epoch["clips"] for epoch in record.history] == [TRAIN - 1] * 2


# --- disks that fill, and a second process --------------------------------------------------------------------------


def full_disk(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_training_continues_where_no_checkpoint_can_be_written(
    store: WaveformStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warned: list[str] = []
    left: list[list[str]] = []
    folder = tmp_path / "runs" / RunKeys(store).key(make_experiment(recipe=RECIPE))

    def fill(epoch: int, summary: dict[str, float]) -> None:
        left.append(sorted(path.name for path in folder.glob("epoch-*")))
        monkeypatch.setattr(torch, "save", full_disk)

    progress = Progress(on_epoch=fill, on_warning=warned.append)
    record = run(store, tmp_path, recipe=RECIPE, progress=progress, checkpoint_seconds=ALWAYS_S)
    assert left[0] == left[1] and len(left[0]) == 4  # two checkpoints and their sums: those before the disk was full
    assert warned and all(line.startswith(f"warning: {folder}/epoch-") for line in warned)
    assert all("no checkpoint written (No space left on device)" in line and "\n" not in line for line in warned)
    monkeypatch.undo()
    assert outcome(record) == outcome(run(store, tmp_path / "again", recipe=RECIPE))


def test_logs_that_cannot_be_written_are_warnings(
    store: WaveformStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch.utils.tensorboard import SummaryWriter

    warned: list[str] = []
    monkeypatch.setattr(SummaryWriter, "add_scalar", full_disk)
    monkeypatch.setattr(SummaryWriter, "close", full_disk)
    folder = tmp_path / "runs" / RunKeys(store).key(make_experiment(recipe=RECIPE))
    (folder / EPOCH_LOG).mkdir(parents=True)  # a folder in the file's place
    record = run(store, tmp_path, recipe=RECIPE, progress=Progress(on_warning=warned.append))
    assert len(record.history) == 2
    assert any("epochs.jsonl: not written (Is a directory)" in line for line in warned)
    assert any("no numbers tracked (No space left on device)" in line for line in warned)


def trained_models(records: Path) -> list[str]:
    """Models of the recorded trainings, in order."""
    return [record.experiment["model"] for record in load_stored(records) if record.kind == "train"]


def no_room(*_: Any, **__: Any) -> None:
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize(
    ("where", "failure"),
    [("safetensors.torch.save_file", no_room), ("numpy.savez_compressed", full_disk), ("os.write", full_disk)],
    ids=["weights", "predictions", "record"],
)
def test_a_full_disk_at_the_end_is_one_line_and_the_next_run_resumes(
    data: Path, store: WaveformStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, failure: Any
) -> None:
    monkeypatch.setitem(PRESETS, "debug", PRESETS["debug"])
    lengthen_debug(2)
    arguments = ["esc50", "--preset", "debug", "--folds", "1", "--device", "cpu", "--data", f"esc50={data}"]
    arguments += ["--records", str(tmp_path / "records"), "--runs", str(tmp_path / "runs")]
    arguments += ["--checkpoint-minutes", "0.000001", "--format", "json"]
    first = ["--models", "mast_debug"]  # with it, the baseline is recorded before the disk is full
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        assert main([*arguments, *first]) == 0
    out, err = StringIO(), StringIO()
    with monkeypatch.context() as patched, redirect_stdout(out), redirect_stderr(err):
        patched.setattr(where, failure)
        assert main(arguments) == 2
    assert out.getvalue() == ""
    (error,) = (line for line in err.getvalue().splitlines() if line.startswith("error: "))
    assert str(tmp_path) in error and "No space left on device" in error
    assert trained_models(tmp_path / "records") == ["mast_debug"]
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        assert main(arguments) == 0
    assert "after epoch 2" in err.getvalue()
    json.loads(out.getvalue())
    assert trained_models(tmp_path / "records") == ["mast_debug", "ast_debug"]
    leftovers = [path.name for path in tmp_path.rglob("*") if path.suffix in {".pt", ".tmp", ".part"}]
    assert leftovers == []


def test_a_run_that_is_being_trained_is_refused(store: WaveformStore, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / RunKeys(store).key(make_experiment(recipe=RECIPE))
    with lock_run(folder), pytest.raises(InputError, match="another process is training this run") as error:
        run(store, tmp_path, recipe=RECIPE)
    assert "\n" not in str(error.value)
    assert load_stored(tmp_path / "records") == []

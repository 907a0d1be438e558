"""Whole runs: averages and best epochs beside the last one, clips from anywhere, and disks that fill."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from make_audio import cut_short
from make_runs import (
    ALWAYS_S,
    LONG,
    RECIPE,
    SPEC,
    lengthen_debug,
    make_experiment,
    make_model,
    make_store,
    make_uneven_folder,
    outcome,
    run,
)
from safetensors import SafetensorError

from models.base import SpectrogramTransformer
from reproduce.__main__ import main
from reproduce.data.batches import evaluation_batches
from reproduce.data.shard_reader import in_memory, open_shards
from reproduce.data.waveform_store import WaveformStore, load_waveforms, stream_waveforms
from reproduce.datasets import read_dataset
from reproduce.errors import InputError
from reproduce.evaluation.predict import predict
from reproduce.experiments.presets import PRESETS
from reproduce.metrics.headline import score
from reproduce.records.store import load_records
from reproduce.training import runner, trainer
from reproduce.training.checkpointing import locked
from reproduce.training.runner import experiment_key
from reproduce.training.trainer import Progress

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


def test_last_averaged_and_best_are_each_what_they_are_called(
    store: WaveformStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights after every epoch are kept here, averaged by hand and scored again."""
    models: list[SpectrogramTransformer] = []
    weights: list[dict[str, torch.Tensor]] = []
    build = runner.build_model
    monkeypatch.setattr(runner, "build_model", lambda *given: models.append(build(*given)) or models[-1])
    keep = Progress(
        on_epoch=lambda *_: weights.append({k: v.detach().clone() for k, v in models[0].state_dict().items()})
    )
    recipe = replace(LONG, epochs=4, average_from=3, warmup_steps=6, lr=3e-4)
    record = run(store, tmp_path, recipe=recipe, progress=keep)
    assert len(weights) == 4

    test, model = store.where_split("2"), make_model("mast_debug")

    def score_of(state: dict[str, torch.Tensor]) -> dict[str, Any]:
        model.load_state_dict(state)
        return pytest.approx(scores(model, test))

    by_epoch = [score_of(state) for state in weights]
    assert {name: record.metrics[name] for name in ("top1", "top5", "map", "clips", "correct")} == pytest.approx(
        {name: by_epoch[-1].expected[name] for name in ("top1", "top5", "map", "clips", "correct")}
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
    from safetensors.torch import load_file

    last, mean_file = (load_file(tmp_path / f"runs/{record.key}{suffix}.safetensors") for suffix in ("", "-averaged"))
    assert all(torch.equal(last[name], weights[3][name]) for name in last)
    assert all(torch.allclose(mean_file[name], mean[name], atol=1e-7) for name in mean_file)


def test_test_clips_are_not_looked_at_before_the_end_unless_the_best_epoch_is_asked_for(
    store: WaveformStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    epochs, looked_at = [0], []
    monkeypatch.setattr(trainer, "predict", lambda *given: looked_at.append(len(epochs) - 1) or predict(*given))
    count = Progress(on_epoch=lambda epoch, _: epochs.append(epoch))
    record = run(store, tmp_path / "a", recipe=RECIPE, progress=count)
    assert (epochs, looked_at) == ([0, 1, 2], [2])
    assert record.details == {}
    assert not any("top1" in epoch for epoch in record.history)
    epochs, looked_at[:] = [0], []
    record = run(store, tmp_path / "b", recipe=replace(RECIPE, report_best=True), progress=count)
    assert looked_at == [0, 1]  # as the second epoch ends; its predictions serve the record as well
    assert list(record.details) == ["best"]
    assert record.details["best"]["metrics"]["top1"] == max(epoch["top1"] for epoch in record.history)


def test_alarms_are_told_as_warnings(store: WaveformStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, int]] = []
    monkeypatch.setattr(
        trainer, "alarms", lambda experiment, history: seen.append((experiment["model"], len(history))) or ["too warm"]
    )
    warned: list[str] = []
    run(store, tmp_path, recipe=RECIPE, progress=Progress(on_warning=warned.append))
    assert seen == [("mast_debug", 1), ("mast_debug", 2)]
    assert warned == ["warning: too warm"] * 2


# --- where clips come from ------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_streamed_clips_give_the_key_weights_and_scores_of_those_in_memory(
    data: Path, store: WaveformStore, tmp_path: Path
) -> None:
    first = run(store, tmp_path / "memory", recipe=SHORT)
    streamed = stream_waveforms(read_dataset("esc50", data), SPEC)
    for workers in (0, 2):
        again = run(streamed, tmp_path / f"stream{workers}", recipe=SHORT, workers=workers)
        assert again.key == first.key
        assert outcome(again) == outcome(first)


def test_shards_give_the_key_of_the_files_and_the_same_weights_from_disk_and_memory(
    data: Path, store: WaveformStore, tmp_path: Path
) -> None:
    pytest.importorskip("webdataset", reason="writing shards needs webdataset")
    from reproduce.data.shard_writer import write_shards

    write_shards(store.index, tmp_path / "shards", clips_per_shard=7)
    shards = open_shards(tmp_path / "shards", SPEC)
    streamed = run(shards, tmp_path / "stream", recipe=SHORT)
    loaded = run(in_memory(shards), tmp_path / "memory", recipe=SHORT)
    files = run(store, tmp_path / "files", recipe=SHORT)
    assert streamed.key == loaded.key == files.key
    assert outcome(streamed) == outcome(loaded)
    # Shards hold 16 bits of each clip scaled to its peak: close to the files, not the same.
    assert streamed.history[0]["loss"] == pytest.approx(files.history[0]["loss"], abs=1e-3)


def test_a_clip_that_turns_out_to_be_broken_is_left_out_named_once_and_recorded(tmp_path: Path) -> None:
    make_store(tmp_path / "data", TRAIN, TEST)
    cut_short(tmp_path / "data/audio/1-0-0.wav")
    cut_short(tmp_path / "data/audio/2-0-1.wav")
    warned: list[str] = []
    streamed = stream_waveforms(read_dataset("esc50", tmp_path / "data"), SPEC)
    record = run(streamed, tmp_path, recipe=RECIPE, progress=Progress(on_warning=warned.append))
    assert [line.split("/")[-1].split(":")[0] for line in warned] == ["1-0-0.wav"]  # of two epochs
    assert {problem[0]: problem[1] for problem in record.dataset["problems"]} == {
        "1-0-0": "truncated",
        "2-0-1": "truncated",
    }
    assert (record.metrics["clips"], record.dataset["test_kept"], record.dataset["kept"]) == (TEST - 1, TEST - 1, 30)
    assert [epoch["clips"] for epoch in record.history] == [TRAIN - 1] * 2


# --- disks that fill, and a second process --------------------------------------------------------------------------


def full_disk(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def torchs_own(*_: Any) -> None:
    raise RuntimeError("PytorchStreamWriter failed writing file data/3: file write failed")


@pytest.mark.parametrize("failure", [full_disk, torchs_own])
def test_training_goes_on_where_no_checkpoint_can_be_written(
    store: WaveformStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Callable[..., None]
) -> None:
    warned: list[str] = []
    left: list[list[str]] = []
    folder = tmp_path / "runs" / experiment_key(make_experiment(recipe=RECIPE), store)

    def fill(epoch: int, summary: dict[str, float]) -> None:
        left.append(sorted(path.name for path in folder.glob("epoch-*")))
        monkeypatch.setattr(torch, "save", failure)

    progress = Progress(on_epoch=fill, on_warning=warned.append)
    record = run(store, tmp_path, recipe=RECIPE, progress=progress, checkpoint_seconds=ALWAYS_S)
    assert left[0] == left[1] and len(left[0]) == 4  # two checkpoints and their sums: those before the disk was full
    assert warned and all(line.startswith(f"warning: {folder}: no checkpoint written") for line in warned)
    assert all("training goes on" in line and "\n" not in line for line in warned)
    monkeypatch.undo()
    assert outcome(record) == outcome(run(store, tmp_path / "again", recipe=RECIPE))


def test_logs_that_cannot_be_written_stop_nothing(
    store: WaveformStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch.utils.tensorboard import SummaryWriter

    warned: list[str] = []
    monkeypatch.setattr(SummaryWriter, "add_scalar", full_disk)
    monkeypatch.setattr(SummaryWriter, "close", full_disk)
    monkeypatch.setattr(Path, "write_text", full_disk)
    record = run(store, tmp_path, recipe=RECIPE, progress=Progress(on_warning=warned.append))
    assert len(record.history) == 2
    assert any("epochs.jsonl: not written (No space left on device)" in line for line in warned)
    assert any("no TensorBoard scalars written (No space left on device)" in line for line in warned)


def no_room(*_: Any, **__: Any) -> None:
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize(
    ("where", "failure"),
    [("safetensors.torch.save_file", no_room), ("numpy.savez_compressed", full_disk), ("os.write", full_disk)],
    ids=["weights", "predictions", "record"],
)
def test_a_full_disk_at_the_end_is_one_line_and_the_next_run_goes_on_from_the_checkpoint(
    data: Path, store: WaveformStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, failure: Any
) -> None:
    monkeypatch.setitem(PRESETS, "debug", PRESETS["debug"])
    lengthen_debug(2)
    arguments = ["esc50", "--preset", "debug", "--folds", "1", "--device", "cpu", "--data", f"esc50={data}"]
    arguments += ["--records", str(tmp_path / "records"), "--runs", str(tmp_path / "runs")]
    arguments += ["--checkpoint-minutes", "0", "--format", "json"]
    out, err = StringIO(), StringIO()
    with monkeypatch.context() as patched, redirect_stdout(out), redirect_stderr(err):
        patched.setattr(where, failure)
        assert main(arguments) == 2
    assert out.getvalue() == ""
    (error,) = (line for line in err.getvalue().splitlines() if line.startswith("error: "))
    assert str(tmp_path) in error and "No space left on device" in error
    assert load_records(tmp_path / "records") == []
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        assert main(arguments) == 0
    assert "going on after epoch 2" in err.getvalue()
    json.loads(out.getvalue())
    assert [record.experiment["model"] for record in load_records(tmp_path / "records")] == ["ast_debug", "mast_debug"]
    leftovers = [path.name for path in tmp_path.rglob("*") if path.suffix in {".pt", ".tmp", ".part"}]
    assert leftovers == []


def test_a_second_process_that_would_train_the_same_run_is_refused(store: WaveformStore, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / experiment_key(make_experiment(recipe=RECIPE), store)
    with locked(folder), pytest.raises(InputError, match="another process is training this run") as error:
        run(store, tmp_path, recipe=RECIPE)
    assert "\n" not in str(error.value)
    assert load_records(tmp_path / "records") == []

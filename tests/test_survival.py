"""Runs that are killed, stopped or find damaged checkpoints give the result of undisturbed ones, bit for bit."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from make_records import load_stored
from make_runs import (
    ALWAYS_S,
    LONG,
    NEVER_S,
    SPEC,
    command_line,
    finish,
    make_experiment,
    make_uneven_folder,
    outcome,
    run,
    start,
    train_tones,
    train_tones_until,
    train_tones_until_write,
    wait_for,
)

from reproduce.data.read_ahead import read_ahead
from reproduce.data.waveform_store import FileWaveforms, WaveformStore, load_waveforms, stream_waveforms
from reproduce.datasets import read_dataset
from reproduce.experiments.recipe import Recipe
from reproduce.records.record import RunRecord
from reproduce.records.store import as_stored
from reproduce.training.epoch_log import EPOCH_LOG
from reproduce.training.execution import Progress
from reproduce.training.run_keys import RunKeys
from reproduce.training.signals import Stopped, stop_signals

pytestmark = pytest.mark.usefixtures("one_thread")

TESTS = Path(__file__).resolve().parent
TRAIN, TEST = 20, 12
STEPS = 3  # an epoch
ALWAYS: dict[str, Any] = {"checkpoint_seconds": ALWAYS_S}
NEVER: dict[str, Any] = {"checkpoint_seconds": NEVER_S}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_uneven_folder(tmp_path_factory.mktemp("tones") / "data", TRAIN, TEST)


@pytest.fixture(scope="module")
def store(data: Path) -> WaveformStore:
    return load_waveforms(read_dataset("esc50", data), SPEC)


@pytest.fixture(scope="module")
def undisturbed(store: WaveformStore, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunRecord]:
    """Six epochs without an interruption or a checkpoint, and where they are recorded."""
    folder = tmp_path_factory.mktemp("undisturbed")
    return folder, run(store, folder, recipe=LONG, **NEVER)


def assert_same(folder: Path, undisturbed: tuple[Path, RunRecord]) -> None:
    """One record, and it has the weights, metrics, losses and predictions of the undisturbed run."""
    (record,) = load_stored(folder / "records")
    before, expected = undisturbed
    assert record.key == expected.key
    assert outcome(record) == outcome(expected)
    sides = [np.load(at / "records" / str(of.predictions)) for at, of in ((folder, record), (before, expected))]
    assert all(np.array_equal(sides[0][name], sides[1][name]) for name in sides[1].files)


def run_folder(folder: Path, store: WaveformStore) -> Path:
    return folder / "runs" / RunKeys(store).key(make_experiment(recipe=LONG))


def checkpoints(folder: Path, store: WaveformStore) -> list[Path]:
    return sorted(run_folder(folder, store).glob("*.pt"))


def warnings(folder: Path) -> list[str]:
    path = folder / "warnings.txt"
    return path.read_text().splitlines() if path.exists() else []


# --- kill -9 --------------------------------------------------------------------------------------------------------


def test_a_run_killed_at_two_moments_gives_the_undisturbed_result(
    data: Path, store: WaveformStore, tmp_path: Path, undisturbed: tuple[Path, RunRecord]
) -> None:
    # Before the step's checkpoint is written, so that the step is taken again.
    killed = start(train_tones_until, data, tmp_path, LONG, ALWAYS, STEPS + 2, signal.SIGKILL)
    assert finish(killed) == [-signal.SIGKILL]
    assert checkpoints(tmp_path, store)[-1].name == "epoch-0001-step-000001.pt"
    # While a checkpoint is written: its bytes are on disk, its name is not.
    assert finish(start(train_tones_until_write, data, tmp_path, LONG, ALWAYS, 4)) == [-signal.SIGKILL]
    assert list(run_folder(tmp_path, store).glob("*.tmp"))
    assert load_stored(tmp_path / "records") == []
    log = run_folder(tmp_path, store) / EPOCH_LOG
    seen = len(log.read_text().splitlines())
    assert 1 <= seen < LONG.epochs
    assert finish(start(train_tones, data, tmp_path, LONG, ALWAYS)) == [0]
    assert_same(tmp_path, undisturbed)
    assert warnings(tmp_path) == []
    assert len(log.read_text().splitlines()) == LONG.epochs  # each once, also those that were trained again
    assert sorted(path.name for path in run_folder(tmp_path, store).iterdir() if path.name.startswith("epoch-")) == []


def test_a_rerun_right_after_a_kill_is_not_held_up_by_orphaned_workers(data: Path, tmp_path: Path) -> None:
    """They live on for some seconds, and must not hold the lock of the run."""
    streamed = stream_waveforms(read_dataset("esc50", data), SPEC)
    killed = start(stream_tones_until_killed, data, tmp_path)
    assert finish(killed) == [-signal.SIGKILL]
    record = run(streamed, tmp_path, recipe=replace(LONG, epochs=1, average_from=0), **NEVER)
    assert load_stored(tmp_path / "records") == [as_stored(record)]


def stream_tones_until_killed(data: Path, folder: Path) -> None:
    """Train with two workers, and die in the second step."""
    kill = Progress(on_step=lambda clips, loss: os.kill(os.getpid(), signal.SIGKILL))
    streamed = stream_waveforms(read_dataset("esc50", data), SPEC)
    run(streamed, folder, recipe=replace(LONG, epochs=1, average_from=0), progress=kill, workers=2)


def test_workers_end_with_a_run_that_is_killed_while_they_start(tmp_path: Path) -> None:
    """Their parent is dead before they can know it."""
    assert finish(start(read_ahead_until_killed, tmp_path)) == [-signal.SIGKILL]
    workers = [int(path.name) for path in tmp_path.iterdir()]
    assert len(workers) == 2
    (tmp_path / "parent is dead").touch()
    wait_for(lambda: not any(is_running(worker) for worker in workers))


def is_running(process: int) -> bool:
    """Whether it is there and has not ended; nobody may have asked for its status."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def read_ahead_until_killed(folder: Path) -> None:
    """Die when two workers have begun to start; they start no further before that."""

    def started(threads: int) -> None:
        (folder / str(os.getpid())).touch()
        wait_for((folder / "parent is dead").exists)

    def kill(number: int, frame: object) -> None:
        if len(list(folder.iterdir())) == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    multiprocessing.set_start_method("fork", force=True)  # so that the workers have what follows
    torch.set_num_threads = started  # which a worker calls first; this process ends with the test
    signal.signal(signal.SIGALRM, kill)  # a thread could hold a lock while the workers are forked
    signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
    list(read_ahead(int, 8, "cpu", workers=2))


# --- SIGTERM and SIGINT ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "step", "left"),
    [
        # The signal comes as step 4 ends; step 5 is finished and saved.
        (signal.SIGTERM, STEPS + 1, "epoch-0001-step-000002.pt"),
        # No step is left, the test clips are not scored any more, and the run is not recorded.
        (signal.SIGINT, LONG.epochs * STEPS, "epoch-0005-step-000003.pt"),
    ],
    ids=["SIGTERM", "SIGINT after the last step"],
)
def test_a_signal_finishes_the_step_and_writes_a_checkpoint(
    data: Path,
    store: WaveformStore,
    tmp_path: Path,
    undisturbed: tuple[Path, RunRecord],
    number: int,
    step: int,
    left: str,
) -> None:
    assert finish(start(train_tones_until, data, tmp_path, LONG, NEVER, step, number)) == [128 + number]
    assert [path.name for path in checkpoints(tmp_path, store)] == [left]
    assert load_stored(tmp_path / "records") == []
    resumed: list[tuple[int, int]] = []
    progress = Progress(on_resume=lambda epochs, clips: resumed.append((epochs, clips)))
    run(store, tmp_path, recipe=LONG, progress=progress, **NEVER)
    assert resumed == [(LONG.epochs - 1, LONG.epochs * TRAIN) if step == LONG.epochs * STEPS else (1, TRAIN + 16)]
    assert_same(tmp_path, undisturbed)


class Interrupting(FileWaveforms):
    """Files of which the reading of a test clip brings SIGTERM, once."""

    sent = False

    def take(self, positions: np.ndarray) -> Interrupting:
        return Interrupting(self.index.take(positions), self.spec)

    def __getitem__(self, position: int, /) -> np.ndarray:
        if str(self.index.splits[position]) == "2" and not Interrupting.sent:
            Interrupting.sent = True
            os.kill(os.getpid(), signal.SIGTERM)
        return super().__getitem__(position)


@pytest.mark.parametrize(
    "recipe", [LONG, replace(LONG, epochs=4, report_best=False)], ids=["of an epoch", "at the end"]
)
def test_a_signal_while_test_clips_are_scored_keeps_the_training(
    data: Path, store: WaveformStore, tmp_path: Path, recipe: Recipe
) -> None:
    index = read_dataset("esc50", data)
    streamed = replace(stream_waveforms(index, SPEC), waveforms=Interrupting(index, SPEC))
    Interrupting.sent = False
    resumed: list[int] = []
    with pytest.raises(Stopped):
        run(streamed, tmp_path, recipe=recipe, **NEVER)
    assert load_stored(tmp_path / "records") == []
    progress = Progress(on_resume=lambda epochs, clips: resumed.append(clips))
    again = run(streamed, tmp_path, recipe=recipe, progress=progress, **NEVER)
    assert resumed == [TRAIN if recipe.report_best else recipe.epochs * TRAIN]
    assert outcome(again) == outcome(run(store, tmp_path / "undisturbed", recipe=recipe, **NEVER))


def twice(data: Path, folder: Path) -> None:
    """As an impatient user does."""

    def kill(steps: int) -> None:
        if steps == 2:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)

    train_tones(data, folder, LONG, NEVER, kill)


def test_a_second_signal_ends_the_run_at_once(data: Path, store: WaveformStore, tmp_path: Path) -> None:
    assert finish(start(twice, data, tmp_path)) == [-signal.SIGTERM]
    assert checkpoints(tmp_path, store) == []


def test_signals_have_their_former_effect_afterwards(request: pytest.FixtureRequest) -> None:
    # pytest-xdist has its workers ignore SIGINT.
    request.addfinalizer(partial(signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT)))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with stop_signals() as received:
        os.kill(os.getpid(), signal.SIGINT)
        assert received == [signal.SIGINT]
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert received == [signal.SIGINT]
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def to_the_group(data: Path, folder: Path) -> None:
    """As a scheduler does: every process of the job gets the signal from outside, those that read ahead too."""
    os.setpgrp()

    def kill(steps: int) -> None:
        if steps == 2:
            subprocess.run(["kill", "-s", "TERM", "--", f"-{os.getpgrp()}"], check=False)  # hits itself, too
            time.sleep(1.0)  # a step may be long enough for all to be over

    train_tones(data, folder, replace(LONG, batch_size=1), {"checkpoint_seconds": NEVER_S, "workers": 2}, kill)


def test_a_signal_to_the_workers_too_still_writes_the_checkpoint(data: Path, tmp_path: Path) -> None:
    script = f"import sys, pathlib; sys.path[:0] = {[str(TESTS)]}; import test_survival as this; "
    call = f"this.to_the_group(pathlib.Path({str(data)!r}), pathlib.Path({str(tmp_path)!r}))"
    # Not by `start`: processes that the server forks never hear of their children's deaths.
    done = subprocess.run([sys.executable, "-c", script + call], cwd=TESTS.parent, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 128 + signal.SIGTERM, done.stderr
    (checkpoint,) = (tmp_path / "runs").rglob("*.pt")
    assert checkpoint.name == "epoch-0000-step-000003.pt"


def trained_models(records: Path) -> list[str]:
    """Models of the recorded trainings, in order; a baseline is fitted before them."""
    return [record.experiment["model"] for record in load_stored(records) if record.kind == "train"]


def test_the_command_line_stops_with_143_and_resumes(data: Path, tmp_path: Path) -> None:
    arguments = ["esc50", "--preset", "debug", "--folds", "1", "--device", "cpu", "--data", f"esc50={data}"]
    arguments += ["--format", "json", "--records", str(tmp_path / "records"), "--runs", str(tmp_path / "runs")]
    out = tmp_path / "out.json"
    assert finish(start(command_line, arguments, 4, out, "mast_debug tested on 1 seed 0 lr 0.001 epoch 2/4")) == [143]
    error = out.with_suffix(".err").read_text()
    assert "stopped: the same command " in error
    assert "Traceback" not in error and out.read_text() == ""
    assert trained_models(tmp_path / "records") == ["ast_debug"]
    assert finish(start(command_line, arguments, 4, out)) == [0]
    assert "after epoch 2" in out.with_suffix(".err").read_text()
    assert trained_models(tmp_path / "records") == ["ast_debug", "mast_debug"]
    assert {row["row"] for row in json.loads(out.read_text())["rows"]} >= {"ast_debug", "mast_debug"}


# --- damaged checkpoints --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def interrupted(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Killed in the fifth epoch with two checkpoints on disk, of steps 12 (the epoch's end) and 13."""
    folder = tmp_path_factory.mktemp("interrupted")
    killed = start(train_tones_until, data, folder, LONG, ALWAYS, 4 * STEPS + 2, signal.SIGKILL)
    assert finish(killed) == [-signal.SIGKILL]
    return folder


def test_a_damaged_checkpoint_costs_a_step_and_not_a_bit(
    store: WaveformStore, tmp_path: Path, interrupted: Path, undisturbed: tuple[Path, RunRecord]
) -> None:
    shutil.copytree(interrupted, tmp_path, dirs_exist_ok=True)
    earlier, last = checkpoints(tmp_path, store)
    data = bytearray(last.read_bytes())
    data[len(data) // 3] ^= 16
    last.write_bytes(data)
    warned: list[str] = []
    resumed: list[int] = []
    progress = Progress(on_warning=warned.append, on_resume=lambda _, clips: resumed.append(clips))
    run(store, tmp_path, recipe=LONG, progress=progress, **NEVER)
    assert resumed == [4 * TRAIN]
    assert warned == [f"{last}: this checkpoint is damaged; going back to {earlier.name}"]
    assert_same(tmp_path, undisturbed)

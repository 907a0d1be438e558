"""Small training runs for tests: in this process, in another one, or in two that share the run."""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from make_audio import make_esc50_folder

from models import create_model
from models.base import SpectrogramTransformer
from reproduce.__main__ import main
from reproduce.audio.spec import AudioSpec
from reproduce.data.waveform_store import WaveformStore, load_waveforms
from reproduce.datasets import read_dataset
from reproduce.errors import InputError
from reproduce.experiments.experiment import Experiment
from reproduce.experiments.presets import PRESETS
from reproduce.experiments.recipe import Recipe
from reproduce.records.record import RunRecord
from reproduce.training.execution import SILENT, Execution, Progress, RunSettings
from reproduce.training.processes import make_accelerator
from reproduce.training.runner import run_experiment
from reproduce.training.signals import Stopped

SPEC = AudioSpec(mels=32, frames=32, frame_shift_ms=30.0, mean=-6.6, std=5.4)
RECIPE = Recipe(
    epochs=2, batch_size=8, lr=1e-3, warmup_steps=2, drop_path_rate=0.1, mixup=0.5, freq_mask=4, time_mask=4
)
# Everything that a checkpoint must restore: the schedule, the average, the best epoch, the draws of drop path.
LONG = replace(RECIPE, epochs=6, average_from=3, report_best=True)
NEVER_S, ALWAYS_S = 1e9, 0.0  # checkpoint_seconds
PATIENCE_S = 240.0  # for a busy machine


def make_store(folder: Path, train: int = 32, test: int = 32) -> WaveformStore:
    """A store of low and high tones: `train` clips in fold 1, `test` in fold 2."""
    make_uneven_folder(folder, train, test)
    return load_waveforms(read_dataset("esc50", folder), SPEC)


def make_uneven_folder(folder: Path, train: int, test: int) -> Path:
    """A folder in ESC-50's layout with `train` clips in fold 1 and `test` in fold 2."""
    make_esc50_folder(folder, per_fold=-(-max(train, test) // 2), folds=2)
    table = folder / "meta/esc50.csv"
    head, *rows = table.read_text().splitlines()
    kept = [row for fold, count in (("1", train), ("2", test)) for row in _of_fold(rows, fold)[:count]]
    table.write_text("\n".join([head, *kept]) + "\n")
    for row in set(rows) - set(kept):
        (folder / "audio" / row.partition(",")[0]).unlink()
    return folder


def _of_fold(rows: list[str], fold: str) -> list[str]:
    return [row for row in rows if row.split(",")[1] == fold]


def make_model(name: str = "ast_debug", seed: int = 0, **config: Any) -> SpectrogramTransformer:
    torch.manual_seed(seed)
    return create_model(name, num_classes=2, input_size=(SPEC.mels, SPEC.frames), **config)


def make_experiment(model: str = "mast_debug", recipe: Recipe = RECIPE, seed: int = 0) -> Experiment:
    return Experiment(model, "esc50", ("1",), ("2",), SPEC, recipe, "demo", seed=seed)


def make_execution(**options: Any) -> Execution:
    return Execution(accelerator=make_accelerator("cpu"), **options)


def run(
    store: WaveformStore,
    folder: Path,
    model: str = "mast_debug",
    recipe: Recipe = RECIPE,
    seed: int = 0,
    progress: Progress = SILENT,
    **options: Any,
) -> RunRecord:
    """Train in this process; `options` are Execution's."""
    settings = RunSettings(
        records=folder / "records", runs=folder / "runs", execution=make_execution(**options), progress=progress
    )
    return run_experiment(make_experiment(model, recipe, seed), store, settings)


def outcome(record: RunRecord) -> dict[str, Any]:
    """What two runs of one experiment must share to the last bit: everything but speeds, times and folders."""
    return {
        "weights": record.weights_sha256,
        "metrics": {name: value for name, value in record.metrics.items() if not name.endswith("_per_s")},
        "history": [
            {name: v for name, v in epoch.items() if not name.endswith(("_per_s", "_share"))}
            for epoch in record.history
        ],
        "details": record.details,
        "test": record.dataset["test_sha256"],
    }


# --- other processes ------------------------------------------------------------------------------------------------


def start(target: Callable[..., None], *arguments: Any, ranks: int = 1) -> list[BaseProcess]:
    """Start `target(*arguments)` in another process, or in several as ranks of one run, with torchrun's variables.

    A server process that has imported torch forks them, before it has threads or state.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["make_runs", "torch.utils.tensorboard"])
    port = free_port()
    started: list[BaseProcess] = []
    for rank in range(ranks):
        environment = {} if ranks == 1 else _environment_of(rank, ranks, port)
        process = context.Process(target=_enter, args=(environment, target, arguments))
        process.start()
        started.append(process)
    return started


def finish(processes: Sequence[BaseProcess]) -> list[int | None]:
    """Wait for the processes; their exit statuses, a signal's as a negative number."""
    for process in processes:
        process.join(PATIENCE_S)
        if process.is_alive():
            process.kill()
            raise TimeoutError(f"{process} did not end")
    return [process.exitcode for process in processes]


def wait_for(what: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not what():
        if time.monotonic() > end:
            raise TimeoutError("it did not happen")
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _environment_of(rank: int, ranks: int, port: int) -> dict[str, str]:
    variables = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks, "MASTER_PORT": port}
    return {name: str(value) for name, value in variables.items()} | {"MASTER_ADDR": "127.0.0.1"}


def _enter(environment: dict[str, str], target: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    os.environ.update(environment)
    torch.set_num_threads(1)
    target(*arguments)


def train_tones(
    data: Path,
    folder: Path,
    recipe: Recipe,
    options: dict[str, Any],
    after_step: Callable[[int], None] = lambda step: None,
) -> None:
    """Train mast_debug on a folder of `make_store`. Warnings go to folder/warnings.txt; exits as the CLI does.

    Args:
        after_step: called with the number of steps that this process has taken.
    """
    steps = 0

    def on_step(clips: int, loss: float) -> None:
        nonlocal steps
        steps += 1
        after_step(steps)

    def on_warning(line: str) -> None:
        with open(folder / "warnings.txt", "a", encoding="utf-8") as file:
            file.write(line + "\n")

    store = load_waveforms(read_dataset("esc50", data), SPEC)
    try:
        run(store, folder, recipe=recipe, progress=Progress(on_step=on_step, on_warning=on_warning), **options)
    except Stopped as stopped:
        sys.exit(128 + stopped.number)
    except InputError as error:
        on_warning(f"error: {error}")
        sys.exit(2)


def train_tones_until(
    data: Path, folder: Path, recipe: Recipe, options: dict[str, Any], step: int, number: int, rank: int = 0
) -> None:
    """As `train_tones`, but at the end of its `step`-th step this process sends itself signal `number`."""

    def kill(steps: int) -> None:
        if steps == step and int(os.environ.get("RANK", "0")) == rank:
            os.kill(os.getpid(), number)

    train_tones(data, folder, recipe, options, kill)


def train_tones_until_write(data: Path, folder: Path, recipe: Recipe, options: dict[str, Any], write: int) -> None:
    """As `train_tones`, but killed in its `write`-th fsync, before the file that it flushes gets its name."""
    writes = 0
    fsync = os.fsync

    def kill(descriptor: Any) -> None:
        nonlocal writes
        writes += 1
        if writes == write:
            os.kill(os.getpid(), signal.SIGKILL)
        fsync(descriptor)

    os.fsync = kill  # this process ends with the test
    train_tones(data, folder, recipe, options)


class _Tripwire(io.TextIOBase):
    """A text file whose process gets SIGTERM as soon as `text` is written to it."""

    def __init__(self, path: Path, text: str) -> None:
        self.file, self.text = open(path, "a", buffering=1), text  # noqa: SIM115 (open until the process ends)

    def write(self, text: str) -> int:
        if self.text and self.text in text:
            os.kill(os.getpid(), signal.SIGTERM)
        return self.file.write(text)

    def flush(self) -> None:
        self.file.flush()


def command_line(arguments: Sequence[str], epochs: int, out: Path, stop_at: str = "") -> None:
    """Run `python -m reproduce ARGUMENTS` with `epochs` epochs in the debug preset's recipe.

    Args:
        arguments: of the command.
        epochs: of the recipe.
        out: file of stdout; stderr is appended to the file with the suffix .err.
        stop_at: this process gets SIGTERM when it writes this text to stderr.
    """
    lengthen_debug(epochs)
    sys.stderr = _Tripwire(out.with_suffix(".err"), stop_at)
    with open(out, "w") as sys.stdout:
        status = main(arguments)
    sys.exit(status)


def lengthen_debug(epochs: int) -> None:
    preset = PRESETS["debug"]
    PRESETS["debug"] = replace(preset, recipe=replace(preset.recipe, epochs=epochs))

"""What every training command does: open a data set once, train what has no record yet, and tell how it goes."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch
from tqdm import tqdm

from models.checkpoints import CheckpointError, read_state_dict
from reproduce.audio.spec import AudioSpec
from reproduce.data.shard_index import INDEX_NAME, JOURNAL_NAME, read_shard_index
from reproduce.data.shard_reader import in_memory, open_shards
from reproduce.data.waveform_store import WaveformStore, fits_in_memory, load_waveforms, stream_waveforms
from reproduce.datasets import read_variant
from reproduce.datasets.readers.audioset import WHOLE_TRAIN
from reproduce.environment import choose_device, reading_workers
from reproduce.errors import InputError
from reproduce.experiments.experiment import Experiment
from reproduce.experiments.recipe import SCRATCH
from reproduce.metrics.headline import HEADLINES, headline
from reproduce.records.record import of_kind
from reproduce.records.selection import latest_by_key
from reproduce.records.store import load_records
from reproduce.training.processes import gather, make_accelerator
from reproduce.training.runner import experiment_key, run_experiment
from reproduce.training.trainer import Execution, Progress

PROBLEMS_SHOWN = 10


def is_main() -> bool:
    """Of the processes of torchrun or accelerate launch, the one that writes and prints."""
    return os.environ.get("RANK", "0") == "0"


def distributed() -> bool:
    """Whether torchrun or accelerate launch started several processes."""
    return os.environ.get("WORLD_SIZE", "1") != "1"


def say(line: str) -> None:
    """Progress goes to stderr, so that stdout holds the table alone."""
    if is_main():
        tqdm.write(line, file=sys.stderr)


def show(text: str) -> None:
    """A result, on stdout."""
    if is_main():
        sys.stdout.write(text)


def named_weights(name: str) -> tuple[Path | None, str]:
    """File of `--weights`, if it is one, and what the experiment's key says of it: never the path, but its hash."""
    path = Path(name)
    if name == SCRATCH or not path.exists():
        return None, name
    try:
        _, sha256 = read_state_dict(path)
    except CheckpointError as error:
        raise InputError(str(error)) from None
    return path, f"file {sha256[:16]}"


def make_execution(options: argparse.Namespace, in_main_memory: bool) -> Execution:
    """Device, precision and processes as the options say; reading ahead is for disks and GPUs."""
    device = choose_device(options.device)
    precision = options.precision
    if precision == "auto":
        native = device.startswith("cuda") and torch.cuda.is_bf16_supported(including_emulation=False)
        precision = "bf16" if native else "fp32"
    workers = options.workers
    if workers is None:
        here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        workers = 0 if in_main_memory and device == "cpu" else reading_workers(here)
    return Execution(
        make_accelerator(device, precision),
        options.micro_batch,
        workers,
        options.grad_checkpointing,
        60 * options.checkpoint_minutes,
    )


def open_store(
    name: str, path: Path, variant: str | None, front_end: AudioSpec, whole: bool, stream: bool
) -> WaveformStore:
    """The clips of a data set, from its files or from shards of them: in memory where they fit, else from disk.

    Args:
        whole: longer clips are needed whole, for random or several crops.
        stream: read from disk in every epoch even where memory would do.
    """
    # A journal without an index is of shards that are not finished, which reading them says.
    if any((path / file).is_file() for file in (INDEX_NAME, JOURNAL_NAME)):
        store = _open_shards(name, path, variant, front_end, whole, stream)
    else:
        index = read_variant(name, path, variant)
        store = stream_waveforms(index, front_end)
        if not stream and _fits(store, whole):
            with _bar(len(index), "decoding") as bar:
                store = load_waveforms(index, front_end, on_clip=bar.update, whole=whole)
    classes = " and ".join(f"{len(names)} classes" for names in store.index.classes.values())
    say(f"{name}: {len(store)} of {sum(store.index.listed.values())} listed clips can be used, {classes}")
    for problem in store.problems[:PROBLEMS_SHOWN]:
        say(f"{'not used' if problem.fatal else 'warning'}: {problem.message}")
    if len(store.problems) > PROBLEMS_SHOWN:
        say(f"... and {len(store.problems) - PROBLEMS_SHOWN} more problems; the record lists all")
    return store


def _open_shards(
    name: str, folder: Path, variant: str | None, spec: AudioSpec, whole: bool, stream: bool
) -> WaveformStore:
    shards = read_shard_index(folder)
    if shards.dataset != name:
        raise InputError(f"{folder}: these shards hold {shards.dataset}, not {name}")
    if variant is not None and variant != shards.variant:
        held = shards.variant or "its only variant"
        raise InputError(
            f"--variant {variant}: the shards in {folder} hold {held}; shard that one, or leave the option out"
        )
    with _bar(shards.clips(), "verifying shards") as bar:
        store = open_shards(folder, spec, on_clip=bar.update)
    if stream or not _fits(store, whole):
        return store
    with _bar(len(store), "decoding") as bar:
        return in_memory(store, on_clip=bar.update, whole=whole)


def _fits(store: WaveformStore, whole: bool) -> bool:
    return fits_in_memory(store.memory_bytes(whole), int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def _bar(total: int, what: str) -> tqdm:
    return tqdm(total=total, desc=what, unit="clip", file=sys.stderr, disable=None if is_main() else True)


def train_missing(
    experiments: Iterable[Experiment],
    store: WaveformStore,
    kind: str,
    weights: Path | None,
    options: argparse.Namespace,
) -> dict[str, Experiment]:
    """Train those that `options.run` asks for; returns all of them by key, trained or not.

    Args:
        kind: of the records, see `run_experiment`.
        weights: file to start from, where it is one.
    """
    keys = {experiment_key(experiment, store): experiment for experiment in experiments}
    stored = latest_by_key(of_kind(load_records(options.records), kind))
    missing = {"none": {}, "all": keys, "missing": {k: e for k, e in keys.items() if k not in stored}}[options.run]
    say(f"{len(keys)} runs: {sum(key in stored for key in keys)} recorded, {len(missing)} to train")
    if not missing and not distributed():
        return keys
    for folder in (options.records, options.runs):
        _check_writable(folder)
    execution = make_execution(options, isinstance(store.waveforms, tuple))
    # Another job may append between two processes' reads: the first one's list is everybody's.
    missing = {key: keys[key] for key in gather([list(missing)])[0] if key in keys}
    for number, experiment in enumerate(missing.values(), start=1):
        name = f"[{number}/{len(missing)}] {run_name(experiment)}"
        _train_one(name, experiment, store, kind, weights, options, execution)
    return keys


def _train_one(
    name: str,
    experiment: Experiment,
    store: WaveformStore,
    kind: str,
    weights: Path | None,
    options: argparse.Namespace,
    execution: Execution,
) -> None:
    """One run with its progress bar; a line an epoch stays on the screen, and is all there is in a log file."""
    epochs = experiment.recipe.epochs
    clips = len(store.where_split(*experiment.train_splits)) * epochs
    with tqdm(
        total=clips, desc=name, unit="clip", file=sys.stderr, smoothing=0.05, disable=None if is_main() else True
    ) as bar:

        def on_resume(epochs_done: int, clips_done: int) -> None:
            say(f"{name}: going on after epoch {epochs_done}, {clips_done} clips seen")
            bar.update(clips_done)

        def on_step(clips: int, loss: float) -> None:
            bar.update(clips)
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)

        def on_epoch(epoch: int, summary: dict[str, float]) -> None:
            scored = "".join(
                f", test {label} {summary[key]:.1f} %" for key, label in HEADLINES.items() if key in summary
            )
            speed = f"{summary['clips_per_s']:.1f} clips/s"
            say(f"{name} epoch {epoch}/{epochs}: loss {summary['loss']:.4f}{scored}, {speed}")

        progress = Progress(on_resume, on_step, on_epoch, say)
        record = run_experiment(experiment, store, options.records, options.runs, execution, progress, kind, weights)
    score = headline(record.metrics)
    say(f"{name}: {HEADLINES[score]} {record.metrics[score]:.1f} % on {record.metrics['clips']} test clips")


def tell_missing(keys: dict[str, Experiment], recorded: set[str]) -> None:
    """With `--run none` a table may lack runs; say which rather than print a smaller table in silence."""
    for key, experiment in keys.items():
        if key not in recorded:
            say(f"not run: {run_name(experiment)}")


def run_name(experiment: Experiment) -> str:
    """What tells a run from its neighbours in a log."""
    tested, lr = ",".join(experiment.test_splits), experiment.recipe.lr
    config = "".join(f" {name} {value}" for name, value in experiment.model_config.items())
    return f"{experiment.model}{config} tested on {tested} seed {experiment.seed} lr {lr:g}"


def fit_splits(experiment: Experiment, listed: Iterable[str]) -> Experiment:
    """With those of its splits that the data list.

    Raises:
        InputError: none of its training or none of its test splits is listed; or, at the paper's scale, not all that
            its protocol trains on.
    """
    listed = set(listed)
    train, test = (
        tuple(split for split in splits if split in listed)
        for splits in (experiment.train_splits, experiment.test_splits)
    )
    for wanted, found, what in ((experiment.train_splits, train, "train"), (experiment.test_splits, test, "test")):
        if not found:
            raise InputError(
                f"{experiment.dataset}: nothing to {what} on: the data list {', '.join(sorted(listed))}, "
                f"not {' or '.join(wanted)}"
            )
    lists = {split for split in experiment.train_splits if split != WHOLE_TRAIN}  # which stands for all of them
    if experiment.scale == "paper" and WHOLE_TRAIN not in train and not lists <= listed:
        raise InputError(
            f"{experiment.dataset} {experiment.variant}: the data lack {', '.join(sorted(lists - listed))}, which the "
            "paper trains on: add its annotation file, or choose another --variant with `train`"
        )
    return replace(experiment, train_splits=train, test_splits=test)


def _check_writable(folder: Path) -> None:
    """Before an hour of training, not after it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}): choose another folder") from None

"""Steps of every training command: open a data set, train the runs without a record, and log progress.

Functions that decode, train or measure import torch themselves: a table of stored records does not need it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from reproduce.audio.spec import AudioSpec
from reproduce.cli.options import ExecutionOptions, TrainingOptions
from reproduce.cli.progress import is_distributed, log, progress_bar
from reproduce.data.shard_index import is_sharded, read_shard_index
from reproduce.datasets import ClipIndex, read_variant
from reproduce.datasets.readers.audioset import WHOLE_TRAIN
from reproduce.efficiency.plan import WHOLE_BATCH
from reproduce.errors import InputError
from reproduce.experiments.experiment import Experiment
from reproduce.experiments.recipe import SCRATCH
from reproduce.experiments.training_subset import training_positions
from reproduce.machine import reading_workers
from reproduce.metrics.headline import HEADLINES, headline
from reproduce.records.runs import Run, TrainedRun
from reproduce.tables.conditions import counted
from reproduce.training.execution import Execution, Progress, RunSettings

if TYPE_CHECKING:
    from tqdm import tqdm

    from reproduce.cli.planned_runs import PlannedRun
    from reproduce.data.waveform_store import WaveformStore

PROBLEMS_SHOWN = 10
USABLE_MEMORY = 0.9  # share of a GPU: the estimate excludes the CUDA context and unused memory of the allocator


def named_weights(name: str) -> tuple[Path | None, str]:
    """Return the file of `--weights`, None for a name, and the name in the experiment's key: for a file its hash.

    Raises:
        InputError: the file does not contain weights.
    """
    path = Path(name)
    if name == SCRATCH or not path.exists():
        return None, name
    from models.weight_files import CheckpointError, read_state_dict

    try:
        _, sha256 = read_state_dict(path)
    except CheckpointError as error:
        raise InputError(str(error)) from None
    return path, f"file {sha256[:16]}"


@dataclass(frozen=True, kw_only=True)
class StoreRequest:
    """The clips that some runs need.

    Args:
        dataset: registered name.
        path: folder of the data set or of its shards.
        variant: variant of the data set; None selects its first.
        front_end: log-mel parameters.
        whole: keep longer clips whole, for random or several crops.
        follow_outside: use files that a list names outside the folder.
        index: the clips, where they were read and surveyed before; None reads them.
    """

    dataset: str
    path: Path
    variant: str | None
    front_end: AudioSpec
    whole: bool = False
    follow_outside: bool = False
    index: ClipIndex | None = None


def make_execution(options: ExecutionOptions, in_main_memory: bool) -> Execution:
    """Choose device, precision and reading processes.

    Args:
        options: settings of the command line.
        in_main_memory: whether the clips are in memory; then a CPU needs no processes that read ahead.

    Raises:
        InputError: this machine lacks the device, or it lacks the precision.
    """
    from reproduce.environment import choose_device, choose_precision
    from reproduce.training.processes import make_accelerator

    device = choose_device(options.device)
    precision = choose_precision(options.precision, device)
    workers = options.workers
    if workers is None:
        workers = 0 if in_main_memory and device == "cpu" else reading_workers(_processes_here())
    return Execution(
        accelerator=make_accelerator(device, precision),
        compile=options.compile,
        micro_batch=options.micro_batch,
        workers=workers,
        grad_checkpointing=options.grad_checkpointing,
        checkpoint_seconds=60 * options.checkpoint_minutes,
        log_with=options.log_with,
    )


def _processes_here() -> int:
    """Return the number of training processes on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def open_store(request: StoreRequest, stream: bool) -> WaveformStore:
    """Open the clips of a data set, from its files or from shards: in memory if they fit, else from disk.

    Args:
        request: the clips to open.
        stream: read from disk in every epoch even if they fit in memory.

    Raises:
        InputError: the data cannot be read, have no usable clip, or are shards of other data.
    """
    from reproduce.data.waveform_store import fits_in_memory, load_waveforms, stream_waveforms

    if is_sharded(request.path):
        store = _open_shards(request, stream)
    else:
        index = request.index or read_variant(
            request.dataset, request.path, request.variant, follow_outside=request.follow_outside
        )
        store = stream_waveforms(index, request.front_end)
        if not stream and fits_in_memory(store.memory_bytes(request.whole), _processes_here()):
            with progress_bar("decoding", total=len(index)) as bar:
                store = load_waveforms(index, request.front_end, on_clip=bar.update, whole=request.whole)
    if request.index is None:
        _log_clips(store, request)
    return store


def _log_clips(store: WaveformStore, request: StoreRequest) -> None:
    classes = " and ".join(counted(len(names), "class") for names in store.index.classes.values())
    log(f"{request.dataset}: {len(store)} of {sum(store.index.listed.values())} listed clips are usable, {classes}")
    for problem in store.problems[:PROBLEMS_SHOWN]:
        log(f"{'not used' if problem.fatal else 'warning'}: {problem.message}")
    if len(store.problems) > PROBLEMS_SHOWN:
        log(f"... and {len(store.problems) - PROBLEMS_SHOWN} more problems; the record lists all")


def read_undecoded(request: StoreRequest) -> ClipIndex | None:
    """The listed clips of a data set that have a file, for `--run none`; None for shards, whose index needs more."""
    if is_sharded(request.path):
        return None
    index = read_variant(request.dataset, request.path, request.variant, follow_outside=request.follow_outside)
    listed = sum(index.listed.values())
    log(
        f"{request.dataset}: {len(index)} of {listed} listed clips have a file; --run none decodes none of them, and "
        "does not check whether their sound is that of the recorded runs"
    )
    return index


def match_recorded(experiments: Sequence[Experiment], index: ClipIndex, runs: Sequence[Run]) -> dict[str, Experiment]:
    """All experiments by key, without decoding a clip; a line tells how many are recorded. See `_match`."""
    match = _match(experiments, index, runs)
    log(f"{counted(len(match.keys), 'run')}: {len(match.recorded)} recorded, 0 to train")
    if match.left_out:
        log(
            f"{index.dataset}: the recorded runs left out {match.left_out} of these clips, which could not be used then"
        )
    return {match.recorded.get(key, key): experiment for key, experiment in match.keys.items()}


def unrecorded(experiments: Sequence[Experiment], index: ClipIndex, runs: Sequence[Run]) -> list[Experiment]:
    """The experiments that none of `runs` records, without decoding a clip; see `_match`."""
    match = _match(experiments, index, runs)
    return [experiment for key, experiment in match.keys.items() if key not in match.recorded]


@dataclass(frozen=True, kw_only=True)
class _Match:
    """Which experiments are recorded.

    Args:
        keys: names key -> experiment.
        recorded: names key -> key of the newest record.
        left_out: listed clips that these records left out.
    """

    keys: Mapping[str, Experiment]
    recorded: Mapping[str, str]
    left_out: int


def _match(experiments: Sequence[Experiment], index: ClipIndex, runs: Sequence[Run]) -> _Match:
    """Find the records of experiments.

    Whether the sound of the clips has changed since is not checked: that needs their files.

    Clips that cannot be decoded are no part of a key, and only decoding shows which they are. Every set of clips that
    recorded runs left out is tried; the one with most recorded runs, and among equals the newest, gives the keys.

    Args:
        experiments: runs on the clips of `index`.
        index: the listed clips that have a file.
        runs: the stored runs that may match.
    """
    trained = sorted((run for run in runs if isinstance(run, TrainedRun)), key=lambda run: run.created)
    newest = {run.names_key: run for run in trained}  # keys that cover the sound need its files to be read
    left_out = {frozenset[str]()}
    for run in runs:
        if isinstance(run, TrainedRun) and run.dataset == index.dataset:
            left_out.add(frozenset(problem.clip_id for problem in run.problems if problem.fatal))
    ids = set(index.clip_ids) if len(left_out) > 1 else set()
    candidates = []
    for absent in sorted({absent & ids for absent in left_out}, key=len):
        kept = [position for position, name in enumerate(index.clip_ids) if name not in absent] if absent else None
        keys = _keys(experiments, index if kept is None else index.take(np.asarray(kept, int)))
        found = [newest[key].created for key in keys if key in newest]
        recorded = {key: newest[key].key for key in keys if key in newest}
        match = _Match(keys=keys, recorded=recorded, left_out=len(absent))
        candidates.append(((len(found), max(found, default="")), match))
    return max(candidates, key=lambda candidate: candidate[0])[1]


def _keys(experiments: Iterable[Experiment], index: ClipIndex) -> dict[str, Experiment]:
    """The experiments by key, each set of clips hashed once."""

    @cache
    def identity(positions: bytes) -> str:
        return index.take(np.frombuffer(positions, np.int64)).identity_sha256()

    def clips(e: Experiment) -> tuple[np.ndarray, np.ndarray]:
        return training_positions(e, index), index.positions_of(*e.test_splits)

    return {e.key(*(identity(own.astype(np.int64).tobytes()) for own in clips(e))): e for e in experiments}


def _open_shards(request: StoreRequest, stream: bool) -> WaveformStore:
    from reproduce.data.shard_reader import in_memory, open_shards
    from reproduce.data.waveform_store import fits_in_memory

    folder, spec = request.path, request.front_end
    shards = read_shard_index(folder)
    if shards.dataset != request.dataset:
        raise InputError(f"{folder}: these shards contain {shards.dataset}, not {request.dataset}; pass another folder")
    if request.variant is not None and request.variant != shards.variant:
        packed = shards.variant or "its only variant"
        raise InputError(
            f"{folder}: these shards contain {request.dataset} {packed}, but {request.variant} is needed; shard that "
            "variant into another folder, or pass the data set's own folder"
        )
    with progress_bar("verifying shards", total=shards.clips()) as bar:
        store = open_shards(folder, spec, on_clip=bar.update)
    if stream or not fits_in_memory(store.memory_bytes(request.whole), _processes_here()):
        return store
    with progress_bar("decoding", total=len(store)) as bar:
        return in_memory(store, on_clip=bar.update, whole=request.whole)


def train_missing(
    experiments: Iterable[Experiment], store: WaveformStore, kind: str, weights: Path | None, options: TrainingOptions
) -> dict[str, Experiment]:
    """Train the experiments that `options.run` asks for.

    Args:
        experiments: runs on the clips of `store`.
        store: the opened data set.
        kind: kind of the records, see `run_experiment`.
        weights: file of initial weights, None for scratch or published weights.
        options: selection of the runs, and folders of the results.

    Returns:
        Key -> experiment for all experiments, trained or not.

    Raises:
        InputError: a folder cannot be written, or the data or weights do not fit an experiment.
    """
    experiments = list(experiments)
    planned, store = _plan(experiments, store, kind, options)
    keys = {run.key: experiment for run, experiment in zip(planned, experiments, strict=True)}
    missing = {run.key: run for run in planned if run.train}
    recorded = {run.key for run in planned if run.recorded}
    log(f"{counted(len(keys), 'run')}: {len(recorded)} recorded, {len(missing)} to train")
    if not missing:
        return keys
    from reproduce.training.runner import run_experiment  # late: it imports Accelerate

    for folder in (options.records, options.runs):
        _check_writable(folder)
    execution = make_execution(options.execution, isinstance(store.waveforms, tuple))
    without = replace(store, digests=None)
    for number, run in enumerate(missing.values(), start=1):
        experiment = keys[run.key]
        name = f"[{number}/{len(missing)}] {run_name(experiment)}"
        with progress_bar(name) as bar:
            settings = RunSettings(
                records=options.records,
                runs=options.runs,
                execution=_fit_device(name, experiment, execution),
                progress=_report_progress(name, experiment, store, bar),
                kind=kind,
                weights=weights,
                name=options.name,
            )
            record = run_experiment(experiment, store if run.with_content else without, settings)
        score = headline(record.metrics)
        log(f"{name}: {HEADLINES[score]} {record.metrics[score]:.1f} % on {record.metrics['clips']} test clips")
    return keys


def _plan(
    experiments: Sequence[Experiment], store: WaveformStore, kind: str, options: TrainingOptions
) -> tuple[list[PlannedRun], WaveformStore]:
    """Call `plan_runs` in the first process. All processes use its plan; only the first one needs the digests."""
    from reproduce.cli.planned_runs import plan_runs

    if not is_distributed():
        return plan_runs(experiments, store, kind, options)
    from reproduce.training.processes import by_first_process

    make_execution(options.execution, isinstance(store.waveforms, tuple))  # the processes need it to communicate
    hashed = [store]

    def plan(still_working: Callable[[], object]) -> list[PlannedRun]:
        planned, hashed[0] = plan_runs(experiments, store, kind, options, still_working)
        return planned

    return by_first_process(plan), hashed[0]


def _fit_device(name: str, experiment: Experiment, execution: Execution) -> Execution:
    """Choose a micro-batch or recomputation that fits the GPU, unless the user did; keep the recipe's batch."""
    accelerator = execution.accelerator
    if accelerator.device.type != "cuda" or execution.micro_batch or execution.grad_checkpointing:
        return execution
    import torch

    from reproduce.efficiency.planning import TrainingDevice, estimate_memory, fit_memory

    gib = torch.cuda.get_device_properties(accelerator.device).total_memory / 2**30
    device = TrainingDevice(
        gib=USABLE_MEMORY * gib, devices=accelerator.num_processes, mixed=accelerator.mixed_precision == "bf16"
    )
    requested = estimate_memory(experiment, WHOLE_BATCH, device)
    fitting = fit_memory(experiment, requested, device)
    if fitting == requested:
        return execution
    checkpointing = fitting.memory.checkpointing
    recomputed = " and --grad-checkpointing" if checkpointing else ""
    log(
        f"{name}: {requested.clips} clips need about {requested.gib:.0f} GiB, the GPU has {gib:.0f} GiB: training with "
        f"--micro-batch {fitting.clips}{recomputed}; the batch remains {experiment.recipe.batch_size} clips per step"
    )
    return replace(execution, micro_batch=fitting.clips, grad_checkpointing=checkpointing)


def _report_progress(name: str, experiment: Experiment, store: WaveformStore, bar: tqdm) -> Progress:
    """Return callbacks that update a bar over all clips of all epochs and log a line per epoch."""
    epochs = experiment.recipe.epochs
    bar.total = len(training_positions(experiment, store.index)) * epochs

    def on_resume(epochs_done: int, clips_done: int) -> None:
        log(f"{name}: resuming after epoch {epochs_done}, {clips_done} clips seen")
        bar.update(clips_done)

    def on_step(clips: int, loss: float) -> None:
        bar.update(clips)
        bar.set_postfix(loss=f"{loss:.3f}", refresh=False)

    def on_epoch(epoch: int, summary: dict[str, float]) -> None:
        scored = "".join(
            f", {clips} {label} {summary[prefix + key]:.1f} %"
            for prefix, clips in (("", "test"), ("validation_", "val"))
            for key, label in HEADLINES.items()
            if prefix + key in summary
        )
        speed = f"{summary['clips_per_s']:.1f} clips/s"
        log(f"{name} epoch {epoch}/{epochs}: loss {summary['loss']:.4f}{scored}, {speed}")

    return Progress(on_resume=on_resume, on_step=on_step, on_epoch=on_epoch, on_warning=log)


def log_missing(keys: Mapping[str, Experiment], recorded: Set[str]) -> None:
    """Log each run without a record, because the table lacks it with `--run none`."""
    for key, experiment in keys.items():
        if key not in recorded:
            log(f"not run: {run_name(experiment)}")


def run_name(experiment: Experiment) -> str:
    """Return a name that distinguishes a run in a log."""
    scored, lr = ",".join(experiment.test_splits), experiment.recipe.lr
    return f"{model_name(experiment)} tested on {scored} seed {experiment.seed} lr {lr:g}"


def model_name(experiment: Experiment) -> str:
    """Return a name of model, configuration and part of the training clips."""
    config = "".join(f" {name} {value}" for name, value in experiment.model_config.items())
    part = "" if experiment.train_fraction == 1 else f" on {100 * experiment.train_fraction:g} % of the clips"
    return f"{experiment.model}{config}{part}"


def fit_splits(experiment: Experiment, listed: Iterable[str]) -> Experiment:
    """Return the experiment with only those splits that the data list.

    Raises:
        InputError: the data list no training split or no test split; or, at the paper's scale, not all splits that the
            protocol trains on.
    """
    listed = set(listed)
    train, test = (
        tuple(split for split in splits if split in listed)
        for splits in (experiment.train_splits, experiment.test_splits)
    )
    for wanted, present, what in ((experiment.train_splits, train, "train"), (experiment.test_splits, test, "test")):
        if not present:
            raise InputError(
                f"{experiment.dataset}: nothing to {what} on: the data list {', '.join(sorted(listed))}, "
                f"not {' or '.join(wanted)}"
            )
    lists = {split for split in experiment.train_splits if split != WHOLE_TRAIN}
    if experiment.scale == "paper" and WHOLE_TRAIN not in train and not lists <= listed:
        raise InputError(
            f"{experiment.dataset} {experiment.variant}: the data lack {', '.join(sorted(lists - listed))}, which the "
            "paper trains on: add its annotation file, or choose another --variant with `train`"
        )
    return replace(experiment, train_splits=train, test_splits=test)


def _check_writable(folder: Path) -> None:
    """Check before training that `folder` can be written; raise InputError if not."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}): choose another folder") from None

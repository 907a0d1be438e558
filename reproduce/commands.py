"""What the command line's subcommands do. Imports torch; `__main__` imports this only once a command needs it."""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from models.checkpoints import CheckpointError, read_state_dict
from reproduce.audio_spec import AudioSpec
from reproduce.costs import measure_cost
from reproduce.datasets import ClipIndex, DatasetSpec, dataset_spec, location_of, read_variant
from reproduce.environment import choose_device
from reproduce.errors import InputError
from reproduce.experiments import (
    SCRATCH,
    ComparisonPreset,
    Experiment,
    comparison_preset,
    cross_validation,
    fit_front_end,
    fixed_split,
    learning_rate_search,
)
from reproduce.loading import WaveformStore, load_waveforms
from reproduce.paper import load_paper
from reproduce.records import RunRecord, append_record, as_stored, load_records, of_kind
from reproduce.render import render
from reproduce.runner import Progress, experiment_key, run_experiment
from reproduce.selection import latest_by_key
from reproduce.shard_reader import load_shards
from reproduce.shards import INDEX_NAME, JOURNAL_NAME, read_shard_index
from reproduce.tables import TableInputs, table_specs
from reproduce.tables.comparison import comparison_table

PROBLEMS_SHOWN = 10
HEADLINES = {"top1": "top-1", "action_top1": "action", "map": "mAP"}


def run_table(options: argparse.Namespace) -> int:
    """A table of the paper: its costs measured live, its accuracies from stored records."""
    spec = table_specs()[options.command]
    # Costs are measured live: a stored one, perhaps of older code, must not stand for them.
    stored = [r for r in load_records(options.records) if not (spec.costs and r.kind == "cost")]
    live = [measure_cost(r.model, r.model_config, with_libraries=r.with_libraries) for r in spec.costs]
    if options.command == "costs":
        _store_new(live, options.records)
    inputs = TableInputs(load_paper(), [*stored, *live], options.records)
    sys.stdout.write(render(spec.build(inputs), options.format))
    return 0


def _store_new(costs: list[RunRecord], folder: Path) -> None:
    """Append the costs that are not recorded yet. A count does not change from run to run, so it is stored once."""
    stored = latest_by_key(of_kind(load_records(folder), "cost"))
    for record in costs:
        known = stored.get(record.key)
        if known is None or (known.metrics, known.details) != (record.metrics, as_stored(record).details):
            append_record(folder, record)


def run_experiments(options: argparse.Namespace) -> int:
    """Train the target's runs that have no record yet, then print the table of exactly these runs."""
    weights, weights_name = _weights(options.weights)
    spec = dataset_spec(options.name if options.command == "train" else "esc50")
    preset = fit_front_end(comparison_preset(options.preset), spec.clip_seconds, spec.mean, spec.std)
    store = _open(spec, preset.front_end, options)
    kind, experiments = _plan(spec, preset, store.index, options)
    experiments = [replace(experiment, weights=weights_name) for experiment in experiments]
    keys = {experiment_key(experiment, store): experiment for experiment in experiments}
    stored = latest_by_key(of_kind(load_records(options.records), kind))
    missing = {"none": {}, "all": keys, "missing": {k: e for k, e in keys.items() if k not in stored}}[options.run]
    _say(f"{len(keys)} runs: {sum(key in stored for key in keys)} recorded, {len(missing)} to train")
    device = choose_device(options.device)
    for folder in (options.records, options.runs) if missing else ():
        _check_writable(folder)
    for number, experiment in enumerate(missing.values(), start=1):
        _train_one(
            f"[{number}/{len(missing)}] {_run_name(experiment)}", experiment, store, device, kind, weights, options
        )
    records = [r for r in load_records(options.records) if r.key in keys]
    _tell_missing(keys, records)
    inputs = TableInputs(load_paper(), records, options.records)
    searching = options.command == "tune"
    table = table_specs()["tune"].build(inputs) if searching else comparison_table(inputs, spec.name)
    sys.stdout.write(render(table, options.format))
    return 0


def _weights(name: str) -> tuple[Path | None, str]:
    """File of `--weights`, if it is one, and what the experiment's key says of it: never the path, but its hash."""
    path = Path(name)
    if name == SCRATCH or not path.exists():
        return None, name
    try:
        _, sha256 = read_state_dict(path)
    except CheckpointError as error:
        raise InputError(str(error)) from None
    return path, f"file {sha256[:16]}"


def _check_writable(folder: Path) -> None:
    """Before an hour of training, not after it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}): choose another folder") from None


def _say(line: str) -> None:
    """Progress goes to stderr, so that stdout holds the table alone."""
    tqdm.write(line, file=sys.stderr)


def _open(spec: DatasetSpec, front_end: AudioSpec, options: argparse.Namespace) -> WaveformStore:
    """The decoded clips of a data set, from its files or from shards of them."""
    path = location_of(spec.name, options.data, options.datasets)
    protocol = getattr(options, "protocol", None)
    # A journal without an index is of shards that are not finished, which reading them says.
    if any((path / name).is_file() for name in (INDEX_NAME, JOURNAL_NAME)):
        store = _read_shards(spec.name, path, front_end, protocol)
    else:
        store = _decode(read_variant(spec.name, path, protocol), front_end)
    classes = " and ".join(f"{len(names)} classes" for names in store.index.classes.values())
    _say(f"{spec.name}: {len(store)} of {sum(store.index.listed.values())} listed clips can be used, {classes}")
    for problem in store.problems[:PROBLEMS_SHOWN]:
        _say(f"{'not used' if problem.fatal else 'warning'}: {problem.message}")
    if len(store.problems) > PROBLEMS_SHOWN:
        _say(f"... and {len(store.problems) - PROBLEMS_SHOWN} more problems; the record lists all")
    return store


def _decode(index: ClipIndex, spec: AudioSpec) -> WaveformStore:
    with tqdm(total=len(index), desc="decoding", unit="clip", file=sys.stderr, disable=None) as bar:
        return load_waveforms(index, spec, on_clip=bar.update)


def _read_shards(dataset: str, folder: Path, spec: AudioSpec, protocol: str | None) -> WaveformStore:
    shards = read_shard_index(folder)
    if shards.dataset != dataset:
        raise InputError(f"{folder}: these shards hold {shards.dataset}, not {dataset}")
    if protocol is not None and protocol != shards.protocol:
        held = shards.protocol or "its only variant"
        raise InputError(
            f"--protocol {protocol}: the shards in {folder} hold {held}; shard that one, or leave the option out"
        )
    with tqdm(total=shards.clips(), desc="reading shards", unit="clip", file=sys.stderr, disable=None) as bar:
        return load_shards(folder, spec, on_clip=bar.update)


def _plan(
    spec: DatasetSpec, preset: ComparisonPreset, index: ClipIndex, options: argparse.Namespace
) -> tuple[str, list[Experiment]]:
    """Kind of record and experiments of the target."""
    # Listed, not found: a fold whose clips are all broken must be an error, not a smaller cross-validation.
    splits = tuple(sorted(index.listed))
    if options.command == "tune":
        if options.fold not in splits:
            raise InputError(f"--fold {options.fold}: the data has folds {', '.join(splits)}")
        return "search", learning_rate_search(preset, spec.name, splits, options.fold)
    if options.seeds < 1:
        raise InputError(f"--seeds {options.seeds}: give at least 1")
    seeds = tuple(range(options.seeds))
    train, test = (tuple(s for s in names if s in splits) for names in (spec.train_splits, spec.test_splits))
    if train and test:
        if options.folds is not None:
            raise InputError(f"--folds {options.folds}: {spec.name} has its own split, {', '.join(test)} is tested")
        return "train", fixed_split(preset, spec.name, index.protocol, train, test, seeds)
    count = len(splits) if options.folds is None else options.folds
    if not 1 <= count <= len(splits):
        raise InputError(f"--folds {options.folds}: the data has {len(splits)} folds, give 1 to {len(splits)}")
    return "train", cross_validation(preset, spec.name, splits, splits[:count], seeds)


def _train_one(
    name: str,
    experiment: Experiment,
    store: WaveformStore,
    device: str,
    kind: str,
    weights: Path | None,
    options: argparse.Namespace,
) -> None:
    """One run with its progress bar; a line an epoch stays on the screen, and is all there is in a log file."""
    epochs = experiment.recipe.epochs
    clips = len(store.where_split(*experiment.train_splits)) * epochs
    with tqdm(total=clips, desc=name, unit="clip", file=sys.stderr, smoothing=0.05, disable=None) as bar:

        def on_step(clips: int, loss: float) -> None:
            bar.update(clips)
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)

        def on_epoch(epoch: int, summary: dict[str, float]) -> None:
            _say(f"{name} epoch {epoch}/{epochs}: loss {summary['loss']:.4f}, {summary['clips_per_s']:.1f} clips/s")

        progress = Progress(on_step, on_epoch)
        record = run_experiment(experiment, store, options.records, options.runs, device, progress, kind, weights)
    headline = next(key for key in HEADLINES if key in record.metrics)
    _say(f"{name}: {HEADLINES[headline]} {record.metrics[headline]:.1f} % on {record.metrics['clips']} test clips")


def _tell_missing(keys: dict[str, Experiment], records: list[RunRecord]) -> None:
    """With `--run none` a table may lack runs; say which rather than print a smaller table in silence."""
    recorded = {record.key for record in records}
    for key, experiment in keys.items():
        if key not in recorded:
            _say(f"not run: {_run_name(experiment)}")


def _run_name(experiment: Experiment) -> str:
    tested, lr = ",".join(experiment.test_splits), experiment.recipe.lr
    return f"{experiment.model} tested on {tested} seed {experiment.seed} lr {lr:g}"

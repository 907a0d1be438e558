"""What the command line's subcommands do. Imports torch; `__main__` imports this only once a command needs it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from reproduce.audio_spec import AudioSpec
from reproduce.costs import measure_cost
from reproduce.datasets import ClipIndex, parse_locations, read_dataset
from reproduce.environment import choose_device
from reproduce.errors import InputError
from reproduce.experiments import Experiment, cross_validation, esc50_preset, learning_rate_search
from reproduce.loading import WaveformStore, load_waveforms
from reproduce.paper import load_paper
from reproduce.records import RunRecord, append_record, as_stored, load_records, of_kind
from reproduce.render import render
from reproduce.runner import Progress, experiment_key, run_experiment
from reproduce.selection import latest_by_key
from reproduce.tables import TableInputs, table_specs

PROBLEMS_SHOWN = 10


def run_table(options: argparse.Namespace) -> int:
    """A table of the paper: its costs measured live, its accuracies from stored records."""
    spec = table_specs()[options.command]
    live = [measure_cost(r.model, r.model_config, with_libraries=r.with_libraries) for r in spec.costs]
    if options.command == "costs":
        _store_new(live, options.records)
    inputs = TableInputs(load_paper(), [*load_records(options.records), *live], options.records)
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
    index = _read("esc50", options)
    kind, experiments = _plan(index, options)
    keys = {experiment_key(experiment, index): experiment for experiment in experiments}
    stored = latest_by_key(of_kind(load_records(options.records), kind))
    missing = {"none": {}, "all": keys, "missing": {k: e for k, e in keys.items() if k not in stored}}[options.run]
    _say(f"{len(keys)} runs: {sum(key in stored for key in keys)} recorded, {len(missing)} to train")
    if missing:
        _train_all(missing, index, kind, options)
    records = [r for r in load_records(options.records) if r.key in keys]
    _tell_missing(keys, records)
    table = table_specs()[options.command].build(TableInputs(load_paper(), records, options.records))
    sys.stdout.write(render(table, options.format))
    return 0


def _say(line: str) -> None:
    """Progress goes to stderr, so that stdout holds the table alone."""
    tqdm.write(line, file=sys.stderr)


def _read(dataset: str, options: argparse.Namespace) -> ClipIndex:
    locations = parse_locations(options.data, options.datasets)
    if dataset not in locations:
        raise InputError(f"{dataset} needs its data: add --data {dataset}=DIR")
    index = read_dataset(dataset, locations[dataset])
    heads = ", ".join(f"{len(classes)} classes" for classes in index.classes.values())
    _say(f"{dataset}: {len(index)} of {sum(index.listed.values())} listed clips found, {heads}")
    return index


def _plan(index: ClipIndex, options: argparse.Namespace) -> tuple[str, list[Experiment]]:
    """Kind of record and experiments of the target."""
    folds, preset = index.split_names(), esc50_preset(options.preset)
    if options.command == "tune":
        if options.fold not in folds:
            raise InputError(f"--fold {options.fold}: the data has folds {', '.join(folds)}")
        return "search", learning_rate_search(preset, index.dataset, folds, options.fold)
    count = len(folds) if options.folds is None else options.folds
    if not 1 <= count <= len(folds):
        raise InputError(f"--folds {options.folds}: the data has {len(folds)} folds, give 1 to {len(folds)}")
    if options.seeds < 1:
        raise InputError(f"--seeds {options.seeds}: give at least 1")
    return "train", cross_validation(preset, index.dataset, folds, folds[:count], tuple(range(options.seeds)))


def _train_all(missing: dict[str, Experiment], index: ClipIndex, kind: str, options: argparse.Namespace) -> None:
    device = choose_device(options.device)
    first = next(iter(missing.values()))
    store = _decode(index, first.front_end)
    for number, experiment in enumerate(missing.values(), start=1):
        _train_one(f"[{number}/{len(missing)}]", experiment, index, store, device, kind, options)


def _decode(index: ClipIndex, spec: AudioSpec) -> WaveformStore:
    with tqdm(total=len(index), desc="decoding", unit="clip", file=sys.stderr, disable=None) as bar:
        store = load_waveforms(index, spec, on_clip=bar.update)
    for problem in store.problems[:PROBLEMS_SHOWN]:
        _say(f"{'not used' if problem.fatal else 'warning'}: {problem.message}")
    if len(store.problems) > PROBLEMS_SHOWN:
        _say(f"... and {len(store.problems) - PROBLEMS_SHOWN} more problems; the record lists all")
    return store


def _train_one(
    number: str,
    experiment: Experiment,
    index: ClipIndex,
    store: WaveformStore,
    device: str,
    kind: str,
    options: argparse.Namespace,
) -> RunRecord:
    name = f"{number} {_run_name(experiment)}"
    epochs = experiment.recipe.epochs
    clips = len(store.where_split(*experiment.train_splits)) * epochs
    with tqdm(total=clips, desc=name, unit="clip", file=sys.stderr, smoothing=0.05, disable=None) as bar:

        def on_step(clips: int, loss: float) -> None:
            bar.update(clips)
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)

        def on_epoch(epoch: int, summary: dict[str, float]) -> None:
            _say(f"{name} epoch {epoch}/{epochs}: loss {summary['loss']:.4f}, {summary['clips_per_s']:.1f} clips/s")

        record = run_experiment(
            experiment, index, store, options.records, options.runs, device, Progress(on_step, on_epoch), kind
        )
    _say(f"{name}: top-1 {record.metrics['top1']:.1f} % of {record.metrics['clips']} test clips")
    return record


def _tell_missing(keys: dict[str, Experiment], records: list[RunRecord]) -> None:
    """With `--run none` a table may lack runs; say which rather than print a smaller table in silence."""
    recorded = {record.key for record in records}
    for key, experiment in keys.items():
        if key not in recorded:
            _say(f"not run: {_run_name(experiment)}")


def _run_name(experiment: Experiment) -> str:
    fold, lr = ",".join(experiment.test_splits), experiment.recipe.lr
    return f"{experiment.model} fold {fold} seed {experiment.seed} lr {lr:g}"

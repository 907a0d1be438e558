"""What the command line's subcommands do. Imports torch; `__main__` imports this only once a command needs it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from models import create_model
from models.complexity import measure_complexity
from reproduce import targets
from reproduce.clustering import fill_clusterings, fill_panels
from reproduce.costs import measure_cost
from reproduce.datasets import ClipIndex, DatasetSpec, dataset_spec, location_of, parse_locations, read_variant
from reproduce.environment import choose_device
from reproduce.errors import InputError
from reproduce.experiments import (
    ComparisonPreset,
    Experiment,
    at_equal_macs,
    comparison_preset,
    cross_validation,
    fit_front_end,
    fixed_split,
    learning_rate_search,
    pooling_variants,
)
from reproduce.figure2 import write_figure2
from reproduce.figures import write_scaling_figure
from reproduce.paper import load_paper
from reproduce.planning import ClipCounts, Memory, located_counts, plan_experiments
from reproduce.records import RunRecord, append_record, as_stored, load_records, of_kind
from reproduce.render import render
from reproduce.scaling import DEBUG_MODELS, MODELS, measure_scaling
from reproduce.selection import latest_by_key
from reproduce.session import (
    distributed,
    fit_splits,
    is_main,
    make_execution,
    named_weights,
    open_store,
    say,
    show,
    tell_missing,
    train_missing,
)
from reproduce.standin import STANDINS, write_standin
from reproduce.tables import Table, TableInputs, TableSpec, table_specs
from reproduce.tables.comparison import comparison_table
from reproduce.tables.scaling import LENGTHS_S

# What `all` prints, in the paper's order.
ALL_TABLES = (
    "table1",
    "table2",
    "table3",
    "table4",
    "table5",
    "table6",
    "ablations",
    "figure2",
    "scaling",
    "claims",
)
STORED_COSTS = ("costs", "ablations")


def run_table(options: argparse.Namespace) -> int:
    """A table of what is stored, its costs measured live."""
    show(render(_build(table_specs()[options.command], options), options.format))
    return 0


def _build(spec: TableSpec, options: argparse.Namespace) -> Table:
    # Costs are measured live: a stored one, perhaps of older code, must not stand for them.
    stored = [r for r in load_records(options.records) if not (spec.costs and r.kind == "cost")]
    live = [measure_cost(r.model, r.model_config, with_libraries=r.with_libraries) for r in spec.costs]
    if spec.name in STORED_COSTS:
        _store_new(live, options.records)
    return spec.build(TableInputs(load_paper(), [*stored, *live], options.records))


def _store_new(costs: list[RunRecord], folder: Path) -> None:
    """Append the costs that are not recorded yet. A count does not change from run to run, so it is stored once.

    The report is made from records alone, so what it shows must be there. A record that also has the libraries' counts
    serves where none were asked for.
    """
    stored = latest_by_key(of_kind(load_records(folder), "cost"))
    for record in costs:
        known = stored.get(record.key)
        if known is not None and known.metrics == record.metrics:
            counted = as_stored(record).details
            if counted == known.details or counted == {**known.details, "libraries": {}}:
                continue
        append_record(folder, record)


# --- the paper's targets --------------------------------------------------------------------------------------------


def run_target(options: argparse.Namespace) -> int:
    """Train what the target's table lacks and data are at hand for, measure what follows from it, print the table."""
    overrides = _overrides(options.set)
    experiments = targets.experiments_of(options.command, options.preset, options.seeds, overrides)
    training = options.dry_run or options.run != "none"
    locations = _locate(experiments, options) if training else {}
    if options.dry_run:
        return _dry_run(experiments, locations, options)
    _train_located(experiments, locations, options)
    names = ALL_TABLES if options.command == "all" else (options.command,)
    if is_main():
        _measure_what_follows(names, options)
        for name in names:
            show(render(_build(table_specs()[name], options), options.format))
            if name != names[-1]:
                show("\n")
    return 0


def run_plan(options: argparse.Namespace) -> int:
    """What a target's runs will take; trains and writes nothing."""
    experiments = targets.experiments_of(options.target, options.preset, options.seeds, _overrides(options.set))
    located = parse_locations(options.data, options.datasets)
    counts = {}
    for experiment in experiments:
        name, study = experiment.dataset, (experiment.dataset, experiment.protocol)
        if study in counts:
            continue
        if name in located:
            index = read_variant(name, located[name], experiment.protocol or None)
            counts[study] = located_counts(index, fit_splits(experiment, index.listed))
        elif options.preset != targets.PAPER:
            splits = STANDINS[name].clips_per_split(targets.demo(options.preset).clips[name])
            train, test = (sum(splits.get(s, 0) for s in e) for e in (experiment.train_splits, experiment.test_splits))
            counts[study] = ClipCounts(train, test, "the stand-in that the demo writes")
    memory = Memory(options.micro_batch or 0, options.grad_checkpointing)
    table = plan_experiments(experiments, counts, load_records(options.records), memory)
    show(render(table, options.format))
    return 0


def _overrides(pairs: Iterable[str]) -> dict[str, str]:
    changes = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (name and equals and value):
            raise InputError(f"--set {pair}: write it as FIELD=VALUE, e.g. batch_size=12")
        changes[name] = value
    return changes


def _locate(experiments: list[Experiment], options: argparse.Namespace) -> dict[str, Path]:
    """Where each data set of the experiments lies; a demo's stand-ins are written where the user named none."""
    located = parse_locations(options.data, options.datasets)
    wanted = dict.fromkeys(experiment.dataset for experiment in experiments)
    if options.preset == targets.PAPER:
        return {name: located[name] for name in wanted if name in located}
    clips = targets.demo(options.preset).clips
    found = {}
    for name in wanted:
        found[name] = located.get(name) or _standin(name, clips[name], options.runs / f"standin-{options.preset}")
    if distributed():  # nobody reads what the first process still writes
        make_execution(options, in_main_memory=True).accelerator.wait_for_everyone()
    return found


def _standin(name: str, clips: int, folder: Path) -> Path:
    if not is_main():
        return folder / name
    with tqdm(desc=f"stand-in of {name}", unit="file", file=sys.stderr, disable=None) as bar:

        def progress(done: int, files: int) -> None:
            bar.total = files
            bar.update(done - bar.n)

        return write_standin(name, folder / name, clips=clips, progress=progress)


def _train_located(experiments: list[Experiment], locations: dict[str, Path], options: argparse.Namespace) -> None:
    """Each data set is opened once for all runs that see it alike."""
    if options.run == "none":
        return
    for group in _alike(experiments):
        first = group[0]
        if first.dataset not in locations:
            continue
        say(_study(first))
        store = open_store(
            first.dataset,
            locations[first.dataset],
            first.protocol or None,
            first.front_end,
            _needs_whole(group),
            options.stream,
        )
        fitted = [fit_splits(experiment, store.index.listed) for experiment in group]
        train_missing(fitted, store, "train", None, options)
    absent = dict.fromkeys(e.dataset for e in experiments if e.dataset not in locations)
    if absent and locations:  # without any data the table's own notes say what is missing
        say(f"not trained, for want of data: {', '.join(absent)}; say --data NAME=DIR, or --preset demo for stand-ins")


def _alike(experiments: list[Experiment]) -> list[list[Experiment]]:
    groups: dict[str, list[Experiment]] = {}
    for experiment in experiments:
        groups.setdefault(repr((experiment.dataset, experiment.protocol, experiment.front_end)), []).append(experiment)
    return list(groups.values())


def _study(experiment: Experiment) -> str:
    return f"{experiment.dataset} {experiment.protocol}".rstrip()


def _needs_whole(experiments: Iterable[Experiment]) -> bool:
    return any(e.recipe.crop == "random" or e.recipe.test_crops > 1 for e in experiments)


def _measure_what_follows(names: Iterable[str], options: argparse.Namespace) -> None:
    """Clusterings and scaling, only what has no record yet; and their figures."""
    wanted = set(names)
    if options.run != "none" and wanted & {"table6", "figure2"}:
        with _measuring("clustering") as on_progress:
            told = fill_clusterings(options.records, on_progress) if "table6" in wanted else []
            told += fill_panels(options.records, on_progress) if "figure2" in wanted else []
        for line in dict.fromkeys(told):
            say(f"not clustered: {line}")
    if "figure2" in wanted:
        _tell_files(write_figure2(load_records(options.records), options.records, options.figures))
    if "scaling" in wanted:
        _tell_files(write_scaling_figure(_measure_scaling(options), options.figures))


def _measure_scaling(options: argparse.Namespace) -> list[RunRecord]:
    """Latencies on this machine. The debug preset's are of the debug models at short lengths."""
    debug = options.preset == "debug"
    lengths, models = (LENGTHS_S[:2], DEBUG_MODELS) if debug else (LENGTHS_S, MODELS)
    with _measuring("scaling") as on_progress:
        return measure_scaling(
            options.records, choose_device(options.device), options.run, lengths, models, on_progress
        )


@contextmanager
def _measuring(what: str) -> Iterator[Callable[[int, int, str], None]]:
    with tqdm(desc=what, file=sys.stderr, disable=None) as bar:

        def on_progress(done: int, total: int, now: str) -> None:
            bar.total = total
            bar.set_postfix_str(now, refresh=False)
            bar.update(done - bar.n)

        yield on_progress


def _tell_files(paths: Iterable[Path]) -> None:
    for path in paths:
        say(f"written: {path}")


def _dry_run(experiments: list[Experiment], locations: dict[str, Path], options: argparse.Namespace) -> int:
    """One step of every run whose data are at hand: forward, loss, backward, step, checkpoint, resume, prediction."""
    from reproduce.dry_run import dry_run

    if not locations:
        raise InputError("--dry-run needs data: say --data NAME=DIR, of a stand-in if need be")
    for group in _alike(experiments):
        first = group[0]
        if first.dataset not in locations:
            continue
        store = open_store(
            first.dataset, locations[first.dataset], first.protocol or None, first.front_end, True, stream=True
        )
        execution = make_execution(options, in_main_memory=True)
        for experiment in group:
            if experiment.seed == 0:
                say(f"dry run: {_study(experiment)}, {experiment.model}, recipe {experiment.recipe_name}")
                show(dry_run(fit_splits(experiment, store.index.listed), store, execution, options.runs) + "\n")
    return 0


# --- comparisons on any data set ------------------------------------------------------------------------------------


def run_experiments(options: argparse.Namespace) -> int:
    """Train the target's runs that have no record yet, then print the table of exactly these runs."""
    weights, weights_name = named_weights(options.weights)
    spec = dataset_spec(options.name if options.command == "train" else "esc50")
    preset = fit_front_end(comparison_preset(options.preset), spec.clip_seconds, spec.mean, spec.std)
    path = location_of(spec.name, options.data, options.datasets)
    store = open_store(
        spec.name, path, getattr(options, "protocol", None), preset.front_end, whole=False, stream=options.stream
    )
    kind, experiments = _plan(spec, preset, store.index, options)
    experiments = [replace(experiment, weights=weights_name) for experiment in experiments]
    keys = train_missing(experiments, store, kind, weights, options)
    # Beside results, searches tell which folds a learning rate was chosen on.
    also = set() if kind == "search" else {"search"}
    records = [r for r in load_records(options.records) if r.key in keys or r.kind in also]
    tell_missing(keys, {record.key for record in records})
    inputs = TableInputs(load_paper(), records, options.records)
    studied = options.command not in ("esc50", "train")
    table = table_specs()[options.command].build(inputs) if studied else comparison_table(inputs, spec.name)
    show(render(table, options.format))
    return 0


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
    experiments = cross_validation(preset, spec.name, splits, splits[:count], seeds)
    if options.command == "pooling":
        experiments = pooling_variants(experiments)
        _warn_of_dear_variants(experiments, preset, index)
    if options.command == "equal_macs":
        experiments += at_equal_macs(experiments, {name: _macs_of(preset, name, index) for name in preset.models})
    return "train", experiments


def _warn_of_dear_variants(experiments: Iterable[Experiment], preset: ComparisonPreset, index: ClipIndex) -> None:
    """Before they are trained: pooling less may cost more than the AST that it is to be cheaper than."""
    variants = {repr(e.model_config): e for e in experiments if e.model.startswith("mast")}
    rivals = [name for name in preset.models if name.startswith("ast")]
    for rival in rivals:
        macs = _macs_of(preset, rival, index)
        for experiment in variants.values():
            times = _macs_of(preset, experiment.model, index, experiment.model_config) / macs
            if times > 1:
                strides = experiment.model_config.get("pool_strides")
                say(f"warning: {experiment.model} with pool_strides {strides} costs {times:.2f} times {rival}'s MACs")


def _macs_of(
    preset: ComparisonPreset, model: str, index: ClipIndex, model_config: Mapping[str, Any] | None = None
) -> float:
    """Full MACs of a clip's forward pass."""
    (classes,) = (len(names) for names in index.classes.values())
    size = (preset.front_end.mels, preset.front_end.frames)
    return measure_complexity(
        create_model(model, num_classes=classes, input_size=size, **(model_config or {}))
    ).macs_full

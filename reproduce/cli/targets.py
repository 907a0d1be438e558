"""What the command line's subcommands do. Imports torch; `__main__` imports this only once a command needs it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from reproduce.cli.session import (
    distributed,
    fit_splits,
    is_main,
    make_execution,
    open_store,
    say,
    show,
    train_missing,
)
from reproduce.cli.tables import ALL_TABLES, build_table
from reproduce.datasets import parse_locations, read_variant
from reproduce.datasets.standin.write import STANDINS, write_standin
from reproduce.efficiency.clip_counts import located_counts
from reproduce.efficiency.plan import ClipCounts, Memory
from reproduce.efficiency.planning import plan_experiments
from reproduce.efficiency.scaling import DEBUG_MODELS, Sweep, measure_scaling
from reproduce.environment import choose_device
from reproduce.errors import InputError
from reproduce.evaluation.clustering import fill_clusterings, fill_projections
from reproduce.experiments import targets
from reproduce.experiments.experiment import Experiment
from reproduce.experiments.families import LENGTHS_S
from reproduce.figures.figure2 import write_figure2
from reproduce.figures.scaling import write_scaling_figure
from reproduce.records.record import RunRecord
from reproduce.records.store import load_records
from reproduce.tables import table_specs
from reproduce.tables.plan import plan_table
from reproduce.tables.render import render

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
            show(render(build_table(table_specs()[name], options), options.format))
            if name != names[-1]:
                show("\n")
    return 0


def run_plan(options: argparse.Namespace) -> int:
    """What a target's runs will take; trains and writes nothing."""
    experiments = targets.experiments_of(options.target, options.preset, options.seeds, _overrides(options.set))
    located = parse_locations(options.data, options.datasets)
    counts = {}
    for experiment in experiments:
        name, study = experiment.dataset, (experiment.dataset, experiment.variant)
        if study in counts:
            continue
        if name in located:
            index = read_variant(name, located[name], experiment.variant or None)
            counts[study] = located_counts(index, fit_splits(experiment, index.listed))
        elif options.preset != targets.PAPER:
            splits = STANDINS[name].clips_per_split(targets.demo(options.preset).clips[name])
            train, test = (sum(splits.get(s, 0) for s in e) for e in (experiment.train_splits, experiment.test_splits))
            counts[study] = ClipCounts(train, test, "the stand-in that the demo writes")
    memory = Memory(options.micro_batch or 0, options.grad_checkpointing)
    plan = plan_experiments(experiments, counts, load_records(options.records), memory)
    show(render(plan_table(plan), options.format))
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
            first.variant or None,
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
        groups.setdefault(repr((experiment.dataset, experiment.variant, experiment.front_end)), []).append(experiment)
    return list(groups.values())


def _study(experiment: Experiment) -> str:
    return f"{experiment.dataset} {experiment.variant}".rstrip()


def _needs_whole(experiments: Iterable[Experiment]) -> bool:
    return any(e.recipe.crop == "random" or e.recipe.test_crops > 1 for e in experiments)


def _measure_what_follows(names: Iterable[str], options: argparse.Namespace) -> None:
    """Clusterings and scaling, only what has no record yet; and their figures."""
    wanted = set(names)
    if options.run != "none" and wanted & {"table6", "figure2"}:
        with _measuring("clustering") as on_progress:
            told = fill_clusterings(options.records, on_progress) if "table6" in wanted else []
            told += fill_projections(options.records, on_progress) if "figure2" in wanted else []
        for line in dict.fromkeys(told):
            say(f"not clustered: {line}")
    if "figure2" in wanted:
        _tell_files(write_figure2(load_records(options.records), options.records, options.figures))
    if "scaling" in wanted:
        _tell_files(write_scaling_figure(_measure_scaling(options), options.figures))


def _measure_scaling(options: argparse.Namespace) -> list[RunRecord]:
    """Latencies on this machine. The debug preset's are of the debug models at short lengths."""
    sweep = Sweep(device=choose_device(options.device))
    if options.preset == "debug":
        sweep = replace(sweep, lengths=LENGTHS_S[:2], models=DEBUG_MODELS)
    with _measuring("scaling") as on_progress:
        records = measure_scaling(options.records, sweep, options.run, on_progress)
    if any(record.environment.get("busy") for record in records):
        say("scaling: other processes kept the machine busy; the records are marked: repeat on an idle machine")
    return records


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
    from reproduce.training.dry_run import dry_run

    if not locations:
        raise InputError("--dry-run needs data: say --data NAME=DIR, of a stand-in if need be")
    for group in _alike(experiments):
        first = group[0]
        if first.dataset not in locations:
            continue
        store = open_store(
            first.dataset, locations[first.dataset], first.variant or None, first.front_end, True, stream=True
        )
        execution = make_execution(options, in_main_memory=True)
        for experiment in group:
            if experiment.seed == 0:
                say(f"dry run: {_study(experiment)}, {experiment.model}, recipe {experiment.recipe_name}")
                show(dry_run(fit_splits(experiment, store.index.listed), store, execution, options.runs) + "\n")
    return 0

"""Fill the paper's tables and figures: train missing runs, measure what depends on them, print the table.

Functions that decode, train or measure import torch themselves: a table of stored records does not need it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from reproduce.cli.options import TrainingOptions, parse_overrides
from reproduce.cli.progress import counting_bar, is_distributed, is_main, log, print_result, print_table
from reproduce.cli.session import StoreRequest, fit_splits, make_execution, open_store, train_missing
from reproduce.cli.tables import STORED_COSTS, table_inputs
from reproduce.datasets import parse_locations, read_variant
from reproduce.efficiency.clip_counts import located_counts
from reproduce.efficiency.plan import ClipCounts, Memory
from reproduce.errors import InputError
from reproduce.experiments.experiment import Experiment
from reproduce.experiments.families import LENGTHS_S, PAPER_MODELS, reference_of
from reproduce.experiments.paper_studies import study_name
from reproduce.experiments.targets import PAPER, demo, experiments_of
from reproduce.figures.figure2 import write_figure2
from reproduce.figures.scaling import write_scaling_figure
from reproduce.records.contests import scaling_runs
from reproduce.records.measured_runs import ScalingRun
from reproduce.records.naming import require_folder
from reproduce.records.store import load_records
from reproduce.tables import build, table_specs
from reproduce.tables.plan import plan_table
from reproduce.tables.scaling import by_machine, scaling_of

NOT_OF_THE_PAPER = (
    "costs", "speed", "esc50", "tune", "equal_macs", "pooling", "components", "calibration", "classes", "robustness",
    "transfer", "data_efficiency",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TargetOptions:
    """Options of a target.

    Args:
        target: table or figure, or "all".
        preset: "paper" or the name of a demo.
        figures: folder of figures.
        format: format of the tables.
        training: options of training.
    """

    target: str
    preset: str
    figures: Path
    format: str
    training: TrainingOptions

    @classmethod
    def of(cls, options: argparse.Namespace) -> TargetOptions:
        """Convert the options of `add_target`."""
        return cls(
            target=options.target,
            preset=options.preset,
            figures=options.figures,
            format=options.format,
            training=TrainingOptions.of(options),
        )

    @property
    def tables(self) -> tuple[str, ...]:
        """Tables to print; for "all", every table of the paper in the order of registration."""
        if self.target != "all":
            return (self.target,)
        return tuple(name for name in table_specs() if name not in NOT_OF_THE_PAPER)


def run_target(options: argparse.Namespace) -> int:
    """Train the missing runs whose data have a folder, measure what depends on them, print the tables."""
    wanted = TargetOptions.of(options)
    if wanted.format == "parquet" and len(wanted.tables) > 1:
        raise InputError("--format parquet has one table per file: name a table instead of all")
    experiments = experiments_of(options.target, options.preset, options.seeds, parse_overrides(options.set))
    training = options.dry_run or options.run != "none"
    locations = _locate(experiments, wanted, parse_locations(options.data, options.datasets)) if training else {}
    if not locations and options.target not in ("all", *STORED_COSTS):  # which measure and store without data
        require_folder(options.records)
    if options.dry_run:
        return _dry_run(experiments, locations, wanted)
    _train_located(experiments, locations, wanted.training)
    if is_main():
        _measure_what_follows(wanted)
        inputs = table_inputs(wanted.tables, wanted.training.records)
        for number, name in enumerate(wanted.tables):
            print_result("\n" if number else "")
            print_table(build(name, inputs), wanted.format)
    return 0


def run_scaling(options: argparse.Namespace) -> int:
    """Measure latency and memory by clip length on this machine, then print the table and draw the figure."""
    if not is_main():
        return 0
    models = None if options.models is None else [str(name.with_code()) for name in options.models]
    records = _measure_scaling(options.preset == "debug", options.records, options.device, options.run, models)
    _log_figures(write_scaling_figure(records, options.figures))
    inputs = table_inputs(["scaling"], options.records)
    print_table(build("scaling", inputs) if models is None else scaling_of(inputs, models), options.format)
    return 0


def run_plan(options: argparse.Namespace) -> int:
    """Print the expected costs of a target's runs; train and write nothing."""
    from reproduce.datasets.standin.write import STANDINS
    from reproduce.efficiency.planning import plan_experiments

    experiments = experiments_of(options.target, options.preset, options.seeds, parse_overrides(options.set))
    located = parse_locations(options.data, options.datasets)
    counts = {}
    for experiment in experiments:
        name, study = experiment.dataset, (experiment.dataset, experiment.variant)
        if study in counts:
            continue
        if name in located:
            index = read_variant(name, located[name], experiment.variant or None, follow_outside=options.follow_outside)
            counts[study] = located_counts(index, fit_splits(experiment, index.listed))
        elif options.preset != PAPER:
            splits = STANDINS[name].clips_per_split(_demo_clips(name, options.preset))
            parts = (experiment.train_splits, experiment.test_splits)
            train, test = (sum(splits.get(split, 0) for split in part) for part in parts)
            counts[study] = ClipCounts(train, test, "the stand-in that the demo writes")
    memory = Memory(options.micro_batch or 0, options.grad_checkpointing)
    plan = plan_experiments(experiments, counts, load_records(options.records), memory)
    print_table(plan_table(plan), options.format)
    return 0


def _locate(experiments: Sequence[Experiment], wanted: TargetOptions, located: Mapping[str, Path]) -> dict[str, Path]:
    """Return data set -> folder; for a demo, write the stand-ins of data sets without a folder."""
    names = dict.fromkeys(experiment.dataset for experiment in experiments)
    if wanted.preset == PAPER:
        return {name: located[name] for name in names if name in located}
    folder = wanted.training.runs / f"standin-{wanted.preset}"
    folders = {
        name: located.get(name) or _write_standin(name, _demo_clips(name, wanted.preset), folder) for name in names
    }
    if is_distributed():  # other processes must not read before the first one has written
        make_execution(wanted.training.execution, in_main_memory=True).accelerator.wait_for_everyone()
    return folders


def _demo_clips(name: str, preset: str) -> int:
    """Clips of a data set's stand-in; InputError for a data set that has none."""
    from reproduce.datasets.standin.write import STANDINS

    clips = demo(preset).clips
    if name not in clips or name not in STANDINS:
        raise InputError(f"{name} has no synthetic stand-in for --preset {preset}: pass --data {name}=DIR")
    return clips[name]


def _write_standin(name: str, clips: int, folder: Path) -> Path:
    from reproduce.datasets.standin.write import write_standin

    if not is_main():
        return folder / name
    with counting_bar(f"stand-in of {name}", "file") as on_progress:
        return write_standin(name, folder / name, clips=clips, progress=on_progress)


def _train_located(experiments: Sequence[Experiment], locations: Mapping[str, Path], training: TrainingOptions) -> None:
    """Train the runs grouped by data and front end; open each data set once per group."""
    if training.run == "none":
        return
    for group in _alike(experiments):
        first = group[0]
        if first.dataset not in locations:
            continue
        log(study_name(first.dataset, first.variant))
        store = open_store(_request(group, locations, training), stream=training.execution.stream)
        fitted = [fit_splits(experiment, store.index.listed) for experiment in group]
        train_missing(fitted, store, "train", None, training)
    absent = dict.fromkeys(e.dataset for e in experiments if e.dataset not in locations)
    if absent and locations:  # without any data the notes of the table name what is missing
        log(f"not trained, no folder for {', '.join(absent)}: pass --data NAME=DIR, or --preset demo for stand-ins")


def _request(group: Sequence[Experiment], locations: Mapping[str, Path], training: TrainingOptions) -> StoreRequest:
    first = group[0]
    return StoreRequest(
        dataset=first.dataset,
        path=locations[first.dataset],
        variant=first.variant or None,
        front_end=first.front_end,
        follow_outside=training.follow_outside,
        whole=any(e.recipe.needs_whole_clips for e in group),
    )


def _alike(experiments: Iterable[Experiment]) -> list[list[Experiment]]:
    """Group experiments by data set, variant and front end."""
    groups: dict[tuple[object, ...], list[Experiment]] = {}
    for experiment in experiments:
        groups.setdefault((experiment.dataset, experiment.variant, experiment.front_end), []).append(experiment)
    return list(groups.values())


def _measure_what_follows(wanted: TargetOptions) -> None:
    """Measure clusterings and scaling without a record, and draw their figures."""
    names, training = set(wanted.tables), wanted.training
    if training.run != "none" and names & {"table6", "figure2"}:
        from reproduce.evaluation.clustering import fill_clusterings, fill_projections
        from reproduce.evaluation.probes import fill_probes

        with counting_bar("clustering") as on_progress:
            problems = []
            if "table6" in names:
                problems += fill_clusterings(training.records, on_progress)
                problems += fill_probes(training.records, on_progress)
            problems += fill_projections(training.records, on_progress) if "figure2" in names else []
        for line in dict.fromkeys(problems):
            log(f"not clustered: {line}")
    if "figure2" in names:
        _log_figures(write_figure2(load_records(training.records), training.records, wanted.figures))
    if "scaling" in names:
        debug, device = wanted.preset == "debug", training.execution.device
        records = _measure_scaling(debug, training.records, device, training.run)
        _log_figures(write_scaling_figure(records, wanted.figures))


def _log_figures(paths: Iterable[Path]) -> None:
    for path in paths:
        log(f"figure: {path}")


def _measure_scaling(
    debug: bool, records: Path, device: str, run: str, models: Sequence[str] | None = None
) -> list[ScalingRun]:
    """Measure latencies on this machine: the paper's models and lengths, or debug models at short lengths.

    With `run` "none", return the runs of the machine that was measured last: naming this device needs torch.

    Args:
        debug: short lengths, and the debug models unless `models` names others.
        records: folder of stored measurements.
        device: as in `--device`.
        run: "missing", "none" or "all".
        models: of `--models`.
    """
    if run == "none":
        wanted = models or tuple(f"{family}_{'debug' if debug else 'base'}" for family in PAPER_MODELS)
        runs = [run for run in scaling_runs(load_records(records)) if run.model in wanted]
        machines = [group for group in by_machine(runs) if group[0].reference in ("", reference_of(wanted))]
        return max(machines, key=lambda group: max(run.created for run in group), default=[])
    from reproduce.efficiency.scaling import DEBUG_MODELS, Sweep, measure_scaling
    from reproduce.environment import choose_device

    sweep = Sweep(device=choose_device(device))
    if debug:
        sweep = replace(sweep, lengths=LENGTHS_S[:2], models=DEBUG_MODELS)
    if models is not None:
        sweep = replace(sweep, models=tuple(models))
    with counting_bar("scaling") as on_progress:
        runs = measure_scaling(records, sweep, run, on_progress)
    if any(run.environment.busy for run in runs):
        log("scaling: other processes used the machine, and the records state it: repeat on an idle machine")
    return runs


def _dry_run(experiments: Sequence[Experiment], locations: Mapping[str, Path], wanted: TargetOptions) -> int:
    """Try one step of every run with data: forward, loss, backward, step, checkpoint, resume, prediction."""
    from reproduce.training.dry_run import dry_run

    if not locations:
        raise InputError("--dry-run needs data: pass --data NAME=DIR; a stand-in is enough")
    execution = make_execution(wanted.training.execution, in_main_memory=True)
    for group in _alike(experiments):
        if group[0].dataset not in locations:
            continue
        store = open_store(_request(group, locations, wanted.training), stream=True)
        for experiment in group:
            if experiment.seed == 0:
                study = study_name(experiment.dataset, experiment.variant)
                log(f"dry run: {study}, {experiment.model}, recipe {experiment.recipe_name}")
                fitted = fit_splits(experiment, store.index.listed)
                print_result(dry_run(fitted, store, execution, wanted.training.runs) + "\n")
    return 0

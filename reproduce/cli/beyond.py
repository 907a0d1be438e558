"""Run `calibration`, `classes`, `robustness` and `transfer`: what trained models are worth beyond top-1 accuracy."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from reproduce.cli.command import PROGRAM
from reproduce.cli.progress import log, log_files, print_table, progress_bar
from reproduce.cli.session import StoreRequest, open_store
from reproduce.cli.study_options import OWN_DATASETS
from reproduce.cli.tables import table_inputs
from reproduce.datasets import parse_locations
from reproduce.errors import InputError
from reproduce.experiments.conditions import AS_TRAINED, STUDIES
from reproduce.experiments.families import LABELS
from reproduce.figures.calibration import write_calibration_figure
from reproduce.figures.classes import write_classes_figure
from reproduce.figures.conditions import write_conditions_figure
from reproduce.records.condition_runs import CONDITION_KINDS
from reproduce.records.naming import OWN_RECORDS_DIR, require_folder
from reproduce.records.records import Records
from reproduce.records.runs import TrainedRun
from reproduce.records.selection import comparisons
from reproduce.records.store import load_records
from reproduce.tables import build
from reproduce.tables.conditions import counted
from reproduce.tables.robustness import condition_scores

SUFFIX = ".safetensors"


def run_drawn(options: argparse.Namespace) -> int:
    """Print a table of stored predictions, and draw its figure."""
    require_folder(options.records)
    inputs = table_inputs([options.target], options.records)
    print_table(build(options.target, inputs), options.format)
    write = {"calibration": write_calibration_figure, "classes": write_classes_figure}[options.target]
    log_files(write(inputs, options.figures))
    return 0


def run_conditions(options: argparse.Namespace) -> int:
    """Test the recorded runs whose weights are there under the study's conditions; print the table, draw the figure.

    Without the folder of the clips, print what is recorded.
    """
    study = options.target
    locations = parse_locations(options.data, options.datasets)
    if options.run != "none":
        if not locations:
            _require_records(study, options)
        for name, folder in locations.items():
            _measure(study, name, folder, options)
    inputs = table_inputs([study], options.records)
    print_table(build(study, inputs), options.format)
    scores = condition_scores(inputs, CONDITION_KINDS[study])
    log_files(write_conditions_figure(scores, study, options.figures))
    return 0


def _require_records(study: str, options: argparse.Namespace) -> None:
    """Say that recorded measurements are printed, where a user gave no clips.

    Raises:
        InputError: nothing is recorded, or the user asks for a measurement.
    """
    recorded = load_records(options.records).of_kind(CONDITION_KINDS[study])
    if options.run == "all" or options.model or not recorded:
        raise InputError(f"{study} needs the clips: add --data esc50=DIR, or --run none to print what is recorded")
    log(f"no folder of clips: this is what {options.records} holds; to measure more, add --data esc50=DIR")


@dataclass(frozen=True)
class _Weighted:
    """A recorded run and its weights."""

    run: TrainedRun
    weights: Path


def _measure(study: str, dataset: str, folder: Path, options: argparse.Namespace) -> None:
    """Measure what has no record yet, one store of clips per front end."""
    from reproduce.environment import choose_device
    from reproduce.evaluation.conditions import ConditionsJob, condition_experiment, measure_conditions

    records = load_records(options.records)
    found = _with_weights(records, dataset, options)
    known = [run.record.experiment for run in records.of_kind(CONDITION_KINDS[study])]
    missing = [w for w in found if options.run == "all" or condition_experiment(w.run, study) not in known]
    runs, conditions = counted(len(found), "run"), counted(len(STUDIES[study]), "condition")
    log(f"{study}: {runs} with weights, {len(missing)} to measure under {conditions}")
    device = choose_device(options.device)
    for group in _alike(missing):
        first = group[0].run
        request = StoreRequest(
            dataset=dataset,
            path=folder,
            variant=first.variant or None,
            front_end=first.front_end,
            whole=any(own.run.recipe.test_crops > 1 for own in group),
            follow_outside=options.follow_outside,
        )
        store = open_store(request, stream=False)
        for number, own in enumerate(group, start=1):
            name = f"[{number}/{len(group)}] {own.run.described_model} on {own.run.fold} seed {own.run.seed}"
            test = store.where_split(*own.run.test_splits)
            if test.index.identity_sha256() != own.run.test_sha256:
                log(f"{name}: not measured: the data's test clips are not those of record {own.run.key}")
                continue
            job = ConditionsJob(run=own.run, weights=own.weights, kind=study, store=test, device=device)
            try:
                with progress_bar(name, "condition", len(STUDIES[study])) as bar:
                    record = measure_conditions(job, options.records, bar.update)
            except InputError as error:
                if own.run.family in LABELS:
                    raise
                log(f"{name}: not measured: {error}")  # a model of others may take its own length alone
                continue
            recorded = own.run.metric("top1")
            again = float(record.metrics[AS_TRAINED.name] or 0.0)
            if abs(again - recorded) > 100.0 / len(test):  # more than a clip that another machine rounds otherwise
                log(f"warning: {name}: {again:.1f} % as trained, but its record says {recorded:.1f} %")


def _with_weights(records: Records, dataset: str, options: argparse.Namespace) -> list[_Weighted]:
    """The compared runs on clips with one label whose weights are there: all under --runs, or the --model files.

    Raises:
        InputError: a file of --model is absent, or not of a recorded run; or no weights at all.
    """
    runs = [run for group in comparisons(records, dataset) for run in group if run.headline == "top1"]
    if not options.model:
        found = [_Weighted(run, path) for run in runs if (path := options.runs / f"{run.key}{SUFFIX}").is_file()]
        if not found:
            raise InputError(
                f"{options.runs}: no weights of the {len(runs)} runs on {dataset} that {options.records} records: pass "
                f"the folder where they were trained as --runs, {_or_train(dataset, options)}"
            )
        return found
    by_key = {run.key: run for run in runs}
    for path in options.model:
        if not path.is_file():
            raise InputError(f"{path}: no such file; --model takes weights of a training run, runs/KEY{SUFFIX}")
        if path.stem not in by_key:
            where = OWN_RECORDS_DIR if dataset in OWN_DATASETS and options.records != OWN_RECORDS_DIR else "DIR"
            raise InputError(
                f"{path}: no record of {path.stem} on {dataset} under {options.records}; pass --records {where}"
            )
    return [_Weighted(by_key[path.stem], path) for path in options.model]


def _or_train(dataset: str, options: argparse.Namespace) -> str:
    """What else gives weights on this data set."""
    if dataset not in OWN_DATASETS:
        train = f"esc50 --data {dataset}=DIR" if dataset == "esc50" else f"train {dataset} DIR"
        return f"or train them: {PROGRAM} {train}"
    path = parse_locations(options.data, options.datasets)[dataset]
    recorded = "" if options.records == OWN_RECORDS_DIR else f"add --records {OWN_RECORDS_DIR}, "
    return f"{recorded}or train them: {PROGRAM} train {dataset} {shlex.quote(str(path))}"


def _alike(found: Iterable[_Weighted]) -> Sequence[list[_Weighted]]:
    """Runs that share variant, front end and the length of clips in memory, and so a store."""
    groups: dict[tuple[object, ...], list[_Weighted]] = {}
    for own in found:
        several = own.run.recipe.test_crops > 1
        groups.setdefault((own.run.variant, own.run.front_end, several), []).append(own)
    return list(groups.values())

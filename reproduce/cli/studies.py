"""Compare both models on any data set: train the runs without a record, then print the table."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from reproduce.cli.costs import CostBook
from reproduce.cli.options import TrainingOptions
from reproduce.cli.progress import log, print_table
from reproduce.cli.session import (
    StoreRequest,
    log_missing,
    match_recorded,
    named_weights,
    open_store,
    read_undecoded,
    train_missing,
)
from reproduce.datasets import ClipIndex, DatasetSpec, dataset_spec, location_of
from reproduce.datasets.splits import plan_splits
from reproduce.efficiency.cost_identity import cost_experiment
from reproduce.errors import InputError
from reproduce.experiments.comparisons import (
    at_equal_macs,
    cross_validation,
    fixed_split,
    learning_rate_search,
    pooling_variants,
)
from reproduce.experiments.experiment import Experiment
from reproduce.experiments.families import family
from reproduce.experiments.presets import ComparisonPreset, comparison_preset, fit_front_end
from reproduce.paper import load_paper
from reproduce.records.records import Records
from reproduce.records.runs import SearchRun
from reproduce.records.store import load_records
from reproduce.tables import TableInputs, build
from reproduce.tables.comparison import comparison_table

TRAIN = "train"


def run_study(options: argparse.Namespace) -> int:
    """Train the study's runs without a record, then print the table of exactly the study's runs."""
    study = getattr(options, "study", TRAIN)
    training = TrainingOptions.of(options)
    weights, weights_name = named_weights(options.weights)
    spec = dataset_spec(options.name if study == TRAIN else "esc50")
    preset = fit_front_end(comparison_preset(options.preset), spec.clip_seconds, spec.mean, spec.std)
    request = StoreRequest(
        dataset=spec.name,
        path=location_of(spec.name, options.data, options.datasets),
        variant=getattr(options, "variant", None),
        front_end=preset.front_end,
        follow_outside=training.follow_outside,
    )
    kind = "search" if study == "tune" else "train"

    def plan(index: ClipIndex) -> list[Experiment]:
        return [replace(planned, weights=weights_name) for planned in _plan(study, spec, preset, index, options)]

    undecoded = read_undecoded(request) if training.run == "none" else None
    if undecoded is not None:
        stored = load_records(options.records)
        keys = match_recorded(plan(undecoded), undecoded, [run for run in stored if run.kind == kind])
    else:
        store = open_store(request, stream=training.execution.stream)
        keys = train_missing(plan(store.index), store, kind, weights, training)
        stored = load_records(options.records)
    # The table needs searches too: they name the folds that chose a learning rate.
    runs = [run for run in stored if run.key in keys or (kind == "train" and isinstance(run, SearchRun))]
    log_missing(keys, {run.key for run in runs})
    inputs = TableInputs(load_paper(), Records(tuple(runs)), options.records)
    table = comparison_table(inputs, spec.name) if study in (TRAIN, "esc50") else build(study, inputs)
    print_table(table, options.format)
    return 0


def _plan(
    study: str, spec: DatasetSpec, preset: ComparisonPreset, index: ClipIndex, options: argparse.Namespace
) -> list[Experiment]:
    """List the experiments of the study on this corpus."""
    # Use listed splits: a fold without usable clips must be an error, not a smaller cross-validation.
    splits = tuple(sorted(index.listed))
    if study == "tune":
        if options.fold not in splits:
            raise InputError(f"--fold {options.fold}: the data have folds {', '.join(splits)}")
        return learning_rate_search(preset, spec.name, splits, options.fold)
    seeds = tuple(range(options.seeds))
    fixed = plan_splits(spec, splits)
    if fixed is not None:
        if options.folds is not None:
            tested = ", ".join(fixed.test)
            raise InputError(f"--folds {options.folds}: {spec.name} has an official test split, {tested}; omit it")
        for split in fixed.val:
            log(f"{index.listed[split]} clips of split {split} are used neither to train nor to test")
        return fixed_split(preset, spec.name, index.variant, fixed.train, fixed.test, seeds)
    count = len(splits) if options.folds is None else options.folds
    if not 1 <= count <= len(splits):
        raise InputError(f"--folds {options.folds}: the data have {len(splits)} folds, pass 1 to {len(splits)}")
    experiments = cross_validation(preset, spec.name, splits, splits[:count], seeds)
    if study == "pooling":
        experiments = pooling_variants(experiments)
        if options.run != "none":
            _warn_of_costly_variants(experiments, preset, index, options.records)
    if study == "equal_macs":
        experiments += at_equal_macs(experiments, _macs(experiments, preset, index, options.records))
    return experiments


def _warn_of_costly_variants(
    experiments: Iterable[Experiment], preset: ComparisonPreset, index: ClipIndex, records: Path
) -> None:
    """Log each MAST variant that takes more MACs than AST: less pooling costs more."""
    macs = _macs(experiments, preset, index, records)
    for baseline in (name for name in preset.models if family(name) == "ast"):
        for name, variant in macs.items():
            if (ratio := variant / macs[baseline]) > 1:
                log(f"warning: {name} takes {ratio:.2f} times the MACs of {baseline}")


def _macs(
    experiments: Iterable[Experiment], preset: ComparisonPreset, index: ClipIndex, records: Path
) -> dict[str, float]:
    """Model, named with its overrides -> MACs of one clip's forward pass, attention products included.

    Recorded by the very same code, or measured and recorded.
    """
    book = CostBook(load_records(records))
    (classes,) = (len(names) for names in index.classes.values())
    size = (preset.front_end.mels, preset.front_end.frames)
    macs = {}
    for experiment in experiments:
        config = experiment.model_config
        name = experiment.model + "".join(f" with {field} {value}" for field, value in config.items())
        if name not in macs:
            macs[name] = book.cost(cost_experiment(experiment.model, config, size, classes)).metric("macs_full")
    book.record(records, book.used)
    book.log()
    return macs

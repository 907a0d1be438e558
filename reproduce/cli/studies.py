"""Compare both models on any data set: train the runs without a record, then print the table."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

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
    if options.front_end:
        preset = replace(preset, front_end=replace(preset.front_end, implementation=options.front_end))
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
        validation = options.fold or preset.validation_fold or splits[0]
        if validation not in splits:
            raise InputError(f"--fold {validation}: the data have folds {', '.join(splits)}")
        return learning_rate_search(preset, spec.name, splits, validation)
    seeds = tuple(range(options.seeds))
    fixed = plan_splits(spec, splits)
    if fixed is not None:
        if options.folds is not None:
            tested = ", ".join(fixed.test)
            raise InputError(f"--folds {options.folds}: {spec.name} has an official test split, {tested}; omit it")
        for split in fixed.val:
            log(f"{index.listed[split]} clips of split {split} are used neither to train nor to test")
        return fixed_split(preset, spec.name, index.variant, fixed.train, fixed.test, seeds)
    testable = preset.test_folds(splits)
    count = len(testable) if options.folds is None else options.folds
    if not 1 <= count <= len(testable):
        raise InputError(f"--folds {options.folds}: {len(testable)} folds can be tested, pass 1 to {len(testable)}")
    experiments = cross_validation(preset, spec.name, splits, testable[:count], seeds)
    if study == "pooling":
        experiments = pooling_variants(experiments)
        _warn_of_costly_variants(experiments, preset, index)
    if study == "equal_macs":
        experiments += at_equal_macs(experiments, {name: _macs_of(preset, name, index) for name in preset.models})
    return experiments


def _warn_of_costly_variants(experiments: Iterable[Experiment], preset: ComparisonPreset, index: ClipIndex) -> None:
    """Log each MAST variant that takes more MACs than AST: less pooling costs more."""
    variants = {repr(e.model_config): e for e in experiments if family(e.model) == "mast"}
    for baseline in (name for name in preset.models if family(name) == "ast"):
        macs = _macs_of(preset, baseline, index)
        for experiment in variants.values():
            ratio = _macs_of(preset, experiment.model, index, experiment.model_config) / macs
            if ratio > 1:
                variant = f"{experiment.model} with pool_strides {experiment.model_config.get('pool_strides')}"
                log(f"warning: {variant} takes {ratio:.2f} times the MACs of {baseline}")


def _macs_of(
    preset: ComparisonPreset, model: str, index: ClipIndex, model_config: Mapping[str, Any] | None = None
) -> float:
    """Count the MACs of one clip's forward pass, attention products included."""
    from models import create_model  # late: it imports torch
    from models.complexity import measure_complexity

    (classes,) = (len(names) for names in index.classes.values())
    size = (preset.front_end.mels, preset.front_end.frames)
    built = create_model(model, num_classes=classes, input_size=size, **(model_config or {}))
    return measure_complexity(built).macs_full

"""Comparisons of both models on any data set: trained where no record exists, then printed."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from models import create_model
from models.complexity import measure_complexity
from reproduce.cli.options import TrainingOptions
from reproduce.cli.progress import log, print_table
from reproduce.cli.session import StoreRequest, log_missing, named_weights, open_store, train_missing
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
    """Train the study's runs that have no record yet, then print the table of exactly these runs."""
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
    store = open_store(request, stream=training.execution.stream)
    kind = "search" if study == "tune" else "train"
    experiments = [
        replace(experiment, weights=weights_name) for experiment in _plan(study, spec, preset, store.index, options)
    ]
    keys = train_missing(experiments, store, kind, weights, training)
    stored = load_records(options.records)
    # Searches beside results name the folds that a learning rate was chosen on.
    runs = [run for run in stored if run.key in keys or (kind == "train" and isinstance(run, SearchRun))]
    log_missing(keys, {run.key for run in runs})
    inputs = TableInputs(load_paper(), Records(tuple(runs)), options.records)
    table = comparison_table(inputs, spec.name) if study in (TRAIN, "esc50") else build(study, inputs)
    print_table(table, options.format)
    return 0


def _plan(
    study: str, spec: DatasetSpec, preset: ComparisonPreset, index: ClipIndex, options: argparse.Namespace
) -> list[Experiment]:
    """The experiments of the study on this corpus."""
    # Listed, not usable: a fold whose clips are all broken must be an error, not a smaller cross-validation.
    splits = tuple(sorted(index.listed))
    if study == "tune":
        if options.fold not in splits:
            raise InputError(f"--fold {options.fold}: the data has folds {', '.join(splits)}")
        return learning_rate_search(preset, spec.name, splits, options.fold)
    seeds = tuple(range(options.seeds))
    fixed = plan_splits(spec, splits)
    if fixed is not None:
        if options.folds is not None:
            tested = ", ".join(fixed.test)
            raise InputError(f"--folds {options.folds}: {spec.name} has its own split, {tested} is tested")
        for split in fixed.val:
            log(f"{index.listed[split]} clips of split {split} are neither trained nor tested on")
        return fixed_split(preset, spec.name, index.variant, fixed.train, fixed.test, seeds)
    count = len(splits) if options.folds is None else options.folds
    if not 1 <= count <= len(splits):
        raise InputError(f"--folds {options.folds}: the data has {len(splits)} folds, give 1 to {len(splits)}")
    experiments = cross_validation(preset, spec.name, splits, splits[:count], seeds)
    if study == "pooling":
        experiments = pooling_variants(experiments)
        _warn_of_costly_variants(experiments, preset, index)
    if study == "equal_macs":
        experiments += at_equal_macs(experiments, {name: _macs_of(preset, name, index) for name in preset.models})
    return experiments


def _warn_of_costly_variants(experiments: Iterable[Experiment], preset: ComparisonPreset, index: ClipIndex) -> None:
    """Before training: with less pooling MAST may cost more MACs than the AST that it is meant to undercut."""
    variants = {repr(e.model_config): e for e in experiments if family(e.model) == "mast"}
    for baseline in (name for name in preset.models if family(name) == "ast"):
        macs = _macs_of(preset, baseline, index)
        for experiment in variants.values():
            times = _macs_of(preset, experiment.model, index, experiment.model_config) / macs
            if times > 1:
                strides = experiment.model_config.get("pool_strides")
                log(
                    f"warning: {experiment.model} with pool_strides {strides} costs {times:.2f} times {baseline}'s MACs"
                )


def _macs_of(
    preset: ComparisonPreset, model: str, index: ClipIndex, model_config: Mapping[str, Any] | None = None
) -> float:
    """Full MACs of one clip's forward pass."""
    (classes,) = (len(names) for names in index.classes.values())
    size = (preset.front_end.mels, preset.front_end.frames)
    built = create_model(model, num_classes=classes, input_size=size, **(model_config or {}))
    return measure_complexity(built).macs_full

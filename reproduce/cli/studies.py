"""Comparisons on any data set."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from models import create_model
from models.complexity import measure_complexity
from reproduce.cli.session import (
    named_weights,
    open_store,
    say,
    show,
    tell_missing,
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
from reproduce.experiments.presets import ComparisonPreset, comparison_preset, fit_front_end
from reproduce.paper import load_paper
from reproduce.records.store import load_records
from reproduce.tables import TableInputs, table_specs
from reproduce.tables.comparison import comparison_table
from reproduce.tables.render import render

# --- comparisons on any data set ------------------------------------------------------------------------------------


def run_experiments(options: argparse.Namespace) -> int:
    """Train the target's runs that have no record yet, then print the table of exactly these runs."""
    weights, weights_name = named_weights(options.weights)
    spec = dataset_spec(options.name if options.command == "train" else "esc50")
    preset = fit_front_end(comparison_preset(options.preset), spec.clip_seconds, spec.mean, spec.std)
    path = location_of(spec.name, options.data, options.datasets)
    store = open_store(
        spec.name, path, getattr(options, "variant", None), preset.front_end, whole=False, stream=options.stream
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
    fixed = plan_splits(spec, splits)
    if fixed is not None:
        if options.folds is not None:
            tested = ", ".join(fixed.test)
            raise InputError(f"--folds {options.folds}: {spec.name} has its own split, {tested} is tested")
        for split in fixed.val:
            say(f"{index.listed[split]} clips of split {split} are neither trained nor tested on")
        return "train", fixed_split(preset, spec.name, index.variant, fixed.train, fixed.test, seeds)
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

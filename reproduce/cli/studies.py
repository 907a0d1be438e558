"""Compare models on any data set: plan the runs, train those without a record, then print the table."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reproduce.cli.baselines import fit_missing_baselines
from reproduce.cli.costs import CostBook
from reproduce.cli.models import check_input_size, choose_models
from reproduce.cli.next_steps import next_steps, steps_after_search
from reproduce.cli.own_data import Prepared, normalised, prepare_own, with_validation
from reproduce.cli.progress import log, log_files, print_result, print_table
from reproduce.cli.session import (
    StoreRequest,
    log_missing,
    match_recorded,
    named_weights,
    open_store,
    read_undecoded,
    train_missing,
)
from reproduce.cli.study_options import TRAIN, TUNE, StudyOptions, dataset_of, prints_records
from reproduce.data.shard_index import is_sharded
from reproduce.datasets import ClipIndex, dataset_spec, read_variant
from reproduce.datasets.holdout import HELD_OUT
from reproduce.datasets.readers.folds import FOLDS
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
from reproduce.experiments.components import component_variants
from reproduce.experiments.data_efficiency import on_parts
from reproduce.experiments.experiment import Experiment
from reproduce.experiments.families import family
from reproduce.experiments.preset_files import ChosenPreset, apply_changes, choose_preset
from reproduce.experiments.presets import ComparisonPreset, fit_front_end
from reproduce.figures.data_efficiency import write_data_efficiency_figure
from reproduce.paper import load_paper
from reproduce.records.records import Records
from reproduce.records.runs import BaselineRun, SearchRun, TrainedRun
from reproduce.records.store import default_records, load_records
from reproduce.tables import Table, TableInputs, build
from reproduce.tables.comparison import comparison_table, tune_table
from reproduce.tables.conditions import counted

if TYPE_CHECKING:
    from reproduce.data.waveform_store import WaveformStore

COMPARISONS = (TRAIN, "esc50")  # studies with a baseline


def run_study(options: argparse.Namespace) -> int:
    """Train the study's runs without a record, then print the table of exactly the study's runs.

    Without the folder of the clips, print every recorded run of the study.
    """
    if prints_records(options):
        return _print_recorded(options)
    asked = StudyOptions.of(options)
    chosen = _choose(asked)
    asked = replace(asked, fold=asked.fold or chosen.preset.validation_fold or FOLDS[0])
    weights, weights_name = named_weights(asked.weights)

    def plan(preset: ComparisonPreset, index: ClipIndex) -> list[Experiment]:
        return [replace(planned, weights=weights_name) for planned in _plan(asked, preset, index)]

    if asked.is_own and not is_sharded(asked.path):
        return _run_own(asked, prepare_own(asked, chosen, plan), weights)
    if asked.is_own:
        log("shards: the settings are the preset's, not fitted to the clips: --seconds and --set change them")
    preset = _registered_preset(asked, chosen)
    check_input_size(preset, asked.models, asked.training.run)
    request = _request(asked, preset)
    training = asked.training
    if asked.dry_run:
        return _describe_registered(asked, request, preset, plan, weights)
    undecoded = read_undecoded(request) if training.run == "none" else None
    if undecoded is not None:
        stored = load_records(training.records)
        keys = match_recorded(plan(preset, undecoded), undecoded, [run for run in stored if run.kind == _kind(asked)])
        return _print_study(asked, keys)
    store = open_store(request, stream=training.execution.stream)
    if asked.study == TUNE:
        store = replace(store, index=with_validation(store.index, asked.fold))
    shards = store.waveforms if is_sharded(asked.path) else None
    experiments = normalised(asked, plan(preset, store.index), store.index, shards)
    return _train(asked, experiments, store, weights)


def _print_recorded(options: argparse.Namespace) -> int:
    """Print the study's table of all records, where a user gave no clips to train on."""
    folder, study = options.records or default_records(), getattr(options, "study", TRAIN)
    dataset = dataset_of(options)
    records = load_records(folder)
    if not any(isinstance(run, TrainedRun) and run.dataset == dataset for run in records):
        raise InputError(f"{folder} has no run on {dataset}, and to train one takes its data: add --data {dataset}=DIR")
    log(f"no folder of {dataset}: this is what {folder} holds; to train, add --data {dataset}=DIR")
    inputs = TableInputs(load_paper(), records, folder)
    print_table(_table(study, dataset, inputs), options.format)
    if getattr(options, "figures", None) is not None:
        log_files(write_data_efficiency_figure(records, options.figures))
    return 0


def _choose(asked: StudyOptions) -> ChosenPreset:
    """The preset with the models and the front end that the user names."""
    chosen = choose_preset(asked.preset, asked.changes)
    preset = choose_models(chosen.preset, asked.models, asked.training.run)
    if asked.front_end is not None:
        preset = replace(preset, front_end=replace(preset.front_end, implementation=asked.front_end))
    return replace(chosen, preset=preset)


def _run_own(asked: StudyOptions, prepared: Prepared, weights: Path | None) -> int:
    """Say what the clips are and what follows; then train the runs and print their table."""
    training = asked.training
    if training.run == "none" and not asked.dry_run:
        stored = [run for run in load_records(training.records) if run.kind == _kind(asked)]
        return _print_study(asked, match_recorded(prepared.experiments, prepared.usable, stored))
    lines = [*prepared.lines, *_time_lines(asked, prepared.experiments, prepared.usable)]
    if asked.dry_run:
        print_result("\n".join(lines) + "\n")
        _check_weights(prepared.experiments, prepared.usable, weights)
        return 0
    for line in lines:
        log(line)
    check_input_size(prepared.preset, asked.models, training.run)
    store = open_store(_request(asked, prepared.preset, prepared.index), stream=training.execution.stream)
    return _train(asked, prepared.experiments, store, weights)


def _train(asked: StudyOptions, experiments: Sequence[Experiment], store: WaveformStore, weights: Path | None) -> int:
    """Fit the baseline, train the models, print the table."""
    if asked.study in COMPARISONS:
        fit_missing_baselines(experiments, store, asked.training)
    return _print_study(asked, train_missing(experiments, store, _kind(asked), weights, asked.training))


def _kind(asked: StudyOptions) -> str:
    return "search" if asked.study == TUNE else "train"


def _registered_preset(asked: StudyOptions, chosen: ChosenPreset) -> ComparisonPreset:
    """The preset on a registered data set, whose clip length and statistics are known."""
    spec = dataset_spec(asked.dataset)
    preset = fit_front_end(chosen.preset, asked.seconds or spec.clip_seconds, spec.mean, spec.std)
    if asked.class_balanced is not None:
        sampler = "balanced" if asked.class_balanced else "shuffle"
        preset = replace(preset, recipe=replace(preset.recipe, sampler=sampler))
    return apply_changes(preset, chosen.changes)


def _request(asked: StudyOptions, preset: ComparisonPreset, index: ClipIndex | None = None) -> StoreRequest:
    return StoreRequest(
        dataset=asked.dataset,
        path=asked.path,
        variant=asked.variant,
        front_end=preset.front_end,
        whole=preset.recipe.needs_whole_clips,
        follow_outside=asked.training.follow_outside,
        index=index,
    )


def _describe_registered(
    asked: StudyOptions, request: StoreRequest, preset: ComparisonPreset, plan: Any, weights: Path | None
) -> int:
    """Print runs and time of a registered data set or of shards; clips are decoded where statistics are asked for."""
    shards = open_store(request, stream=True) if is_sharded(asked.path) else None
    if shards is None:
        index = read_variant(asked.dataset, asked.path, asked.variant, follow_outside=request.follow_outside)
    else:
        index = shards.index
    if asked.study == TUNE:
        index = with_validation(index, asked.fold)
    experiments = normalised(asked, plan(preset, index), index, None if shards is None else shards.waveforms)
    splits = ", ".join(f"{split} {count:,}" for split, count in sorted(index.listed.items()))
    spec, recipe = preset.front_end, preset.recipe
    *some, most = sorted({experiment.recipe.epochs for experiment in experiments})
    epochs = " or ".join(text for text in (", ".join(map(str, some)), counted(most, "epoch")) if text)
    lines = [
        f"{asked.dataset}: {len(index):,} of {sum(index.listed.values()):,} listed clips have a file; {splits}",
        f"  {'input':<14}{spec.seconds:.2f} s: {spec.mels} mels x {spec.frames} frames, hop {spec.frame_shift_ms:g} ms",
        f"  {'training':<14}{epochs}, batch {recipe.batch_size}, {counted(len(experiments), 'run')}",
        *_time_lines(asked, experiments, index),
    ]
    print_result("\n".join(lines) + "\n")
    _check_weights(experiments, index, weights)
    return 0


def _check_weights(experiments: Sequence[Experiment], index: ClipIndex, weights: Path | None) -> None:
    """Load the file of `--weights` into a model of every kind; InputError where one does not take it."""
    if weights is None:  # a dry run downloads nothing
        return
    from reproduce.training.model_building import build_model  # late: it imports torch

    for experiment in {(e.model, repr(e.model_config)): e for e in experiments}.values():
        for remark in build_model(experiment, index, weights).remarks:
            log(f"{experiment.model}: {remark}")


def _time_lines(asked: StudyOptions, experiments: Sequence[Experiment], index: ClipIndex) -> list[str]:
    from reproduce.cli.run_time import time_lines  # late: it imports torch

    return time_lines(experiments, index, _kind(asked), asked.training)


def _print_study(asked: StudyOptions, keys: Mapping[str, Experiment]) -> int:
    """Print the table of exactly these runs."""
    stored = load_records(asked.training.records)
    # The table needs searches too: they name the folds that chose a learning rate.
    context = () if asked.study == TUNE else (SearchRun, BaselineRun)  # a table shows only baselines on its clips
    runs = [run for run in stored if run.key in keys or isinstance(run, context)]
    log_missing(keys, {run.key for run in runs})
    inputs = TableInputs(load_paper(), Records(tuple(runs)), asked.training.records)
    print_table(_table(asked.study, asked.dataset, inputs), asked.format)
    if asked.figures is not None:
        log_files(write_data_efficiency_figure(inputs.records, asked.figures))
    if asked.is_own and asked.study == TUNE:
        _log_lines(steps_after_search(keys, stored, asked))
    elif asked.is_own and asked.training.run != "none":
        _log_lines(next_steps(keys, stored, asked.training.runs, asked.training.records))
    return 0


def _log_lines(lines: Iterable[str]) -> None:
    for line in lines:
        log(line)


def _table(study: str, dataset: str, inputs: TableInputs) -> Table:
    if study in COMPARISONS:
        return comparison_table(inputs, dataset)
    return tune_table(inputs, dataset) if study == TUNE else build(study, inputs)


# --- the runs ---


def _plan(asked: StudyOptions, preset: ComparisonPreset, index: ClipIndex) -> list[Experiment]:
    """List the experiments of the study on this corpus."""
    # Use listed splits: a fold without usable clips must be an error, not a smaller cross-validation.
    splits = tuple(sorted(index.listed))
    if asked.study == TUNE:
        train, validation = _search_splits(asked, index)
        return learning_rate_search(preset, asked.dataset, index.variant, train, validation)
    seeds = tuple(range(asked.seeds))
    fixed = plan_splits(dataset_spec(asked.dataset), splits)
    if fixed is not None:
        if asked.folds is not None:
            tested = ", ".join(fixed.test)
            raise InputError(f"--folds {asked.folds}: {asked.dataset} has an official test split, {tested}; omit it")
        return fixed_split(preset, asked.dataset, index.variant, fixed.train, fixed.test, seeds, val=fixed.val)
    testable = preset.test_folds(splits)
    count = len(testable) if asked.folds is None else asked.folds
    if not 1 <= count <= len(testable):
        raise InputError(f"--folds {asked.folds}: {len(testable)} folds can be tested, pass 1 to {len(testable)}")
    experiments = cross_validation(preset, asked.dataset, splits, testable[:count], seeds)
    if asked.study == "pooling":
        experiments = pooling_variants(experiments)
        if asked.training.run != "none":
            _warn_of_costly_variants(experiments, preset, index, asked.training.records)
    if asked.study == "components":
        experiments = component_variants(experiments, preset, asked.without)
    if asked.study == "data_efficiency":
        experiments = on_parts(experiments)
    if asked.study == "equal_macs":
        experiments += at_equal_macs(experiments, _macs(experiments, preset, index, asked.training.records))
    return experiments


def _search_splits(asked: StudyOptions, index: ClipIndex) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Training and validation splits of a search; see `with_validation`."""
    splits = tuple(sorted(index.listed))
    folds = tuple(split for split in splits if split != HELD_OUT)
    fixed = plan_splits(dataset_spec(asked.dataset), folds)
    if fixed is not None:
        return fixed.train, (HELD_OUT,) if HELD_OUT in splits else fixed.val
    if asked.fold not in folds:
        raise InputError(f"--fold {asked.fold}: the data have folds {', '.join(folds)}")
    train = tuple(fold for fold in folds if fold != asked.fold)
    return train, (HELD_OUT,) if HELD_OUT in splits else (asked.fold,)


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

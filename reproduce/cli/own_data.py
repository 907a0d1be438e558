"""Look at a user's own clips before anything is trained: survey them, fit the settings, plan the runs.

Functions that measure log-mels import torch themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from reproduce.cli.own_text import SurveyedClips, clip_lines, setting_lines
from reproduce.cli.progress import progress_bar
from reproduce.cli.study_options import TUNE, StudyOptions
from reproduce.data.group_hints import GroupHint, group_hint
from reproduce.data.survey import survey_clips, usable_clips
from reproduce.data.waveform_store import Waveforms
from reproduce.datasets import ClipIndex, Problem, dataset_spec, read_variant
from reproduce.datasets.holdout import hold_out
from reproduce.datasets.readers.scan import split_suffix
from reproduce.datasets.splits import plan_splits
from reproduce.errors import InputError, first_of
from reproduce.experiments.experiment import MEASURED, Experiment
from reproduce.experiments.own_settings import Asked, OwnClips, fit_preset, is_capped
from reproduce.experiments.preset_files import ChosenPreset, apply_changes
from reproduce.experiments.presets import ComparisonPreset

CLASSES_NAMED = 5
SplitPair = tuple[tuple[str, ...], tuple[str, ...]]  # of the training and of the test clips of a run
Planner = Callable[[ComparisonPreset, ClipIndex], list[Experiment]]


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Clips and runs that are ready to be trained.

    Args:
        index: every clip that has a file, with the splits of the runs; None reads them.
        usable: the clips that the runs are planned on.
        preset: with all settings.
        experiments: the runs.
        lines: what the clips are and which settings follow; () for a registered data set.
    """

    index: ClipIndex | None
    usable: ClipIndex
    preset: ComparisonPreset
    experiments: Sequence[Experiment]
    lines: Sequence[str] = ()


def prepare_own(asked: StudyOptions, chosen: ChosenPreset, plan: Planner) -> Prepared:
    """Survey the clips, fit the preset to them and plan the runs.

    Args:
        asked: options of the study.
        chosen: preset and the fields that the user states.
        plan: (preset, clips) -> runs.

    Raises:
        InputError: the data cannot be read, have no usable clip, or lack clips to train or to test on.
    """
    index = read_variant(asked.dataset, asked.path, asked.variant, follow_outside=asked.training.follow_outside)
    if asked.study == TUNE:
        index = with_validation(index, asked.fold)
    clips = _survey(asked, index)
    facts = _facts(clips, plan(chosen.preset, clips.usable)[0].train_splits)
    wanted = Asked(seconds=asked.seconds, class_balanced=asked.class_balanced)
    fitted = fit_preset(chosen.preset, facts, wanted)
    preset = apply_changes(fitted, chosen.changes)
    capped = is_capped(facts.seconds, wanted) and preset.front_end.seconds == fitted.front_end.seconds
    experiments = normalised(asked, plan(preset, clips.usable), clips.usable)
    pairs = {(experiment.train_splits, experiment.test_splits) for experiment in experiments}
    found = [warning for warning in (_copies(clips, pairs), _untrained(clips.usable, pairs)) if warning]
    index = replace(index, problems=(*index.problems, *found))
    clips = replace(clips, usable=replace(clips.usable, problems=(*clips.usable.problems, *found)))
    lines = [*clip_lines(clips), *setting_lines(clips, preset, experiments, asked.study, capped=capped)]
    return Prepared(index=index, usable=clips.usable, preset=preset, experiments=experiments, lines=lines)


def with_validation(index: ClipIndex, fold: str) -> ClipIndex:
    """The clips with a part to validate a search on: the val split, another fold, or a fifth of the training clips."""
    plan = plan_splits(dataset_spec(index.dataset), index.listed)
    if plan is not None:
        return index if plan.val else hold_out(index, plan.train)
    folds = sorted(index.listed)
    return index if len(folds) >= 3 else hold_out(index, tuple(name for name in folds if name != fold))


def normalised(
    asked: StudyOptions, experiments: list[Experiment], usable: ClipIndex, waveforms: Waveforms | None = None
) -> list[Experiment]:
    """The experiments with the statistics of their training clips, unless the user wants others.

    Args:
        asked: the command.
        experiments: with one front end.
        usable: the clips.
        waveforms: of shards; None where the clips are files.
    """
    if not (asked.normalise == "data" or (asked.normalise is None and asked.is_own)):
        return experiments
    if {"front_end.mean", "front_end.std"} & set(asked.changes):
        return experiments
    from reproduce.data.training_norm import CLIPS, training_norms

    (front_end,) = {experiment.front_end for experiment in experiments}
    sets = [experiment.train_splits for experiment in experiments]
    with progress_bar("measuring log-mels", total=min(CLIPS, len(usable))) as bar:
        cache = survey_folder(asked.training.runs)
        fitted = training_norms(usable, front_end, sets, cache, bar.update, waveforms)
    return [replace(e, front_end=fitted[e.train_splits], normalise=MEASURED) for e in experiments]


def survey_folder(runs: Path) -> Path:
    """Where surveys and statistics are kept."""
    return runs / "surveys"


def _survey(asked: StudyOptions, index: ClipIndex) -> SurveyedClips:
    with progress_bar("looking at the clips", total=len(index)) as bar:
        survey = survey_clips(index, survey_folder(asked.training.runs), on_clip=bar.update)
    usable = usable_clips(index, survey)
    _check_classes(usable)
    return SurveyedClips(name=asked.name, listed=index, usable=usable, survey=survey, hint=_hint(usable))


def _copies(clips: SurveyedClips, pairs: Iterable[SplitPair]) -> Problem | None:
    """The warning about sounds that a run trains on and is tested on, which tables and records keep; None without."""
    content, clip_splits = clips.survey.content, np.array(clips.listed.splits.tolist())
    leaked = np.zeros(len(content), bool)
    for train, test in pairs:
        parts = [np.isin(clip_splits, splits) & (content != 0) for splits in (train, test)]
        both = np.intersect1d(*(content[part] for part in parts))
        leaked |= np.isin(content, both) & (parts[0] | parts[1])
    if not leaked.any():
        return None
    first = int(np.flatnonzero(leaked)[0])
    others = np.flatnonzero(leaked & (content == content[first]) & (clip_splits != clip_splits[first]))
    pair = " and ".join(f"{clips.listed.clip_ids[i]} ({clip_splits[i]})" for i in (first, int(others[0])))
    message = (
        f"{leaked.sum():,} clips are the same sounds in training and in test, such as {pair}: the scores are too high; "
        "remove the copies, which `data audit` lists"
    )
    return Problem("", "copies", message, fatal=False)


def _untrained(usable: ClipIndex, pairs: Iterable[SplitPair]) -> Problem | None:
    """The warning about classes that a run is tested on without a training clip; None without."""
    names = set()
    for train, test in pairs:
        tested, trained = usable.where_split(*test), usable.where_split(*train)
        for head, classes in usable.classes.items():
            untrained = np.setdiff1d(tested.labels[head].values, trained.labels[head].values)
            names |= {classes[int(number)] for number in untrained}
    if not names:
        return None
    message = (
        f"a run has test clips but no training clip of {first_of(sorted(names), CLASSES_NAMED)}: it cannot name them; "
        "add clips, or leave them out"
    )
    return Problem("", "untrained-classes", message, fatal=False)


def _check_classes(usable: ClipIndex) -> None:
    """InputError unless there is something to tell apart: two classes, or labels that a clip may lack."""
    found = {head: np.unique(usable.labels[head].values) for head in usable.classes}
    if len(usable) and not usable.multilabel and all(len(classes) < 2 for classes in found.values()):
        head, classes = next(iter(found.items()))
        raise InputError(
            f"{usable.root}: all {len(usable)} usable clips are of one class, {usable.classes[head][classes[0]]}: "
            "there is nothing to tell apart; add clips of another class"
        )


def _hint(index: ClipIndex) -> GroupHint | None:
    if index.groups is not None:
        return None
    head = next(iter(index.labels))
    labels = [index.labels[head].row(i)[0] if index.labels[head].row(i) else -1 for i in range(len(index))]
    names = [split_suffix(name)[0] for name in index.clip_ids.tolist()]
    return group_hint(names, labels)


def _facts(clips: SurveyedClips, train_splits: tuple[str, ...]) -> OwnClips:
    train = clips.usable.where_split(*train_splits)
    head = next(iter(train.labels))
    counts = np.bincount(train.labels[head].values, minlength=len(train.classes[head]))
    return OwnClips(
        seconds=clips.survey.seconds[clips.survey.usable],
        train_clips=len(train),
        class_counts=[int(n) for n in counts if n],
        heads=len(train.classes),
    )

"""A survey of the user's own clips, and the settings that follow, as lines of text. No torch here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from reproduce.data.group_hints import GroupHint
from reproduce.data.survey import Survey
from reproduce.datasets import ClipIndex, Problem
from reproduce.datasets.splits import is_fold
from reproduce.experiments.experiment import Experiment
from reproduce.experiments.own_settings import FITTED, LONGER, LONGEST_S
from reproduce.experiments.presets import ComparisonPreset
from reproduce.tables.conditions import counted, epochs_text

WIDTH = 14  # of the labels
NAMED = 5  # classes or problems that are named
CAPPED = f"clips are longer: the fitted input is at most {LONGEST_S:g} s (--seconds takes more of them)"
FEW_CLIPS = 10  # of a class in training, below which little can be learnt


def _line(label: str, text: str) -> str:
    return f"  {label:<{WIDTH}}{text}"


def _more(items: Sequence[str], most: int = NAMED) -> str:
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")


def duration_text(seconds: float) -> str:
    """ "0.20 s", "12.5 s", "35 min", "3.3 h"."""
    if seconds < 10:
        return f"{seconds:.2f} s"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


# --- the clips ---


@dataclass(frozen=True, kw_only=True)
class SurveyedClips:
    """The user's own clips and what decoding them showed.

    Args:
        name: of the corpus.
        listed: every clip that has a file.
        usable: those that decode, with all problems.
        survey: of `listed`.
        hint: sign of groups in the names, None without one.
    """

    name: str
    listed: ClipIndex
    usable: ClipIndex
    survey: Survey
    hint: GroupHint | None


def clip_lines(clips: SurveyedClips) -> list[str]:
    """What the clips are: counts, lengths, rates, channels, groups, splits, and what is left out."""
    index, survey = clips.usable, clips.survey
    seconds = survey.seconds[survey.usable]
    listed = sum(index.listed.values())
    return [
        f"{clips.name}: {len(index):,} of {listed:,} listed clips can be used, {duration_text(seconds.sum())} of sound",
        *_class_lines(index),
        _line("lengths", _lengths(seconds)),
        _line("rates", _counted(survey.rates[survey.usable], lambda rate: f"{rate / 1000:g} kHz")),
        _line("channels", _counted(survey.channels[survey.usable], _channels)),
        _line("groups", _groups(index)),
        _line("splits", _splits(index)),
        *_problem_lines(index),
        *_hint_lines(clips),
    ]


def _class_lines(index: ClipIndex) -> list[str]:
    lines = []
    for head, names in index.classes.items():
        counts = np.bincount(index.labels[head].values, minlength=len(names))
        order = np.argsort(-counts, kind="stable")
        shown = [f"{names[i]} {counts[i]:,}" for i in order]
        if len(shown) > 2 * NAMED:
            shown = [*shown[:NAMED], "...", *shown[-NAMED:]]
        kind = ", several per clip" if index.multilabel else ""
        label = "classes" if len(index.classes) == 1 else f"{head}s"
        lines.append(_line(label, f"{len(names)}{kind}: {', '.join(shown)}"))
    return lines


def _lengths(seconds: np.ndarray) -> str:
    low, middle, high = np.percentile(seconds, (5, 50, FITTED))
    return (
        f"{duration_text(low)} / {duration_text(middle)} / {duration_text(high)} (5th, 50th, {FITTED}th percentile), "
        f"from {duration_text(seconds.min())} to {duration_text(seconds.max())}"
    )


def _counted(values: np.ndarray, text: Callable[[int], str]) -> str:
    counts = Counter(values.tolist()).most_common()
    return _more([f"{text(value)} ({count:,})" for value, count in counts], 8)


def _channels(count: int) -> str:
    return {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}.get(count, f"{count} channels")


def _groups(index: ClipIndex) -> str:
    if index.groups is None:
        return "none known: every clip counts as independent"
    sizes = np.array(list(Counter(index.groups.tolist()).values()))
    return f"{len(sizes):,} {index.unit}s of {int(np.median(sizes)):,} clips at the median (at most {sizes.max():,})"


def _splits(index: ClipIndex) -> str:
    counts = Counter(index.splits.tolist())
    names = sorted(counts, key=lambda name: (int(name) if is_fold(name) else 0, name))
    kind = "folds" if all(map(is_fold, names)) else "its own"
    return f"{kind}: {', '.join(f'{name} {counts[name]:,}' for name in names)}"


def _problem_lines(index: ClipIndex) -> list[str]:
    fatal = [problem for problem in index.problems if problem.fatal]
    warned = [problem for problem in index.problems if not problem.fatal]
    lines = [_line("left out", _reasons(fatal) if fatal else "nothing")]
    lines += [_line("", problem.message) for problem in fatal[:NAMED]]
    if warned:
        lines.append(_line("warnings", _reasons(warned)))
        # A warning about the whole list says more than one about a clip.
        ordered = sorted(warned, key=lambda problem: bool(problem.clip_id))
        lines += [_line("", problem.message) for problem in ordered[:NAMED]]
    if len(fatal) > NAMED or len(warned) > NAMED:
        lines.append(_line("", "the records of the runs list all"))
    return lines


def _reasons(problems: Iterable[Problem]) -> str:
    counts = Counter(problem.reason for problem in problems).most_common()
    return f"{sum(count for _, count in counts):,}: {', '.join(f'{reason} {count:,}' for reason, count in counts)}"


def _hint_lines(clips: SurveyedClips) -> list[str]:
    hint = clips.hint
    if hint is None:
        return []
    first, second = hint.examples
    return [
        _line(
            "groups?", f"names suggest {hint.groups:,} groups, such as {first} and {second}: if these are takes of one"
        ),
        _line("", "recording or speaker, list them in a CSV with a `group` column, or the scores are too high"),
    ]


# --- the settings ---


def setting_lines(
    clips: SurveyedClips,
    preset: ComparisonPreset,
    experiments: Sequence[Experiment],
    study: str,
    *,
    capped: bool = False,
) -> list[str]:
    """The settings of the runs, with the option that changes each.

    Args:
        clips: surveyed.
        preset: with all settings.
        experiments: the runs.
        study: "compare", "tune" and so on.
        capped: whether the clips are longer than the longest input that is fitted to clips.
    """
    spec, recipe = preset.front_end, preset.recipe
    seconds = clips.survey.seconds[clips.survey.usable]
    padding = 100 * float(np.mean(1 - np.minimum(seconds, spec.seconds) / spec.seconds))
    rates = ", ".join(f"{preset.recipe_of(model).lr:g} ({model})" for model in preset.models)
    if study == "tune":
        rates = f"{', '.join(f'{rate:g}' for rate in preset.search_lrs)} are tried"
    tuned = "" if study == "tune" else f"; `tune {clips.usable.dataset} PATH` searches them"
    sampling = "every class alike (balanced)" if recipe.sampler == "balanced" else "each clip once per epoch"
    return [
        "settings (--set FIELD=VALUE changes a field, --preset FILE.toml many):",
        _line(
            "input",
            f"{spec.seconds:.2f} s, {padding:.0f} % of it padding on average: {spec.mels} mels x {spec.frames} frames, "
            f"hop {spec.frame_shift_ms:.3g} ms, window {spec.frame_length_ms:.3g} ms (--seconds)",
        ),
        *([_line("", CAPPED)] if capped else []),
        *_crop_lines(seconds, preset),
        _line("normalise", _normalisation(experiments)),
        _line("sampling", f"{sampling} (--class-balanced, --no-class-balanced)"),
        _line("training", f"{epochs_text(recipe)}, batch {recipe.batch_size}, lr {rates}{tuned}"),
        _line(
            "augmentation",
            f"masks up to {recipe.freq_mask} mels and {recipe.time_mask} frames, mixup {recipe.mixup:g}",
        ),
        _line("tested", _tested(experiments, study, preset.validation_fold)),
    ]


def _crop_lines(seconds: np.ndarray, preset: ComparisonPreset) -> list[str]:
    spec, recipe = preset.front_end, preset.recipe
    longer = int((seconds > LONGER * spec.seconds).sum())
    if not longer:
        return []
    crops = f"{recipe.test_crops} evenly spaced crops" if recipe.test_crops > 1 else "their first seconds"
    trained = "a random part" if recipe.crop == "random" else "the first seconds"
    return [
        _line(
            "longer clips",
            f"{longer:,} ({100 * longer / len(seconds):.1f} %): {trained} is trained on, {crops} are tested "
            "(--set crop, test_crops)",
        )
    ]


def _normalisation(experiments: Sequence[Experiment]) -> str:
    specs = list(dict.fromkeys(e.front_end for e in experiments))
    mean = _range_text([f"{spec.mean:.2f}" for spec in sorted(specs, key=lambda spec: spec.mean)])
    deviation = _range_text([f"{spec.std:.2f}" for spec in sorted(specs, key=lambda spec: spec.std)])
    text = f"mean {mean}, deviation {deviation}"
    if not experiments[0].normalise:
        return f"{text}, AST's of AudioSet (--normalise)"
    if len(specs) > 1:
        return f"each fold by its own training clips: {text} (--normalise)"
    return f"{text} of the training clips (--normalise)"


def _range_text(values: Sequence[str]) -> str:
    """ "5.19 to 5.22", or the one value."""
    return values[0] if values[0] == values[-1] else f"{values[0]} to {values[-1]}"


def _tested(experiments: Sequence[Experiment], study: str, never_tested: str) -> str:
    first = experiments[0]
    folds = sorted({",".join(e.test_splits) for e in experiments}, key=lambda name: (len(name), name))
    seeds = len({e.seed for e in experiments})
    if study == "tune":
        if not all(map(is_fold, first.train_splits)) or folds == [never_tested]:
            return f"on {', '.join(folds)}, validation clips of the training part: no test clip is read"
        where = f"fold {folds[0]}" if is_fold(folds[0]) else f"a held-out part of fold {','.join(first.train_splits)}"
        return f"on {where} alone, which chooses the rate; `train` tests those clips too, so its score is a little high"
    scored = f"; {', '.join(first.val_splits)} is scored every epoch" if first.val_splits else ""
    by_fold = all(map(is_fold, folds))
    where = f"{len(folds)} of {len(set(first.train_splits + first.test_splits))} folds" if by_fold else _more(folds)
    return f"{where}, {counted(seeds, 'seed')}: {counted(len(experiments), 'run')}, the last epoch counts{scored}"

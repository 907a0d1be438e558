"""What stands under a table of runs: protocol, classes, problems and paired tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from reproduce.datasets import dataset_spec
from reproduce.experiments.recipe import Recipe
from reproduce.metrics.bootstrap import clustered_replicates, percentile_interval
from reproduce.metrics.intervals import mcnemar
from reproduce.metrics.scores import top_k_correct
from reproduce.records.pooled import common_runs, pooled
from reproduce.records.predictions import load_predictions
from reproduce.records.runs import TrainedRun
from reproduce.records.selection import searches
from reproduce.tables.base import (
    Column,
    TableInputs,
    epochs_text,
)

PROBLEMS_NAMED = 10
WILSON_NOTE = (
    "Intervals are 95 % Wilson intervals over test clips, taken as independent although some are cut from one "
    "recording; they know nothing of the spread over training runs."
)


SCORE_COLUMNS = (
    Column("top1", "Top-1", "%", 1),
    Column("top5", "Top-5", "%", 1),
    Column("verb_top1", "Verb", "%", 1),
    Column("noun_top1", "Noun", "%", 1),
    Column("action_top1", "Action", "%", 1),
    Column("map", "mAP", "%", 1),
    Column("mauc", "mAUC", "%", 1),
    Column("d_prime", "d'", "", 2),
)


def run_title(group: Sequence[TrainedRun]) -> str:
    """Scale, data (a stand-in is named as one), classes and split of runs that stand side by side."""
    run = group[0]
    name = dataset_spec(run.dataset).title + (f" ({run.variant})" if run.variant else "")
    if run.standin:
        name += ", synthetic STAND-IN"
    classes = " and ".join(
        f"{len(names)} classes" if head == "label" else f"{len(names)} {head}s" for head, names in run.classes.items()
    )
    folds = len({tuple(r.test_splits) for r in group})
    everything = len(run.train_splits + run.test_splits)
    tested = f"{folds} of {everything} folds tested" if run.is_cross_validation else "its own split"
    # The paper has no such table: its scale here is that of its models.
    scale = "demo scale" if group[0].scale == "demo" else "the paper's model sizes"
    return f"{scale}: {name}, {classes}, {tested}"


def protocol_notes(group: Sequence[TrainedRun], intervals: str = "") -> list[str]:
    """What was run, and the recipe that every model had. `intervals` says what the intervals of accuracies are."""
    classes, recipe, front_end = group[0].classes, group[0].recipe, group[0].front_end
    tested = ", ".join(sorted({",".join(r.test_splits) for r in group}))
    trained = ", ".join(sorted({split for r in group for split in r.train_splits}))
    chance = " and ".join(
        f"{100 / len(names):.1f} %" + ("" if head == "label" else f" ({head})") for head, names in classes.items()
    )
    notes = [
        f"Tested on {tested}, trained on {trained}"
        + (" without the tested one." if group[0].is_cross_validation else ".")
    ]
    if not group[0].multilabel:
        notes.append(f"Chance is {chance}. {intervals}".rstrip())
    rates = sorted({(r.model, r.recipe.lr) for r in group})
    own = len({rate for _, rate in rates}) > 1
    lr = " and ".join(f"{rate:g} ({model})" for model, rate in rates) if own else f"{recipe.lr:g}"
    epochs = " or ".join(dict.fromkeys(epochs_text(r.recipe) for r in group))
    notes.append(
        f"Every model: {epochs}, {_training_text(recipe, lr)}, mixup {recipe.mixup:g}, SpecAugment "
        f"{recipe.freq_mask}/{recipe.time_mask}, input 1 x {front_end.mels} x {front_end.frames} at a "
        f"{front_end.frame_shift_ms:g} ms hop, from {group[0].weights}; {_regularisation_text(recipe)}; "
        "weights of the last epoch."
    )
    return notes


def _training_text(recipe: Recipe, lr: str) -> str:
    """Batch, optimizer with its learning rate, schedule."""
    optimizer = {"adamw": "AdamW", "adam": "Adam"}[recipe.optimizer]
    schedule = "a cosine"
    if recipe.schedule == "steps":
        schedule = f"steps (x{recipe.decay:g} every {recipe.decay_every} epochs from {recipe.decay_start})"
    sampler = ", class-balanced sampling" if recipe.sampler == "balanced" else ""
    return (
        f"batch {recipe.batch_size}, {optimizer} lr {lr} with "
        f"{recipe.warmup_steps} warm-up steps and {schedule}{sampler}"
    )


def _regularisation_text(recipe: Recipe) -> str:
    spared = " (none on biases, norms and AST's position embedding)" if recipe.optimizer != "adam" else ""
    smoothing = f"label smoothing {recipe.label_smoothing:g}, " if recipe.label_smoothing else ""
    return (
        f"{smoothing}weight decay {recipe.weight_decay:g}{spared}, gradients clipped at {recipe.clip_norm:g}, "
        f"drop path {recipe.drop_path_rate:g}"
    )


def pairing_notes(inputs: TableInputs, by_row: Mapping[str, Sequence[TrainedRun]], reference: str) -> list[str]:
    """Every other row against the reference on the clips that both have been tested on, a line a pair and head."""
    if len(by_row) < 2:
        return []
    first = reference if reference in by_row else next(iter(by_row))
    notes = []
    for label, runs in by_row.items():
        if label != first:
            notes += _paired(inputs, (first, by_row[first]), (label, runs))
    return notes


def search_notes(inputs: TableInputs, by_row: Mapping[str, Sequence[TrainedRun]], column: Column) -> list[str]:
    """What the rows score without the folds on which their learning rates were chosen: there they are flattered."""
    runs = [record for records in by_row.values() for record in records]
    rated = {(r.model, r.recipe.lr) for r in runs}
    chosen_on = {
        split
        for record in searches(inputs.records, runs[0].dataset)
        if record.classes == runs[0].classes and (record.model, record.recipe.lr) in rated
        for split in record.test_splits
    }
    tested = {split for record in runs for split in record.test_splits}
    if not chosen_on & tested:
        return []
    told = f"Learning rates were chosen on the clips of fold {', '.join(sorted(chosen_on))} (`tune`)"
    rest = {label: [r for r in records if not chosen_on & set(r.test_splits)] for label, records in by_row.items()}
    if not all(rest.values()):
        return [f"{told}, which every score here is of: they are flattered."]
    scores = ", ".join(f"{label} {pooled(records, column.key).value:.1f} %" for label, records in rest.items())
    return [f"{told}. {column.title} on the others alone: {scores}."]


def _paired(
    inputs: TableInputs, first: tuple[str, Sequence[TrainedRun]], second: tuple[str, Sequence[TrainedRun]]
) -> list[str]:
    """McNemar's test of every seed, and of several the difference of their means with its interval over clips."""
    (name_a, runs_a), (name_b, runs_b) = first, second
    found: dict[str, dict[int, dict[str, tuple[bool, bool]]]] = {}  # head -> seed -> clip -> right in first, second
    for a, b in zip(*common_runs(runs_a, runs_b), strict=True):
        right_a, right_b = _right_clips(inputs, a), _right_clips(inputs, b)
        if right_a is None or right_b is None:
            return [f"Paired test not run: the stored predictions of {a.key} or {b.key} are absent."]
        for head in right_a.keys() & right_b.keys():
            both = right_a[head].keys() & right_b[head].keys()
            pairs = {clip: (right_a[head][clip], right_b[head][clip]) for clip in both}
            found.setdefault(head, {}).setdefault(a.seed, {}).update(pairs)
    notes = []
    for head, seeds in sorted(found.items()):
        what = "" if head == "label" else f"{head}, "
        tests = []
        for seed, pairs in sorted(seeds.items()):
            only_a = sum(a and not b for a, b in pairs.values())
            only_b = sum(b and not a for a, b in pairs.values())
            tests.append(
                f"({what}seed {seed}): only {name_a} is right on {only_a}, only {name_b} on {only_b}; "
                f"exact McNemar p = {mcnemar(only_a, only_b):.3g}"
            )
        clips = set.intersection(*(set(pairs) for pairs in seeds.values()))
        mean = f" {_mean_difference(name_a, name_b, seeds, sorted(clips))}" if len(seeds) > 1 and clips else ""
        notes.append(f"Paired on the same {len(clips)} test clips {'; '.join(tests)}.{mean}")
    return notes


def _mean_difference(
    name_a: str, name_b: str, seeds: Mapping[int, Mapping[str, tuple[bool, bool]]], clips: Sequence[str]
) -> str:
    """Of the means over seeds, bootstrapped over recordings: seeds repeat the clips, they do not add any."""
    gains = np.array([np.mean([float(s[clip][1]) - float(s[clip][0]) for s in seeds.values()]) for clip in clips])
    sources = [source_of(clip) for clip in clips]
    low, high = percentile_interval(clustered_replicates(gains, sources))
    return (
        f"Mean over {len(seeds)} seeds: {name_b} - {name_a} = {100 * gains.mean():+.1f} [{low:+.1f}, {high:+.1f}] "
        f"points, bootstrapped over the {len(set(sources)):,} recordings that the clips are of."
    )


def source_of(clip_id: str) -> str:
    """The recording that a clip was cut from, where its id is one of ESC-50's (FOLD-SOURCE-TAKE-CLASS); else itself."""
    parts = clip_id.split("-")
    return parts[1] if len(parts) == 4 and parts[1].isdecimal() else clip_id


def _right_clips(inputs: TableInputs, record: TrainedRun) -> dict[str, dict[str, bool]] | None:
    """Head -> clip id -> whether the stored prediction is right; None where the file is absent.

    Multi-label heads, where no clip is simply right, are left out.
    """
    stored = load_predictions(inputs.records_dir, record)
    if stored is None:
        return None
    outcomes = {}
    for head, logits in stored.logits.items():
        if f"{'' if head == 'label' else head + '_'}top1" in record.metrics:
            right = top_k_correct(logits, stored.targets[head].argmax(axis=1))
            outcomes[head] = dict(zip(map(str, stored.clip_ids), map(bool, right), strict=True))
    return outcomes


def class_notes(group: Sequence[TrainedRun]) -> list[str]:
    """How many classes mAP is a mean of, where the test clips do not show them all."""
    notes = []
    for head, names in group[0].classes.items():
        key = "classes_without_positives" if head == "label" else f"{head}_classes_without_positives"
        empty = {int(record.metric(key)) for record in group if key in record.metrics} - {0}
        if empty:
            what = "" if head == "label" else f"{head} "
            notes.append(
                f"No test clip shows {max(empty)} of the {len(names)} {what}classes; mAP is a mean over the others."
            )
    return notes


def problem_notes(group: Sequence[TrainedRun]) -> list[str]:
    """Clips and rows that could not be used, or were used with a warning, over all runs of the group."""
    problems = {problem for record in group for problem in record.problems}
    notes = []
    if missing := max(record.missing for record in group):
        notes.append(f"Listed, but without a file: {missing} clips.")
    for what, wanted in (("Not used", True), ("Used with a warning", False)):
        these = (problem for problem in problems if problem.fatal is wanted)
        named = sorted(f"{p.clip_id} ({p.reason})" if p.clip_id else p.message for p in these)
        if named:
            more = f" and {len(named) - PROBLEMS_NAMED} more, see the record" if len(named) > PROBLEMS_NAMED else ""
            notes.append(f"{what}, clips or rows: {len(named)}: {', '.join(named[:PROBLEMS_NAMED])}{more}.")
    return notes

"""Notes under a table of runs: protocol, classes, problems and paired tests."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from reproduce.datasets import dataset_spec
from reproduce.datasets.index import DEFAULT_HEAD
from reproduce.datasets.splits import is_fold
from reproduce.experiments.families import listed
from reproduce.experiments.recipe import Recipe
from reproduce.metrics.intervals import corrected_interval
from reproduce.metrics.paired import clustered_difference, discordant_clips
from reproduce.records.pooled import common_runs, pooled
from reproduce.records.predictions import load_predictions
from reproduce.records.runs import ScoredRun, TrainedRun
from reproduce.records.selection import searches
from reproduce.tables.base import POINTS, Cell, Column, TableInputs, not_run
from reproduce.tables.conditions import counted, epochs_text, input_text
from reproduce.tables.score_cells import mcnemar_text
from reproduce.tables.scores import correct_clips
from reproduce.tables.units import bootstrap_text, shared_unit, sources_of, unit_of, units_text

Rows = Mapping[str, Sequence[TrainedRun]]  # label -> the runs of a row

PROBLEMS_NAMED = 10
CONFIDENT = 0.05  # level of a test, or of several together

STANDIN_NOTE = (
    "Synthetic stand-in: these runs show that the data path, the training and this table work. They are no comparison "
    "of the models: no difference is printed and none is meant."
)


def standin_notes(group: Sequence[TrainedRun]) -> list[str]:
    """Say of runs on a stand-in that they compare nothing; nothing for other runs."""
    return [STANDIN_NOTE] if group[0].standin else []


def data_name(run: ScoredRun) -> str:
    """ "Kinetics-Sounds (ks32)", or "my birds (own folder)": the data set that a run was scored on."""
    title = dataset_spec(run.dataset).title
    if run.corpus:
        title = f"{run.corpus.replace('_', ' ')} ({title[:1].lower()}{title[1:]})"
    return title + (f" ({run.variant})" if run.variant else "")


def marked_name(run: ScoredRun) -> str:
    """The data's name; a stand-in is named as one."""
    return data_name(run) + (", synthetic STAND-IN" if run.standin else "")


def run_title(group: Sequence[TrainedRun]) -> str:
    """Scale, data (a stand-in is named as one), classes and split of runs that are compared."""
    run = group[0]
    classes = " and ".join(
        counted(len(names), "class") if head == DEFAULT_HEAD else f"{len(names)} {head}s"
        for head, names in run.classes.items()
    )
    folds, every = len({r.fold for r in group}), len(run.train_splits + run.test_splits)
    tested = f"{folds} of {every} folds tested" if run.is_cross_validation else "its own split"
    # The paper has no such table: its scale here is that of its models.
    scale = "demo scale" if run.scale == "demo" else "the paper's model sizes"
    return f"{scale}: {marked_name(run)}, {classes}, {tested}"


def protocol_notes(group: Sequence[TrainedRun], intervals: str = "") -> list[str]:
    """What was run, and the recipe of every model.

    Args:
        group: runs that are compared.
        intervals: what the intervals of accuracies are, "" for nothing.
    """
    run = group[0]
    recipe, front_end = run.recipe, run.front_end
    tested = {split for r in group for split in r.test_splits}
    trained = {split for r in group for split in r.train_splits}
    without = " without the tested one" if tested & trained else ""
    notes = [f"Tested on {_splits_text(tested)}, trained on {_splits_text(trained)}{without}."]
    if not run.multilabel:
        chance = " and ".join(
            f"{100 / len(names):.1f} %" + ("" if head == DEFAULT_HEAD else f" ({head})")
            for head, names in run.classes.items()
        )
        notes.append(f"Chance is {chance}. {intervals}".rstrip())
    rates = sorted({(r.model, r.lr) for r in group})
    several = len({rate for _, rate in rates}) > 1
    lr = listed([f"{rate:g} ({model})" for model, rate in rates]) if several else f"{recipe.lr:g}"
    epochs = " or ".join(dict.fromkeys(epochs_text(r.recipe) for r in group))
    notes.append(
        f"Every model: {epochs}, {_training_text(recipe, lr)}, mixup {recipe.mixup:g}, SpecAugment "
        f"{recipe.freq_mask}/{recipe.time_mask}, input 1 x {input_text(front_end)} with a "
        f"hop of {front_end.frame_shift_ms:g} ms, from {run.weights}; {_regularisation_text(recipe)}; "
        f"{_crop_text(run)}weights of the last epoch."
    )
    return notes


def _splits_text(splits: Collection[str]) -> str:
    """ "fold 1", "folds 1, 2, 10", "train, val"."""
    if not all(map(is_fold, splits)):
        return ", ".join(sorted(splits))
    return f"fold{'s' * (len(splits) > 1)} {', '.join(sorted(splits, key=int))}"


def _crop_text(run: TrainedRun) -> str:
    """How longer clips and levels are handled, where a recipe differs from the usual."""
    recipe = run.recipe
    crops = (
        f"random crops in training, {recipe.test_crops} crops per longer test clip; " if recipe.crop == "random" else ""
    )
    measured = "normalised by mean and deviation of the training clips; " if run.normalise else ""
    return crops + measured


def _training_text(recipe: Recipe, lr: str) -> str:
    """Batch, optimizer with its learning rate, schedule."""
    optimizer = {"adamw": "AdamW", "adam": "Adam", "sgd": "SGD"}[recipe.optimizer]
    schedule = "a cosine"
    if recipe.schedule == "steps":
        schedule = f"steps (x{recipe.decay:g} every {recipe.decay_every} epochs from {recipe.decay_start})"
    sampler = ", class-balanced sampling" if recipe.sampler == "balanced" else ""
    return (
        f"batch {recipe.batch_size}, {optimizer} lr {lr} with {recipe.warmup_steps} warm-up steps and "
        f"{schedule}{sampler}"
    )


def _regularisation_text(recipe: Recipe) -> str:
    without = " (none on biases, norms and AST's position embedding)" if recipe.optimizer == "adamw" else ""
    smoothing = f"label smoothing {recipe.label_smoothing:g}, " if recipe.label_smoothing else ""
    return (
        f"{smoothing}weight decay {recipe.weight_decay:g}{without}, gradients clipped at {recipe.clip_norm:g}, "
        f"drop path {recipe.drop_path_rate:g}"
    )


def search_notes(inputs: TableInputs, by_row: Rows, column: Column) -> list[str]:
    """State the folds that chose the learning rates; where these are tested, also the scores without them."""
    runs = [run for group in by_row.values() for run in group]
    rated = {(run.model, run.lr) for run in runs}
    behind = [
        search
        for search in searches(inputs.records, runs[0].dataset)
        if search.classes == runs[0].classes and (search.model, search.lr) in rated
    ]
    chosen_on = {split for search in behind for split in search.test_splits}
    if not chosen_on:
        return []
    text = f"Learning rates were chosen on the clips of {_splits_text(chosen_on)} (`tune`)"
    if unsearched := sorted({run.model for run in runs} - {search.model for search in behind}):
        text += f", but for {listed(unsearched)}, whose rate was not searched"
    if not chosen_on & {split for run in runs for split in run.test_splits}:
        return [f"{text}; no score here is of these clips."]
    others = {label: [run for run in group if not chosen_on & set(run.test_splits)] for label, group in by_row.items()}
    if not all(others.values()):
        return [f"{text}, which are the clips of every score here: the scores are optimistic."]
    scores = ", ".join(f"{label} {pooled(group, column.key).value:.1f} %" for label, group in others.items())
    return [f"{text}. {column.title} on the other folds: {scores}."]


def several_tests_notes(tests: int) -> list[str]:
    """The correction for several tests against one row; nothing for a single test."""
    if tests < 2:
        return []
    return [
        f"{tests} rows are tested against one: at 5 % over all of them a p must be below {CONFIDENT / tests:.3g} "
        "(Bonferroni)."
    ]


def pairing_notes(inputs: TableInputs, by_row: Rows, reference: str) -> list[str]:
    """Every other row against the reference on the clips that both have been tested on: a line per pair and head."""
    if len(by_row) < 2:
        return []
    first = reference if reference in by_row else next(iter(by_row))
    notes = []
    for label, runs in by_row.items():
        if label != first:
            notes += _pair_notes(inputs, (first, by_row[first]), (label, runs))
    return notes


def _pair_notes(
    inputs: TableInputs, first: tuple[str, Sequence[TrainedRun]], second: tuple[str, Sequence[TrainedRun]]
) -> list[str]:
    """McNemar's test per seed, and of several seeds the difference of their means with its interval over units."""
    (name_a, runs_a), (name_b, runs_b) = first, second
    outcomes = _paired_outcomes(inputs, runs_a, runs_b)
    if isinstance(outcomes, str):
        return [f"Paired test not run: {outcomes}."]
    notes = []
    for head, seeds in sorted(outcomes.correct.items()):
        what = "" if head == DEFAULT_HEAD else f"{head}, "
        tests = []
        for seed, pairs in sorted(seeds.items()):
            table = np.array(list(pairs.values()), bool).reshape(-1, 2)
            clips = discordant_clips(table[:, 0], table[:, 1])
            tests.append(f"({what}seed {seed}): {mcnemar_text(name_a, name_b, clips, outcomes.shared_unit)}")
        shared = sorted(set.intersection(*(set(pairs) for pairs in seeds.values())))
        mean = outcomes.difference(head) if len(seeds) > 1 else None
        if mean is not None:
            over = units_text(mean.units, mean.unit)
            found = bootstrap_text((name_a, name_b), mean.value, (mean.low, mean.high), over)
            tests[-1] += f". Mean over {mean.seeds} seeds: {found}"
            if mean.over_runs is not None:
                low, high = mean.over_runs
                tests[-1] += (
                    f"; [{low:+.1f}, {high:+.1f}] over folds and seeds, corrected for overlapping training sets "
                    f"(Nadeau & Bengio 2003): {'a difference' if mean.is_shown else 'no difference'} is shown"
                )
        notes.append(f"Paired on the same {len(shared)} test clips {'; '.join(tests)}.")
    return notes


@dataclass(frozen=True, kw_only=True)
class MeanDifference:
    """Accuracy of a second model minus that of a first, of the means over seeds, on the clips that both have.

    Args:
        value: points.
        low: lower bound of the 95 % interval.
        high: upper bound of the 95 % interval.
        unit: what the bootstrap resamples: "recording", "video", "speaker" or "clip".
        units: how many.
        seeds: how many of both models.
        over_runs: 95 % interval over folds and seeds, corrected for overlapping training sets; None for a single run.
    """

    value: float
    low: float
    high: float
    unit: str
    units: int
    seeds: int
    over_runs: tuple[float, float] | None

    @property
    def is_shown(self) -> bool:
        """Whether one model is ahead of the other beyond the spread over training runs."""
        return self.over_runs is not None and not self.over_runs[0] <= 0 <= self.over_runs[1]


def mean_difference(
    inputs: TableInputs, first: Sequence[TrainedRun], second: Sequence[TrainedRun]
) -> MeanDifference | None:
    """The difference of two models on clips with one label; None without stored predictions or common clips."""
    outcomes = _paired_outcomes(inputs, first, second)
    return None if isinstance(outcomes, str) else outcomes.difference(DEFAULT_HEAD)


def difference_cell(mean: MeanDifference | None) -> Cell:
    """The difference with its interval over units; the interval over training runs is among its conditions."""
    if mean is None:
        return not_run(POINTS, "not run: the stored predictions are absent, or the runs share no test clip")
    spread = "" if mean.over_runs is None else f"; [{mean.over_runs[0]:+.1f}, {mean.over_runs[1]:+.1f}] over runs"
    where = f"paired, mean over {mean.seeds} seeds, bootstrap over {mean.units} {mean.unit}s{spread}"
    return Cell(measured=mean.value, unit=POINTS, conditions=where, ci=(mean.low, mean.high))


def points_texts(differences: Mapping[str, MeanDifference]) -> dict[str, str]:
    """Label -> "label (+6.0 points)"; with its number of seeds where another difference has more."""
    most = max((mean.seeds for mean in differences.values()), default=0)
    fewer = {label: f", {counted(mean.seeds, 'seed')}" for label, mean in differences.items() if mean.seeds < most}
    return {label: f"{label} ({mean.value:+.1f} points{fewer.get(label, '')})" for label, mean in differences.items()}


def beyond_runs_notes(differences: Mapping[str, MeanDifference | None], plural: str, finding: str) -> list[str]:
    """In which rows of a table a difference exceeds the spread over training runs; none where no row has two runs.

    Args:
        differences: row's label -> its difference.
        plural: what the table calls them.
        finding: what a row shows whose interval excludes 0.
    """
    known = {label: mean for label, mean in differences.items() if mean is not None and mean.over_runs is not None}
    if not known:
        return []
    texts = points_texts(known)
    shown = [texts[label] for label, mean in known.items() if mean.is_shown]
    tests = len(known)
    return [
        f"Intervals of {plural}: 95 % bootstrap of the paired difference by recording. Beyond the spread over folds "
        f"and seeds (corrected for overlapping training sets, Nadeau & Bengio 2003), {finding} in {len(shown)} of "
        f"{tests} rows: {', '.join(shown) or 'none'}. Of {tests} tests {CONFIDENT * tests:.1f} are expected by chance."
    ]


@dataclass(frozen=True, kw_only=True)
class _Outcomes:
    """Which clips two models got right.

    Args:
        correct: head -> seed -> clip -> (whether the first is correct, whether the second is).
        sources: clip -> the recording, video or speaker that it is cut from, or the clip itself.
        by_run: head -> second minus first in points, one per fold and seed.
        test_to_train: test clips divided by training clips, mean over runs.
        unit: what clips are cut from: "recording", "video", "speaker" or "clip".
    """

    correct: Mapping[str, Mapping[int, Mapping[str, tuple[bool, bool]]]]
    sources: Mapping[str, str]
    by_run: Mapping[str, Sequence[float]]
    test_to_train: float
    unit: str

    @property
    def shared_unit(self) -> str:
        """The unit, where several clips are cut from one; otherwise ""."""
        return shared_unit(self.unit, self.sources)

    def difference(self, head: str) -> MeanDifference | None:
        """Of the means over seeds, resampled by units: seeds repeat the clips, they add none."""
        seeds = self.correct.get(head, {})
        clips = sorted(set.intersection(*(set(pairs) for pairs in seeds.values()))) if seeds else []
        if not clips:
            return None
        gains = np.array([sum(s[clip][1] - s[clip][0] for s in seeds.values()) / len(seeds) for clip in clips])
        sources = [self.sources[clip] for clip in clips]
        difference = clustered_difference(gains, sources)
        low, high = difference.ci
        return MeanDifference(
            value=difference.value,
            low=low,
            high=high,
            unit=self.unit,
            units=len(set(sources)),
            seeds=len(seeds),
            over_runs=corrected_interval(self.by_run.get(head, ()), self.test_to_train),
        )


def _paired_outcomes(inputs: TableInputs, first: Sequence[TrainedRun], second: Sequence[TrainedRun]) -> _Outcomes | str:
    """The outcomes on the clips that both have, over their common folds and seeds; or why there are none."""
    correct: dict[str, dict[int, dict[str, tuple[bool, bool]]]] = {}
    sources: dict[str, str] = {}
    by_run: dict[str, list[float]] = {}
    ratios = []
    for a, b in zip(*common_runs(first, second), strict=True):
        ours, theirs = (load_predictions(inputs.records_dir, run) for run in (a, b))
        if ours is None or theirs is None:
            return f"the stored predictions of {a.key} or {b.key} are absent"
        sources |= sources_of(a, ours)
        for head in () if a.multilabel else ours.logits.keys() & theirs.logits.keys():
            metric = "top1" if head == DEFAULT_HEAD else f"{head}_top1"
            by_clip = [dict(zip(map(str, s.clip_ids), correct_clips(s, metric), strict=True)) for s in (ours, theirs)]
            shared = by_clip[0].keys() & by_clip[1].keys()
            pairs = {clip: (bool(by_clip[0][clip]), bool(by_clip[1][clip])) for clip in shared}
            correct.setdefault(head, {}).setdefault(a.seed, {}).update(pairs)
            gain = [float(theirs) - float(ours) for ours, theirs in pairs.values()]
            if gain:
                by_run.setdefault(head, []).append(100.0 * float(np.mean(gain)))
        ratios.append(a.test_kept / a.train_kept if a.train_kept else 0.0)
    ratio = float(np.mean(ratios)) if ratios else 0.0
    unit = unit_of(first[0], sources)
    return _Outcomes(correct=correct, sources=sources, by_run=by_run, test_to_train=ratio, unit=unit)


def class_notes(group: Sequence[TrainedRun]) -> list[str]:
    """How many classes the test clips do not show, of some folds or of all; for a mAP, what it is the mean of."""
    notes = []
    for head, names in group[0].classes.items():
        prefix = "" if head == DEFAULT_HEAD else f"{head}_"
        key = f"{prefix}classes_without_positives"
        empty = {run.fold: int(run.metric(key)) for run in group if key in run.metrics}
        if most := max(empty.values(), default=0):
            folds = len({run.fold for run in group})
            lacking = sum(map(bool, empty.values()))
            where = "The test clips show no example of"
            if folds > 1:
                where = f"In {lacking} of {folds} folds the test clips show no example of up to"
            mean = "; mAP is the mean over the others" if group[0].multilabel else ""
            notes.append(f"{where} {most} of the {len(names)} {prefix.replace('_', ' ')}classes{mean}.")
    return notes


def problem_notes(group: Sequence[TrainedRun]) -> list[str]:
    """Clips and rows that could not be used, or were used with a warning, over all runs of the group."""
    problems = {problem for run in group for problem in run.problems}
    notes = []
    if missing := max(run.missing for run in group):
        notes.append(f"Listed, but without a file: {missing} clips.")
    for what, fatal in (("Not used", True), ("Used with a warning", False)):
        named = sorted(f"{p.clip_id} ({p.reason})" if p.clip_id else p.message for p in problems if p.fatal is fatal)
        if named:
            more = f" and {len(named) - PROBLEMS_NAMED} more, see the record" if len(named) > PROBLEMS_NAMED else ""
            notes.append(f"{what}, clips or rows: {len(named)}: {', '.join(named[:PROBLEMS_NAMED])}{more}.")
    return notes

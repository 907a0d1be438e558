"""What the records show, in sentences. Every number comes from records or from paper.json."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from reports.commands import command_of
from reports.conditions import joined
from reports.document import Paragraph, Words, code, strong, words
from reports.plots.architecture import costs_of
from reports.plots.base import group_title, label_of, plural, runs_text
from reports.plots.budget import real_budgets
from reports.plots.comparisons import Comparison, by_width
from reports.plots.speed import SpeedUp, speed_ups
from reports.scores import Score, headline_score
from reports.source import Source
from reproduce.experiments.recipe import SCRATCH
from reproduce.records.contests import is_mixed, speed_runs, time_ratio
from reproduce.records.measured_runs import CostRun, SpeedRun
from reproduce.records.pooled import runs_side_by_side
from reproduce.records.runs import TrainedRun
from reproduce.records.selection import component_groups
from reproduce.tables import MEASURED, NOT_RUN
from reproduce.tables.base import MEGA
from reproduce.tables.components import path_rows, path_steps
from reproduce.tables.glance import baseline_score, baselines_of
from reproduce.tables.notes import CONFIDENT, MeanDifference, mean_difference, points_texts
from reproduce.tables.speed import EXPECTED, SIDE_BY_SIDE

RATIO, COST_UNITS = "x", ("G", "M")
PAPER_TABLES = ("table1", "table2", "table3", "table4", "table5", "table6", "ablations")
MOST_CORPORA = 2  # that page 1 tells
NARROW_MAST = "mast_base, bfloat16"
NARROW_PEERS = {
    "ast_base, bfloat16": "for AST in bfloat16",
    "transformers AST, float32": "for transformers' AST in float32",
}
FULL, SEEN = "macs_full", "macs_module_only"


def cost_finding(source: Source) -> Words:
    """MACs, parameters and time of both models at the paper's size."""
    costs = costs_of(source.inputs)
    if costs is None:
        return words(strong("Cost:"), " not run; ", code(command_of("costs")), " counts MACs in seconds.")
    ast, mast = costs["ast"], costs["mast"]
    stated = source.inputs.paper.fact("macs_times_less")
    return words(
        strong("Cost:"),
        f" MAST needs {_times(costs, SEEN):.2f} times fewer multiply-accumulates (MACs) than AST as the paper counts, "
        f"{_times(costs, FULL):.2f} times fewer with the products inside attention (the abstract says "
        f"{stated.value}{stated.unit}), and {100 * mast.metric('parameters') / ast.metric('parameters'):.1f} % of its "
        f"parameters ({mast.metric('parameters') / MEGA:.2f} M against {ast.metric('parameters') / MEGA:.2f} M).",
        _speed_sentence(source),
        _narrow_sentence(source),
    )


def _times(costs: Mapping[str, CostRun], rule: str) -> float:
    return costs["ast"].metric(rule) / costs["mast"].metric(rule)


def _speed_sentence(source: Source) -> str:
    """ "AST's time divided by MAST's, in float32: 2.76 to 3.29 in inference and ... (batch 4, 3 CPUs); 0.95 to ..."."""
    found = largest_batches(source)
    if not found:
        return ""
    by_mode: dict[str, list[tuple[SpeedRun, float]]] = {}
    for speed_up in sorted(found, key=lambda s: s.run.mode):
        by_mode.setdefault(f"in {speed_up.run.mode}", []).append((speed_up.run, speed_up.times[1]))
    every = speed_ups(_timed(source))
    sizes = joined(str(s.run.conditions["preset"]) for s in sorted(every, key=lambda s: s.run.metric(FULL)))
    phrase = f"in all paired timings of uncompiled models of the sizes {sizes}"
    by_mode[phrase] = [(speed_up.run, speed_up.times[1]) for speed_up in every]
    return f" AST's time divided by MAST's, in float32: {_spans(by_mode)}."


def _spans(told: Mapping[str, Sequence[tuple[SpeedRun, float]]]) -> str:
    """ "2.76 to 3.29 in inference and 2.46 to 3.18 in training (batch 4, 3 CPUs); 2.02 in inference (batch 16, a GPU)".

    Args:
        told: phrase -> runs, each with its ratio.
    """
    texts: dict[str, list[str]] = {}
    for phrase, found in told.items():
        for kind in sorted({run.environment.device_type for run, _ in found}):
            here = [(run, ratio) for run, ratio in found if run.environment.device_type == kind]
            where = _where([run for run, _ in here])
            texts.setdefault(where, []).append(f"{_span([ratio for _, ratio in here])} {phrase}")
    return "; ".join(f"{joined(phrases)} ({where})" for where, phrases in texts.items())


def _span(ratios: Sequence[float]) -> str:
    """ "2.76 to 3.29", or the one value."""
    return " to ".join(dict.fromkeys((f"{min(ratios):.2f}", f"{max(ratios):.2f}")))


def _where(runs: Sequence[SpeedRun]) -> str:
    """ "batch 4, 3 CPUs", or the one machine by its name."""
    batches = sorted({run.batch for run in runs} - {0})
    devices = {run.environment.device for run in runs}
    kind = "CPUs" if runs[0].environment.device_type == "cpu" else "GPUs"
    names = f"{len(devices)} {kind}" if len(devices) > 1 else joined(sorted({run.environment.machine for run in runs}))
    return ", ".join([*([f"batch {joined(map(str, batches))}"] if batches else ()), names])


def _narrow_sentence(source: Source) -> str:
    """ "AST's time divided by that of MAST in bfloat16, in inference: 2.42 to 3.53 for AST in bfloat16 and ..."."""
    by_machine: dict[str, list[SpeedRun]] = {}
    for run in speed_runs(source.inputs.records):
        if run.bench == SIDE_BY_SIDE and run.scale == "paper" and run.mode == "inference" and is_mixed(run):
            by_machine.setdefault(run.environment.machine, []).append(run)
    told: dict[str, list[tuple[SpeedRun, float]]] = {}
    for contest in map(_largest_contest, by_machine.values()):
        for name, phrase in NARROW_PEERS.items():
            pair = contest.get(name), contest.get(NARROW_MAST)
            if pair[0] and pair[1] and (ratio := time_ratio(pair[0], pair[1])):
                told.setdefault(phrase, []).append((pair[1], ratio[1]))
    return f" AST's time divided by that of MAST in bfloat16, in inference: {_spans(told)}." if told else ""


def _largest_contest(runs: Sequence[SpeedRun]) -> dict[str, SpeedRun]:
    """A machine's newest contest of the largest batch: candidate -> run."""
    last = max(runs, key=lambda run: (run.batch, run.created))
    return {run.candidate: run for run in runs if run.conditions_key == last.conditions_key}


def _timed(source: Source) -> list[SpeedRun]:
    """The timings of both models in float32, uncompiled, by batch."""
    timed = (run for run in speed_runs(source.inputs.records) if run.bench in EXPECTED)
    plain = (run for run in timed if not run.conditions.get("compile") and run.precision in ("", "float32"))
    return sorted(plain, key=lambda run: (run.batch, run.created))


def largest_batches(source: Source) -> list[SpeedUp]:
    """The speed-up at the largest batch of every machine and mode, at the paper's size in float32."""
    timings = speed_ups(run for run in _timed(source) if run.scale == "paper")
    largest = {(s.run.environment.machine, s.run.mode): s for s in timings}
    return list(largest.values())


def coverage_finding(source: Source) -> Words:
    """How many of the paper's numbers are measured."""
    costs, scores = Counter[str](), Counter[str]()
    for name in PAPER_TABLES:
        for cell in (cell for row in source.table(name).rows for cell in row.cells.values()):
            if cell.paper is not None and cell.unit != RATIO and cell.status in (MEASURED, NOT_RUN):
                (costs if name == "table1" or cell.unit in COST_UNITS else scores)[cell.status] += 1
    phrase = (
        "none is measured here: they need its data sets and days of training on a GPU, so its claims on accuracy are "
        "neither confirmed nor refuted"
        if not scores[MEASURED]
        else f"{scores[MEASURED]} are measured here"
    )
    return words(
        strong("The paper's numbers:"),
        f" of its {scores.total()} accuracies, mAP and clustering scores, {phrase}; of its {costs.total()} shapes and "
        f"costs, {costs[MEASURED]} are measured.",
    )


def accuracy_finding(source: Source) -> Words:
    """The widest comparison on each of the largest corpora of real recordings."""
    widest, _ = by_width(source.inputs.records)
    if not widest:
        return words(strong("Real audio:"), " not run; ", code(command_of("esc50")), " trains both models.")
    widest = widest[:MOST_CORPORA]
    told = " ".join(short_text(source, comparison) for comparison in widest)
    below = [comparison for comparison in widest if _is_below(comparison, _baseline(source, comparison))]
    from_scratch = all(comparison.runs[0].weights == SCRATCH for comparison in below)
    if below:
        told += " Where the regression scores higher, both models are below a simple baseline"
        told += ": start from published weights, which are not measured here." if from_scratch else "."
    return words(strong("Real audio."), f" {told}")


def short_text(source: Source, comparison: Comparison) -> str:
    """The scores of every model on the same clips, and what the difference of AST and MAST shows."""
    runs = next(iter(comparison.pair.values()))
    score = headline_score(runs)
    of_models = {**comparison.pair, **comparison.others}
    values = [
        f"{label_of(model)} {headline_score(own).value:.1f} %{_seeds_text(own, runs)}"
        for model, own in of_models.items()
    ]
    if (baseline := _baseline(source, comparison)) is not None:
        values.append(f"logistic regression {baseline:.1f} %")
    text = (
        f"{group_title(comparison.runs)} from {runs[0].weights}, {score.clips:,} test clips, {runs_text(runs)}: "
        f"{_title(score)} of {joined(values)}"
    )
    difference = mean_difference(source.inputs, *comparison.pair.values())
    if difference is None:
        return f"{text}."
    return f"{text}; {_difference_text(difference, [label_of(model) for model in comparison.pair])}."


def _seeds_text(runs: Sequence[TrainedRun], pair: Sequence[TrainedRun]) -> str:
    """The number of seeds where it is not that of the pair."""
    own, of_pair = (len({run.seed for run in of_model}) for of_model in (runs, pair))
    return "" if own == of_pair else f" ({plural(own, 'seed')})"


def _difference_text(difference: MeanDifference, models: Sequence[str]) -> str:
    value = f"{models[1]} - {models[0]} = {difference.value:+.1f} points"
    if difference.over_runs is None:
        return f"{value}, {_over_clips(difference)}, one run of each"
    low, high = difference.over_runs
    return f"{value} [{low:+.1f}, {high:+.1f}]: {_shown(difference, models)}"


def _over_clips(difference: MeanDifference) -> str:
    return f"[{difference.low:+.1f}, {difference.high:+.1f}] over the {difference.units:,} {difference.unit}s"


def _shown(difference: MeanDifference, models: Sequence[str]) -> str:
    return f"{models[difference.value > 0]} is ahead" if difference.is_shown else "no difference is shown"


def _title(score: Score) -> str:
    return score.title if score.title == "mAP" else score.title.lower()


def _baseline(source: Source, comparison: Comparison) -> float | None:
    """The score of the recorded logistic regression on the same clips."""
    baselines = baselines_of(source.inputs.records, comparison.runs)
    return baseline_score(baselines, comparison.runs[0].headline) if baselines else None


def _is_below(comparison: Comparison, baseline: float | None) -> bool:
    """Whether the baseline beats both models."""
    best = max(headline_score(of_model).value for of_model in comparison.pair.values())
    return baseline is not None and baseline > best


def baseline_text(source: Source, comparison: Comparison) -> str:
    """What other models and the recorded baseline reach on the same clips.

    "" without either.
    """
    pair = next(iter(comparison.pair.values()))
    also = joined(
        f"{label_of(model)} reaches {headline_score(runs).value:.1f} %{_seeds_text(runs, pair)}"
        for model, runs in comparison.others.items()
    )
    also = f" On the same clips, {also}, trained the same way." if also else ""
    value = _baseline(source, comparison)
    if value is None:
        return also
    reached = f" A logistic regression on statistics of the log-mels reaches {value:.1f} % on the same clips"
    return f"{also}{reached}{': both models are below it' if _is_below(comparison, value) else ''}."


def components_finding(source: Source) -> tuple[Paragraph, ...]:
    """Which components of MAST change the score beyond the spread over training runs; nothing where none can tell."""
    groups = [group for group in component_groups(source.inputs.records, "esc50") if not group[0].standin]
    steps = path_steps(source.inputs, groups[0]).values() if groups else ()
    known = {
        step.label.removeprefix("+ "): step.difference
        for step in steps
        if step.difference is not None and step.difference.over_runs is not None
    }
    if not known:
        return ()
    texts = points_texts(known)
    certain = [texts[label] for label, mean in known.items() if mean.is_shown]
    others = [texts[label] for label, mean in known.items() if not mean.is_shown and not mean.low <= 0 <= mean.high]
    shared = next((runs for runs in runs_side_by_side(path_rows(groups[0])).values() if runs), None)
    spread = runs_text(shared) if shared else "folds and seeds"
    text = f"Beyond the spread over {spread} the score changes with: {joined(certain) or 'no component'}."
    if others:
        text += f" For these trained models alone it also changes with: {joined(others)}."
    text += f" Of {len(known)} tests {CONFIDENT * len(known):.1f} are expected to show a change by chance."
    return (Paragraph(text=words(text)),)


def comparison_text(source: Source, runs: Mapping[str, Sequence[TrainedRun]]) -> Words:
    """Both scores and their difference, with what its interval covers."""
    (first, ours), (second, theirs) = runs.items()
    scores = headline_score(ours), headline_score(theirs)
    difference = mean_difference(source.inputs, ours, theirs)
    phrase = (
        f"{label_of(first)} reaches {scores[0].value:.1f} % and {label_of(second)} {scores[1].value:.1f} % "
        f"{_title(scores[0])} on {scores[0].clips:,} test clips"
    )
    if difference is None:
        return words(f"{phrase}; the stored predictions that a paired test needs are absent.")
    return words(f"{phrase}: {verdict_text(difference, ours, (label_of(first), label_of(second)))}.")


def verdict_text(difference: MeanDifference, runs: Sequence[TrainedRun], models: tuple[str, str]) -> str:
    """The second model minus the first, with its intervals and what they show; a winner only beyond training runs.

    Args:
        difference: of their scores.
        runs: of one of them.
        models: their labels.
    """
    clips = _over_clips(difference)
    value = f"a difference of {difference.value:+.1f} points"
    if difference.over_runs is None:
        tied, shown = round(difference.value, 1) == 0, "a difference of these two trained models"
        if difference.low <= 0 <= difference.high:
            shown = "a tie" if tied else "no difference is shown"
        return f"{value}, {clips}: {shown}; one run of each says nothing about the spread over training runs"
    low, high = difference.over_runs
    return (
        f"{value}, 95 % interval [{low:+.1f}, {high:+.1f}] over {runs_text(runs)}, corrected for overlapping training "
        f"sets ({clips}, for these trained models alone): {_shown(difference, models)}"
    )


def training_text(runs: Mapping[str, Sequence[TrainedRun]]) -> str:
    """Which model fits its training clips better, which may explain a difference; "" without losses."""
    if any("train_loss" not in run.metrics for of_model in runs.values() for run in of_model):
        return ""
    losses = {model: fmean(run.metric("train_loss") for run in of_model) for model, of_model in runs.items()}
    better, worse = sorted(runs, key=losses.__getitem__)
    return (
        f"{label_of(better)} fits its training clips better (training loss of the last epoch {losses[better]:.2f} "
        f"against {losses[worse]:.2f}, each model at its own learning rate): a difference of the scores may be one of "
        "how far the models are trained in so few epochs."
    )


def real_audio_findings(source: Source, comparisons: Iterable[Comparison]) -> list[Words]:
    """A paragraph per comparison on real recordings."""
    paragraphs = []
    for comparison in comparisons:
        text = comparison_text(source, comparison.pair)
        title, baseline = group_title(comparison.runs), baseline_text(source, comparison)
        training = f" {training_text(comparison.pair)}{longer_text(source, comparison)}"
        paragraphs.append(words(strong(f"{title}:"), " ", text, baseline, training))
    return paragraphs


def longer_text(source: Source, comparison: Comparison) -> str:
    """What the models reach after the longest training that both have; "" where it is not longer than the comparison's.

    Both models were trained so long for the comparison at equal MACs.
    """
    shown, epochs = {run.key for run in comparison.runs}, max(run.epochs for run in comparison.runs)
    points = next((p for p in real_budgets(source.inputs) if shown & {r.key for point in p for r in point.runs}), [])
    trained = [{p.epochs: p for p in points if p.model == model} for model in comparison.pair]
    longest = max((length for length in trained[0] if length in trained[1]), default=0)
    if longest <= epochs:
        return ""
    ours, theirs = (of_model[longest] for of_model in trained)
    labels = label_of(ours.model), label_of(theirs.model)
    text = (
        f" After {longest} epochs ({runs_text(ours.runs)}) {labels[0]} reaches {ours.score.value:.1f} % and "
        f"{labels[1]} {theirs.score.value:.1f} %"
    )
    difference = mean_difference(source.inputs, ours.runs, theirs.runs)
    return f"{text}: {verdict_text(difference, ours.runs, labels)}." if difference else f"{text}."

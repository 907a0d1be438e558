"""Top-1 of trained models under noise, low-pass and shift, and on clips of other lengths; paired by recording."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from reproduce.experiments.conditions import AS_TRAINED, Condition
from reproduce.metrics.bootstrap import RESAMPLES, clustered_replicates, percentile_interval
from reproduce.metrics.paired import clustered_difference
from reproduce.records.condition_runs import ConditionsRun, RobustnessRun, TransferRun
from reproduce.records.outcomes import Outcomes, load_outcomes
from reproduce.records.pooled import runs_of_all
from reproduce.records.runs import TrainedRun
from reproduce.tables.base import POINTS, Cell, Column, Row, Table, TableInputs, register_table
from reproduce.tables.calibration import block_title, by_model, one_label_groups
from reproduce.tables.comparison import one_or_blocks

TITLES = {"robustness": "top-1 under noise, low-pass and shift", "transfer": "top-1 on clips of other lengths"}
NOTES = {
    "robustness": (
        "Noise: white and Gaussian, at this ratio of the clip's power to the noise's; the same noise for every model. "
        "Low-pass: no delay, -6 dB at the cut-off. Shift: to the right, the end of the clip comes in at its start. The "
        "models were trained without any of these.",
    ),
    "transfer": (
        "Length: share of the length that the models were trained on. A shorter clip is the start, a longer one the "
        "clip repeated. Positions are resized: AST's embedding is cut from the centre or interpolated, MAST's tables "
        "are interpolated. Nothing was trained again.",
    ),
}


@dataclass(frozen=True, kw_only=True)
class ConditionScores:
    """The models of one comparison under the same conditions, on the same n clips.

    Args:
        title: data and conditions of the comparison.
        conditions: as trained first.
        units: (n,) the recording, video or speaker of each clip, or the clip itself.
        unit: what they are.
        correct: model -> (conditions, n) share of its seeds that are right.
        seeds: of every model.
        runs: the measurements.
    """

    title: str
    conditions: tuple[Condition, ...]
    units: np.ndarray
    unit: str
    correct: Mapping[str, np.ndarray]
    seeds: int
    runs: tuple[ConditionsRun, ...]

    def interval(self, values: np.ndarray) -> tuple[float, float]:
        """95 % bootstrap interval of the mean of (n,) shares, over units, in per cent."""
        return percentile_interval(clustered_replicates(values, self.units))


@register_table("robustness", "trained models under noise, low-pass and shift, on the same clips and noise")
def robustness(inputs: TableInputs) -> Table:
    """A block per comparison whose runs were tested again."""
    return _table(inputs, RobustnessRun)


@register_table("transfer", "trained models on clips of other lengths, their positions resized")
def transfer(inputs: TableInputs) -> Table:
    """A block per comparison whose runs were tested again."""
    return _table(inputs, TransferRun)


def condition_scores(inputs: TableInputs, kind: type[ConditionsRun]) -> list[ConditionScores]:
    """One value per comparison whose runs were tested under the conditions of `kind`, most clips first."""
    measured = {run.of: run for run in inputs.records.newest(kind)}
    found = []
    for group in one_label_groups(inputs):
        # A run that was trained again has other weights.
        tested = [r for r in group if r.key in measured and measured[r.key].weights_sha256 == r.weights_sha256]
        if tested:
            scores = _scores(inputs, group, runs_of_all(by_model(tested)), measured)
            found += [] if scores is None else [scores]
    return sorted(found, key=lambda scores: (len(scores.units), len(scores.runs)), reverse=True)


def _scores(
    inputs: TableInputs,
    group: Sequence[TrainedRun],
    rows: Mapping[str, Sequence[TrainedRun]],
    measured: Mapping[str, ConditionsRun],
) -> ConditionScores | None:
    """The scores on the clips that every model and seed has; None where there are none, or no outcomes."""
    of_model: dict[str, list[dict[str, np.ndarray]]] = {}
    units: dict[str, str] = {}
    runs = [measured[run.key] for own in rows.values() for run in own]
    if not runs or not all(rows.values()):
        return None
    conditions = tuple(c for c in runs[0].conditions if all(c in run.conditions for run in runs))
    for model, own in rows.items():
        seeds: dict[int, dict[str, np.ndarray]] = {}
        for run in own:
            outcomes = load_outcomes(inputs.records_dir, measured[run.key])
            if outcomes is None:
                return None
            places = [measured[run.key].conditions.index(c) for c in conditions]
            seeds.setdefault(run.seed, {}).update(_by_clip(outcomes, places))
            units |= dict(zip(map(str, outcomes.clip_ids), map(str, outcomes.units), strict=True))
        of_model[model] = list(seeds.values())
    ids = sorted(set.intersection(*(set(seed) for seeds in of_model.values() for seed in seeds)))
    if not ids:
        return None
    return ConditionScores(
        title=block_title(group),
        conditions=conditions,
        units=np.array([units[clip] for clip in ids]),
        unit=group[0].unit,
        correct={
            model: np.mean([[seed[clip] for clip in ids] for seed in seeds], axis=0).T
            for model, seeds in of_model.items()
        },
        seeds=len(next(iter(of_model.values()))),
        runs=tuple(runs),
    )


def _by_clip(outcomes: Outcomes, places: Sequence[int]) -> dict[str, np.ndarray]:
    return dict(zip(map(str, outcomes.clip_ids), outcomes.correct[list(places)].T, strict=True))


def _table(inputs: TableInputs, kind: type[ConditionsRun]) -> Table:
    name = kind.kind
    blocks = [_block(scores, name, number) for number, scores in enumerate(condition_scores(inputs, kind), start=1)]
    missing = (
        f"not run: no such record under {inputs.records_dir}: python -m reproduce {name} --data esc50=DIR tests the "
        "runs whose weights are under runs/"
    )
    table = one_or_blocks(name, f"Beyond top-1: {TITLES[name]}", blocks, missing)
    return replace(table, notes=(*table.notes, *NOTES[name])) if blocks else table


def _block(scores: ConditionScores, name: str, number: int) -> Table:
    first, *others = scores.correct
    columns = [Column(model, model, "%", 1) for model in scores.correct]
    for other in others:
        columns.append(Column(f"{other} - {first}", f"{other} - {first}", POINTS, 1))
        columns.append(Column(f"{other} change", f"Change of {other} - {first}", POINTS, 1))
    rows = tuple(
        Row(condition.name, condition.name, _cells(scores, place)) for place, condition in enumerate(scores.conditions)
    )
    clips, units = len(scores.units), len(np.unique(scores.units))
    seeds = f", mean over {scores.seeds} seeds" if scores.seeds > 1 else ""
    notes = (
        f"Intervals: 95 % bootstrap over the {units:,} {scores.unit}s of the same {clips:,} test clips ({RESAMPLES:,} "
        f"resamples){seeds}; they exclude the spread over training runs.",
        "Change: against the gap as trained. An interval without 0 shows that one model loses more than the other.",
    )
    return Table(
        f"{name} {number}",
        f"{scores.title}: {TITLES[name]}",
        tuple(columns),
        rows,
        notes=notes if others else notes[:1],
        runs=tuple(scores.runs),
    )


def _cells(scores: ConditionScores, place: int) -> dict[str, Cell]:
    first, *others = scores.correct
    clips, cells = len(scores.units), dict[str, Cell]()
    trained = scores.conditions.index(AS_TRAINED) if AS_TRAINED in scores.conditions else None
    for model, correct in scores.correct.items():
        value, interval = 100.0 * float(correct[place].mean()), scores.interval(correct[place])
        cells[model] = Cell(measured=value, unit="%", conditions=f"{model}, {clips} clips", n=clips, ci=interval)
    for other in others:
        gains = scores.correct[other] - scores.correct[first]
        cells[f"{other} - {first}"] = _gain(scores, gains[place])
        if trained is not None and place != trained:
            cells[f"{other} change"] = _gain(scores, gains[place] - gains[trained])
    return cells


def _gain(scores: ConditionScores, gains: np.ndarray) -> Cell:
    difference = clustered_difference(gains, scores.units)
    return Cell(
        measured=difference.value,
        unit=POINTS,
        conditions=f"paired by {scores.unit}, p = {difference.p:.2g}",
        n=len(gains),
        ci=difference.ci,
    )

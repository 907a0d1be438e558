"""Accuracy by class of recorded runs, from their stored predictions, and the models' paired difference in each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from reproduce.datasets.index import DEFAULT_HEAD
from reproduce.metrics.bootstrap import RESAMPLES
from reproduce.metrics.calibration import balanced_accuracy
from reproduce.metrics.paired import FLIPS, TOLERANCE, clustered_difference, sign_flip_p
from reproduce.records.runs import TrainedRun
from reproduce.tables.base import CLIPS, POINTS, Cell, Column, Row, Table, TableInputs, measured, register_table
from reproduce.tables.calibration import block_title, comparison_blocks
from reproduce.tables.conditions import counted
from reproduce.tables.notes import CONFIDENT
from reproduce.tables.pooled_clips import PooledClips

NAME, TITLE = "classes", "top-1 by class"
ALL = "balanced accuracy"  # label of the last row


@dataclass(frozen=True, kw_only=True)
class ClassScores:
    """One class.

    Args:
        name: of the class.
        clips: its test clips.
        units: recordings, videos or speakers of these clips.
        values: model -> top-1 in per cent, the mean over seeds.
        gains: model but the first -> (difference to the first in points, 95 % interval, p). The interval is None where
            every unit has the same difference: resampling cannot show its spread.
    """

    name: str
    clips: int
    units: int
    values: Mapping[str, float]
    gains: Mapping[str, tuple[float, tuple[float, float] | None, float]]

    def differs(self, other: str) -> bool:
        """Whether the class tells a model from the first: p is small and an interval does not hold 0."""
        _, interval, p = self.gains[other]
        return p < CONFIDENT and not (interval and interval[0] <= 0 <= interval[1])


@register_table(NAME, "accuracy of recorded runs by class, and where the models differ")
def classes(inputs: TableInputs) -> Table:
    """A block for each comparison on real recordings whose clips have one label."""
    return comparison_blocks(inputs, NAME, TITLE, _block)


def class_scores(pooled: Mapping[str, PooledClips], names: Sequence[str]) -> list[ClassScores]:
    """Every class with test clips, where the last model gains most first.

    Args:
        pooled: model -> its predictions of the same clips.
        names: class names in the order of the logits.
    """
    first, *others = pooled
    clips = pooled[first]
    scored = []
    for number in np.unique(clips.targets):
        own = clips.targets == number
        correct = {model: values.correct.mean(axis=0)[own] for model, values in pooled.items()}
        gains = {}
        for other in others:
            paired = correct[other] - correct[first], clips.units[own]
            difference = clustered_difference(*paired)
            low, high = difference.ci
            interval = (low, high) if high - low > 100.0 * TOLERANCE else None
            gains[other] = (difference.value, interval, sign_flip_p(*paired))
        values = {model: 100.0 * float(shares.mean()) for model, shares in correct.items()}
        units = len(np.unique(clips.units[own]))
        scored.append(ClassScores(name=names[number], clips=int(own.sum()), units=units, values=values, gains=gains))
    last = others[-1] if others else None
    return sorted(scored, key=lambda row: (-row.gains[last][0] if last else 0.0, row.name))


def _block(group: Sequence[TrainedRun], pooled: Mapping[str, PooledClips], name: str) -> Table:
    first, *others = pooled
    rows = class_scores(pooled, group[0].classes[DEFAULT_HEAD])
    columns = [Column("clips", "Test clips", CLIPS, 0), *(Column(model, model, "%", 1) for model in pooled)]
    columns += [Column(f"{other} - {first}", f"{other} - {first}", POINTS, 1) for other in others]
    clips = pooled[first]
    of_seeds = ", mean over seeds" if any(len(own.probabilities) > 1 for own in pooled.values()) else ""
    notes = [
        f"Every class on its own test clips{of_seeds}. Intervals: 95 % bootstrap of the paired difference over "
        f"{clips.unit}s ({RESAMPLES:,} resamples), none where all {clips.unit}s agree. p: by {FLIPS:,} random signs of "
        f"the {clips.unit}s' gains.",
    ]
    level = CONFIDENT / len(rows)
    most = max(row.units for row in rows)
    # If every unit's gain has the same sign, p is 2 of all sign patterns, or the smallest of the random ones.
    least, by = max((2.0 ** (1 - most), counted(most, clips.unit)), (1 / (FLIPS + 1), f"{FLIPS:,} random signs"))
    out_of_reach = f", which {by} cannot reach: p is at least {least:.2g}" if least >= level else ""
    for other in others:
        certain = sum(row.gains[other][2] < level for row in rows)
        found = [row for row in rows if row.differs(other)]
        better, worse = (sum(sign * row.gains[other][0] > 0 for row in found) for sign in (1, -1))
        notes.append(
            f"{other} against {first}: better in {counted(better, 'class')} and worse in {counted(worse, 'class')} "
            f"with p < {CONFIDENT}; of {len(rows)} tests {CONFIDENT * len(rows):.1f} are expected by chance, and "
            f"{certain} remain at p < {level:.2g} (Bonferroni){out_of_reach}."
        )
    cells = [Row(row.name, row.name, _cells(row, first)) for row in rows]
    cells.append(Row(ALL, ALL, _balanced(pooled)))
    return Table(
        name, f"{block_title(group)}: {TITLE}", tuple(columns), tuple(cells), notes=tuple(notes), runs=tuple(group)
    )


def _cells(row: ClassScores, first: str) -> dict[str, Cell]:
    cells = {"clips": measured(row.clips, CLIPS, "test clips of the class")}
    cells |= {model: measured(value, "%", f"{model}, {row.clips} clips") for model, value in row.values.items()}
    for other, (value, interval, p) in row.gains.items():
        where = f"paired, p = {p:.2g}"
        cells[f"{other} - {first}"] = Cell(measured=value, unit=POINTS, conditions=where, n=row.clips, ci=interval)
    return cells


def _balanced(pooled: Mapping[str, PooledClips]) -> dict[str, Cell]:
    cells = {}
    for model, clips in pooled.items():
        ones = np.ones((len(clips.targets), 1))
        value = 100.0 * float(balanced_accuracy(clips.correct.mean(axis=0), clips.targets, ones)[0])
        cells[model] = measured(value, "%", "mean over classes")
    return cells

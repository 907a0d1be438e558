"""How far the models' probabilities can be trusted, from stored predictions: ECE, Brier score, balanced accuracy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from reproduce.metrics.bootstrap import RESAMPLES, centred, clustered_counts, percentile_interval
from reproduce.metrics.calibration import (
    BINS,
    balanced_accuracy,
    brier_scores,
    calibration_error,
    confidence_of,
    log_losses,
    weighted_mean,
)
from reproduce.records.pairs import width
from reproduce.records.runs import TrainedRun
from reproduce.records.selection import comparisons
from reproduce.tables.base import POINTS, Cell, Column, Row, Table, TableInputs, register_table
from reproduce.tables.comparison import one_or_blocks
from reproduce.tables.conditions import epochs_text
from reproduce.tables.notes import run_title
from reproduce.tables.pooled_clips import PooledClips, pool_clips

Block = Callable[[Sequence[TrainedRun], Mapping[str, PooledClips], str], Table]

NAME = "calibration"
TITLE = "calibration of the models' probabilities"
COLUMNS = (
    Column("top1", "Top-1", "%", 1),
    Column("balanced", "Balanced accuracy", "%", 1),
    Column("confidence", "Mean confidence", "%", 1),
    Column("ece", "ECE", "%", 1),
    Column("brier", "Brier score", "", 3),
    Column("log_loss", "Log loss", "nats", 2),
)
NOTES = (
    f"ECE, the expected calibration error: clips are binned by confidence (the probability of the predicted class) in "
    f"{BINS} bins of equal width; it is the mean over clips of |accuracy - confidence| of their bin (Guo et al. 2017).",
    "Brier score: squared distance of the probabilities from the label, summed over classes, 0 to 2. Log loss: of the "
    "clip's own class. Balanced accuracy: mean over classes. Confidence above top-1 means overconfidence.",
    "Nothing was fitted on the test clips: no temperature, no threshold. Scores are means over seeds.",
)
Weighted = Callable[[PooledClips, np.ndarray], np.ndarray]
SCORES: Mapping[str, Weighted] = {
    "top1": lambda clips, weights: 100 * weighted_mean(clips.correct.mean(axis=0), weights),
    "balanced": lambda clips, weights: 100 * balanced_accuracy(clips.correct.mean(axis=0), clips.targets, weights),
    "confidence": lambda clips, weights: 100 * weighted_mean(_over_seeds(clips, _confidences), weights),
    "ece": lambda clips, weights: 100 * _mean_error(clips, weights),
    "brier": lambda clips, weights: weighted_mean(_over_seeds(clips, brier_scores), weights),
    "log_loss": lambda clips, weights: weighted_mean(_over_seeds(clips, log_losses), weights),
}


def _confidences(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return confidence_of(probabilities)


def _over_seeds(clips: PooledClips, values: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
    """A value per clip, the mean over seeds, (n,)."""
    return np.mean([values(probabilities, clips.targets) for probabilities in clips.probabilities], axis=0)


def _mean_error(clips: PooledClips, weights: np.ndarray) -> np.ndarray:
    """Calibration error of each seed by itself, averaged: seeds are models, not an ensemble."""
    errors = [
        calibration_error(confidence_of(probabilities), correct, weights)
        for probabilities, correct in zip(clips.probabilities, clips.correct, strict=True)
    ]
    return np.mean(errors, axis=0)


@register_table(NAME, "ECE, Brier score and balanced accuracy of recorded runs, from their stored predictions")
def calibration(inputs: TableInputs) -> Table:
    """A block for each comparison on real recordings whose clips have one label."""
    table = comparison_blocks(inputs, NAME, TITLE, _block)
    return replace(table, notes=(*table.notes, *NOTES)) if table.rows or table.blocks else table


def comparison_blocks(inputs: TableInputs, name: str, title: str, block: Block) -> Table:
    """A block for each comparison on real recordings whose clips have one label.

    Args:
        inputs: of the table.
        name: of the table.
        title: what it shows.
        block: makes a block of the runs of a comparison, their predictions by model, and the block's name.
    """
    blocks, why = list[Table](), f"not run: no comparison on real recordings under {inputs.records_dir}"
    for group in one_label_groups(inputs):
        pooled = pool_clips(inputs, by_model(group))
        if isinstance(pooled, str):
            why = f"not run: {pooled}"
            continue
        blocks.append(block(group, pooled, f"{name} {len(blocks) + 1}"))
    return one_or_blocks(name, f"Beyond top-1: {title}", blocks, why)


def one_label_groups(inputs: TableInputs) -> list[list[TrainedRun]]:
    """Comparisons on real recordings whose clips have one label, the widest first."""
    datasets = dict.fromkeys(run.dataset for run in inputs.records.of_kind(TrainedRun))
    groups = [group for name in datasets for group in comparisons(inputs.records, name)]
    one_label = [group for group in groups if not group[0].standin and group[0].headline == "top1"]
    return sorted(one_label, key=width, reverse=True)


def by_model(group: Sequence[TrainedRun]) -> dict[str, list[TrainedRun]]:
    """The group's runs by model, in the order of their names."""
    rows: dict[str, list[TrainedRun]] = {}
    for run in sorted(group, key=lambda r: (r.model, r.seed, r.test_splits)):
        rows.setdefault(run.model, []).append(run)
    return rows


def block_title(group: Sequence[TrainedRun]) -> str:
    """Data and conditions of a comparison, as the title of a block."""
    spec = group[0].front_end
    return f"{run_title(group)}, {epochs_text(group[0].recipe)}, {spec.mels} x {spec.frames}"


def _block(group: Sequence[TrainedRun], pooled: Mapping[str, PooledClips], name: str) -> Table:
    first, clips = next(iter(pooled)), next(iter(pooled.values()))
    counts = clustered_counts(clips.units).astype(np.float64)
    resampled = {label: _resampled(own, counts) for label, own in pooled.items()}
    rows = []
    for label, own in resampled.items():
        cells = {
            c.key: Cell(
                measured=value,
                unit=c.unit,
                conditions=f"{label}, {len(clips.clip_ids)} test clips, mean over {len(clips.probabilities)} seeds",
                n=len(clips.clip_ids),
                ci=_interval(c.key, replicates, value),
            )
            for c in COLUMNS
            for value, replicates in (own[c.key],)
        }
        rows.append(Row(label, label, cells))
    rows += [
        Row(f"{label} - {first}", f"{label} - {first}", _differences(resampled[first], own))
        for label, own in resampled.items()
        if label != first
    ]
    units = len(np.unique(clips.units))
    notes = (
        f"Intervals: 95 % bootstrap over the {units:,} {clips.unit}s of {len(clips.clip_ids):,} test clips "
        f"({RESAMPLES:,} resamples; those of ECE are centred, for resampling raises it), paired for differences.",
    )
    return Table(name, f"{block_title(group)}: {TITLE}", COLUMNS, tuple(rows), notes=notes, runs=tuple(group))


def _resampled(clips: PooledClips, counts: np.ndarray) -> dict[str, tuple[float, np.ndarray]]:
    ones = np.ones((len(counts), 1))
    return {key: (float(score(clips, ones)[0]), score(clips, counts)) for key, score in SCORES.items()}


def _interval(key: str, replicates: np.ndarray, value: float) -> tuple[float, float]:
    """A plug-in ECE is biased upwards, and on resamples more so; the other scores are means."""
    low, high = percentile_interval(centred(replicates, value) if key == "ece" else replicates)
    return max(low, 0.0), high


def _differences(
    first: Mapping[str, tuple[float, np.ndarray]], second: Mapping[str, tuple[float, np.ndarray]]
) -> dict[str, Cell]:
    cells = {}
    for column in COLUMNS:
        (ours, replicates), (theirs, others) = second[column.key], first[column.key]
        value, gaps = ours - theirs, replicates - others
        cells[column.key] = Cell(
            measured=value,
            unit=POINTS if column.unit == "%" else column.unit,
            conditions="paired bootstrap on the same clips",
            ci=percentile_interval(centred(gaps, value) if column.key == "ece" else gaps),
        )
    return cells

"""What test clips are cut from, and what that means for an interval or a test. No torch here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reproduce.datasets import dataset_spec
from reproduce.records.predictions import StoredPredictions, load_predictions
from reproduce.records.runs import ScoredRun, TrainedRun
from reproduce.tables.base import TableInputs
from reproduce.tables.score_cells import as_if_independent


def sources_of(run: ScoredRun, stored: StoredPredictions) -> dict[str, str]:
    """Clip id -> the unit that it is cut from: as stored, or by the form of the data set's ids."""
    ids = [str(clip) for clip in stored.clip_ids]
    group_of = dataset_spec(run.dataset).group_of
    groups = [group_of(clip) for clip in ids] if stored.groups is None else map(str, stored.groups)
    return dict(zip(ids, groups, strict=True))


def unit_of(run: ScoredRun, sources: Mapping[str, str]) -> str:
    """What the clips are cut from: "recording", "video", "speaker", "group" or "clip"."""
    if run.unit == "clip" and any(clip != source for clip, source in sources.items()):
        return dataset_spec(run.dataset).unit  # of records before runs stored their unit
    return run.unit


def shared_unit(unit: str, sources: Mapping[str, str]) -> str:
    """The unit, where several clips are cut from one; otherwise ""."""
    return unit if len(set(sources.values())) < len(sources) else ""


def wilson_note(inputs: TableInputs, runs: Sequence[TrainedRun]) -> str:
    """What the intervals of accuracies are, and what several clips of one unit mean for them."""
    warning = as_if_independent(_shared_by_tests(inputs, runs))
    return (
        f"Intervals are 95 % Wilson intervals over test clips{warning}; they do not include the spread over training "
        "runs."
    )


def _shared_by_tests(inputs: TableInputs, runs: Sequence[TrainedRun]) -> str:
    """The unit that several test clips are cut from; that of the data set where no predictions tell."""
    sources: dict[str, str] = {}
    for run in {run.fold: run for run in runs}.values():  # runs of one fold test the same clips
        if stored := load_predictions(inputs.records_dir, run):
            sources |= sources_of(run, stored)
    if sources:
        return shared_unit(unit_of(runs[0], sources), sources)
    unit = dataset_spec(runs[0].dataset).unit if runs[0].unit == "clip" else runs[0].unit
    return "" if unit == "clip" else unit


def units_text(count: int, unit: str) -> str:
    """What a bootstrap draws: "the 12 speakers of these clips"."""
    return f"the {count:,} {unit}s of these clips" if unit != "clip" else f"these {count:,} clips"


def bootstrap_text(names: tuple[str, str], value: float, interval: tuple[float, float], over: str) -> str:
    """ "b - a = +1.2 [-0.3, +2.7] points, bootstrap over the 12 speakers of these clips"."""
    first, second = names
    low, high = interval
    return f"{second} - {first} = {value:+.1f} [{low:+.1f}, {high:+.1f}] points, bootstrap over {over}"

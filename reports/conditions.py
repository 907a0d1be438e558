"""One sentence on what a table's numbers were measured under, from the runs behind it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date

from reproduce.records.measured_runs import CostRun
from reproduce.records.runs import Run, TrainedRun


def conditions_of(runs: Sequence[Run]) -> str:
    """Machines, precisions, seeds and dates; "" where no run is behind the table."""
    if not runs:
        return ""
    if all(isinstance(run, CostRun) for run in runs):
        return f"Counted for one clip of {_inputs(runs)}."
    timed = [run for run in runs if not isinstance(run, CostRun)]
    machines = joined(run.environment.machine for run in timed)
    precisions = joined(run.environment.precision for run in timed)
    trained = [run for run in timed if isinstance(run, TrainedRun)]
    seeds = sorted({run.seed for run in trained})
    compiled = sum(run.environment.compiled for run in trained)
    parts = [
        f"Measured on {machines}" if machines else "",
        precisions,
        f"{compiled} of {len(trained)} runs compiled" if 0 < compiled < len(trained) else "compiled" * bool(compiled),
        f"{'seeds' if len(seeds) > 1 else 'seed'} {joined(map(str, seeds))}" if seeds else "",
        days(run.created for run in timed),
    ]
    return f"{', '.join(filter(None, parts))}."


def _inputs(runs: Sequence[Run]) -> str:
    sizes = {run.input_size for run in runs if isinstance(run, CostRun)}
    return joined(f"1 × {mels} × {frames}" for mels, frames in sorted(sizes))


def joined(texts: Iterable[str]) -> str:
    """ "a, b and c" of distinct texts, in order; empty ones are left out."""
    distinct = [text for text in dict.fromkeys(texts) if text]
    return " and ".join(filter(None, (", ".join(distinct[:-1]), distinct[-1] if distinct else "")))


def days(created: Iterable[str]) -> str:
    """ "22 November 2026", or "22 to 23 November 2026" for several days; "" where no time is known."""
    known = sorted(day for text in set(created) if (day := _date(text)))
    if not known:
        return ""
    first, last = known[0], known[-1]
    if first == last:
        return _day(last)
    if (first.year, first.month) == (last.year, last.month):
        return f"{first.day} to {_day(last)}"
    return f"{_day(first)} to {_day(last)}"


def _date(created: str) -> date | None:
    try:
        return date.fromisoformat(created[:10])
    except ValueError:
        return None


def _day(day: date) -> str:
    return f"{day.day} {day:%B %Y}"

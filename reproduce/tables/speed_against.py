"""Two sets of speed records side by side, of two machines or of two commits: the ratio of time of every candidate."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from reproduce.errors import InputError
from reproduce.precision import short_name
from reproduce.records.contests import candidate_name, timed_runs
from reproduce.records.measured_runs import SpeedRun
from reproduce.records.records import Records
from reproduce.tables.base import MEASURED, Cell, Column, Row, Table, measured, text_cell
from reproduce.tables.speed import BENCHES, conditions_label, conditions_order

COLUMNS = (
    Column("precision", "Precision"),
    Column("here", "Time here", "ms/clip", 3),
    Column("there", "Time there", "ms/clip", 3),
    Column("ratio", "There : here", "x", 2),
)


def speed_against(here: Records, there: Records, where: tuple[Path, Path]) -> Table:
    """A block per benchmark and pair of machines, a row per candidate that both have measured.

    Args:
        here: the records.
        there: those that they are compared with.
        where: the folders of both, for messages.

    Raises:
        InputError: not one candidate is in both.
    """
    ours, theirs = (_by_machine(timed_runs(records, SpeedRun)) for records in (here, there))
    blocks = []
    for machine, timed in ours.items():
        for other, others in theirs.items():
            shared = [(timed[case], others[case]) for case in timed if case in others]
            benches = dict.fromkeys((*BENCHES, *(run.bench for run, _ in shared)))
            for bench in benches:
                if pairs := [pair for pair in shared if pair[0].bench == bench]:
                    blocks.append(_block(bench, machine, other, pairs))
    if not blocks:
        raise InputError(f"--against {where[1]}: no speed record there is of a candidate and conditions in {where[0]}")
    notes = (
        "Medians of two measurements that were not taken in turns. Above 1, here is faster; ratios within one machine "
        "and run are in `speed`.",
    )
    return Table("speed against", f"Measured speed in {where[0]} and in {where[1]}", notes=notes, blocks=tuple(blocks))


def _by_machine(runs: Iterable[SpeedRun]) -> dict[str, dict[str, SpeedRun]]:
    """Machine -> case -> its newest run that did not fail."""
    found: dict[str, dict[str, SpeedRun]] = {}
    for run in sorted(runs, key=lambda run: run.created):
        if run.failure is None:
            conditions = {key: value for key, value in run.conditions.items() if key != "device"}
            case = json.dumps([run.bench, run.candidate, run.precision, conditions], sort_keys=True)
            found.setdefault(run.environment.machine, {})[case] = run
    return found


def _block(bench: str, machine: str, other: str, pairs: list[tuple[SpeedRun, SpeedRun]]) -> Table:
    pairs.sort(key=lambda pair: (conditions_order(pair[0].conditions), pair[0].candidate))
    rows = []
    for run, there in pairs:
        label = ": ".join(filter(None, (conditions_label(run.conditions), candidate_name(run))))
        rows.append(Row(f"{label}, {run.precision}", label, _cells(run, there)))
    title = f"{BENCHES.get(bench, bench)}: here {machine}; there {other}"
    notes = tuple(
        f"{place}: {', '.join(sorted({_conditions(pair[i]) for pair in pairs}))}."
        for i, place in enumerate(("Here", "There"))
    )
    return Table(f"speed against, {bench}, {machine}, {other}", title, COLUMNS, tuple(rows), notes=notes)


def _cells(run: SpeedRun, there: SpeedRun) -> dict[str, Cell]:
    times = [1e3 / one.metric("clips_per_s") for one in (run, there)]
    texts = [
        f"{one.environment.machine}, {_conditions(one)}, {one.metric('rounds'):.0f} rounds" for one in (run, there)
    ]
    return {
        "precision": text_cell(short_name(run.precision), MEASURED, texts[0]),
        "here": measured(times[0], "ms/clip", texts[0]),
        "there": measured(times[1], "ms/clip", texts[1]),
        "ratio": measured(times[1] / times[0], "x", f"{texts[1]} : {texts[0]}"),
    }


def _conditions(run: SpeedRun) -> str:
    torch = run.environment.libraries.get("torch", "unknown")
    return f"commit {run.environment.commit or 'unknown'}, torch {torch}, {run.day}"

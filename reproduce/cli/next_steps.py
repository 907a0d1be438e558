"""What a user can do after a comparison: where the weights are, and the commands that use them. No torch here."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path

from reproduce.cli.command import PROGRAM
from reproduce.experiments.experiment import Experiment
from reproduce.records.runs import Run, TrainedRun

SHOWN = 6


def next_steps(keys: Mapping[str, Experiment], runs: Iterable[Run], folder: Path, records: Path) -> list[str]:
    """The weights of the finished runs, best first, and the next commands; nothing without weights.

    Args:
        keys: of the runs that were asked for.
        runs: their records.
        folder: of weights.
        records: folder of the records.
    """
    trained = [run for run in runs if type(run) is TrainedRun and run.key in keys]
    stored = [(run, path) for run in trained if (path := folder / f"{run.key}.safetensors").is_file()]
    if not stored:
        return []
    stored.sort(key=lambda item: -item[0].metrics.get(item[0].headline, 0.0))
    lines = ["weights:"]
    for run, path in stored[:SHOWN]:
        score = run.metrics.get(run.headline, float("nan"))
        lines.append(f"  {path}  {run.model}, tested on {run.fold}, seed {run.seed}: {score:.1f} %")
    if len(stored) > SHOWN:
        lines.append(f"  and {len(stored) - SHOWN} more")
    first = trained[0]
    lines += ["next:", f"  {PROGRAM} predict SOUND --model {stored[0][1]}"]
    models = list(dict.fromkeys(run.model for run in trained))
    if first.corpus:
        shown = shlex.quote(first.corpus)
        lines.append(f"  {PROGRAM} runs show {shown}{_records_option(records)}")
        if len(models) > 1:
            pair = " ".join(shlex.quote(f"{first.corpus}/{model}") for model in models[:2])
            lines.append(f"  {PROGRAM} compare {pair}{_records_option(records)}")
    lines.append(f"  python -m reports --records {records} --out {records.parent / 'report'}")
    return lines


def _records_option(records: Path) -> str:
    return "" if records == Path("runs/records") else f" --records {records}"

"""Find recorded runs by key, or by the name of a corpus: NAME, NAME/MODEL, NAME/MODEL/FOLD, NAME/MODEL/FOLD/SEED.

No torch here.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from reproduce.errors import InputError
from reproduce.records.records import Records
from reproduce.records.runs import BaselineRun, ScoredRun, SearchRun, TrainedRun

OWN_RECORDS_DIR = Path("runs/records")  # of runs on a user's own clips
NAMES_SHOWN = 20


def scored_runs(records: Records) -> list[ScoredRun]:
    """The newest run of every key: trained models, searches and baselines."""
    return [run for kind in (TrainedRun, SearchRun, BaselineRun) for run in records.newest(kind)]


def short_name(run: ScoredRun) -> str:
    """NAME/MODEL/FOLD/SEED of a run, with the data set's name where its corpus has none."""
    return f"{run.corpus or run.dataset}/{run.model}/{run.fold}/{run.seed}"


def matching_runs(runs: Iterable[ScoredRun], text: str) -> list[ScoredRun]:
    """The runs that a name or the first digits of a key stand for; [] for none."""
    runs = list(runs)
    if by_key := [run for run in runs if run.key.startswith(text)]:
        return by_key
    wanted = text.rstrip("/").split("/")
    return [run for run in runs if short_name(run).split("/")[: len(wanted)] == wanted]


def find_runs(runs: Iterable[ScoredRun], text: str, where: Path) -> list[ScoredRun]:
    """`matching_runs`.

    Raises:
        InputError: there is none; the message lists the known names.
    """
    runs = list(runs)
    found = matching_runs(runs, text)
    if found:
        return found
    names = sorted({f"{run.corpus or run.dataset}/{run.model}" for run in runs})
    known = ", ".join(names[:NAMES_SHOWN]) + (", ..." if len(names) > NAMES_SHOWN else "")
    raise InputError(f"{where}: no run called {text!r} (known: {known or 'none'}); `runs list` shows all")

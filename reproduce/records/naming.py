"""Find recorded runs by key, or by the name of a corpus: NAME, NAME/MODEL, NAME/MODEL/FOLD, NAME/MODEL/FOLD/SEED.

No torch here.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from reproduce.errors import InputError, first_of
from reproduce.records.records import Records
from reproduce.records.runs import BaselineRun, ScoredRun, SearchRun, TrainedRun
from reproduce.records.store import default_records

OWN_RECORDS_DIR = Path("runs/records")  # of runs on a user's own clips
NAMES_SHOWN = 20


def require_folder(records: Path) -> None:
    """Raise InputError unless the folder is there; a default one may be absent, its tables then say "not run"."""
    if not records.is_dir() and records not in (default_records(), OWN_RECORDS_DIR):
        raise InputError(f"{records}: no such folder of records: runs on your own clips are in {OWN_RECORDS_DIR}")


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
    raise InputError(f"{where}: no run called {text!r} (known: {known_names(runs)}); `runs list` shows all")


def known_names(runs: Iterable[ScoredRun]) -> str:
    """Names of the runs without fold and seed, the first ones of many."""
    return first_of(sorted({f"{run.corpus or run.dataset}/{run.model}" for run in runs}), NAMES_SHOWN) or "none"


def settings_of(run: ScoredRun) -> Hashable:
    """What runs must share to be pooled over folds: all but model, fold, seed and measured normalisation."""
    shared = (run.config_key, run.classes_key, tuple(sorted(run.train_splits + run.test_splits)))
    if not isinstance(run, TrainedRun):
        return (*shared, run.front_end)
    front_end = replace(run.front_end, mean=0.0, std=1.0) if run.normalise else run.front_end
    return (*shared, front_end, run.recipe, run.recipe_name, run.weights, run.normalise, run.train_fraction)


def by_settings(runs: Iterable[ScoredRun]) -> list[list[ScoredRun]]:
    """Group the runs of one model by their settings; the group with the newest run first.

    Searches are left out where there are other runs. Of runs that share fold and seed, the newest counts.
    """
    runs = sorted(runs, key=lambda run: run.created)
    runs = [run for run in runs if not isinstance(run, SearchRun)] or runs
    groups: dict[Hashable, dict[tuple[str, int], ScoredRun]] = {}
    for run in runs:
        newest = groups.pop(settings_of(run), {})
        groups[settings_of(run)] = {**newest, (run.fold, run.seed): run}
    return [list(group.values()) for group in reversed(groups.values())]


def pair_by_fold(
    first: Sequence[ScoredRun], second: Sequence[ScoredRun]
) -> tuple[tuple[ScoredRun, ...], tuple[ScoredRun, ...]]:
    """The runs of two models that share fold and seed, of the lowest such seed, by fold.

    Without any such fold, all of each model's lowest seed: the clips may be the same under other names of the splits.
    """
    common = {(run.fold, run.seed) for run in first} & {(run.fold, run.seed) for run in second}
    shared = [[run for run in runs if not common or (run.fold, run.seed) in common] for runs in (first, second)]
    return _lowest_seed(shared[0]), _lowest_seed(shared[1])


def _lowest_seed(runs: Sequence[ScoredRun]) -> tuple[ScoredRun, ...]:
    seed = min(run.seed for run in runs)
    return tuple(sorted((run for run in runs if run.seed == seed), key=lambda run: run.fold))

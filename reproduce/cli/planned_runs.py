"""Find the records of the runs that a command asks for, and choose the keys of the other runs.

A key of version 2 covers the sound of the clips, one of version 1 their names, stretches and labels alone. A record of
version 1 counts for the same names, whatever the sound; a record of version 2 counts for the same sound alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from reproduce.cli.options import TrainingOptions
from reproduce.cli.progress import log, progress_bar
from reproduce.data.content import default_cache
from reproduce.data.waveform_store import WaveformStore
from reproduce.errors import InputError
from reproduce.experiments.experiment import Experiment
from reproduce.records.predictions import load_predictions
from reproduce.records.records import latest
from reproduce.records.runs import TrainedRun
from reproduce.records.store import load_records
from reproduce.training.checkpoint_files import delete_left_behind, has_training_state
from reproduce.training.run_keys import RunKeys


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """A run that a command asks for.

    Args:
        key: key of its record, or of the record that its training appends.
        recorded: whether a record counts.
        train: whether to train it now.
        with_content: whether to train it under a key that covers the sound.
    """

    key: str
    recorded: bool
    train: bool
    with_content: bool


def plan_runs(
    experiments: Sequence[Experiment],
    store: WaveformStore,
    kind: str,
    options: TrainingOptions,
    still_working: Callable[[], object] = lambda: None,
) -> tuple[list[PlannedRun], WaveformStore]:
    """Find the record of each experiment, and log which do not count, and why.

    Args:
        experiments: runs on the clips of `store`.
        store: the opened data set.
        kind: kind of the records, "train" or "search".
        options: selection of the runs, and the folders of records and runs.
        still_working: called after each file that is hashed.

    Returns:
        The runs in the order of `experiments`, and the store with its digests where a key or a comparison needs them:
        no file is read where records of version 1 suffice.
    """
    keys = RunKeys(store)
    names = [keys.names_key(experiment) for experiment in experiments]
    of_names: dict[str, list[TrainedRun]] = {name: [] for name in names}
    for run in load_records(options.records):
        if isinstance(run, TrainedRun) and run.kind == kind and run.names_key in of_names:
            of_names[run.names_key].append(run)
    lacking = options.run == "all" or (options.run == "missing" and not all(of_names.values()))
    if lacking or any(run.content for runs in of_names.values() for run in runs):
        store = with_digests(store, still_working)
        keys = RunKeys(store)
    planned: list[PlannedRun] = []
    other_sound: list[tuple[TrainedRun, tuple[str, ...]]] = []
    names_only = 0
    for experiment, name in zip(experiments, names, strict=True):
        content = keys.content(experiment)
        record = _matching(of_names[name], content)
        if record is None:
            other_sound += [(run, content) for run in (latest(of_names[name]),) if run is not None]
        elif not record.content:
            names_only += 1
        train = options.run == "all" or (options.run == "missing" and record is None)
        if record and not train and options.run != "none":
            delete_left_behind(options.runs / record.key, record.created)
        # A run that an earlier version began keeps its key: the sound of its first epochs is unknown.
        begun = has_training_state(options.runs / name) and not has_training_state(options.runs / keys.key(experiment))
        key = record.key if record and not train else name if begun else keys.key(experiment)
        planned.append(PlannedRun(key=key, recorded=record is not None, train=train, with_content=not begun))
    of_all = f"of {len(planned)} runs were recorded"
    if names_only:
        log(
            f"{names_only} {of_all} without hashes of their clips' sound: they count, but whether the sound has "
            "changed since is unknown"
        )
    if other_sound:
        changes = _changes(other_sound, store, options.records)
        log(f"{len(other_sound)} {of_all} on other sound under the same names, and do not count: {changes}")
    return planned, store


def with_digests(store: WaveformStore, still_working: Callable[[], object] = lambda: None) -> WaveformStore:
    """Return the store with its digests; a store of shards has them already."""
    if store.digests is not None:
        return store
    with progress_bar("hashing", unit="file", total=len(store)) as bar:

        def on_file() -> None:
            bar.update()
            still_working()

        return store.with_digests(default_cache(), on_file=on_file)


def _matching(runs: Sequence[TrainedRun], content: tuple[str, ...]) -> TrainedRun | None:
    """Return the newest run on the same sound, or the newest one if the run's or the store's sound is unknown."""
    same = latest(run for run in runs if run.content and run.content == content)
    return same or latest(run for run in runs if not run.content or not content)


def _changes(runs: Sequence[tuple[TrainedRun, tuple[str, ...]]], store: WaveformStore, records: Path) -> str:
    """Describe what has changed since `runs` were recorded; each has the hashes of today's training and test clips."""
    parts = []
    if tested := [run for run, content in runs if run.content[1] != content[1]]:
        of_runs = [_changed_clips(run, store, records) for run in tested]
        known = set[str]().union(*(changed or () for changed in of_runs))
        number = "" if None in of_runs else f"{len(known)} "
        parts.append(f"{number}test clip{'' if number == '1 ' else 's'}")
    if any(run.content[0] != content[0] for run, content in runs):
        parts.append("training clips")
    return f"the files of {' and of '.join(parts)} have changed"


def _changed_clips(run: TrainedRun, store: WaveformStore, records: Path) -> set[str] | None:
    """Return the ids of the run's test clips whose digest has changed; None where its digests are not stored."""
    try:
        stored = load_predictions(records, run)
    except InputError:  # this record does not count, so a damaged file is no obstacle
        return None
    if stored is None or stored.digests is None or store.digests is None:
        return None
    today = dict(zip(store.index.clip_ids.tolist(), store.digests.tolist(), strict=True))
    return {str(i) for i, digest in zip(stored.clip_ids, stored.digests, strict=True) if today.get(str(i)) != digest}

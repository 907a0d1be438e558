"""What a user can do after a comparison: where the weights are, and the commands that use them. No torch here."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from reproduce.cli.command import PROGRAM
from reproduce.cli.study_options import StudyOptions, usual_name
from reproduce.experiments.experiment import Experiment
from reproduce.records.naming import by_settings, matching_runs, pair_by_fold, scored_runs
from reproduce.records.records import Records
from reproduce.records.runs import SearchRun, TrainedRun

SHOWN = 6


def next_steps(keys: Mapping[str, Experiment], stored: Records, folder: Path, records: Path) -> list[str]:
    """The weights of the finished runs, best first, and the next commands; nothing without weights.

    Args:
        keys: of the runs that were asked for.
        stored: all records, those of earlier runs included.
        folder: of weights.
        records: folder of the records.
    """
    trained = [run for run in stored.newest(TrainedRun) if run.key in keys]
    kept = [(run, path) for run in trained if (path := folder / f"{run.key}.safetensors").is_file()]
    if not kept:
        return []
    kept.sort(key=lambda item: -item[0].metrics.get(item[0].headline, 0.0))
    lines = ["weights:"]
    for run, path in kept[:SHOWN]:
        score = run.metrics.get(run.headline, float("nan"))
        lines.append(f"  {path}  {run.model}, tested on {run.fold}, seed {run.seed}: {score:.1f} %")
    if len(kept) > SHOWN:
        lines.append(f"  and {len(kept) - SHOWN} more")
    first = trained[0]
    lines += ["next:", f"  {PROGRAM} predict SOUND --model {kept[0][1]}"]
    if first.corpus:
        shown = shlex.quote(first.corpus)
        lines.append(f"  {PROGRAM} runs show {shown}{_records_option(records)}")
        if pair := _pair(trained, stored):
            lines.append(f"  {PROGRAM} compare {' '.join(map(shlex.quote, pair))}{_records_option(records)}")
    lines.append(f"  python -m reports --records {records} --out {records.parent / 'report'}")
    return lines


def steps_after_search(keys: Mapping[str, Experiment], stored: Records, asked: StudyOptions) -> list[str]:
    """The best rate of each model that a search tried, and the commands that train with these rates.

    Args:
        keys: of the search's runs.
        stored: all records.
        asked: options of the search, which the commands repeat.
    """
    runs = [run for run in stored.newest(SearchRun) if run.key in keys]
    best: dict[str, SearchRun] = {}
    for run in sorted(runs, key=lambda run: run.lr):
        if run.model not in best or _score(run) > _score(best[run.model]):
            best[run.model] = run
    if not best:
        return []
    lines = ["best rate:"]
    lines += [f"  {model}: lr {run.lr:g}, {_score(run):.1f} % on {run.fold}" for model, run in best.items()]
    models_of: dict[float, list[str]] = {}
    for model, run in best.items():
        models_of.setdefault(run.lr, []).append(model)
    lines.append("next:")
    for rate, models in models_of.items():
        chosen = ["--models", ",".join(models)] if len(models_of) > 1 or asked.models else []
        words = ["train", asked.dataset, str(asked.path), *_repeated(asked), "--set", f"lr={rate:g}", *chosen]
        lines.append(f"  {PROGRAM} {shlex.join(words)}")
    return lines


def _score(run: TrainedRun) -> float:
    return run.metrics.get(run.headline, float("-inf"))


def _repeated(asked: StudyOptions) -> list[str]:
    """The options of a search that hold for the training too, but not its models and rate."""
    options = {
        "--preset": asked.preset,
        "--name": asked.name,
        "--weights": asked.weights,
        "--runs": asked.training.runs,
    }
    usual = {"--preset": "demo", "--name": usual_name(asked.path), "--weights": "scratch", "--runs": Path("runs")}
    words = [word for name, value in options.items() if value != usual[name] for word in (name, str(value))]
    for name, given in (
        ("--seconds", asked.seconds),
        ("--normalise", asked.normalise),
        ("--front-end", asked.front_end),
        ("--variant", asked.variant),
    ):
        words += [name, str(given)] if given is not None else []
    if asked.class_balanced is not None:
        words.append("--class-balanced" if asked.class_balanced else "--no-class-balanced")
    if asked.training.records != asked.training.runs / "records":
        words += ["--records", str(asked.training.records)]
    return words + [
        word for name, value in asked.changes.items() if name != "lr" for word in ("--set", f"{name}={value}")
    ]


def _pair(trained: Sequence[TrainedRun], stored: Records) -> list[str]:
    """What `compare` takes for two of the models just trained; [] for one model.

    Names where they stand for the runs just trained, and otherwise the keys of two runs on one fold.
    """
    models = list(dict.fromkeys(run.model for run in trained))[:2]
    if len(models) < 2:
        return []
    names = [f"{trained[0].corpus}/{model}" for model in models]
    sides = [by_settings(matching_runs(scored_runs(stored), name))[0] for name in names]
    wanted = [[run for run in trained if run.model == model] for model in models]
    keys = [{run.key for run in runs} for runs in pair_by_fold(*sides)]
    asked = [[run.key for run in runs] for runs in pair_by_fold(*wanted)]
    return names if keys == list(map(set, asked)) else [found[0] for found in asked]


def _records_option(records: Path) -> str:
    return "" if records == Path("runs/records") else f" --records {records}"

"""Run `python -m reproduce runs list|show|rm`: the recorded runs on a user's own clips. No torch here."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator
from pathlib import Path

from reproduce.cli import options as o
from reproduce.cli.command import PROGRAM, Command
from reproduce.cli.progress import log, print_result, print_table
from reproduce.errors import InputError
from reproduce.metrics.headline import HEADLINES
from reproduce.records.naming import OWN_RECORDS_DIR, find_runs, require_folder, scored_runs, short_name
from reproduce.records.runs import ScoredRun, SearchRun, TrainedRun
from reproduce.records.store import load_records, remove_records
from reproduce.tables.base import MEASURED, Column, Row, Table, measured, text_cell
from reproduce.tables.conditions import counted, epochs_text

COLUMNS = (
    Column("name", "Run"),
    Column("kind", "Kind"),
    Column("score", "Score", "%", 1),
    Column("clips", "Test clips", "", 0),
    Column("epochs", "Epochs", "", 0),
    Column("lr", "Learning rate"),
    Column("day", "Date"),
)


def _list_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", default="", metavar="NAME", help="name of a corpus, NAME/MODEL or a key")
    o.add_format(parser)
    _add_folders(parser)


def _show_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="name of a corpus, NAME/MODEL, or a key")
    _add_folders(parser)


def _rm_options(parser: argparse.ArgumentParser) -> None:
    _show_options(parser)
    parser.add_argument("--yes", action="store_true", help="remove them; without it they are only listed")


def _add_folders(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--records",
        type=Path,
        metavar="DIR",
        help="folder of stored measurements (default: RUNS/records)",
    )
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help=f"folder of weights {o.DEFAULT}")


def run_list(options: argparse.Namespace) -> int:
    """Print a row per recorded run."""
    kinds: dict[str, list[str]] = {}
    for run in (runs := _chosen(options)):
        kinds.setdefault(run.key, []).append(run.kind)
    # A search and a training of the same settings share a key, weights and predictions: one row.
    once = {run.key: run for run in sorted(runs, key=lambda run: (short_name(run), run.created))}
    rows = tuple(_row(run, " and ".join(kinds[key])) for key, run in once.items())
    folder = _records(options)
    missing = () if rows else (f"no run is recorded under {folder}",)
    print_table(Table("runs", f"Runs recorded under {folder}", COLUMNS, rows, notes=missing), options.format)
    return 0


def run_show(options: argparse.Namespace) -> int:
    """Print what is known of every run of a name."""
    for number, run in enumerate(_chosen(options)):
        print_result("\n" * bool(number) + "\n".join(_described(run, options)) + "\n")
    return 0


def run_rm(options: argparse.Namespace) -> int:
    """Remove records, predictions, weights and checkpoints of the runs of a name."""
    runs = list({run.key: run for run in _chosen(options)}.values())
    if not options.yes:
        for run in runs:
            log(f"would remove {short_name(run)} ({run.key})")
        raise InputError(f"{counted(len(runs), 'run')} not removed: add --yes")
    removed = remove_records(_records(options), {run.key for run in runs})
    for run in runs:
        for weights in _weights(run, options.runs):
            weights.unlink(missing_ok=True)
        if run.key and (options.runs / run.key).is_dir():
            shutil.rmtree(options.runs / run.key)
    print_result(f"removed {counted(removed, 'record')} of {counted(len(runs), 'run')}, with weights and predictions\n")
    return 0


def _records(options: argparse.Namespace) -> Path:
    """The folder of `--records`, by default that of `--runs`."""
    folder: Path = options.records or options.runs / OWN_RECORDS_DIR.name
    return folder


def _chosen(options: argparse.Namespace) -> list[ScoredRun]:
    """The runs of the name, or all without one."""
    folder = _records(options)
    require_folder(folder)
    runs = scored_runs(load_records(folder))
    return find_runs(runs, options.name, folder) if options.name else runs


def _row(run: ScoredRun, kind: str) -> Row:
    cells = {
        "name": text_cell(short_name(run), MEASURED),
        "kind": text_cell(kind, MEASURED),
        "score": measured(run.metrics.get(run.headline, float("nan")), "%", HEADLINES[run.headline]),
        "clips": measured(run.test_kept, "", "test clips that were scored"),
        "day": text_cell(run.day, MEASURED),
    }
    if isinstance(run, TrainedRun):
        cells["epochs"] = measured(run.epochs, "", "recipe")
        cells["lr"] = text_cell(f"{run.lr:g}", MEASURED)
    return Row(run.key, run.key, cells)


def _weights(run: ScoredRun, folder: Path) -> Iterator[Path]:
    yield from sorted(folder.glob(f"{run.key}*.safetensors")) if run.key else ()


def _described(run: ScoredRun, options: argparse.Namespace) -> list[str]:
    spec = run.front_end
    scores = ", ".join(
        f"{name} {value:.1f}" for name, value in run.metrics.items() if name.endswith(("top1", "top5", "map", "mauc"))
    )
    problems = counted(len(run.problems), "problem")
    lines = [
        f"{short_name(run)}  {run.key}  {run.created}",
        f"  scores    {scores} (%), {run.test_kept:,} of {run.test_listed:,} test clips",
        f"  clips     {run.train_kept:,} in training ({', '.join(run.train_splits)}), {problems}",
        f"  input     {spec.seconds:.2f} s: {spec.mels} mels x {spec.frames} frames, hop {spec.frame_shift_ms:.3g} ms",
        f"  machine   {run.environment.machine}, {run.wall_time_s:,.0f} s",
    ]
    if isinstance(run, TrainedRun):
        recipe = run.recipe
        kind = ", validation clips alone" if isinstance(run, SearchRun) else ""
        lines.append(f"  training  {epochs_text(recipe)}, batch {recipe.batch_size}, lr {recipe.lr:g}{kind}")
        key = f"validation_{run.headline}"
        curve = [f"{epoch[key]:.1f}" for epoch in run.history if epoch.get(key) is not None]
        lines += [f"  val       {' '.join(curve)} (% by epoch)"] if curve else []
    lines += [f"  weights   {path}" for path in _weights(run, options.runs)]
    if run.predictions:
        lines.append(f"  clip by clip  {_records(options) / run.predictions}")
    return lines


RUN_COMMANDS = tuple(
    Command(
        name=f"runs {verb}",
        group="records",
        help=help,
        example=f"{PROGRAM} runs {verb} {example}".rstrip(),
        add_options=add_options,
        run=f"{__name__}:run_{verb}",
    )
    for verb, help, example, add_options in (
        ("list", "runs on your own clips", "", _list_options),
        ("show", "one run, or all of a name", "my-sounds/mast_tiny", _show_options),
        ("rm", "remove runs with weights and predictions", "my-sounds --yes", _rm_options),
    )
)

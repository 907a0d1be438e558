"""`python -m reproduce TARGET`: one subcommand a registered table, and the verbs. Heavy imports come late."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from reproduce.data_commands import add_data_parser, run_data
from reproduce.errors import InputError
from reproduce.records import RECORDS_DIR
from reproduce.render import FORMATS, render
from reproduce.tables import table_specs

EXIT_OK, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 0, 2, 130
TRAINED_TARGETS = ("esc50", "tune")


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m reproduce",
        allow_abbrev=False,
        description="Regenerate a table of the MAST paper, or run a comparison of AST and MAST on your own data.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for spec in table_specs().values():
        command = commands.add_parser(spec.name, help=spec.help, description=spec.help, allow_abbrev=False)
        _add_output_options(command)
        if spec.name in TRAINED_TARGETS:
            _add_training_options(command)
        if spec.name == "esc50":
            _add_comparison_options(command)
        if spec.name == "tune":
            command.add_argument(
                "--fold", default="1", help="test fold to leave out of the search (default: %(default)s)"
            )
    add_data_parser(commands)
    training = commands.add_parser(
        "train", help="both models on a data set's own split, or cross-validated where it has folds", allow_abbrev=False
    )
    training.add_argument("name", metavar="NAME", help="data set, see `list`; `csv` and `folder` take your own sounds")
    training.add_argument("--protocol", metavar="P", help="variant of the data set, such as ks31 or full")
    _add_output_options(training)
    _add_training_options(training)
    _add_comparison_options(training)
    comparison = commands.add_parser(
        "compare", help="two recorded runs side by side, scored from their stored predictions, with a paired test"
    )
    comparison.add_argument("first", metavar="KEY", help="key of a run (or its first digits), see the records")
    comparison.add_argument("second", metavar="KEY")
    comparison.add_argument("--on-intersection", action="store_true", help="score both on the clips that both have")
    _add_output_options(comparison)
    commands.add_parser("list", help="targets, data sets and presets")
    return parser


def _add_output_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--format", choices=FORMATS, default="terminal", help="default: %(default)s")
    command.add_argument(
        "--records", type=Path, default=RECORDS_DIR, metavar="DIR", help="stored measurements (default: %(default)s)"
    )


def _add_training_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--data",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="where a data set lies, e.g. esc50=ESC-50-master",
    )
    command.add_argument("--datasets", type=Path, metavar="FILE.toml", help="the same, as a [datasets] table in a file")
    command.add_argument("--preset", default="demo", help="protocol for both models, see `list` (default: %(default)s)")
    command.add_argument(
        "--run",
        choices=("missing", "none", "all"),
        default="missing",
        help="what to train: what has no record yet, nothing, or everything again (default: %(default)s)",
    )
    command.add_argument(
        "--weights",
        default="scratch",
        metavar="NAME|FILE",
        help="start from scratch, imagenet, audioset (AST alone) or a file of published weights (default: %(default)s)",
    )
    command.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (default: %(default)s)")
    command.add_argument(
        "--runs", type=Path, default=Path("runs"), metavar="DIR", help="trained weights (default: %(default)s)"
    )


def _add_comparison_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--folds", type=int, metavar="N", help="test only the first N folds (default: every fold)")
    command.add_argument("--seeds", type=int, default=1, metavar="N", help="seeds 0 to N-1 (default: %(default)s)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status. Bad input is one line on stderr and status 2."""
    options = build_parser().parse_args(arguments)
    try:
        if options.command == "list":
            print(list_everything())
            return EXIT_OK
        if options.command == "data":
            return run_data(options)
        if options.command == "compare":
            from reproduce.compare import compare

            table = compare(options.records, options.first, options.second, options.on_intersection)
            sys.stdout.write(render(table, options.format))
            return EXIT_OK
        from reproduce import commands

        if options.command in (*TRAINED_TARGETS, "train"):
            return commands.run_experiments(options)
        return commands.run_table(options)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("interrupted: finished runs are recorded; the same command goes on from there", file=sys.stderr)
        return EXIT_INTERRUPTED


def list_everything() -> str:
    """Targets, data sets and presets, as text; imports no torch."""
    from reproduce.datasets import dataset_spec, list_datasets
    from reproduce.experiments import PRESETS

    sections = {
        "Targets (python -m reproduce TARGET)": {spec.name: spec.help for spec in table_specs().values()},
        "Data sets (--data NAME=PATH)": {name: dataset_spec(name).title for name in list_datasets()},
        "Presets of esc50, tune and train (--preset NAME)": {
            name: f"{', '.join(preset.models)}: {preset.why}" for name, preset in PRESETS.items()
        },
    }
    width = max(len(name) for entries in sections.values() for name in entries) + 2
    lines = []
    for title, entries in sections.items():
        lines += [title, *(f"  {name:<{width}}{text}" for name, text in entries.items()), ""]
    return "\n".join(lines[:-1])


if __name__ == "__main__":
    sys.exit(main())

"""`python -m reproduce TARGET`: one subcommand a registered table, and the verbs. Heavy imports come late."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from reproduce.cli.data import add_data_parser, run_data
from reproduce.errors import InputError
from reproduce.experiments.targets import DEMOS, PAPER, STUDIES, TARGETS
from reproduce.records.store import RECORDS_DIR
from reproduce.tables import table_specs
from reproduce.tables.render import FORMATS, render
from reproduce.training.signals import Stopped

EXIT_OK, EXIT_BAD_INPUT, EXIT_SIGNAL = 0, 2, 128
EXIT_INTERRUPTED = EXIT_SIGNAL + signal.SIGINT
STUDY_PRESETS = {"esc50": "demo", "tune": "demo", "equal_macs": "demo", "pooling": "coarse"}  # target -> its default
TRAINED_TARGETS = (*STUDIES, "all")


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
        if spec.name in TARGETS:
            _add_target_options(command)
        if spec.name in STUDY_PRESETS:
            _add_training_options(command)
            _add_preset_option(command, STUDY_PRESETS[spec.name])
            if spec.name != "tune":
                _add_comparison_options(command)
        if spec.name == "tune":
            command.add_argument(
                "--fold", default="1", help="test fold to leave out of the search (default: %(default)s)"
            )
    everything = commands.add_parser("all", help="every target of the paper, trained once", allow_abbrev=False)
    _add_output_options(everything)
    _add_target_options(everything)
    plan = commands.add_parser(
        "plan", help="clips, steps, memory and device-hours of a target, before training it", allow_abbrev=False
    )
    plan.add_argument("target", metavar="TARGET", choices=TRAINED_TARGETS, help=", ".join(TRAINED_TARGETS))
    _add_output_options(plan)
    _add_scale_options(plan)
    _add_memory_options(plan)
    _add_location_options(plan)
    add_data_parser(commands)
    training = commands.add_parser(
        "train", help="both models on a data set's own split, or cross-validated where it has folds", allow_abbrev=False
    )
    training.add_argument("name", metavar="NAME", help="data set, see `list`; `csv` and `folder` take your own sounds")
    training.add_argument("--variant", "--protocol", metavar="P", help="variant of the data set, such as ks31 or full")
    _add_output_options(training)
    _add_training_options(training)
    _add_preset_option(training, "demo")
    _add_comparison_options(training)
    comparison = commands.add_parser(
        "compare", help="two recorded runs side by side, scored from their stored predictions, with a paired test"
    )
    comparison.add_argument("first", metavar="KEY", help="key of a run (or its first digits), see the records")
    comparison.add_argument("second", metavar="KEY")
    comparison.add_argument("--on-intersection", action="store_true", help="score both on the clips that both have")
    _add_output_options(comparison)
    _add_inference_parsers(commands)
    listing = commands.add_parser("list", help="targets, data sets and presets; or the paper's recipes")
    listing.add_argument("--recipes", action="store_true", help="every recipe, each field with its source")
    listing.add_argument("--format", choices=FORMATS, default="terminal", help="of --recipes; default: %(default)s")
    return parser


def _add_output_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--format", choices=FORMATS, default="terminal", help="default: %(default)s")
    command.add_argument(
        "--records", type=Path, default=RECORDS_DIR, metavar="DIR", help="stored measurements (default: %(default)s)"
    )


def _add_location_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--data",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="where a data set lies, e.g. esc50=ESC-50-master",
    )
    command.add_argument("--datasets", type=Path, metavar="FILE.toml", help="the same, as a [datasets] table in a file")


def _add_training_options(command: argparse.ArgumentParser) -> None:
    """Where the data lie, what is trained, and how it is executed."""
    _add_location_options(command)
    command.add_argument(
        "--run",
        choices=("missing", "none", "all"),
        default="missing",
        help="what to train: what has no record yet, nothing, or everything again (default: %(default)s)",
    )
    command.add_argument(
        "--runs", type=Path, default=Path("runs"), metavar="DIR", help="weights and checkpoints (default: %(default)s)"
    )
    execution = command.add_argument_group("execution", "how it is trained, not what; drop path draws per device")
    execution.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (default: %(default)s)")
    execution.add_argument(
        "--precision", choices=("auto", "fp32", "bf16", "fp16"), default="auto", help="auto: bf16 on a GPU, else fp32"
    )
    _add_memory_options(execution)
    execution.add_argument("--workers", type=_not_negative, metavar="N", help="processes that read clips ahead")
    execution.add_argument(
        "--stream", action="store_true", help="read clips from disk in every epoch even where memory would hold them"
    )
    execution.add_argument(
        "--checkpoint-minutes",
        type=float,
        default=5.0,
        metavar="M",
        help="a kill loses at most so much work (default: %(default)s)",
    )


def _add_memory_options(command: argparse._ActionsContainer) -> None:
    command.add_argument(
        "--micro-batch",
        type=_positive,
        metavar="N",
        help="clips a device takes at once; gradients accumulate to the recipe's batch (default: its whole share)",
    )
    command.add_argument(
        "--grad-checkpointing", action="store_true", help="recompute activations: less memory, a third more time"
    )


def _add_scale_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--preset",
        choices=(PAPER, *DEMOS),
        default=PAPER,
        help="scale of what is trained; a demo makes its own synthetic stand-ins (default: %(default)s)",
    )
    command.add_argument("--seeds", type=_positive, metavar="N", help="seeds 0 to N-1 (default: the recipe's own)")
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="change a recipe, e.g. batch_size=12; such runs have another name and fill no cell of the paper",
    )


def _add_target_options(command: argparse.ArgumentParser) -> None:
    _add_scale_options(command)
    command.add_argument(
        "--dry-run", action="store_true", help="one step of every run, checkpoint and resume; nothing is recorded"
    )
    command.add_argument(
        "--figures", type=Path, default=Path("reports/build"), metavar="DIR", help="default: %(default)s"
    )
    _add_training_options(command)


def _add_preset_option(command: argparse.ArgumentParser, default: str) -> None:
    command.add_argument(
        "--preset", default=default, help="protocol for both models, see `list` (default: %(default)s)"
    )
    command.add_argument(
        "--weights",
        default="scratch",
        metavar="NAME|FILE",
        help="start from scratch, imagenet, audioset (AST alone) or a file of published weights (default: %(default)s)",
    )


def _add_inference_parsers(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    predicting = commands.add_parser("predict", help="what a trained model hears in sounds", allow_abbrev=False)
    predicting.add_argument(
        "--top", type=_positive, default=3, metavar="N", help="classes shown (default: %(default)s)"
    )
    predicting.add_argument(
        "--format", choices=("terminal", "csv", "json"), default="terminal", help="default: %(default)s"
    )
    embedding = commands.add_parser("embed", help="a trained model's embeddings of sounds, as npz", allow_abbrev=False)
    embedding.add_argument("--out", type=Path, default=Path("embeddings.npz"), metavar="FILE", help="%(default)s")
    for command in (predicting, embedding):
        command.add_argument("sounds", nargs="+", type=Path, metavar="SOUND", help="files, or folders of them")
    evaluation = commands.add_parser(
        "evaluate", help="a trained model's score on a data set's test clips", allow_abbrev=False
    )
    evaluation.add_argument("name", metavar="NAME", help="data set, see `list`")
    evaluation.add_argument("--data", action="append", default=[], metavar="NAME=PATH", help="where it lies")
    evaluation.add_argument("--datasets", type=Path, metavar="FILE.toml", help="the same, in a file")
    evaluation.add_argument("--variant", "--protocol", metavar="P", help="variant of the data set")
    evaluation.add_argument("--split", metavar="S", help="split or fold (default: the data set's test split)")
    evaluation.add_argument("--format", choices=("terminal", "json"), default="terminal", help="default: %(default)s")
    inspecting = commands.add_parser(
        "inspect", help="one sound through a trained model, for the report's figures of both", allow_abbrev=False
    )
    inspecting.add_argument("sound", type=Path, metavar="SOUND", help="a sound file")
    inspecting.add_argument(
        "--records", type=Path, default=RECORDS_DIR, metavar="DIR", help="stored measurements (default: %(default)s)"
    )
    for command in (predicting, embedding, evaluation, inspecting):
        command.add_argument(
            "--model",
            required=True,
            metavar="FILE",
            help="weights that a training run left (runs/KEY.safetensors), or audioset: AST's published ones",
        )
        command.add_argument("--device", default="auto", help="default: %(default)s")
    for command in (predicting, embedding, evaluation):
        command.add_argument(
            "--crops", type=_positive, default=1, metavar="N", help="of longer sounds (default: %(default)s, the start)"
        )


def _positive(text: str) -> int:
    return _at_least(1, text)


def _not_negative(text: str) -> int:
    return _at_least(0, text)


def _at_least(lowest: int, text: str) -> int:
    if not text.isdecimal() or int(text) < lowest:
        raise argparse.ArgumentTypeError(f"{text}: give a whole number of at least {lowest}")
    return int(text)


def _add_comparison_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--folds", type=int, metavar="N", help="test only the first N folds (default: every fold)")
    command.add_argument("--seeds", type=int, default=1, metavar="N", help="seeds 0 to N-1 (default: %(default)s)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status. Bad input is one line on stderr and status 2."""
    options = build_parser().parse_args(arguments)
    try:
        return _run(options)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except Stopped as error:
        print("stopped: the same command goes on from the last checkpoint", file=sys.stderr)
        return EXIT_SIGNAL + error.number
    except KeyboardInterrupt:
        print("interrupted: finished runs are recorded; the same command goes on from there", file=sys.stderr)
        return EXIT_INTERRUPTED


def _run(options: argparse.Namespace) -> int:
    if options.command == "list":
        sys.stdout.write(_list_recipes(options.format) if options.recipes else list_everything() + "\n")
        return EXIT_OK
    if options.command == "data":
        return run_data(options)
    if options.command == "compare":
        from reproduce.tables.compare import compare

        table = compare(options.records, options.first, options.second, options.on_intersection)
        sys.stdout.write(render(table, options.format))
        return EXIT_OK
    if options.command in ("predict", "embed", "evaluate", "inspect"):
        from reproduce.cli import inference as inference_commands

        verbs = {
            "predict": inference_commands.run_predict,
            "embed": inference_commands.run_embed,
            "evaluate": inference_commands.run_evaluate,
            "inspect": inference_commands.run_inspect,
        }
        return verbs[options.command](options)
    from reproduce.cli import studies, tables, targets

    if options.command == "plan":
        return targets.run_plan(options)
    if options.command in (*STUDY_PRESETS, "train"):
        return studies.run_experiments(options)
    if options.command in TARGETS:
        return targets.run_target(options)
    return tables.run_table(options)


def _list_recipes(format: str) -> str:
    from reproduce.tables.recipes import recipes_table

    return render(recipes_table(), format)


def list_everything() -> str:
    """Targets, data sets and presets, as text; imports no torch."""
    from reproduce.datasets import dataset_spec, list_datasets
    from reproduce.experiments.presets import PRESETS

    sections = {
        "Targets (python -m reproduce TARGET)": {spec.name: spec.help for spec in table_specs().values()},
        "Data sets (--data NAME=PATH)": {name: dataset_spec(name).title for name in list_datasets()},
        f"Presets of {', '.join(STUDY_PRESETS)} and train (--preset NAME)": {
            name: f"{', '.join(preset.models)}: {preset.why}" for name, preset in PRESETS.items()
        },
        "Presets of the paper's targets (--preset NAME)": {
            PAPER: "mast_base and ast_base by the paper's recipes, see `list --recipes`",
            **{name: f"{', '.join(demo.models.values())}: {demo.why}" for name, demo in DEMOS.items()},
        },
    }
    width = max(len(name) for entries in sections.values() for name in entries) + 2
    lines = []
    for title, entries in sections.items():
        lines += [title, *(f"  {name:<{width}}{text}" for name, text in entries.items()), ""]
    return "\n".join(lines[:-1])


if __name__ == "__main__":
    sys.exit(main())

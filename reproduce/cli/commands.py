"""List the commands: name, group, options and function of each. No torch here.

Every registered table is a command. Tables in `STUDIES` and trained targets train their missing runs first.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

from reproduce.cli import options as o
from reproduce.cli.command import PROGRAM, Command
from reproduce.cli.datasets import DATA_COMMANDS
from reproduce.cli.own_runs import RUN_COMMANDS
from reproduce.cli.study_options import TUNE, add_path, add_study, add_train, add_tune
from reproduce.experiments.conditions import STUDIES as CONDITION_STUDIES
from reproduce.experiments.paper_studies import studies_of, trained_targets
from reproduce.tables import TableSpec, table_specs
from reproduce.tables.render import ALL_FORMATS

# Comparison on a folder in ESC-50's layout -> its default preset.
STUDIES = {
    "esc50": "demo",
    "tune": "demo",
    "equal_macs": "demo",
    "pooling": "coarse",
    "components": "coarse",
    "data_efficiency": "coarse",
}
DRAWN = ("calibration", "classes")  # tables of stored predictions, with a figure each
CONDITIONS = tuple(CONDITION_STUDIES)  # trained models, tested again under other conditions
START_HERE = ("table5", "claims", "esc50")
PAPER_TABLES = ("table1", "claims")  # in addition to the trained targets


def all_commands() -> tuple[Command, ...]:
    """Return every command, tables first, in the order of the help."""
    return (*map(_table_command, table_specs().values()), *OTHER_COMMANDS, *RUN_COMMANDS, *DATA_COMMANDS)


def _table_command(spec: TableSpec) -> Command:
    trained = (*trained_targets(), "all")
    group = "records"
    add_options: Callable[[argparse.ArgumentParser], None]
    if spec.name in STUDIES:
        group = "sounds" if spec.name == TUNE else "folds"
        add_options, run = partial(_study_options, spec.name), "reproduce.cli.studies:run_study"
    elif spec.name in trained:
        group, add_options, run = "paper", o.add_target, "reproduce.cli.targets:run_target"
    elif spec.name == "scaling":
        add_options, run = _scaling_options, "reproduce.cli.targets:run_scaling"
    elif spec.name == "costs":
        add_options, run = _costs_options, "reproduce.cli.tables:run_costs"
    elif spec.name == "speed":
        add_options, run = _speed_options, "reproduce.cli.tables:run_speed"
    elif spec.name in DRAWN:
        add_options, run = _drawn_options, "reproduce.cli.beyond:run_drawn"
    elif spec.name in CONDITIONS:
        add_options, run = _conditions_options, "reproduce.cli.beyond:run_conditions"
    else:
        add_options, run = o.add_measured, "reproduce.cli.tables:run_table"
    if spec.name in PAPER_TABLES:
        group = "paper"
    if spec.name in START_HERE:
        group = "start"
    return Command(
        name=spec.name,
        group=group,
        help=spec.help,
        example=f"{PROGRAM} {spec.name}{_data_example(spec.name)}",
        add_options=add_options,
        run=run,
        defaults={"study": spec.name} if spec.name in STUDIES else {"target": spec.name},
    )


def _data_example(table: str) -> str:
    if table in STUDIES or table in CONDITIONS:
        return " --data esc50=ESC-50-master"
    names = dict.fromkeys(study.dataset for study in studies_of(table))
    return "".join(f" --data {name}=DIR" for name in names)


def _study_options(name: str, parser: argparse.ArgumentParser) -> None:
    if name == TUNE:
        add_tune(parser)
    else:
        add_study(parser, STUDIES[name])
    if name == "data_efficiency":
        o.add_figures(parser)
    if name == "components":
        parser.add_argument("--without", action="store_true", help="also MAST without one component each")


def _drawn_options(parser: argparse.ArgumentParser) -> None:
    o.add_measured(parser)
    o.add_figures(parser)


def _conditions_options(parser: argparse.ArgumentParser) -> None:
    _drawn_options(parser)
    o.add_locations(parser)
    o.add_run(parser)
    o.add_device(parser)
    o.add_runs(parser)
    parser.add_argument(
        "--model",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="weights of one training run, runs/KEY.safetensors; repeatable (default: all recorded runs under --runs)",
    )


def _costs_options(parser: argparse.ArgumentParser) -> None:
    o.add_measured(parser)
    o.add_models(parser, "ast_base,mast_base")


def _scaling_options(parser: argparse.ArgumentParser) -> None:
    o.add_format(parser)
    o.add_records(parser)
    o.add_run(parser)
    o.add_device(parser)
    o.add_figures(parser)
    parser.add_argument("--preset", choices=("paper", "debug"), default="paper", help=f"models and lengths {o.DEFAULT}")
    o.add_models(parser, "ast_base,mast_base")


def _speed_options(parser: argparse.ArgumentParser) -> None:
    o.add_measured(parser)
    parser.add_argument(
        "--against", type=Path, metavar="DIR", help="ratios to the speeds in this folder of another machine or commit"
    )


def _plan_options(parser: argparse.ArgumentParser) -> None:
    targets = (*trained_targets(), "all")
    parser.add_argument("target", metavar="TARGET", choices=targets, help=", ".join(targets))
    o.add_format(parser)
    o.add_records(parser)
    o.add_scale(parser)
    o.add_memory(parser)
    o.add_locations(parser)


def _compare_options(parser: argparse.ArgumentParser) -> None:
    what = "key of a recorded run or its first digits, or NAME/MODEL of your own clips, see `runs list`"
    parser.add_argument("first", metavar="RUN", help=what)
    parser.add_argument("second", metavar="RUN")
    parser.add_argument("--on-intersection", action="store_true", help="score both on the clips that both have")
    o.add_format(parser)
    o.add_found_records(parser)


def _list_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--recipes", action="store_true", help="every recipe of the paper, each field with its source")
    o.add_format(parser, ALL_FORMATS)


def _model_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        required=True,
        metavar="FILE",
        help="weights of a training run (runs/KEY.safetensors); demo or demo:ast_tiny: small models of ten classes, "
        "installed with this package; a folder or hub repository of shared weights; or ast:audioset: AST's published "
        "weights",
    )
    parser.add_argument(
        "--function",
        metavar="MODULE:FUNCTION",
        help="your own function that builds the model of these weights: a file alone never runs code",
    )
    o.add_device(parser)
    o.add_front_end(parser, "that of the weights")


def _inference_options(parser: argparse.ArgumentParser) -> None:
    _model_option(parser)
    o.add_precision(parser)
    o.add_compile(parser)
    _crops_option(parser)


def _crops_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--crops",
        type=o.at_least(1),
        default=1,
        metavar="N",
        help=f"evenly spaced crops of a longer sound to average; 1 takes its start {o.DEFAULT}",
    )
    parser.add_argument(
        "--batch", type=o.at_least(1), default=16, metavar="N", help=f"crops or windows per forward pass {o.DEFAULT}"
    )


def _window_options(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    group = parser.add_argument_group(
        "long sounds",
        "any of these options cuts sounds of any length into windows, each a clip of its own;\n"
        "the last window ends with the sound, and only a sound shorter than a window is padded",
    )
    group.add_argument("--window", type=o.seconds, metavar="S", help="seconds per window (default: the model's input)")
    group.add_argument("--hop", type=o.seconds, metavar="S", help="seconds between windows (default: --window)")
    return group


def _predict_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sounds", nargs="+", type=Path, metavar="SOUND", help="files, or folders of them")
    _inference_options(parser)
    parser.add_argument(
        "--top",
        type=o.at_least(1),
        metavar="N",
        help="classes per sound (default: 3), per window (default: 1; with --merge all above the threshold)",
    )
    parser.add_argument(
        "--format",
        choices=("terminal", "csv", "json", "audacity"),
        default="terminal",
        help=f"audacity is a label track of windows or events {o.DEFAULT}",
    )
    group = _window_options(parser)
    group.add_argument(
        "--merge",
        action="store_true",
        help="events instead of windows: consecutive windows of one label; overlapping windows count for the seconds "
        "around their middle",
    )
    group.add_argument(
        "--threshold",
        type=o.probability,
        metavar="P",
        help="least score of a window's label (default: 0; with --merge 0.5)",
    )


def _embed_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sounds", nargs="*", type=Path, metavar="SOUND", help="files, or folders of them")
    o.add_locations(parser)
    o.add_variant(parser)
    _inference_options(parser)
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("embeddings.npz"),
        metavar="FILE",
        help=f".npz or .parquet; a data set's labels and splits are written too {o.DEFAULT}",
    )
    _window_options(parser)


def _evaluate_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="data set, see `list`")
    add_path(parser)
    o.add_locations(parser)
    o.add_variant(parser)
    parser.add_argument("--split", metavar="S", help="split or fold (default: the data set's test split)")
    _inference_options(parser)
    o.add_format(parser, ("terminal", "json"))


def _inspect_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sound", type=Path, metavar="SOUND", help="a sound file")
    _model_option(parser)
    o.add_records(parser)


def _export_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("weights", metavar="WEIGHTS", help="what `predict --model` takes")
    parser.add_argument(
        "--format",
        choices=("onnx", "torch-export", "transformers", "hub"),
        default="onnx",
        help="a program with a free batch, checked against the model (onnx, torch-export), or a folder with a model "
        f"card, for transformers (AST only) or for the Hugging Face hub {o.DEFAULT}",
    )
    parser.add_argument(
        "--out", type=Path, metavar="PATH", help="file (.onnx, .pt2) or folder (default: as the weights)"
    )
    parser.add_argument("--function", metavar="MODULE:FUNCTION", help="your own function that builds the model")
    card = parser.add_argument_group("model card")
    card.add_argument("--licence", default="other", metavar="ID", help="of the weights, e.g. apache-2.0, cc-by-4.0")
    card.add_argument("--data-licence", default="", metavar="TEXT", help="of the training data, in words")
    o.add_found_records(card)


def _command(name: str, group: str, help: str, example: str, options: Callable[..., None], run: str) -> Command:
    return Command(
        name=name,
        group=group,
        help=help,
        example=f"{PROGRAM} {example}",
        add_options=options,
        run=f"reproduce.cli.{run}",
    )


OTHER_COMMANDS = (
    _command(
        "list", "start", "tables, data sets, presets; or the paper's recipes", "list", _list_options, "listing:run_list"
    ),
    Command(
        name="all",
        group="paper",
        help="every table and figure of the paper, each run trained once",
        example=f"{PROGRAM} all --preset demo",
        add_options=o.add_target,
        run="reproduce.cli.targets:run_target",
        defaults={"target": "all"},
    ),
    _command(
        "plan",
        "paper",
        "clips, steps, memory and device-hours of a target, before training",
        "plan table5",
        _plan_options,
        "targets:run_plan",
    ),
    _command(
        "train",
        "sounds",
        "train both models on a data set's official split, or cross-validate them on its folds",
        "train folder my-sounds",
        add_train,
        "studies:run_study",
    ),
    _command(
        "predict",
        "sounds",
        "the most probable classes of sounds, or of the windows of long ones, by a trained model",
        "predict my-sounds --model demo",
        _predict_options,
        "inference:run_predict",
    ),
    _command(
        "embed",
        "sounds",
        "embeddings of sounds or of their windows by a trained model, as npz or parquet",
        "embed my-sounds --model runs/KEY.safetensors",
        _embed_options,
        "inference:run_embed",
    ),
    _command(
        "evaluate",
        "sounds",
        "a trained model's score on a data set's test clips",
        "evaluate audioset --data audioset=DIR --model audioset",
        _evaluate_options,
        "inference:run_evaluate",
    ),
    _command(
        "export",
        "sounds",
        "a trained model as ONNX, torch.export, or a folder for transformers or the Hugging Face hub",
        "export runs/KEY.safetensors --format onnx --out model.onnx",
        _export_options,
        "export:run_export",
    ),
    _command(
        "inspect",
        "sounds",
        "one sound's log-mel and a trained MAST's relative positions, for the report",
        "inspect SOUND --model runs/KEY.safetensors",
        _inspect_options,
        "inference:run_inspect",
    ),
    _command(
        "compare",
        "records",
        "two recorded runs on the same clips, with a paired test",
        "compare 0571d172 050cf7ce",
        _compare_options,
        "tables:run_compare",
    ),
)

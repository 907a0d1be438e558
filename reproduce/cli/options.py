"""Options that several commands share, and the typed values they are unpacked into. No torch here."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from reproduce.errors import InputError
from reproduce.experiments.targets import DEMOS, PAPER
from reproduce.records.store import RECORDS_DIR
from reproduce.tables.render import ALL_FORMATS
from reproduce.training.execution import TRACKERS

DEFAULT = "(default: %(default)s)"


@dataclass(frozen=True, kw_only=True)
class ExecutionOptions:
    """How models are trained, not what: nothing here changes a result or its key.

    Args:
        device: "auto", "cpu", "cuda", "cuda:1", ...
        precision: "auto", "fp32", "bf16" or "fp16".
        micro_batch: clips that a device takes at once; None for its whole share of the batch.
        workers: processes that read clips ahead; None chooses.
        stream: read clips from disk in every epoch even where memory would hold them.
        grad_checkpointing: recompute activations in the backward pass.
        checkpoint_minutes: time between checkpoints.
        log_with: experiment tracker.
    """

    device: str
    precision: str
    micro_batch: int | None
    workers: int | None
    stream: bool
    grad_checkpointing: bool
    checkpoint_minutes: float
    log_with: str


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """Which runs are trained and where their results go.

    Args:
        run: "missing", "none" or "all".
        runs: folder of weights and checkpoints.
        records: folder of stored measurements.
        follow_outside: use files that a list names outside the data set's folder.
        execution: see there.
    """

    run: str
    runs: Path
    records: Path
    follow_outside: bool
    execution: ExecutionOptions

    @classmethod
    def of(cls, options: argparse.Namespace) -> TrainingOptions:
        """From the options of `add_training` and `add_records`."""
        names = ExecutionOptions.__dataclass_fields__
        execution = ExecutionOptions(**{name: getattr(options, name) for name in names})
        return cls(
            run=options.run,
            runs=options.runs,
            records=options.records,
            follow_outside=options.follow_outside,
            execution=execution,
        )


def at_least(lowest: int) -> Callable[[str], int]:
    """An argparse type: a whole number of at least `lowest`."""

    def number(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and len(text) < 19) or int(text) < lowest:
            raise argparse.ArgumentTypeError(f"{text[:40]}: give a whole number of at least {lowest}")
        return int(text)

    return number


def minutes(text: str) -> float:
    """An argparse type: a positive number of minutes."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: give a positive number of minutes")
    return value


def add_format(parser: argparse.ArgumentParser, formats: Iterable[str] = ALL_FORMATS) -> None:
    parser.add_argument("--format", choices=tuple(formats), default="terminal", help=DEFAULT)


def add_records(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--records", type=Path, default=RECORDS_DIR, metavar="DIR", help=f"folder of stored measurements {DEFAULT}"
    )


def add_locations(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="folder of a data set, e.g. esc50=ESC-50-master; repeatable",
    )
    parser.add_argument(
        "--datasets", type=Path, metavar="FILE.toml", help="folders of data sets, as a [datasets] table in a file"
    )
    parser.add_argument(
        "--follow-outside",
        action="store_true",
        help="use files that a list names outside the data set's folder; without it they are refused",
    )


def add_variant(parser: argparse.ArgumentParser, default: str = "its first") -> None:
    parser.add_argument(
        "--variant",
        "--protocol",
        metavar="V",
        help=f"variant of the data set, such as ks31 or full (default: {default})",
    )


def add_device(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--device", default="auto", help=f"auto, cpu, cuda, cuda:1, ... {DEFAULT}")


def add_memory(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--micro-batch",
        type=at_least(1),
        metavar="N",
        help="clips that a device takes at once; gradients accumulate to the recipe's batch (default: its whole share)",
    )
    parser.add_argument(
        "--grad-checkpointing",
        action="store_true",
        help="recompute activations in the backward pass: less memory, a third more time",
    )


def add_run(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--run",
        choices=("missing", "none", "all"),
        default="missing",
        help=f"what to train or measure: what has no record yet, nothing, or everything again {DEFAULT}",
    )


def add_training(parser: argparse.ArgumentParser) -> None:
    """Data, what to train, and how to execute it; read back by `TrainingOptions.of`."""
    add_locations(parser)
    add_run(parser)
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), metavar="DIR", help=f"folder of weights and checkpoints {DEFAULT}"
    )
    execution = parser.add_argument_group("execution", "how to train, not what: no option here changes a run's key")
    add_device(execution)
    execution.add_argument(
        "--precision", choices=("auto", "fp32", "bf16", "fp16"), default="auto", help="auto: bf16 on a GPU, else fp32"
    )
    add_memory(execution)
    execution.add_argument(
        "--workers", type=at_least(0), metavar="N", help="processes that read clips ahead (default: by the cores)"
    )
    execution.add_argument(
        "--stream", action="store_true", help="read clips from disk in every epoch even where memory would hold them"
    )
    execution.add_argument(
        "--checkpoint-minutes",
        type=minutes,
        default=5.0,
        metavar="M",
        help=f"time between checkpoints: a kill loses at most this much work {DEFAULT}",
    )
    execution.add_argument(
        "--log-with",
        choices=TRACKERS,
        default="tensorboard",
        metavar="TRACKER",
        help=f"tracker of the epochs' numbers: {', '.join(TRACKERS)} {DEFAULT}",
    )


def add_scale(parser: argparse.ArgumentParser) -> None:
    """The scale of a target of the paper, its seeds and changed recipes."""
    parser.add_argument(
        "--preset",
        choices=(PAPER, *DEMOS),
        default=PAPER,
        help=f"scale of what is trained; a demo writes its own synthetic stand-ins {DEFAULT}",
    )
    parser.add_argument("--seeds", type=at_least(1), metavar="N", help="seeds 0 to N-1 (default: the recipe's own)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="change a recipe, e.g. batch_size=12; such runs have another name and fill no cell of the paper",
    )


def add_figures(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--figures", type=Path, default=Path("reports/build"), metavar="DIR", help=f"folder of figures {DEFAULT}"
    )


def add_target(parser: argparse.ArgumentParser) -> None:
    """A table or figure of the paper that training runs fill."""
    add_format(parser)
    add_records(parser)
    add_scale(parser)
    parser.add_argument(
        "--dry-run", action="store_true", help="one step of every run, checkpoint and resume; nothing is recorded"
    )
    add_figures(parser)
    add_training(parser)


def add_measured(parser: argparse.ArgumentParser) -> None:
    """A table that reads records alone."""
    add_format(parser)
    add_records(parser)


def add_preset(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument("--preset", default=default, help=f"protocol for both models, see `list` {DEFAULT}")
    parser.add_argument(
        "--weights",
        default="scratch",
        metavar="NAME|FILE",
        help=f"start from scratch, imagenet, audioset (AST alone) or a file of published weights {DEFAULT}",
    )


def add_comparison(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--folds", type=at_least(1), metavar="N", help="test only the first N folds (default: all)")
    parser.add_argument("--seeds", type=at_least(1), default=1, metavar="N", help=f"seeds 0 to N-1 {DEFAULT}")


def parse_overrides(pairs: Iterable[str]) -> dict[str, str]:
    """The pairs of `--set`; InputError for one that is not FIELD=VALUE."""
    changes = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (name and equals and value):
            raise InputError(f"--set {pair}: write it as FIELD=VALUE, e.g. batch_size=12")
        changes[name] = value
    return changes

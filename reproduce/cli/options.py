"""Add the options that several commands share, and convert them to typed values. No torch here."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from reproduce.audio.spec import FRONT_ENDS
from reproduce.errors import InputError
from reproduce.experiments.model_names import ModelName, parse_models
from reproduce.experiments.targets import DEMOS, PAPER
from reproduce.precision import AUTO, PRECISIONS
from reproduce.records.naming import OWN_RECORDS_DIR
from reproduce.records.store import RECORDS_DIR, default_records
from reproduce.tables.render import ALL_FORMATS
from reproduce.training.execution import TRACKERS

DEFAULT = "(default: %(default)s)"


@dataclass(frozen=True, kw_only=True)
class ExecutionOptions:
    """Execution settings of training. They change neither results nor keys.

    Args:
        device: "auto", "cpu", "cuda", "cuda:1", ...
        precision: "auto", "fp32", "bf16" or "fp16".
        compile: compile the model.
        micro_batch: clips per forward pass on a device; None for its whole share of the batch.
        workers: processes that read clips ahead; None chooses by the cores.
        stream: read clips from disk in every epoch even if they fit in memory.
        grad_checkpointing: recompute activations in the backward pass.
        checkpoint_minutes: minutes between checkpoints.
        log_with: experiment tracker.
    """

    device: str
    precision: str
    compile: bool
    micro_batch: int | None
    workers: int | None
    stream: bool
    grad_checkpointing: bool
    checkpoint_minutes: float
    log_with: str


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """Selection of the runs to train, and the folders of their results.

    Args:
        run: "missing", "none" or "all".
        runs: folder of weights and checkpoints.
        records: folder of stored measurements.
        follow_outside: use files that a list names outside the data set's folder.
        execution: execution settings.
        name: of the user's own corpus, for its records; "" for others.
    """

    run: str
    runs: Path
    records: Path
    follow_outside: bool
    execution: ExecutionOptions
    name: str = ""

    @classmethod
    def of(cls, options: argparse.Namespace) -> TrainingOptions:
        """Convert the options of `add_training` and `add_records`."""
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
    """Return an argparse type: a whole number of at least `lowest`."""

    def number(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and len(text) < 19) or int(text) < lowest:
            raise argparse.ArgumentTypeError(f"{text[:40]}: pass a whole number of at least {lowest}")
        return int(text)

    return number


def minutes(text: str) -> float:
    """Parse a positive number of minutes; an argparse type."""
    return _positive(text, "a positive number of minutes")


def seconds(text: str) -> float:
    """Parse a positive number of seconds; an argparse type."""
    return _positive(text, "a positive number of seconds")


def probability(text: str) -> float:
    """Parse a number above 0 and at most 1; an argparse type."""
    return _positive(text, "a number above 0 and at most 1", most=1.0)


def _positive(text: str, what: str, most: float = 1e9) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= most:
        raise argparse.ArgumentTypeError(f"{text[:40]}: pass {what}")
    return value


def add_format(parser: argparse.ArgumentParser, formats: Iterable[str] = ALL_FORMATS) -> None:
    """Add `--format`."""
    parser.add_argument("--format", choices=tuple(formats), default="terminal", help=DEFAULT)


def add_records(parser: argparse._ActionsContainer) -> None:
    """Add `--records`."""
    parser.add_argument(
        "--records",
        type=Path,
        default=default_records(),
        metavar="DIR",
        help=f"folder of stored measurements {DEFAULT}",
    )


def add_found_records(parser: argparse._ActionsContainer) -> None:
    """Add `--records` where a name is looked up among the user's own runs first."""
    parser.add_argument(
        "--records",
        type=Path,
        metavar="DIR",
        help=f"folder of stored measurements (default: {OWN_RECORDS_DIR}, then {RECORDS_DIR})",
    )


def add_locations(parser: argparse.ArgumentParser) -> None:
    """Add `--data`, `--datasets` and `--follow-outside`."""
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
        help="use files that a list names outside the data set's folder (default: refuse them)",
    )


def add_variant(parser: argparse.ArgumentParser, default: str = "its first") -> None:
    """Add `--variant`."""
    parser.add_argument(
        "--variant",
        "--protocol",
        metavar="V",
        help=f"variant of the data set, such as ks31 or full (default: {default})",
    )


def add_device(parser: argparse._ActionsContainer) -> None:
    """Add `--device`."""
    parser.add_argument("--device", default="auto", help=f"auto, cpu, cuda, cuda:1, ... {DEFAULT}")


def add_precision(parser: argparse._ActionsContainer) -> None:
    """Add `--precision`."""
    parser.add_argument(
        "--precision",
        choices=(AUTO, *PRECISIONS),
        default=AUTO,
        help="precision of matrix products; auto: bf16 on a GPU that multiplies it natively, else fp32",
    )


def add_compile(parser: argparse._ActionsContainer) -> None:
    """Add `--compile`."""
    parser.add_argument(
        "--compile",
        action="store_true",
        help="compile the model, for one to five minutes; on a GPU it then runs as a CUDA graph",
    )


def add_memory(parser: argparse._ActionsContainer) -> None:
    """Add `--micro-batch` and `--grad-checkpointing`."""
    parser.add_argument(
        "--micro-batch",
        type=at_least(1),
        metavar="N",
        help="clips per forward pass on a device; gradients accumulate to the recipe's batch (default: all)",
    )
    parser.add_argument(
        "--grad-checkpointing",
        action="store_true",
        help="recompute activations in the backward pass: less memory, a third more time",
    )


def add_run(parser: argparse._ActionsContainer) -> None:
    """Add `--run`."""
    parser.add_argument(
        "--run",
        choices=("missing", "none", "all"),
        default="missing",
        help=f"train or measure what has no record yet, nothing, or everything again {DEFAULT}",
    )


def add_runs(parser: argparse.ArgumentParser) -> None:
    """Add `--runs`."""
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), metavar="DIR", help=f"folder of weights and checkpoints {DEFAULT}"
    )


def add_training(parser: argparse.ArgumentParser) -> None:
    """Add the options of data, runs and execution; `TrainingOptions.of` reads them."""
    add_locations(parser)
    add_run(parser)
    add_runs(parser)
    execution = parser.add_argument_group("execution", "settings of the machine: no option here changes a run's key")
    add_device(execution)
    add_precision(execution)
    add_compile(execution)
    add_memory(execution)
    execution.add_argument(
        "--workers", type=at_least(0), metavar="N", help="processes that read clips ahead (default: by the cores)"
    )
    execution.add_argument(
        "--stream", action="store_true", help="read clips from disk in every epoch even if they fit in memory"
    )
    execution.add_argument(
        "--checkpoint-minutes",
        type=minutes,
        default=5.0,
        metavar="M",
        help=f"minutes between checkpoints, the most work that a kill loses {DEFAULT}",
    )
    execution.add_argument(
        "--log-with",
        choices=TRACKERS,
        default="tensorboard",
        metavar="TRACKER",
        help=f"tracker of the metrics per epoch: {', '.join(TRACKERS)} {DEFAULT}",
    )


def add_scale(parser: argparse.ArgumentParser) -> None:
    """Add the options of scale, seeds and changed recipes for a target of the paper."""
    parser.add_argument(
        "--preset",
        choices=(PAPER, *DEMOS),
        default=PAPER,
        help=f"scale of the runs; a demo writes synthetic stand-ins {DEFAULT}",
    )
    parser.add_argument("--seeds", type=at_least(1), metavar="N", help="seeds 0 to N-1 (default: those of the recipe)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="change a recipe, e.g. batch_size=12; such runs have another recipe name and fill no cell of the paper",
    )


def add_front_end(parser: argparse._ActionsContainer, default: str) -> None:
    """Add `--front-end`; `default` says what happens without it."""
    parser.add_argument(
        "--front-end",
        choices=FRONT_ENDS,
        help=f"log-mels by this project's code, on batches, or by torchaudio's kaldi.fbank (default: {default})",
    )


def add_figures(parser: argparse.ArgumentParser) -> None:
    """Add `--figures`."""
    parser.add_argument(
        "--figures", type=Path, default=Path("reports/build"), metavar="DIR", help=f"folder of figures {DEFAULT}"
    )


def add_target(parser: argparse.ArgumentParser) -> None:
    """Add the options of a table or figure of the paper that training runs fill."""
    add_format(parser)
    add_records(parser)
    add_scale(parser)
    parser.add_argument(
        "--dry-run", action="store_true", help="one step of every run, checkpoint and resume; nothing is recorded"
    )
    add_figures(parser)
    add_training(parser)


def add_measured(parser: argparse.ArgumentParser) -> None:
    """Add the options of a table that reads only records."""
    add_format(parser)
    add_records(parser)


def add_preset(parser: argparse.ArgumentParser, default: str) -> None:
    """Add `--preset`, `--weights` and `--front-end` of a comparison."""
    parser.add_argument("--preset", default=default, help=f"protocol for both models, see `list` {DEFAULT}")
    parser.add_argument(
        "--weights",
        default="scratch",
        metavar="NAME|FILE",
        help=f"start from scratch, imagenet, audioset (AST only) or a file of published weights {DEFAULT}",
    )
    add_front_end(parser, FRONT_ENDS[0])


def model_names(text: str) -> tuple[ModelName, ...]:
    """Read the names of `--models`; an argparse type."""
    try:
        return parse_models(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix("--models ")) from None


def add_models(parser: argparse.ArgumentParser, default: str) -> None:
    """Add `--models`."""
    parser.add_argument(
        "--models",
        type=model_names,
        metavar="NAME,NAME",
        help="models of ours and others: mast_tiny, timm:resnet18, hf:OWNER/NAME, or package.module:function of your "
        f"own, which takes num_classes and input_size (mels, frames) (default: {default})",
    )


def add_comparison(parser: argparse.ArgumentParser) -> None:
    """Add `--folds` and `--seeds` of a comparison."""
    parser.add_argument("--folds", type=at_least(1), metavar="N", help="test only the first N folds (default: all)")
    parser.add_argument("--seeds", type=at_least(1), default=1, metavar="N", help=f"seeds 0 to N-1 {DEFAULT}")


def parse_overrides(pairs: Iterable[str]) -> dict[str, str]:
    """Convert the pairs of `--set` to field -> text.

    Raises:
        InputError: a pair is not FIELD=VALUE.
    """
    changes = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (name and equals and value):
            raise InputError(f"--set {pair}: write it as FIELD=VALUE, e.g. batch_size=12")
        changes[name] = value
    return changes

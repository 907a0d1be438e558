"""Devices, precision and processes, by Accelerate."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from reproduce.environment import set_tf32
from reproduce.errors import InputError
from reproduce.training.execution import NO_TRACKER, TRACKERS, Execution

if TYPE_CHECKING:
    from accelerate import Accelerator  # imported where one is made: it takes seconds, and tables need none

Result = TypeVar("Result")
SIGN_OF_LIFE_S = 60.0  # far below the minutes after which waiting processes give up
MIXED_PRECISIONS = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}  # torch's names -> Accelerate's
PRECISION_NAMES = {theirs: name for name, theirs in MIXED_PRECISIONS.items()}


def make_accelerator(device: str, precision: str = "float32") -> Accelerator:
    """The device, the rank among the processes of torchrun or accelerate launch, and the precision of products.

    Args:
        device: torch device; each of several processes takes its own GPU.
        precision: one of MIXED_PRECISIONS; weights, optimiser, losses and spectrograms are always float32.
    """
    if device.startswith("cuda:"):
        torch.cuda.set_device(device)  # Accelerate takes the current GPU
    if device != "cpu":
        set_tf32(precision != "float32")
    return _accelerator(device == "cpu", MIXED_PRECISIONS[precision])


def accelerator_of_run(execution: Execution, folder: Path) -> Accelerator:
    """An accelerator for one run alone: the models, optimisers and the float16 scale of other runs are not in it.

    Args:
        execution: its accelerator gives device, precision and processes, and is not changed.
        folder: of the run, for trackers that write files.

    Raises:
        InputError: the tracker is unknown, or its package is not installed.
    """
    from accelerate.tracking import get_available_trackers

    name, like = execution.log_with, execution.accelerator
    if name not in TRACKERS:
        raise InputError(f"--log-with {name}: no such tracker: choose one of {', '.join(TRACKERS)}")
    if name != NO_TRACKER and name not in {str(tracker) for tracker in get_available_trackers()}:
        raise InputError(f"--log-with {name}: the package is not installed: install it, or use --log-with {NO_TRACKER}")
    trackers = None if name == NO_TRACKER else name
    return _accelerator(like.device.type == "cpu", like.mixed_precision, log_with=trackers, project_dir=folder)


def _accelerator(cpu: bool, mixed_precision: str, **options: Any) -> Accelerator:
    from accelerate import Accelerator
    from accelerate.utils import GradientAccumulationPlugin

    # The engine accumulates gradients itself; a user's own accelerate config must not divide them once more.
    once = GradientAccumulationPlugin(num_steps=1)
    return Accelerator(cpu=cpu, mixed_precision=mixed_precision, gradient_accumulation_plugin=once, **options)


def gather(items: list[Any]) -> list[Any]:
    """The items of all processes, in the order of their ranks, on each of them."""
    from accelerate.utils import gather_object

    return gather_object(items)


def by_first_process(work: Callable[[Callable[[], object]], Result], every_s: float = SIGN_OF_LIFE_S) -> Result:
    """Run `work` in the first process, and return its result in all processes.

    Args:
        work: called in the first process alone, with a function that long work must call from time to time: a process
            that waits longer than the time-out of torch.distributed ends the run.
        every_s: time between two signs of life to the waiting processes.

    Raises:
        InputError: `work` raised it; all processes raise it.
    """
    from accelerate import PartialState

    if not PartialState().is_main_process:
        while (outcome := gather([None])[0]) is None:
            pass
    else:
        last = time.monotonic()

        def still_working() -> None:
            nonlocal last
            if time.monotonic() - last >= every_s:
                gather([None])
                last = time.monotonic()

        try:
            outcome = (work(still_working), None)
        except InputError as error:
            outcome = (None, error)
        outcome = gather([outcome])[0]
    result, failure = outcome
    if failure is not None:
        raise failure
    return result

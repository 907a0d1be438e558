"""Cost records: parameters and MACs of a model, computed from its closed form. Needs torch, but no weights."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import torch

from models import ModelError, create_model
from models.complexity import count_with_libraries, measure_complexity
from reproduce.efficiency.cost_identity import cost_code, cost_experiment
from reproduce.environment import describe_environment
from reproduce.errors import InputError
from reproduce.keys import hash_key
from reproduce.records.record import RunRecord, now
from reproduce.records.runs import CLOSED_FORM
from reproduce.records.selection import PAPER_CLASSES, PAPER_INPUT


def measure_cost(
    model: str,
    model_config: Mapping[str, Any] | None = None,
    input_size: tuple[int, int] = PAPER_INPUT,
    num_classes: int | Mapping[str, int] = PAPER_CLASSES,
    with_libraries: bool = False,
) -> RunRecord:
    """Make one "cost" record, batch 1: exact parameters, and MACs by both rules, itemised per block and kind.

    Args:
        model: registered name.
        model_config: overrides of the model's config.
        input_size: (mels, frames).
        num_classes: of one head, or of each head by name.
        with_libraries: also count with FlopCounterMode, fvcore and ptflops, which run real forward passes.

    Raises:
        InputError: the model cannot be had, or does not take such log-mels.
    """
    experiment = cost_experiment(model, model_config, input_size, num_classes)
    try:
        with torch.device("meta"):
            built = create_model(model, num_classes=num_classes, input_size=input_size, **(model_config or {}))
    except ModelError as error:
        raise InputError(str(error)) from None
    complexity = measure_complexity(built)
    return RunRecord(
        kind="cost",
        key=hash_key(experiment),
        experiment=experiment,
        scale="paper" if (input_size, num_classes) == (PAPER_INPUT, PAPER_CLASSES) else "demo",
        metrics={
            "parameters": complexity.parameters,
            "parameters_paper": complexity.parameters_paper,
            "macs_module_only": complexity.macs_module_only,
            "macs_ptflops_0_7": complexity.macs_ptflops_0_7,
            "macs_full": complexity.macs_full,
        },
        details={
            "items": [[item.block, item.kind, item.macs] for item in complexity.items],
            "shapes": [[s.block, s.tokens, *s.grid, s.width, s.prefix_tokens] for s in complexity.shapes],
            "libraries": _library_counts(model, experiment) if with_libraries else {},
            "code": cost_code(experiment),
            **({} if complexity.counter == CLOSED_FORM else {"macs_by": complexity.counter}),
        },
        environment=_environment(),
        created=now(),
    )


def _library_counts(model: str, experiment: Mapping[str, Any]) -> dict[str, float]:
    built = create_model(
        model,
        num_classes=experiment["num_classes"],
        input_size=tuple(experiment["input_size"]),
        **experiment["model_config"],
    )
    return {
        f"{library}, {path}": macs
        for path in ("reference", "sdpa")
        for library, macs in count_with_libraries(built, path).items()
    }


@cache
def _environment() -> dict[str, Any]:
    return describe_environment("cpu")

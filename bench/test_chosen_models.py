"""The models that `--models` names, ours or others', in turns: a forward pass and a training step.

    pytest bench/test_chosen_models.py --benchmark-only --models ast_tiny,mast_tiny,timm:resnet18

The MAST among them, or else the first, is the baseline.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.candidates import ModelCase, input_size
from bench.conftest import Comparison
from models import create_model
from models.complexity import measure_complexity
from reproduce.efficiency.interleaved import Candidate
from reproduce.efficiency.stopping import Budget
from reproduce.experiments.families import reference_of
from reproduce.experiments.model_names import parse_models

UNTIMED = "mast_debug,timm:test_resnet"
CASES = (("inference", 1), ("inference", 4), ("training", 4))
BUDGET = Budget(least=3, most=15, seconds=10)


@pytest.fixture
def names(request: pytest.FixtureRequest) -> list[str]:
    """The names of `--models`, the baseline first; small models where nothing is timed."""
    chosen = request.config.getoption("models")
    if chosen is None:
        if not request.config.getoption("benchmark_disable"):
            pytest.skip("times the models of your choice: pass --models ast_tiny,mast_tiny,timm:resnet18")
        pytest.importorskip("timm", reason="the smallest of other models is timm's")
        chosen = UNTIMED
    models = [str(name.with_code()) for name in parse_models(chosen)]
    first = reference_of(models)
    return [first, *(model for model in models if model != first)]


@pytest.mark.parametrize("work", CASES, ids=lambda work: "-".join(map(str, work)))
def test_chosen_models(
    compare: Comparison, device: str, precision: str, names: list[str], work: tuple[str, int]
) -> None:
    mode, batch = work
    size = input_size("debug" if all(name.endswith("_debug") or name in UNTIMED for name in names) else "base")
    case = ModelCase(preset="", device=device, size=size, mode=mode, batch=batch, precision=precision)
    conditions = {name: value for name, value in case.conditions().items() if name not in ("preset", "compile")}
    compare("chosen models", [chosen_candidate(case, name) for name in names], device, BUDGET, **conditions)


def chosen_candidate(case: ModelCase, name: str) -> Candidate:
    """Make a candidate of any model, with its parameters and MACs."""
    model = create_model(name, input_size=case.size).to(case.device)
    complexity = measure_complexity(model)
    facts = {
        "parameters": complexity.parameters,
        "macs_module_only": complexity.macs_module_only,
        "macs_full": complexity.macs_full,
    }
    return replace(case.candidate(name, model), facts=facts)

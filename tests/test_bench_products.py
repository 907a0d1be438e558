"""The bench of bare matrix products computes what the closed forms count, forwards and backwards."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.candidates import ModelCase
from bench.products import macs, matrix_products, products_candidate
from models import create_model
from models.complexity import measure_complexity

SIZE = (64, 128)


@pytest.mark.parametrize("name", ["ast_debug", "mast_debug", "mast_tiny"])
def test_the_products_of_a_forward_pass_are_those_of_the_closed_form(name: str) -> None:
    model = create_model(name, num_classes=10, input_size=SIZE)
    kinds: Counter[str] = Counter()
    for item in measure_complexity(model).items:
        kinds[item.kind] += item.macs
    biases = sum(layer.out_features for layer in model.modules() if isinstance(layer, torch.nn.Linear))
    expected = kinds["linear"] - biases + kinds["attention"] + kinds["relative position"]
    assert macs(matrix_products(model, torch.zeros(1, 1, *SIZE), "inference")) == expected


@pytest.mark.parametrize("recomputed_from", [0, 2**19])
@pytest.mark.parametrize("name", ["ast_debug", "mast_debug"])
def test_a_training_step_has_three_times_the_products(name: str, recomputed_from: int) -> None:
    """Each product has two gradients, and none is redone. A convolution made the first one's input."""
    model = create_model(name, num_classes=10, input_size=SIZE).set_recompute(recomputed_from)
    x = torch.zeros(2, 1, *SIZE)
    forward, step = (macs(matrix_products(model, x, mode)) for mode in ("inference", "training"))
    assert step == 3 * forward
    assert next(model.parameters()).device.type == "cpu"  # the model itself was not touched


@pytest.mark.parametrize(("mode", "precision"), [("inference", "bfloat16"), ("training", "float32")])
def test_the_candidate_computes_all_products(mode: str, precision: str) -> None:
    model = create_model("mast_debug", num_classes=10, input_size=SIZE)
    case = ModelCase(preset="debug", device="cpu", size=SIZE, mode=mode, batch=2, precision=precision)
    candidate = products_candidate(case, model)
    with FlopCounterMode(display=False) as counter:
        candidate.call()
    assert counter.get_total_flops() == 2 * macs(matrix_products(model, torch.zeros(2, 1, *SIZE), mode))
    assert (candidate.name, candidate.clips) == ("mast_debug, its products alone", 2)

"""Estimated memory of a training step, against what real steps of small models save."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from make_models import make_input

from models import SpectrogramTransformer, create_model
from reproduce.efficiency.training_memory import training_memory

pytestmark = pytest.mark.usefixtures("one_thread")
TOLERANCE = 0.1  # of the activations that real steps of small models save


def saved_bytes(model: SpectrogramTransformer, batch: int) -> int:
    """Bytes that autograd saves for the backward pass of one training step, without parameters and buffers."""
    known = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    storages: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            storages[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = model(make_input(batch, model.config.input_size)).square().mean()  # type: ignore[union-attr]
        total = sum(storage.nbytes() for storage in storages.values())
    loss.backward()
    return total


@pytest.mark.parametrize("recompute_from", [None, 0])
@pytest.mark.parametrize(
    ("name", "size", "config"),
    [
        ("ast_tiny", (64, 256), {}),
        ("ast_tiny", (64, 256), {"attention": "reference"}),
        ("ast_tiny", (64, 256), {"attention": "chunked"}),
        ("ast_small", (64, 128), {}),
        ("mast_tiny", (64, 256), {"attention": "chunked"}),
        ("mast_tiny", (64, 256), {"attention": "folded"}),
        ("mast_tiny", (64, 256), {"drop_path_rate": 0.3}),
        ("mast_small", (64, 128), {}),
        ("mast_debug", (128, 256), {"pool_strides": ((2, 2), (1, 1), (1, 1))}),
    ],
    ids=str,
)
def test_estimated_activations_are_those_that_a_step_saves(
    name: str, size: tuple[int, int], config: dict[str, Any], recompute_from: int | None
) -> None:
    model = create_model(name, num_classes=10, input_size=size, **config).train().set_recompute(recompute_from)
    per_clip = (saved_bytes(model, 3) - saved_bytes(model, 1)) / 2
    assert training_memory(model, 1, "cpu", mixed=False).saved == pytest.approx(per_clip, rel=TOLERANCE)


def test_the_state_is_that_of_adam() -> None:
    model = create_model("ast_debug", num_classes=10, input_size=(32, 64))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(2, 1, 32, 64)).sum().backward()  # type: ignore[union-attr]
    optimizer.step()
    tensors = [*model.parameters()] + [p.grad for p in model.parameters() if p.grad is not None]
    tensors += [t for state in optimizer.state.values() for t in state.values() if torch.is_tensor(t) and t.numel() > 1]
    state_bytes = sum(t.numel() * t.element_size() for t in tensors)
    assert training_memory(model, 1, mixed=False).state == pytest.approx(state_bytes, rel=0.01)


def test_memory_grows_with_the_batch_and_shrinks_with_checkpointing() -> None:
    with torch.device("meta"):
        model = create_model("mast_base")
    model.set_recompute(0)  # otherwise a larger batch recomputes more
    once, twice = training_memory(model, 64), training_memory(model, 128)
    assert twice.peak - once.peak == once.saved + once.working
    assert training_memory(model, 64, checkpointing=True).peak < once.peak
    checkpointed = training_memory(model, 8, mixed=False, checkpointing=True)
    entering = [8192 * 96] * 3 + [2048 * 192] * 3 + [512 * 384] * 16 + [256 * 768] * 2  # Table 1's tokens and widths
    assert checkpointed.saved == 4 * 8 * (sum(entering) + 256 * 768)


def test_half_precision_saves_up_to_half_of_the_activations() -> None:
    with torch.device("meta"):
        model = create_model("mast_base")
    mixed, full = training_memory(model, 8), training_memory(model, 8, mixed=False)
    assert full.saved / 2 < mixed.saved < full.saved

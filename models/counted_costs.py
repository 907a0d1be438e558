"""Costs of a network whose layers are unknown, counted in one pass: MACs by torch's FlopCounterMode, saved activations.

The pass runs on the meta device, so it takes milliseconds and no memory; networks that cannot run there run on theirs.
Attention is computed unfused, because fused kernels hide their products (pytorch#195460). Not counted: norms, biases,
poolings and activation functions, in all about 1 % of a network.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from models.cost_items import CostItem, SavedActivations
from models.weight_files import DAMAGE

FLOP_COUNTER = "torch FlopCounterMode"
WEIGHT_LAYERS: Mapping[type[nn.Module], str] = {
    nn.Linear: "linear",
    **dict.fromkeys((nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d), "conv"),
}
# Products outside such layers, by torch's names: of two activations, or with weights through a function.
KIND_OF_OPERATOR = {"mm": "linear", "addmm": "linear", "convolution": "conv", "_convolution": "conv"}


def dry_pass(model: nn.Module, x: Tensor, state: Mapping[str, Tensor] | None = None) -> Any:
    """The output of `model` on the meta device, in the mode that it is in, with attention unfused; it stays as it is.

    Args:
        model: on any device.
        x: (B, channels, mels, frames); its values do not matter.
        state: result of `meta_state`, made anew unless given.
    """
    with sdpa_kernel(SDPBackend.MATH):
        try:
            return functional_call(model, dict(state or meta_state(model)), (x.to("meta"),))
        except (*DAMAGE, NotImplementedError):  # no meta kernel, a value that the network looks at, or a wrong size
            with torch.random.fork_rng(devices=[]):
                return copy.deepcopy(model)(torch.zeros(x.shape, device=next(model.parameters()).device))


def meta_state(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers of `model` without values."""
    tensors = chain(model.named_parameters(), model.named_buffers())
    return {name: tensor.detach().to("meta").requires_grad_(tensor.requires_grad) for name, tensor in tensors}


@torch.no_grad()
def counted_items(model: nn.Module, x: Tensor) -> tuple[CostItem, ...]:
    """MACs of one clip by child module and kind; layers with weights by their own kind, whatever operator they call.

    Args:
        model: in any mode, which it keeps.
        x: (1, channels, mels, frames).
    """
    from torch.utils.flop_counter import FlopCounterMode

    training = model.training
    try:
        with FlopCounterMode(display=False) as counter:
            dry_pass(model.eval(), x)
    finally:
        model.train(training)
    counts, root = counter.get_flop_counts(), type(model).__name__

    def by_operator(name: str) -> Counter[str]:
        return Counter({str(op).rpartition(".")[2].rstrip("')>"): n for op, n in counts.get(name, {}).items()})

    items: Counter[tuple[str, str]] = Counter()
    rest = by_operator("Global")
    for name, child in _children(model):
        part = by_operator(f"{root}.{name}")
        rest.subtract(part)
        block = name.removeprefix("net.").removeprefix("inner.")
        for layer, kind in _weight_layers(child, name):
            own = by_operator(f"{root}.{layer}")
            part.subtract(own)
            items[block, kind] += sum(own.values())
        for operator, flops in part.items():
            items[block, KIND_OF_OPERATOR.get(operator, "attention")] += flops
    for operator, flops in rest.items():
        items["model", KIND_OF_OPERATOR.get(operator, "attention")] += flops
    return tuple(CostItem(block, kind, flops // 2) for (block, kind), flops in items.items() if flops > 0)


def _children(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The parts by which costs are itemised: the children of `net` without wrappers of one child, and the others."""
    for name, child in model.named_children():
        if name != "net":
            yield name, child
            continue
        while len(inner := list(child.named_children())) == 1:
            name, child = f"{name}.{inner[0][0]}", inner[0][1]
        for part, module in inner or [("", child)]:
            yield f"{name}.{part}" if part else name, module


def _weight_layers(module: nn.Module, name: str) -> Iterator[tuple[str, str]]:
    """(name, kind) of the outermost Linear and Conv layers."""
    kind = next((kind for layer, kind in WEIGHT_LAYERS.items() if isinstance(module, layer)), None)
    if kind is not None:
        yield name, kind
        return
    for part, child in module.named_children():
        yield from _weight_layers(child, f"{name}.{part}")


def counted_activations(model: nn.Module, x: Tensor) -> list[SavedActivations]:
    """What autograd saves of one clip between the passes: an entry per tensor.

    Args:
        model: in any mode, which it keeps.
        x: (batch, channels, mels, frames); of two clips or more, because batch normalisation refuses one.
    """
    tensors: dict[int, Tensor] = {}
    training, state = model.training, meta_state(model)
    weights = {tensor.untyped_storage()._cdata for tensor in state.values()}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()._cdata
        if storage not in weights and not isinstance(tensor, nn.Parameter):
            tensors.setdefault(storage, tensor)
        return tensor

    try:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            dry_pass(model.train(), x, state)
    finally:
        model.train(training)
    clips = len(x)
    return [
        SavedActivations(block="model", inputs=t.numel() // clips, float32=0, autocast=t.numel() // clips)
        for t in tensors.values()
        if len(t.shape) and t.shape[0] % clips == 0 and t.numel() >= clips
    ]

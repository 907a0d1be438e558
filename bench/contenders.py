"""Our models as contenders, on random spectrograms: speed does not depend on what is heard."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from models import SpectrogramTransformer, create_model
from models.complexity import measure_complexity
from reproduce.audio.spec import AudioSpec
from reproduce.efficiency.contenders import inference_contender, training_contender
from reproduce.efficiency.contest import Contender

PAPER_INPUT = (AudioSpec().mels, AudioSpec().frames)
DEBUG_MELS, DEBUG_SHRINKS = 32, 8  # the debug models are for the path, not for speed: they get a small input
MODES = ("inference", "training")
FAMILIES = ("mast", "ast")  # MAST first: the others' times are told in multiples of it


def input_size(preset: str, frames: int = PAPER_INPUT[1]) -> tuple[int, int]:
    """(mels, frames) that a preset is measured at: the paper's, or a small one for the debug models."""
    return (PAPER_INPUT[0], frames) if preset != "debug" else (DEBUG_MELS, max(32, frames // DEBUG_SHRINKS))


def spectrograms(batch: int, size: tuple[int, int], device: str) -> Tensor:
    """(batch, 1, mels, frames) of the scale that normalised log-mels have."""
    return 0.5 * torch.randn(batch, 1, *size, generator=torch.Generator().manual_seed(0)).to(device)


def contender(mode: str, name: str, model: nn.Module, x: Tensor, precision: str) -> Contender:
    """`model`, ours or a peer's of 527 classes, in one of MODES on the batch `x`."""
    if mode == "inference":
        return inference_contender(name, model, x, precision)
    targets = torch.zeros(len(x), 527, device=x.device)
    targets[:, 0] = 1.0
    return training_contender(name, model, x, targets, precision)


def our_contender(
    mode: str,
    name: str,
    *,
    batch: int,
    device: str,
    precision: str = "float32",
    compiled: bool = False,
    size: tuple[int, int] = PAPER_INPUT,
    model: SpectrogramTransformer | None = None,
) -> Contender:
    """The preset `name` (or `model`, which was built by it) as it comes: default attention path, random weights."""
    ours = (model or create_model(name, input_size=size)).to(device)
    complexity = measure_complexity(ours)
    facts = {"macs_module_only": complexity.macs_module_only, "macs_full": complexity.macs_full}
    running = cast(nn.Module, torch.compile(ours)) if compiled else ours
    x = spectrograms(batch, size, device)
    return replace(contender(mode, name, running, x, precision), facts=facts)

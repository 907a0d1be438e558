"""Our models as candidates, on random spectrograms: the speed does not depend on the input's values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from models import SpectrogramClassifier, create_model
from models.complexity import measure_complexity
from reproduce.audio.spec import AudioSpec
from reproduce.efficiency.candidates import inference_candidate, training_candidate
from reproduce.efficiency.compilation import compile_model
from reproduce.efficiency.interleaved import Candidate
from reproduce.environment import with_weights_in

PAPER_INPUT = (AudioSpec().mels, AudioSpec().frames)
DEBUG_MELS, DEBUG_SHRINK = 32, 8  # the debug models test the code, not the speed: their input is small
MODES = ("inference", "training")
FAMILIES = ("mast", "ast")  # MAST is the baseline: the times of others are multiples of its time
CLASSES = 527


def input_size(preset: str, frames: int = PAPER_INPUT[1]) -> tuple[int, int]:
    """Return the (mels, frames) at which a preset is measured: the paper's, or a small input for the debug models."""
    return (PAPER_INPUT[0], frames) if preset != "debug" else (DEBUG_MELS, max(32, frames // DEBUG_SHRINK))


@dataclass(frozen=True, kw_only=True)
class ModelCase:
    """Conditions under which models are timed.

    Args:
        preset: size of the models, such as "base".
        device: of torch.
        size: (mels, frames).
        mode: one of MODES.
        batch: clips per call.
        precision: "float32" or "bfloat16".
        compiled: whether the models pass through torch.compile, on a GPU with CUDA graphs.
    """

    preset: str
    device: str
    size: tuple[int, int]
    mode: str = "inference"
    batch: int = 1
    precision: str = "float32"
    compiled: bool = False

    def conditions(self) -> dict[str, Any]:
        """What identifies a record of this case, beside the benchmark's and the candidates' names."""
        return {
            "precision": self.precision,
            "mode": self.mode,
            "preset": self.preset,
            "batch": self.batch,
            "compile": self.compiled,
            "input_size": self.size,
        }

    def spectrograms(self) -> Tensor:
        """(batch, 1, mels, frames) with the scale of normalised log-mels."""
        x = torch.randn(self.batch, 1, *self.size, generator=torch.Generator().manual_seed(0))
        return 0.5 * x.to(self.device)

    def candidate(self, name: str, model: nn.Module) -> Candidate:
        """Make a candidate of any model with CLASSES classes: (batch, 1, mels, frames) -> logits."""
        x = self.spectrograms()
        if self.mode == "inference":
            return inference_candidate(name, with_weights_in(self.precision, model), x, self.precision)
        targets = torch.zeros(self.batch, CLASSES, device=self.device)
        targets[:, 0] = 1.0
        return training_candidate(name, model, x, targets, self.precision)

    def our_candidate(self, family: str, model: SpectrogramClassifier | None = None) -> Candidate:
        """Make a candidate of "mast" or "ast" with its default attention path and random weights, or of `model`."""
        name = f"{family}_{self.preset}"
        ours = (model or create_model(name, input_size=self.size)).to(self.device)
        complexity = measure_complexity(ours)
        if self.mode == "inference":
            ours = with_weights_in(self.precision, ours)
        facts = {"macs_module_only": complexity.macs_module_only, "macs_full": complexity.macs_full}
        candidate = self.candidate(name, ours)
        if self.compiled:
            compile_model(ours, self.device)
            candidate = replace(candidate, warm_up=None)  # a smaller batch would be compiled too
        return replace(candidate, facts=facts)

    def our_candidates(self, families: Sequence[str] = FAMILIES) -> list[Candidate]:
        """Make candidates of both models, MAST first."""
        return [self.our_candidate(family) for family in families]

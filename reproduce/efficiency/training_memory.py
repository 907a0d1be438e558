"""Peak memory of a training step, estimated from the block shapes of a model. No step is run.

The models state tensor by tensor what autograd saves of every block between the forward and the backward pass
(`saved_activations`). Working space is not itemised: the estimate takes the largest block once more for it, and leaves
allocator slack and the CUDA context out.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from models import SpectrogramClassifier
from models.complexity import count_parameters
from models.cost_items import FLOAT32_BYTES

STATE_BYTES = 16  # per parameter: float32 weight, gradient and Adam's two moments
CAST_BYTES = 2  # per parameter: the bfloat16 copy of the weight that autocast keeps during a step


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes of one model in a training step on one device.

    Args:
        state: weights, gradients and optimizer.
        saved: activations between forward and backward pass.
        working: activations of the largest block once more, for the working space of its passes.
    """

    state: int
    saved: int
    working: int

    @property
    def peak(self) -> int:
        return self.state + self.saved + self.working


def training_memory(
    model: SpectrogramClassifier, batch: int, device: str = "cuda", mixed: bool = True, checkpointing: bool = False
) -> TrainingMemory:
    """Estimate for one device; works on the meta device too.

    Args:
        model: in the size that is trained.
        batch: clips on the device at a time.
        device: the device whose attention paths and recomputation thresholds are taken.
        mixed: autocast to bfloat16; otherwise float32 throughout.
        checkpointing: every block is recomputed in the backward pass.
    """
    blocks = list(model.saved_activations(batch, torch.device(device), torch.bfloat16 if mixed else torch.float32))
    sizes = [block.bytes(mixed) for block in blocks]
    parameters = count_parameters(model)
    return TrainingMemory(
        state=parameters * (STATE_BYTES + (CAST_BYTES if mixed else 0)),
        saved=batch * (sum(block.inputs for block in blocks) * FLOAT32_BYTES if checkpointing else sum(sizes)),
        working=batch * max(sizes),
    )

"""When a run writes a checkpoint, what is in it, and how the run resumes from it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from reproduce.errors import InputError
from reproduce.training.checkpoint_files import load_training_state, save_training_state
from reproduce.training.state import TrainingState, check_content

if TYPE_CHECKING:
    from accelerate import Accelerator


class Checkpointer:
    """Writes and reads the checkpoints of one run.

    Args:
        accelerator: of the run; the first process writes, and every process reads.
        model: whose weights are kept.
        optimizer: of the model.
        folder: of the run.
        seconds: time between checkpoints.
        warn: receives one line.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        folder: Path,
        seconds: float,
        warn: Callable[[str], None],
    ) -> None:
        self.accelerator, self.model, self.optimizer = accelerator, model, optimizer
        self.folder, self.seconds, self.warn = folder, seconds, warn
        self._saved_at = time.perf_counter()

    def due(self) -> bool:
        """Whether this process should write a checkpoint now; only the first one ever should."""
        return self.accelerator.is_main_process and time.perf_counter() - self._saved_at > self.seconds

    def save(self, state: TrainingState) -> None:
        """Write a checkpoint. If that fails, warn and let training continue."""
        self._saved_at = time.perf_counter()
        if not self.accelerator.is_main_process:
            return
        scaler = self.accelerator.scaler
        content = {
            **state.to_dict(),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": scaler.state_dict() if scaler is not None else {},
        }
        try:
            save_training_state(self.folder, state.epoch, state.meter.steps, content)
        except InputError as error:
            self.warn(f"warning: {error}; training continues")

    def load(self) -> TrainingState | None:
        """Restore weights, optimiser and scale from the newest undamaged checkpoint; None without one."""
        content = load_training_state(
            self.folder, self.warn, lambda content: check_content(content, self.model, self.optimizer)
        )
        self.accelerator.wait_for_everyone()  # nobody writes while another still reads
        if content is None:
            return None
        scaler = self.accelerator.scaler
        self.model.load_state_dict(content["model"])
        self.optimizer.load_state_dict(content["optimizer"])
        if content["scaler"] and scaler is not None:
            scaler.load_state_dict(content["scaler"])
        return TrainingState.from_dict(content)

"""What the steps of an epoch add up to. No torch here."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """One finished step, over all processes.

    Args:
        clips: that counted.
        loss: sum over clips.
        stop: whether any process asked to stop.
        checkpoint: whether any process asked for a checkpoint.
        data_s: seconds for reading the batch and for its spectrograms.
        model_s: seconds for the forward and backward passes.
        optimizer_s: seconds for clipping the gradients and for the update.
    """

    clips: int
    loss: float
    stop: bool
    checkpoint: bool
    data_s: float
    model_s: float
    optimizer_s: float


@dataclass
class EpochMeter:
    """Sums over the finished steps of an epoch and over all processes; a checkpoint keeps those of a part of one.

    Args:
        loss: sum over clips.
        clips: that counted.
        steps: finished.
        seconds: wall time.
        lr: learning rate of the last step.
        data_s: see `StepReport`, of the first process.
        model_s: likewise.
        optimizer_s: likewise.
    """

    loss: float = 0.0
    clips: int = 0
    steps: int = 0
    seconds: float = 0.0
    lr: float = 0.0
    data_s: float = 0.0
    model_s: float = 0.0
    optimizer_s: float = 0.0

    def to_dict(self) -> dict[str, float]:
        """For a checkpoint."""
        return asdict(self)

    def add(self, report: StepReport) -> None:
        """Count one more step."""
        self.loss, self.clips, self.steps = self.loss + report.loss, self.clips + report.clips, self.steps + 1
        self.data_s += report.data_s
        self.model_s += report.model_s
        self.optimizer_s += report.optimizer_s

    def summary(self) -> dict[str, float]:
        """Mean loss over clips, last learning rate, steps, clips, clips per second, and what share of the time went
        into data, model and optimiser (0 to 1).
        """
        parts = {"data_share": self.data_s, "model_share": self.model_s, "optimizer_share": self.optimizer_s}
        total = sum(parts.values())
        return {
            "loss": self.loss / self.clips if self.clips else math.nan,
            "lr": self.lr,
            "steps": self.steps,
            "clips": self.clips,
            "clips_per_s": self.clips / self.seconds if self.seconds else 0.0,
            **{name: round(seconds / total, 4) if total else 0.0 for name, seconds in parts.items()},
        }

"""How a run is executed, whom it informs, and where its files go. No torch here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reproduce.data.rank_share import RankShare

if TYPE_CHECKING:
    from accelerate import Accelerator

NO_TRACKER = "none"
# Names that Accelerate gives to its trackers; all but TensorBoard need a package of their own.
TRACKERS = ("tensorboard", "wandb", "mlflow", "aim", "clearml", "comet_ml", "dvclive", "swanlab", "trackio", NO_TRACKER)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Callbacks of a running experiment; a progress bar uses them.

    Args:
        on_resume: receives the finished epochs and the clips seen so far.
        on_step: receives the clips of the step and its mean loss.
        on_epoch: receives the number of the finished epoch and its summary.
        on_warning: receives one line.
    """

    on_resume: Callable[[int, int], None] = lambda epochs, clips: None
    on_step: Callable[[int, float], None] = lambda clips, loss: None
    on_epoch: Callable[[int, dict[str, float]], None] = lambda epoch, summary: None
    on_warning: Callable[[str], None] = lambda line: None


SILENT = Progress()


@dataclass(frozen=True, kw_only=True)
class Execution:
    """Execution settings. They do not change what is trained: they are in the record, not in the experiment key.

    Args:
        accelerator: device, precision and the processes that share the run; a run makes another one like it.
        compile: compile the model, see `efficiency.compilation`.
        micro_batch: clips per forward pass and device; None for the whole share of a batch.
        workers: processes per training process that read clips ahead.
        grad_checkpointing: recompute activations in the backward pass, which takes less memory.
        checkpoint_seconds: time between checkpoints; a kill loses at most this much work.
        log_with: tracker of the epochs' numbers, one of TRACKERS.
    """

    accelerator: Accelerator
    compile: bool = False
    micro_batch: int | None = None
    workers: int = 0
    grad_checkpointing: bool = False
    checkpoint_seconds: float = 300.0
    log_with: str = "tensorboard"

    @property
    def share(self) -> RankShare:
        """The part of every batch that this process takes."""
        return RankShare(self.accelerator.process_index, self.accelerator.num_processes, self.micro_batch)


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Everything about a run but the experiment and its clips.

    Args:
        records: folder of the records; predictions go to its `predictions/`.
        runs: folder of weights, checkpoints and logs.
        execution: device, processes and memory.
        progress: callbacks.
        kind: kind of the record, "train", or "search" where the test splits are a validation fold.
        weights: file of published weights to start from, where they are not fetched by name.
        name: of the user's own corpus, for the record; "" for others.
    """

    records: Path
    runs: Path
    execution: Execution
    progress: Progress = SILENT
    kind: str = "train"
    weights: Path | None = None
    name: str = ""

"""The log of a run: every finished epoch's numbers in a file, and in the tracker that the user chose."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reproduce.errors import InputError
from reproduce.files import write_text

if TYPE_CHECKING:
    from accelerate import Accelerator

EPOCH_LOG = "epochs.jsonl"
PROJECT = "mast-vs-ast"  # what trackers with a server call the group of all runs


class EpochLogger:
    """Writes `epochs.jsonl` and feeds Accelerate's tracker. A failure is a warning: training continues.

    Args:
        accelerator: of the run, with its tracker; only the first process writes.
        folder: of the run.
        warn: receives one line.
    """

    def __init__(self, accelerator: Accelerator, folder: Path, warn: Callable[[str], None]) -> None:
        self.accelerator, self.folder, self.warn = accelerator, folder, warn

    @contextmanager
    def tracking(self, config: Mapping[str, Any], epochs_done: int) -> Iterator[None]:
        """Open the tracker for the block.

        Args:
            config: of the experiment; trackers with a server show its plain values.
            epochs_done: epochs before the first one of this block; TensorBoard drops what it has of later ones.
        """
        accelerator, names = self.accelerator, [str(name) for name in self.accelerator.log_with]
        plain = {name: value for name, value in config.items() if isinstance(value, str | int | float | bool)}
        options = {
            "tensorboard": {"purge_step": epochs_done + 1},
            "wandb": {"name": self.folder.name},
            "mlflow": {"run_name": self.folder.name},
        }
        only_files = names == ["tensorboard"]
        with self._warning_of_failures():
            # TensorBoard makes a folder of the project's name; the values would be another run in it.
            project, shown = ("tensorboard", None) if only_files else (PROJECT, plain)
            accelerator.init_trackers(project, shown, {name: options[name] for name in names if name in options})
        try:
            yield
        finally:
            for tracker in accelerator.trackers:
                with self._warning_of_failures():
                    tracker.finish()

    def write(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Write the log file anew, one epoch per line, so that a line that a full disk refused comes with the next."""
        if not self.accelerator.is_main_process:
            return
        text = "".join(json.dumps(_finite(epoch)) + "\n" for epoch in history)
        try:
            write_text(self.folder / EPOCH_LOG, text, "not written", "free some space; training continues")
        except InputError as error:
            self.warn(f"warning: {error}")

    def track(self, epoch: Mapping[str, Any]) -> None:
        """Give the tracker the numbers of one epoch."""
        values = {name: value for name, value in epoch.items() if name != "epoch"}
        with self._warning_of_failures():
            self.accelerator.log(values, step=epoch["epoch"])

    @contextmanager
    def _warning_of_failures(self) -> Iterator[None]:
        """Turn a tracker's failure into a warning: no tracker may end a training run."""
        try:
            yield
        except OSError as error:
            self._warn_of(error.strerror or str(error))
        except InputError:
            raise
        except Exception as error:  # every tracker has errors of its own: no login, no network, no quota
            self._warn_of(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")

    def _warn_of(self, reason: str) -> None:
        self.warn(f"warning: {self.folder}: no numbers tracked ({reason}); training continues")


def _finite(epoch: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no NaN."""
    return {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in epoch.items()}

"""Checkpoints of an unfinished run: written completely or not at all, checked when read, the previous one kept.

A checkpoint is one file, `epoch-0003-step-000120.pt`: weights, optimiser, averaged weights, scaler, history and the
position in the epoch. It holds no random generator: every draw derives from (seed, epoch, step), see `data.batches`.
It is read with `weights_only=True`, after its SHA-256 has been compared with the file of the same name + `.sha256`.
"""

from __future__ import annotations

import hashlib
import pickle
import struct
import zipfile
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import torch

from reproduce.files import file_lock, write_text, write_whole

KEPT = 2  # the last one, and the one before in case the last is damaged
SCHEMA = 1
FAILURE = "no checkpoint written"
REMEDY = "free some space; the last checkpoint is still there"
# What torch's unpickler and the checks of the content raise for files that are not what they were.
DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
    zipfile.BadZipFile,
)


def _accept(content: dict[str, Any]) -> None:
    pass


def save_training_state(folder: Path, epoch: int, step: int, content: dict[str, Any]) -> Path:
    """Write the checkpoint of `epoch` finished epochs and `step` steps of the next; delete all but the newest two.

    Args:
        folder: of the run.
        epoch: epochs finished.
        step: steps of the next epoch.
        content: nested dicts and lists of tensors, numbers and strings.

    Raises:
        InputError: the disk is full or cannot be written; earlier checkpoints are still there.
    """
    path = folder / f"epoch-{epoch:04d}-step-{step:06d}.pt"

    def write(file: IO[bytes]) -> None:
        try:
            torch.save({"schema": SCHEMA, **content}, file)
        except RuntimeError as error:  # torch's name for a write that failed
            raise OSError(str(error).splitlines()[0]) from None
        file.seek(0)
        # Before the checkpoint has its name: one that is there is complete with its sum.
        digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
        write_text(_sum_of(path), digest + "\n", FAILURE, REMEDY)

    _delete_temporaries(folder)  # of a process that was killed while it wrote
    try:
        write_whole(path, write, FAILURE, REMEDY)
    finally:
        if not path.exists():
            _sum_of(path).unlink(missing_ok=True)
    # By the time of writing: a damaged checkpoint of a later epoch must not outlive the one just written.
    for old in sorted(_checkpoints(folder), key=lambda p: (p == path, p.stat().st_mtime_ns), reverse=True)[KEPT:]:
        _delete(old)
    return path


def load_training_state(
    folder: Path, warn: Callable[[str], None], check: Callable[[dict[str, Any]], None] = _accept
) -> dict[str, Any] | None:
    """The content of the newest undamaged checkpoint, or None where there is none.

    Args:
        folder: of the run.
        warn: receives one line per damaged checkpoint, which is skipped.
        check: raises one of DAMAGE for content that is not of this run.
    """
    paths = _checkpoints(folder)
    for number, path in enumerate(paths):
        content = _read(path, check)
        if content is not None:
            return content
        more = number + 1 < len(paths)
        then = f"going back to {paths[number + 1].name}" if more else "starting from the beginning"
        warn(f"{path}: this checkpoint is damaged; {then}")
    return None


def has_training_state(folder: Path) -> bool:
    """Return whether an unfinished run left a checkpoint, damaged or not."""
    return bool(_checkpoints(folder))


def delete_training_state(folder: Path) -> None:
    """Delete the checkpoints of a finished run."""
    for path in _checkpoints(folder):
        _delete(path)
    _delete_temporaries(folder)


def delete_left_behind(folder: Path, recorded: str) -> None:
    """Delete the checkpoints of a run that a kill stopped between its record and their deletion.

    Args:
        folder: of the run.
        recorded: time of the record, ISO 8601. If a checkpoint is younger the run is trained again: all are kept.
    """
    last = datetime.fromisoformat(recorded).timestamp() + 1  # the record's time is cut to whole seconds
    with suppress(FileNotFoundError):  # the process that trained it deletes them at this moment
        checkpoints = _checkpoints(folder)
        if checkpoints and all(path.stat().st_mtime <= last for path in checkpoints):
            delete_training_state(folder)


def lock_run(folder: Path) -> AbstractContextManager[None]:
    """Hold a run's folder, so that no second process trains the same run. Workers of a killed run do not hold it.

    Raises:
        InputError: another process holds it.
    """
    busy = f"{folder}: another process is training this run; wait for it, or stop it"
    return file_lock(folder / "lock", busy)


def _checkpoints(folder: Path) -> list[Path]:
    """Newest first: the names sort by epoch and step."""
    return sorted(folder.glob("epoch-*-step-*.pt"), reverse=True)


def _sum_of(path: Path) -> Path:
    return path.with_suffix(".pt.sha256")


def _read(path: Path, check: Callable[[dict[str, Any]], None]) -> dict[str, Any] | None:
    """The content, or None where it is damaged."""
    try:
        with open(path, "rb") as file:
            if _sum_of(path).read_bytes().strip() != hashlib.file_digest(file, "sha256").hexdigest().encode():
                return None
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content["schema"] != SCHEMA:
            return None
        check(content)
    except DAMAGE:
        return None
    return content


def _delete_temporaries(folder: Path) -> None:
    # Earlier versions wrote epoch-*.tmp.
    for pattern in (".epoch-*.tmp", "epoch-*.tmp"):
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)


def _delete(path: Path) -> None:
    path.unlink(missing_ok=True)
    _sum_of(path).unlink(missing_ok=True)

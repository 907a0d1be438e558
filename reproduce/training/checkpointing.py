"""The state of an unfinished run on disk: whole or not at all, checked when read, the one before kept.

A checkpoint is one file, `epoch-0003-step-000120.pt`: weights, optimiser, averaged weights, scaler, history and the
place in the epoch. Generators need none: every draw derives from (seed, epoch, step), see `data.batches`. It is
read with `weights_only=True`, after its SHA-256, which stands in the file of the same name with `.sha256` behind it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from reproduce.errors import InputError

KEPT = 2  # the last one, and the one before in case the last is damaged
SCHEMA = 1


def save_run_state(folder: Path, epoch: int, step: int, state: dict[str, Any]) -> Path:
    """Write the checkpoint of `epoch` finished epochs and `step` steps of the next; older ones but one are deleted.

    Args:
        state: nested dicts and lists of tensors, numbers and strings.

    Raises:
        OSError: the disk is full or cannot be written; what was there before is still there.
    """
    path = folder / f"epoch-{epoch:04d}-step-{step:06d}.pt"
    temporary = path.with_suffix(".tmp")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _delete_temporaries(folder)  # of a process that was killed while it wrote
        with open(temporary, "wb") as file:
            torch.save({"schema": SCHEMA, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        digest = _sha256(temporary)
        _replace(path.with_suffix(".pt.sha256"), digest)
        os.replace(temporary, path)
    except RuntimeError as error:  # torch's name for a write that failed
        raise OSError(str(error).splitlines()[0]) from None
    finally:
        _delete_temporaries(folder)
    # By the time of writing: a damaged checkpoint of a later epoch must not outlive the one just written.
    for old in sorted(_checkpoints(folder), key=lambda p: (p == path, p.stat().st_mtime_ns), reverse=True)[KEPT:]:
        _delete(old)
    return path


def load_run_state(folder: Path, warn: Callable[[str], None]) -> dict[str, Any] | None:
    """The newest checkpoint that is whole, or None where there is none. One that is damaged is named and passed over.

    Args:
        warn: called with a line for every damaged one.
    """
    found = _checkpoints(folder)
    for number, path in enumerate(found):
        state = _read(path)
        if state is not None:
            return state
        then = f"going back to {found[number + 1].name}" if number + 1 < len(found) else "starting from the beginning"
        warn(f"{path}: this checkpoint is damaged; {then}")
    return None


def delete_run_state(folder: Path) -> None:
    """Of a run that is finished."""
    for path in _checkpoints(folder):
        _delete(path)
    _delete_temporaries(folder)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a run's folder against a second process that would train the same run.

    Raises:
        InputError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{folder}: another process is training this run; wait for it, or stop it") from None
        yield


def _checkpoints(folder: Path) -> list[Path]:
    """Newest first: the names sort by epoch and step."""
    return sorted(folder.glob("epoch-*-step-*.pt"), reverse=True)


def _read(path: Path) -> dict[str, Any] | None:
    expected = path.with_suffix(".pt.sha256")
    if not expected.is_file() or expected.read_bytes().strip() != _sha256(path).encode():
        return None
    state = torch.load(path, map_location="cpu", weights_only=True)
    return state if state.get("schema") == SCHEMA else None


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _replace(path: Path, text: str) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text + "\n")
    os.replace(temporary, path)


def _delete_temporaries(folder: Path) -> None:
    for path in folder.glob("epoch-*.tmp"):
        path.unlink(missing_ok=True)


def _delete(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.with_suffix(".pt.sha256").unlink(missing_ok=True)

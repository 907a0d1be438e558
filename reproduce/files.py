"""Files that are written whole or not at all. No torch here."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from reproduce.errors import InputError


def write_whole(path: Path, write: Callable[[IO[bytes]], object], failure: str, remedy: str) -> None:
    """`write(file)` into `path`: under another name first, so that what was there stays until all of it is written.

    Raises:
        InputError: "PATH: FAILURE (reason): REMEDY", where it cannot be written; nothing of the attempt is left.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            write(file)
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"{path}: {failure} ({error.strerror}): {remedy}") from None
    finally:
        with suppress(OSError):  # nothing lies there: it was renamed, or its folder is none
            temporary.unlink()


def write_arrays(path: Path, arrays: Mapping[str, Any], failure: str, remedy: str) -> None:
    """`arrays` by name as a compressed npz without pickles, see `write_whole`."""
    write_whole(path, lambda file: np.savez_compressed(file, allow_pickle=False, **arrays), failure, remedy)

"""The problems that decoding a clip reports. No torch here."""

from __future__ import annotations

from pathlib import Path

from reproduce.audio.errors import AudioError
from reproduce.datasets.index import Problem


def unusable_clip(clip_id: str, error: AudioError) -> Problem:
    """The problem of a clip that cannot be used."""
    return Problem(clip_id, error.reason, str(error))


def silent_clip(clip_id: str, path: str | Path) -> Problem:
    """The warning about a clip that is used although it is silent."""
    return Problem(clip_id, "silent", f"{path}: silent; used as it is, check the recording", fatal=False)

"""The problems that decoding a clip reports. No torch here."""

from __future__ import annotations

from collections.abc import Iterable

from reproduce.audio.errors import AudioError, AudioWarning
from reproduce.datasets.index import Problem


def unusable_clip(clip_id: str, error: AudioError) -> Problem:
    """The problem of a clip that cannot be used."""
    return Problem(clip_id, error.reason, str(error))


def clip_warnings(clip_id: str, warnings: Iterable[AudioWarning]) -> list[Problem]:
    """The warnings about a clip that is used: silent, very short, and so on."""
    return [Problem(clip_id, warning.reason, str(warning), fatal=False) for warning in warnings]

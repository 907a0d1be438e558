"""Why a clip cannot be used: one vocabulary of reasons, each with its remedy. Needs no torch."""

from __future__ import annotations

from pathlib import Path

from reproduce.errors import InputError

AUDIO_REASONS = (
    "missing",
    "zero-byte",
    "not audio",
    "empty",
    "truncated",
    "NaN samples",
    "no audio track",
    "needs PyAV",
    "unreadable",
)


_REMEDIES = {
    "missing": "check the path, or fetch the file",
    "zero-byte": "the download or copy failed: fetch it again",
    "not audio": "use wav, flac, ogg, mp3, mp4, m4a, webm or mkv, or leave the clip out",
    "empty": "leave the clip out, or correct its start and stop",
    "truncated": "the download or copy was cut off: fetch it again",
    "NaN samples": "write the file again from its source",
    "no audio track": "leave the clip out, or fetch a version with sound",
    "needs PyAV": "run `pip install av`",
    "unreadable": "check permissions and disk, or convert it to wav",
}


class AudioError(InputError):
    """A clip that cannot be used. `reason` is one of AUDIO_REASONS; the message is one line with the remedy."""

    def __init__(self, path: str | Path, reason: str, detail: str = "") -> None:
        if reason not in AUDIO_REASONS:
            raise ValueError(f"unknown reason {reason!r}: choose one of {', '.join(AUDIO_REASONS)}")
        # All arguments go to Exception, so that the error survives pickling on its way from a loader's worker.
        super().__init__(path, reason, detail)
        self.path = Path(path)
        self.reason = reason
        self.detail = " ".join(detail.split())

    def __str__(self) -> str:
        detail = f" ({self.detail})" if self.detail else ""
        return f"{self.path}: {self.reason}{detail}; {_REMEDIES[self.reason]}"

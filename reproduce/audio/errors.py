"""Why a clip cannot be used, and what to know about a clip that is used: two vocabularies. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from reproduce.errors import InputError

_REMEDIES = {
    "missing": "check the path, or fetch the file",
    "zero-byte": "the download or copy failed: fetch it again",
    "not audio": "use wav, flac, ogg, mp3, mp4, m4a, webm or mkv, or leave the clip out",
    "empty": "leave the clip out, or correct its start and stop",
    "truncated": "the download or copy was cut off: fetch it again",
    "NaN samples": "write the file again from its source",
    "no audio track": "leave the clip out, or fetch a version with sound",
    "unreadable": "check permissions and disk, or convert it to wav",
    "absurd values": "write the file again with samples between -1 and 1",
    "unsupported format": "convert it to a wav of one sample rate between 8 and 48 kHz with at most 64 channels",
    "too long": "give a start and a stop, or split the file; predict and embed take any length with --window",
}
AUDIO_REASONS = tuple(_REMEDIES)
OF_DAMAGE = (
    "convert it again from its source, or fetch it again"  # remedies of unreadable files that disks do not cause
)
OF_NO_FILE = "name a sound file in its place"

_ADVICE = {
    "silent": "check the recording",
    "channels cancel": "the mean over its channels is silent: invert one channel",
    "very short": "check the recording",
    "wrong size in header": "write the file again if it should be longer",
    "no end mark": "fetch it again if it should be longer",
    "damaged": "fetch it again if it should be whole",
}
WARNING_REASONS = tuple(_ADVICE)


class AudioError(InputError):
    """A clip that cannot be used. The message is one line with the remedy.

    Args:
        path: the file.
        reason: one of AUDIO_REASONS.
        detail: figures, for the message.
        remedy: by default that of the reason.
    """

    def __init__(self, path: str | Path, reason: str, detail: str = "", remedy: str = "") -> None:
        if reason not in _REMEDIES:
            raise ValueError(f"unknown reason {reason!r}: choose one of {', '.join(AUDIO_REASONS)}")
        # All arguments go to Exception, so that the error survives pickling on its way from a loader's worker.
        super().__init__(path, reason, detail, remedy)
        self.path = Path(path)
        self.reason = reason
        self.detail = " ".join(detail.split())
        self.remedy = remedy or _REMEDIES[reason]

    def __str__(self) -> str:
        return f"{_describe(self.path, self.reason, self.detail)}; {self.remedy}"


@dataclass(frozen=True)
class AudioWarning:
    """Something to know about a clip that is used.

    Args:
        path: the file.
        reason: one of WARNING_REASONS.
        detail: figures, for the message.
    """

    path: Path
    reason: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{_describe(self.path, self.reason, self.detail)}; used as it is, {_ADVICE[self.reason]}"


def _describe(path: Path, reason: str, detail: str) -> str:
    return f"{path}: {reason} ({detail})" if detail else f"{path}: {reason}"

"""What the first bytes of a sound file say of it. No torch here."""

from __future__ import annotations

import struct
from pathlib import Path

from reproduce.audio.errors import AudioError

_WAV_STREAMED_BYTES = 0x7FFF_F000  # writers to a pipe put 0x7FFFFFFF or 0xFFFFFFFF for "length unknown"
_AIFF_STREAMED_BYTES = 0x7F00_0000  # likewise: sox and others put this or more, or 0


def read_head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except FileNotFoundError:
        raise AudioError(path, "missing") from None
    except OSError as error:
        raise AudioError(path, "unreadable", error.strerror or str(error)) from None
    if not head:
        raise AudioError(path, "zero-byte")
    return head


def is_container(head: bytes) -> bool:
    """By its first bytes: mp4 and its kin, or Matroska."""
    return head[4:8] == b"ftyp" or is_matroska(head)


def is_matroska(head: bytes) -> bool:
    """mkv, mka or webm."""
    return head.startswith(b"\x1aE\xdf\xa3")


def stretch(path: Path, frames: int, rate: int, start: float | None, stop: float | None) -> tuple[int, int]:
    """First and last (exclusive) sample of a stretch, cut at the file's end."""
    first = 0 if start is None else round(start * rate)
    last = frames if stop is None else min(round(stop * rate), frames)
    if first >= frames > 0:
        raise AudioError(path, "empty", f"segment starts at {start:g} s, beyond the end at {frames / rate:g} s")
    return first, last


def wav_data_end(head: bytes) -> int | None:
    """Byte at which a wav's samples should end, or None where its header does not say."""
    at = 12
    while at + 8 <= len(head):
        name, size = struct.unpack_from("<4sI", head, at)
        if name == b"data":
            return None if size >= _WAV_STREAMED_BYTES else at + 8 + size
        at += 8 + size + size % 2
    return None


def aiff_end(head: bytes) -> int | None:
    """Byte at which an aiff's FORM chunk should end, or None where its header does not say."""
    (size,) = struct.unpack_from(">I", head, 4)
    return None if size >= _AIFF_STREAMED_BYTES else 8 + size

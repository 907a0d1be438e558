"""One clip as a shard member."""

from __future__ import annotations

import io
import math
import struct
import zlib

import numpy as np
import soundfile

SAMPLE_RATE = 16_000  # Hz, what every front end of the project takes
CODECS = {"flac": ("FLAC", "PCM_16"), "ogg": ("OGG", "VORBIS")}  # member suffix -> libsndfile's format and subtype
STEPS = 1 << 15  # 16-bit steps from zero to full scale
_VORBIS_BLOCK = 1 << 16  # samples: libsndfile overruns its stack when it is given minutes at once
_OGG_SERIAL = b"MAST"
_REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


# --- one clip --------------------------------------------------------------------------------------------------------


def encode_waveform(waveform: np.ndarray, codec: str) -> tuple[bytes, float]:
    """(samples,) float32 as a flac or ogg file in memory, and the power of two to multiply by after decoding."""
    peak = float(np.abs(waveform).max())
    scale = 2.0 ** max(0, math.ceil(math.log2(peak))) if peak > 1 else 1.0
    steps = np.clip(np.rint(waveform * (STEPS / scale)), -STEPS, STEPS - 1).astype(np.int16)
    format, subtype = CODECS[codec]
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", SAMPLE_RATE, 1, subtype=subtype, format=format) as file:
        for first in range(0, len(steps), _VORBIS_BLOCK):
            file.write(steps[first : first + _VORBIS_BLOCK])
    data = buffer.getvalue()
    return (_with_fixed_serial(data) if codec == "ogg" else data), scale


def decode_waveform(data: bytes, scale: float) -> np.ndarray:
    """Inverse of `encode_waveform`: (samples,) float32. soundfile.LibsndfileError where `data` is no such file."""
    samples, _ = soundfile.read(io.BytesIO(data), dtype="float32")
    return samples * np.float32(scale)


def _with_fixed_serial(data: bytes) -> bytes:
    """An ogg file under a serial number of our own: libsndfile draws one at random, so no two runs would agree."""
    out, at = bytearray(data), 0
    while at < len(out):
        segments = out[at + 26]
        end = at + 27 + segments + sum(out[at + 27 : at + 27 + segments])
        out[at + 14 : at + 18] = _OGG_SERIAL
        out[at + 22 : at + 26] = bytes(4)
        out[at + 22 : at + 26] = struct.pack("<I", _ogg_crc(bytes(out[at:end])))
        at = end
    return bytes(out)


def _ogg_crc(page: bytes) -> int:
    """CRC-32 with Ogg's conventions, by way of zlib's, which runs through the bits the other way."""
    reflected = zlib.crc32(page.translate(_REVERSED_BITS), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{reflected:032b}"[::-1], 2)

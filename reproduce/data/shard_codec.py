"""One clip as two members of a shard: `ROW.flac`, its waveform, and `ROW.json`, its description. No torch here."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import soundfile

CODEC = "flac"  # also the suffix of the member
SAMPLE_RATE = 16_000  # Hz, what every front end of the project takes
STEPS = 1 << 15  # 16-bit steps from zero to full scale
MOST_SCALE = 2.0**100  # with it the largest sample is still finite in float32
MOST_SECONDS = 10**9
SOURCE = re.compile("([0-9a-f]{32})?")
BLOCK_SAMPLES = 1 << 16


@dataclass(frozen=True, kw_only=True)
class ClipDescription:
    """The JSON member of a clip.

    Args:
        clip_id: id in the corpus.
        labels: head -> class indices.
        split: name of its split.
        start: seconds, start of the stretch of its file; None for the file's start.
        stop: seconds, end of the stretch; None for the file's end.
        samples: length of the waveform, at SAMPLE_RATE.
        scale: power of two that decoded samples are multiplied by.
        source: digest of the file it was cut from, see `reproduce.data.content`; "" in shards written before there
            were digests.
        group: recording, video or speaker that it is cut from; None where the clip is a unit, and in older shards.
    """

    clip_id: str
    labels: Mapping[str, tuple[int, ...]]
    split: str
    start: float | None
    stop: float | None
    samples: int
    scale: float
    source: str = ""
    group: str | None = None

    def to_json(self) -> bytes:
        """UTF-8, with sorted names: the same clip always gives the same bytes."""
        values = {name: value for name, value in asdict(self).items() if name != "group" or value is not None}
        return json.dumps(values, sort_keys=True, ensure_ascii=False).encode(errors="backslashreplace")

    @classmethod
    def from_json(cls, data: bytes) -> ClipDescription:
        """Read and check a description.

        Raises:
            ValueError: it is not one; the message names the wrong part.
        """
        try:
            values = json.loads(data)
            description = cls(**{**values, "labels": {head: tuple(row) for head, row in values["labels"].items()}})
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"no description of a clip ({error})") from None
        description._check()
        return description

    def _check(self) -> None:
        texts = (self.clip_id, self.split, self.source, self.group or "", *self.labels)
        times = [time for time in (self.start, self.stop) if time is not None]
        indices = [index for row in self.labels.values() for index in row]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("no description of a clip (its texts)")
        for is_right, name in (
            (all(_is_number(time) and 0 <= time <= MOST_SECONDS for time in times), "times"),
            (all(type(index) is int and index >= 0 for index in indices), "labels"),
            (type(self.samples) is int and 0 < self.samples <= MOST_SECONDS * SAMPLE_RATE, "samples"),
            (_is_number(self.scale) and 1 <= self.scale <= MOST_SCALE, "scale"),
            (SOURCE.fullmatch(self.source) is not None, "source"),
        ):
            if not is_right:
                raise ValueError(f"no description of a clip (its {name})")


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def encode_waveform(waveform: np.ndarray) -> tuple[bytes, float]:
    """Encode (samples,) float32 as a 16-bit flac file in memory.

    Returns:
        The file, and the power of two that decoded samples are multiplied by: more than 1 beyond full scale.
    """
    peak = float(np.abs(waveform).max())
    scale = 2.0 ** max(0, math.ceil(math.log2(peak))) if peak > 1 else 1.0
    steps = np.clip(np.rint(waveform * (STEPS / scale)), -STEPS, STEPS - 1).astype(np.int16)
    buffer = io.BytesIO()
    soundfile.write(buffer, steps, SAMPLE_RATE, subtype="PCM_16", format="FLAC")
    return buffer.getvalue(), scale


def decode_waveform(data: bytes, samples: int, scale: float) -> np.ndarray:
    """Inverse of `encode_waveform`: (samples,) float32.

    Raises:
        ValueError: `data` is no flac file of so many samples, mono, at SAMPLE_RATE.
    """
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            form = (file.format, file.channels, file.samplerate, file.frames)
            if form != ("FLAC", 1, SAMPLE_RATE, samples):
                raise ValueError(f"{form}, not {samples} samples of mono flac at {SAMPLE_RATE} Hz")
            # In blocks, so that a header that states too many samples cannot ask for more memory than there is audio.
            blocks = list(file.blocks(BLOCK_SAMPLES, dtype="float32"))
    except soundfile.SoundFileError as error:
        raise ValueError(str(error)) from None
    waveform = np.concatenate(blocks) if blocks else np.empty(0, np.float32)
    if len(waveform) != samples:
        raise ValueError(f"{len(waveform)} samples, not {samples}")
    return waveform * np.float32(scale)

"""One sound of every class of a stand-in, synthesised anew: the same bytes each time. No torch."""

from __future__ import annotations

import io
import re

import numpy as np
import soundfile

from reports.to_markdown import SOUNDS
from reproduce.datasets.standin.write import SAMPLE_RATE, class_examples

DATASET = "vggsound"
SECONDS = 2.0


def class_sounds() -> dict[str, bytes]:
    """Class -> a FLAC file."""
    return {label: _flac(waveform) for label, waveform in class_examples(DATASET, seconds=SECONDS).items()}


def path_of(label: str) -> str:
    """File of a class's sound, relative to report.md."""
    return f"{SOUNDS}/{re.sub(r'[^a-z0-9]+', '-', label.lower()).strip('-')}.flac"


def _flac(waveform: np.ndarray) -> bytes:
    """(samples,) float32 as a FLAC file."""
    out = io.BytesIO()
    soundfile.write(out, waveform, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return out.getvalue()

"""One sound of every class of a stand-in, to be listened to: synthesised anew, the same bytes each time. No torch."""

from __future__ import annotations

import io
import re

import soundfile

from reproduce.datasets.standin.write import SAMPLE_RATE, class_examples

FOLDER = "sounds"  # beside report.md
DATASET = "vggsound"
SECONDS = 2.0


def class_sounds() -> dict[str, bytes]:
    """Class -> a FLAC file."""
    return {label: _flac(waveform) for label, waveform in class_examples(DATASET, seconds=SECONDS).items()}


def path_of(label: str) -> str:
    """Where a class' sound lies, relative to report.md."""
    return f"{FOLDER}/{re.sub(r'[^a-z0-9]+', '-', label.lower()).strip('-')}.flac"


def sounds_text(labels: list[str]) -> str:
    """Links to all of them as Markdown; the web page plays them in their places."""
    links = ", ".join(f"[{label}]({path_of(label)})" for label in labels)
    return (
        "A stand-in is synthetic: an action excites a material, both drawn anew for every clip. "
        f"{SECONDS:g} seconds of each of the {len(labels)} classes of VGGSound's stand-in, of sources that are in no "
        f"split: {links}.\n"
    )


def _flac(waveform) -> bytes:  # type: ignore[no-untyped-def]  # (samples,) float32
    out = io.BytesIO()
    soundfile.write(out, waveform, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return out.getvalue()

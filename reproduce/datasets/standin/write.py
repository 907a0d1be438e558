"""Small synthetic stand-ins for datasets that cannot be shipped, in each dataset's official on-disk layout.

    write_standin("vggsound", "data/vggsound-standin")

writes 16 kHz mono FLAC (16 bit) and the annotation files, marked as a stand-in by STANDIN.json at the root.
NumPy, SciPy and soundfile only.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from reproduce.datasets.locations import expand_home
from reproduce.datasets.standin import catalogue
from reproduce.datasets.standin.layouts import STANDINS, StandIn, render_clip
from reproduce.datasets.standin.materials import SAMPLE_RATE
from reproduce.datasets.standin.synthesis import to_pcm16
from reproduce.datasets.standin_marker import MARKER, standin_marker
from reproduce.errors import InputError
from reproduce.files import write_whole

GENERATOR_VERSION = 1  # raise it whenever the same seed would give other bytes
_REMEDY = "give a folder that can be written, with space on its disk"


def write_standin(
    name: str,
    root: str | Path,
    clips: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the stand-in of the data set `name` to the folder `root` and return that folder.

    The bytes depend on name, clips and seed alone. A killed run is completed by running it again: existing files are
    kept, and a file exists only once it is whole.

    Args:
        name: of the data set.
        root: an empty or new folder, or one that holds the same stand-in.
        clips: number over all splits; None takes the stand-in's default.
        seed: of all random numbers.
        progress: called as `progress(files_done, files)` after each audio file.

    Raises:
        InputError: unknown name, too few clips, or a root that holds something else or cannot be written.
    """
    standin = _standin(name)
    clips = standin.default_clips if clips is None else clips
    smallest = 2 * len(standin.shares)
    if clips < smallest:
        raise InputError(f"{name} stand-in: {clips} clips do not fill its splits; ask for at least {smallest}")
    counts = standin.clips_per_split(clips)
    folder = expand_home(root)
    marker = {
        "standin": True,
        "dataset": name,
        "title": standin.title,
        "seed": seed,
        "clips": clips,
        "splits": counts,
        "classes": {head: len(classes) for head, classes in standin.classes.items()},
        "sample_rate": SAMPLE_RATE,
        "generator_version": GENERATOR_VERSION,
    }
    _claim(folder, marker)
    tree = standin.plan(seed, counts)
    for done, (relative, render) in enumerate(tree.audio, start=1):
        path = folder / relative
        if not path.is_file():
            _write_bytes(path, _to_flac(render()))
        if progress is not None:
            progress(done, len(tree.audio))
    for relative, text in tree.text.items():
        _write_bytes(folder / relative, text.encode())
    _write_marker(folder, {**marker, "complete": True})
    return folder


def class_examples(name: str, seed: int = 0, seconds: float = 5.0) -> dict[str, np.ndarray]:
    """One recording per class for listening, {class: (samples,) float32 at SAMPLE_RATE}, of sources in no split.

    EPIC-KITCHENS-100's keys are "verb: cut" (all verbs on a pan) and "noun: pan" (all nouns patted).
    """
    _standin(name)
    if name == "epic_kitchens":
        sounds = {f"verb: {verb}": catalogue.epic_sound(verb, "pan") for verb in catalogue.EPIC_VERBS}
        sounds |= {f"noun: {noun}": catalogue.epic_sound("pat", noun) for noun in catalogue.EPIC_NOUNS}
    else:
        tables = {
            "kinetics_sounds": catalogue.KINETICS_SOUNDS,
            "vggsound": catalogue.VGGSOUND,
            "audioset": catalogue.AUDIOSET,
        }
        sounds = dict(sorted(tables[name].items()))
    return {key: render_clip(sound, seconds, name, "example", key, seed=seed) for key, sound in sounds.items()}


def _standin(name: str) -> StandIn:
    try:
        return STANDINS[name]
    except KeyError:
        raise InputError(f"no stand-in for {name!r}: choose one of {', '.join(sorted(STANDINS))}") from None


def _claim(folder: Path, marker: dict[str, Any]) -> None:
    """Mark `folder` as this stand-in's before anything else is in it; refuse one that holds something else."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: not a folder; give a folder that does not exist yet")
    try:
        for leftover in folder.rglob(".*.tmp"):  # of a killed run
            leftover.unlink()
        empty = not folder.exists() or not any(folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}); {_REMEDY}") from None
    existing = standin_marker(folder)
    if existing is None:
        if not empty:
            raise InputError(f"{folder}: holds files that are no stand-in; give an empty or a new folder")
        _write_marker(folder, {**marker, "complete": False})
    elif {**existing, "complete": None} != {**marker, "complete": None}:
        differing = sorted(key for key in marker if existing.get(key) != marker[key])
        raise InputError(f"{folder / MARKER}: another stand-in (other {', '.join(differing)}); give another folder")


def _write_marker(folder: Path, content: dict[str, Any]) -> None:
    _write_bytes(folder / MARKER, (json.dumps(content, indent=2) + "\n").encode())


def _to_flac(waveform: np.ndarray) -> bytes:
    """The bytes of a 16-bit FLAC file. waveform: (samples,) float32."""
    file = io.BytesIO()
    soundfile.write(file, to_pcm16(waveform), SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def _write_bytes(path: Path, content: bytes) -> None:
    write_whole(path, lambda file: file.write(content), "cannot be written", _REMEDY)

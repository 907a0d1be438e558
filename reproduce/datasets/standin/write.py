"""Small synthetic stand-ins for datasets that cannot be shipped, in each dataset's official on-disk layout.

    write_standin("vggsound", "data/vggsound-standin")

writes 16 kHz mono FLAC (16 bit) and the annotation files, marked as a stand-in by STANDIN.json at the root.
NumPy, SciPy and soundfile only.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from reproduce.datasets.standin import catalogue
from reproduce.datasets.standin.catalogue import ORDER_PAIRS
from reproduce.datasets.standin.layouts import STANDINS, StandIn, render_clip
from reproduce.datasets.standin.materials import SAMPLE_RATE
from reproduce.datasets.standin.synthesis import to_pcm16
from reproduce.datasets.standin_marker import MARKER, standin_marker
from reproduce.errors import InputError

__all__ = [
    "GENERATOR_VERSION",
    "MARKER",
    "ORDER_PAIRS",
    "SAMPLE_RATE",
    "STANDINS",
    "StandIn",
    "class_examples",
    "standin_marker",
    "write_standin",
]


GENERATOR_VERSION = 1  # raise it whenever the same seed would give other bytes


def write_standin(
    name: str,
    root: str | Path,
    clips: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the stand-in of dataset `name` under `root` and return that folder.

    The bytes depend on name, clips and seed alone. A killed run is completed by running it again: files that are there
    are kept, and a file is there only once it is whole.

    Args:
        clips: over all splits; the dataset's default_clips if None.
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
    folder = Path(root).expanduser()
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
    with _writing(folder):
        _claim(folder, marker)
    tree = standin.plan(seed, counts)
    for done, (relative, render) in enumerate(tree.audio, start=1):
        path = folder / relative
        if not path.exists():
            _write_flac(path, render())
        if progress is not None:
            progress(done, len(tree.audio))
    for relative, text in tree.text.items():
        _write_bytes(folder / relative, text.encode())
    _write_marker(folder, {**marker, "complete": True})
    return folder


def class_examples(name: str, seed: int = 0, seconds: float = 5.0) -> dict[str, np.ndarray]:
    """One recording per class, {class: (samples,) float32 at SAMPLE_RATE}, for listening; of sources in no split.

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
    """Mark `folder` as this stand-in's, before anything else is in it; refuse one that holds something else."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: not a folder; give a folder that does not exist yet")
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.rglob(".*.tmp"):  # of a killed run
        leftover.unlink()
    found = standin_marker(folder)
    if found is None:
        if any(folder.iterdir()):
            raise InputError(f"{folder}: holds files that are no stand-in; give an empty or a new folder")
        _write_marker(folder, {**marker, "complete": False})
    elif {**found, "complete": None} != {**marker, "complete": None}:
        differing = sorted(key for key in marker if found.get(key) != marker[key])
        raise InputError(f"{folder / MARKER}: another stand-in (other {', '.join(differing)}); give another folder")


def _write_marker(folder: Path, content: dict[str, Any]) -> None:
    _write_bytes(folder / MARKER, (json.dumps(content, indent=2) + "\n").encode())


def _write_flac(path: Path, waveform: np.ndarray) -> None:
    partial = path.with_name(f".{path.name}.tmp")
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(partial, to_pcm16(waveform), SAMPLE_RATE, format="FLAC", subtype="PCM_16")
        os.replace(partial, path)


def _write_bytes(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}.tmp")
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        os.replace(partial, path)


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    """What keeps `path` from being written, as one InputError."""
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
    except soundfile.LibsndfileError as error:
        why = error.error_string
    else:
        return
    raise InputError(f"{path}: cannot be written ({why}); give a folder that can, with room on its disk")

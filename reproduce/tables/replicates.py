"""Resampled scores of runs on disk, so that a second table or report resamples nothing. No torch here.

They are a cache: `replicates/` under the records' folder can be deleted at any time, and git ignores it. The name of a
file holds the content of the predictions, the metric, the clips and what is resampled how, so no stale file is read.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reproduce.errors import InputError
from reproduce.files import read_arrays, write_arrays, write_text
from reproduce.metrics.bootstrap import MAP_RESAMPLES, RESAMPLES, SEED
from reproduce.metrics.paired import ResampledScore

FOLDER = Path("replicates")
VERSION = 2  # of the resampling itself: raise it when the same settings give other replicates


@dataclass(frozen=True, kw_only=True)
class ScoredClips:
    """One run's test clips under one metric.

    Args:
        clip_ids: (n,) sorted.
        score: on these clips and on resamples of them.
        targets: hash of the targets of these clips: equal for runs on the same data.
        units: (n,) name of the unit that is resampled with each clip; None where every clip is a unit.
    """

    clip_ids: np.ndarray
    score: ResampledScore
    targets: str
    units: np.ndarray | None = None


def content_hash(path: Path) -> str:
    """SHA-256 of a file, 16 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def cache_name(content: str, metric: str, clip_ids: np.ndarray | None, units: np.ndarray | None) -> str:
    """End of the name of the file that caches a resampled score.

    Args:
        content: hash of the predictions.
        metric: of the score.
        clip_ids: the clips, None for all.
        units: the units that are resampled, None for those of the predictions.
    """
    clips, resampled = (
        "" if names is None else hashlib.sha256(names.tobytes()).hexdigest() for names in (clip_ids, units)
    )
    settings = (VERSION, content, metric, clips, resampled, RESAMPLES, MAP_RESAMPLES, SEED)
    return f"{metric}-{hashlib.sha256(repr(settings).encode()).hexdigest()[:16]}.npz"


def read_scored(path: Path) -> ScoredClips | None:
    """What `write_scored` stored; None where the file is absent or damaged."""
    try:
        stored = read_arrays(path, "damaged replicates", "delete the file")
        if stored is None:
            return None
        score = ResampledScore(
            value=float(stored["value"]), replicates=stored["replicates"], correct=stored.get("correct")
        )
        return ScoredClips(
            clip_ids=stored["clip_ids"], score=score, targets=str(stored["targets"]), units=stored.get("units")
        )
    except (InputError, KeyError, ValueError, TypeError):
        return None


def write_scored(path: Path, scored: ScoredClips) -> None:
    """Store a resampled score; a folder that cannot be written leaves the cache as it is."""
    arrays = {
        "clip_ids": scored.clip_ids.astype(np.str_),
        "value": np.array(scored.score.value),
        "replicates": scored.score.replicates,
        "targets": np.array(scored.targets),
    }
    if scored.score.correct is not None:
        arrays["correct"] = scored.score.correct
    if scored.units is not None:
        arrays["units"] = scored.units
    with suppress(InputError):
        ignore = path.parent / ".gitignore"
        if not ignore.exists():
            write_text(ignore, "*\n", "cannot be written", "choose another --records folder")
        write_arrays(path, arrays, "cannot be written", "choose another --records folder")

"""A survey of a user's own clips: every clip is decoded once for its length, rate and channels. No torch here.

The result is cached in one file per state of the corpus: a clip that is added, removed or written again gives another
file name.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from reproduce.audio.decoding import stream_audio
from reproduce.audio.errors import AudioError, AudioWarning
from reproduce.audio.packs import SEPARATOR, is_packed
from reproduce.audio.waveforms import SHORT_SECONDS, SILENCE, to_mono
from reproduce.data.clip_problems import clip_warnings, unusable_clip
from reproduce.data.same_sound import SoundHash
from reproduce.datasets.index import Clip, ClipIndex, Problem
from reproduce.errors import InputError
from reproduce.files import read_arrays, write_arrays
from reproduce.machine import decoding_threads
from reproduce.pool import ordered_map

RULES_VERSION = 2  # raise it whenever the same files would give another survey
REMEDY = "delete the file; the clips are decoded again"


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What decoding the n clips of an index shows.

    Args:
        seconds: (n,) decoded length; 0 for a clip that cannot be used.
        rates: (n,) Hz of the file; 0 for a clip that cannot be used.
        channels: (n,) of the file; 0 for a clip that cannot be used.
        content: (n,) uint64, `SoundHash` of the samples; 0 for a clip that is silent or cannot be used.
        problems: clips that cannot be used, and warnings about others.
    """

    seconds: np.ndarray
    rates: np.ndarray
    channels: np.ndarray
    content: np.ndarray
    problems: tuple[Problem, ...]

    @property
    def usable(self) -> np.ndarray:
        """(n,) bool: which clips decode."""
        return self.channels > 0


@dataclass(frozen=True)
class _Examined:
    seconds: float
    rate: int
    channels: int
    content: int
    problems: tuple[Problem, ...]


def survey_clips(
    index: ClipIndex, cache: Path, workers: int | None = None, on_clip: Callable[[], object] = lambda: None
) -> Survey:
    """Decode every clip of `index`, unless `cache` has the survey of these very files.

    Args:
        index: the n clips.
        cache: folder of surveys; it is made if it is absent.
        workers: decoding threads, by default two per core.
        on_clip: called after every decoded clip, for a progress bar.

    Raises:
        InputError: the survey cannot be written, or a stored one is damaged.
    """
    file = cache / f"{state_of(index)}.npz"
    stored = read_arrays(file, "damaged survey", REMEDY)
    if stored is not None:
        return _from_arrays(file, stored)
    clips = (index.clip(i) for i in range(len(index)))
    examined = []
    for result in ordered_map(_examine, clips, workers or decoding_threads()):
        examined.append(result)
        on_clip()
    survey = Survey(
        seconds=np.array([clip.seconds for clip in examined], np.float64),
        rates=np.array([clip.rate for clip in examined], np.int64),
        channels=np.array([clip.channels for clip in examined], np.int64),
        content=np.array([clip.content for clip in examined], np.uint64),
        problems=tuple(problem for clip in examined for problem in clip.problems),
    )
    write_arrays(file, _to_arrays(survey), "cannot store the survey", "free space, or another --runs folder")
    return survey


def usable_clips(index: ClipIndex, survey: Survey) -> ClipIndex:
    """The clips of `index` that decode, with the problems of the others.

    Raises:
        InputError: none decodes.
    """
    kept = np.flatnonzero(survey.usable)
    if not len(kept):
        problems = [problem for problem in (*index.problems, *survey.problems) if problem.fatal]
        first = f" (first: {problems[0].message})" if problems else ""
        raise InputError(f"{index.root}: none of {sum(index.listed.values())} listed clips can be used{first}")
    return replace(index.take(kept), problems=(*index.problems, *survey.problems))


def _examine(clip: Clip) -> _Examined:
    warnings: list[AudioWarning] = []
    seconds, rate, channels, low, high = 0.0, 0, 0, np.inf, -np.inf
    content, sounds = SoundHash(), False
    try:
        for samples, rate in stream_audio(clip.path, clip.start, clip.stop, warnings):
            channels = samples.shape[1]
            content.update(samples, rate)
            mono = to_mono(samples)
            low, high = min(low, float(mono.min())), max(high, float(mono.max()))
            sounds = sounds or (channels > 1 and bool((np.ptp(samples, axis=0) >= SILENCE).any()))
            seconds += len(samples) / rate
    except AudioError as error:
        return _Examined(0.0, 0, 0, 0, (unusable_clip(clip.clip_id, error),))
    silent = high - low < SILENCE
    if silent:
        warnings.append(AudioWarning(Path(clip.path), "channels cancel" if sounds else "silent"))
    if seconds < SHORT_SECONDS:
        warnings.append(AudioWarning(Path(clip.path), "very short", f"{1000 * seconds:.1f} ms"))
    found = tuple(clip_warnings(clip.clip_id, warnings))
    return _Examined(seconds, rate, channels, 0 if silent else content.value, found)


def state_of(index: ClipIndex) -> str:
    """Hash of the clips and of the size and time stamp of every file."""
    version = lru_cache(maxsize=1024)(_file_version)
    digest = hashlib.sha256(f"survey {RULES_VERSION}".encode())
    for i in range(len(index)):
        clip = index.clip(i)
        path = str(clip.path).rpartition(SEPARATOR)[0] if is_packed(clip.path) else str(clip.path)
        entry = repr((clip.clip_id, os.path.abspath(path), clip.start, clip.stop, version(path)))
        digest.update(entry.encode(errors="surrogateescape"))
    return digest.hexdigest()[:32]


def _file_version(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # decoding it gives the reason
        return -1, -1
    return status.st_size, status.st_mtime_ns


_PROBLEM_FIELDS = ("clip_id", "reason", "message")


def _to_arrays(survey: Survey) -> dict[str, np.ndarray]:
    texts = {
        f"problem_{name}": np.array([getattr(p, name) for p in survey.problems], np.str_) for name in _PROBLEM_FIELDS
    }
    fatal = np.array([problem.fatal for problem in survey.problems], bool)
    columns = {name: getattr(survey, name) for name in ("seconds", "rates", "channels", "content")}
    return {**columns, **texts, "problem_fatal": fatal}


def _from_arrays(file: Path, stored: dict[str, np.ndarray]) -> Survey:
    try:
        rows = zip(*(stored[f"problem_{name}"].tolist() for name in (*_PROBLEM_FIELDS, "fatal")), strict=True)
        return Survey(
            seconds=stored["seconds"],
            rates=stored["rates"],
            channels=stored["channels"],
            content=stored["content"],
            problems=tuple(Problem(clip, reason, message, fatal) for clip, reason, message, fatal in rows),
        )
    except (KeyError, ValueError) as error:
        raise InputError(f"{file}: damaged survey ({error}): {REMEDY}") from None

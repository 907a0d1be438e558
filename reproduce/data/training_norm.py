"""Mean and deviation of the log-mels of training clips, per set of training clips: what `--normalise data` takes.

Each clip is transformed once, and the moments of its frames of sound are added up for every fold that trains on it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from reproduce.audio.errors import AudioError
from reproduce.audio.log_mel import log_mel, stack_waveforms
from reproduce.audio.spec import AudioSpec
from reproduce.audio.waveforms import load_waveform, remove_mean
from reproduce.data.norm_stats import Moments, sound_cells
from reproduce.data.survey import state_of
from reproduce.data.waveform_store import Waveforms
from reproduce.datasets.index import ClipIndex
from reproduce.errors import InputError
from reproduce.files import read_arrays, write_arrays
from reproduce.machine import decoding_threads
from reproduce.pool import ordered_map

CLIPS = 2000  # a sample of so many clips gives the mean to 0.01
DECIMALS = 2  # of the result: machines that round differently must agree on the keys of runs
SMALLEST_STD = 0.01
SplitSet = tuple[str, ...]


def training_norms(
    index: ClipIndex,
    front_end: AudioSpec,
    train_sets: Sequence[SplitSet],
    cache: Path,
    on_clip: Callable[[], object] = lambda: None,
    waveforms: Waveforms | None = None,
) -> dict[SplitSet, AudioSpec]:
    """Fit the front end's mean and deviation to every set of training splits.

    Args:
        index: usable clips; at most CLIPS of them, the same ones in every call, are measured.
        front_end: log-mel parameters.
        train_sets: splits that a run trains on, a set per fold.
        cache: folder of earlier results; it is made if it is absent.
        on_clip: called after every clip, for a progress bar.
        waveforms: of the clips of `index`, where these are no files: shards.

    Returns:
        The front end of every set.

    Raises:
        InputError: a set has no frame of sound.
    """
    wanted = dict.fromkeys(train_sets)
    positions = index.positions_of(*{split for splits in wanted for split in splits})
    if len(positions) > CLIPS:
        positions = positions[np.sort(np.random.default_rng(0).choice(len(positions), CLIPS, replace=False))]
    chosen = index.take(positions)
    moments = _cached_moments(chosen, waveforms and waveforms.take(positions), front_end, cache, on_clip)
    names = chosen.splits.tolist()
    fitted = {}
    for splits in wanted:
        total = sum((m for m, split in zip(moments, names, strict=True) if split in splits), Moments())
        if not total.n:
            raise InputError(f"{index.root}: no frame of sound in split {', '.join(splits)}; use --normalise ast")
        std = max(SMALLEST_STD, round(total.std(ddof=0), DECIMALS))
        fitted[splits] = _with_statistics(front_end, round(total.mean, DECIMALS), std)
    return fitted


def _with_statistics(front_end: AudioSpec, mean: float, std: float) -> AudioSpec:
    return AudioSpec.from_dict({**front_end.to_dict(), "mean": mean, "std": std})


def _cached_moments(
    index: ClipIndex,
    waveforms: Waveforms | None,
    front_end: AudioSpec,
    cache: Path,
    on_clip: Callable[[], object],
) -> list[Moments]:
    """The moments of every clip; `index` names its clips by what they hold, see `survey.state_of`."""
    spec = _with_statistics(front_end, 0.0, 1.0)
    text = json.dumps([state_of(index), spec.to_dict()], sort_keys=True)
    file = cache / f"norm-{hashlib.sha256(text.encode()).hexdigest()[:32]}.npz"
    stored = read_arrays(file, "damaged statistics", "delete the file; they are measured again")
    known = np.empty((0, 3)) if stored is None else stored.get("moments", np.empty((0, 3)))
    if known.shape == (len(index), 3) and known.any():  # clips without any sound are measured again
        return [Moments(int(n), float(mean), float(m2)) for n, mean, m2 in known]

    def measure(position: int) -> Moments:
        clip = index.clip(position)
        try:
            if waveforms is None:
                waveform = load_waveform(clip.path, spec, clip.start, clip.stop, max_samples=spec.samples)
            else:
                waveform = remove_mean(waveforms[position][: spec.samples])
        except AudioError:  # the run reports it
            return Moments()
        stacked, lengths = stack_waveforms([waveform])
        return Moments.of(sound_cells(log_mel(stacked, lengths, spec), lengths, spec))

    moments = []
    for result in ordered_map(measure, range(len(index)), decoding_threads()):
        moments.append(result)
        on_clip()
    rows = np.array([(m.n, m.mean, m.m2) for m in moments], np.float64).reshape(-1, 3)
    write_arrays(file, {"moments": rows}, "cannot store the statistics", "free space, or another --runs folder")
    return moments

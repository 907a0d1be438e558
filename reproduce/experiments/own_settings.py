"""Settings that follow from a user's own clips: input length, hop, epochs, sampling and crops. No torch here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from reproduce.audio.spec import MILLISECOND, AudioSpec
from reproduce.errors import InputError
from reproduce.experiments.presets import ComparisonPreset

LONGEST_S = 10.24  # AST's input: longer clips are cropped unless the user asks for more
SHORTEST_S, MOST_S = 0.05, 600.0
SHORTEST_HOP_MS = 10.0  # AST's
FRAMES = 64  # of an input that the preset's own hop would cover with fewer
SHORTEST_WINDOW_MS = 25.0  # AST's
FRAME_STEP = 32  # frames are a multiple: MAST divides them by 32
FITTED = 95  # percentile of the lengths that the input covers
LONGER = 1.05  # times the input: a clip beyond it is cropped
MOST_TEST_CROPS = 10
UNEQUAL = 1.5  # largest over smallest class, from which on classes are drawn alike
FEWEST_EPOCHS, MOST_EPOCHS = 8, 50


@dataclass(frozen=True, kw_only=True)
class OwnClips:
    """What the settings depend on.

    Args:
        seconds: (n,) lengths of the usable clips.
        train_clips: training clips of a run.
        class_counts: training clips of every class that has any.
        heads: heads of the labels; class-balanced sampling needs one.
    """

    seconds: np.ndarray
    train_clips: int
    class_counts: Sequence[int]
    heads: int = 1


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the user decides; None leaves it to the clips.

    Args:
        seconds: length of the input.
        class_balanced: whether every class is drawn alike.
    """

    seconds: float | None = None
    class_balanced: bool | None = None


def fitted_seconds(seconds: np.ndarray) -> float:
    """Length that 95 % of the clips do not exceed, at most LONGEST_S, rounded up to 10 ms."""
    return min(LONGEST_S, max(SHORTEST_S, math.ceil(round(100 * float(np.percentile(seconds, FITTED)), 6)) / 100))


def is_capped(seconds: np.ndarray, asked: Asked) -> bool:
    """Whether LONGEST_S, rather than the clips' lengths or the user, sets the length of the input."""
    return asked.seconds is None and float(np.percentile(seconds, FITTED)) > LONGEST_S


def fit_input(front_end: AudioSpec, seconds: float) -> AudioSpec:
    """Fit frames and hop to an input of `seconds`: the frames cover it, and it fills them.

    The preset's hop is its coarsest. A shorter input gets a finer hop, so that it has FRAMES frames, but none below
    AST's 10 ms before the frames are rounded up to FRAME_STEP.

    Args:
        front_end: of a preset, made for a longer input.
        seconds: to cover.

    Raises:
        InputError: a length that no input can have.
    """
    if not SHORTEST_S <= seconds <= MOST_S:
        raise InputError(f"--seconds {seconds:g}: give a length from {SHORTEST_S:g} to {MOST_S:g} seconds")
    hop_ms = min(front_end.frame_shift_ms, max(SHORTEST_HOP_MS, 1000 * seconds / FRAMES))
    window_ms = min(front_end.frame_length_ms, max(SHORTEST_WINDOW_MS, hop_ms))
    samples, window = round(seconds * front_end.sample_rate), int(front_end.sample_rate * window_ms * MILLISECOND)
    hop = max(1, int(front_end.sample_rate * hop_ms * MILLISECOND))
    frames = 1 + math.ceil(max(0, samples - window) / hop)
    frames = FRAME_STEP * math.ceil(frames / FRAME_STEP)
    hop = max(1, math.ceil(max(0, samples - window) / (frames - 1)))
    return replace(
        front_end,
        frames=frames,
        frame_length_ms=window_ms,
        frame_shift_ms=1000 * hop / front_end.sample_rate,
    )


def fit_preset(preset: ComparisonPreset, clips: OwnClips, asked: Asked = Asked()) -> ComparisonPreset:
    """Fit a preset to a user's own clips.

    Args:
        preset: models, recipe and front end to start from.
        clips: see there.
        asked: see there.

    Raises:
        InputError: see `fit_input`; or class-balanced sampling of several heads.
    """
    seconds = fitted_seconds(clips.seconds) if asked.seconds is None else asked.seconds
    front_end = fit_input(preset.front_end, seconds)
    longer = clips.seconds > LONGER * front_end.seconds
    mask = round(preset.recipe.time_mask * front_end.frames / preset.front_end.frames)
    recipe = replace(
        preset.recipe,
        epochs=_epochs(preset, clips.train_clips),
        time_mask=mask,
        sampler="balanced" if _balanced(clips, asked) else "shuffle",
        crop="random" if longer.any() else "first",
        test_crops=_test_crops(clips.seconds[longer], front_end.seconds),
    )
    # The fold that chose the preset's rates is one of other clips.
    return replace(preset, front_end=front_end, recipe=recipe, validation_fold="")


def _epochs(preset: ComparisonPreset, train_clips: int) -> int:
    """Epochs in which a run sees the preset's number of clips, within bounds; the preset's own where it has none."""
    if not preset.clips_seen:
        return preset.recipe.epochs
    return min(MOST_EPOCHS, max(FEWEST_EPOCHS, math.ceil(preset.clips_seen / max(1, train_clips))))


def _balanced(clips: OwnClips, asked: Asked) -> bool:
    if asked.class_balanced and clips.heads > 1:
        raise InputError("--class-balanced needs one label column; these clips have several heads")
    if asked.class_balanced is not None:
        return asked.class_balanced
    return clips.heads == 1 and max(clips.class_counts) > UNEQUAL * min(clips.class_counts)


def _test_crops(longer: np.ndarray, seconds: float) -> int:
    """Crops that cover the median of the clips that are longer than the input."""
    if not len(longer):
        return 1
    return min(MOST_TEST_CROPS, max(2, math.ceil(float(np.median(longer)) / seconds)))

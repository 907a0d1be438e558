"""A trained model on recordings of any length: window by window, with one block and one batch of windows in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np

from reproduce.audio.errors import AudioError, AudioWarning
from reproduce.audio.log_mel import log_mel, normalise, stack_waveforms
from reproduce.audio.spec import AudioSpec
from reproduce.audio.waveforms import SHORT_SECONDS, remove_mean, stream_waveform
from reproduce.audio.windows import cut_windows
from reproduce.data.batches import EvaluationBatch
from reproduce.data.clip_problems import clip_warnings, unusable_clip
from reproduce.datasets import ClipIndex, Problem
from reproduce.errors import InputError
from reproduce.evaluation.inference import InferenceOptions, TrainedModel
from reproduce.evaluation.predict import predict

FULL_ENOUGH = 0.5  # of the model's input


@dataclass(frozen=True, kw_only=True)
class Windows:
    """How recordings are cut.

    The last window ends with the recording; only a recording shorter than a window is padded.

    Args:
        seconds: length of a window.
        hop: seconds from the start of a window to the start of the next.
    """

    seconds: float
    hop: float

    @classmethod
    def fitted(cls, spec: AudioSpec, seconds: float | None, hop: float | None) -> Windows:
        """Windows for a front end: by default as long as the model's input, and one behind the other.

        Raises:
            InputError: a window or a hop that is too short, or a window longer than the model's input.
        """
        if seconds is None:
            seconds = spec.seconds
        if not seconds >= SHORT_SECONDS or round(seconds * spec.sample_rate) > spec.samples + spec.hop_length:
            raise InputError(
                f"--window {seconds:g}: the model's input is {spec.seconds:.2f} s long: "
                f"pass {SHORT_SECONDS:g} to {spec.seconds:.2f} seconds"
            )
        hop = seconds if hop is None else hop
        if not hop * spec.sample_rate >= spec.hop_length:
            raise InputError(f"--hop {hop:g}: pass at least {spec.frame_shift_ms / 1000:g} seconds")
        return cls(seconds=seconds, hop=hop)

    def advice(self, spec: AudioSpec) -> str | None:
        """One line where the windows fill little of the model's input, else None."""
        if self.seconds >= FULL_ENOUGH * spec.seconds:
            return None
        return (
            f"windows of {self.seconds:g} s fill {self.seconds / spec.seconds:.0%} of the model's input of "
            f"{spec.seconds:.2f} s; the rest is padding, so scores suffer unless it was trained on sounds as short"
        )


@dataclass(frozen=True, kw_only=True)
class WindowPredictions:
    """Predictions of n windows in order, and what there is to say about the files.

    Args:
        positions: (n,) int64, each window's clip by its position in the index.
        starts: (n,) float64, seconds into the file.
        ends: (n,) float64, seconds into the file.
        logits: head -> (n, classes), raw.
        embeddings: (n, dim).
        problems: clips that could not be used from some point on, and warnings (not fatal).
    """

    positions: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    logits: Mapping[str, np.ndarray]
    embeddings: np.ndarray
    problems: tuple[Problem, ...] = ()

    def __len__(self) -> int:
        return len(self.positions)


class _Window(NamedTuple):
    position: int
    start: float
    waveform: np.ndarray


def predict_windows(
    trained: TrainedModel,
    index: ClipIndex,
    windows: Windows,
    options: InferenceOptions,
    on_seconds: Callable[[float], object] = lambda seconds: None,
    *,
    blocks_of: Callable[[int], Iterator[np.ndarray]] | None = None,
) -> Iterator[WindowPredictions]:
    """Yield the predictions of every window of the clips of `index`, a batch at a time.

    A window is a clip of its own: its mean is removed, and its result is that of a file that holds nothing else. A
    file that turns out to be damaged is predicted up to there and reported.

    Args:
        trained: see `load_trained_model`.
        index: files, or stretches of them.
        windows: see there; `Windows.fitted` checks them.
        options: `batch_size` counts windows; `crops` is not used.
        on_seconds: called with the seconds of sound that were predicted since the last call.
        blocks_of: the samples of a clip by its position, at the front end's rate, where they do not lie in files.

    Raises:
        InputError: not one window could be used.
    """
    source = _read_windows(index, trained.front_end, windows, blocks_of)
    usable, first_problem = 0, ""
    while batch := list(islice(source, options.batch_size)):
        found = [window for window in batch if isinstance(window, _Window)]
        result = _predict_batch(trained, found, options)
        problems = (*(problem for problem in batch if isinstance(problem, Problem)), *_not_finite(result, index))
        result = _finite(result, problems)
        usable += len(result)
        first_problem = first_problem or next((problem.message for problem in problems if problem.fatal), "")
        yield result
        on_seconds(len(found) * windows.hop)
    if not usable:
        raise InputError(f"none of the sounds can be used (first: {first_problem})")


def _read_windows(
    index: ClipIndex,
    spec: AudioSpec,
    windows: Windows,
    blocks_of: Callable[[int], Iterator[np.ndarray]] | None,
) -> Iterator[_Window | Problem]:
    """Every window of every clip in order; a clip that cannot be read, or not to its end, gives a problem instead."""
    rate = spec.sample_rate
    for position in range(len(index)):
        clip, warnings, heard = index.clip(position), list[AudioWarning](), 0.0
        offset = clip.start or 0.0
        if blocks_of is None:
            blocks = stream_waveform(clip.path, rate, clip.start, clip.stop, warnings)
        else:
            blocks = blocks_of(position)
        least = min(round(windows.hop * rate), round(SHORT_SECONDS * rate))
        try:
            for first, samples in cut_windows(blocks, round(windows.seconds * rate), round(windows.hop * rate), least):
                heard = offset + (first + len(samples)) / rate
                yield _Window(position, offset + first / rate, remove_mean(samples))
        except AudioError as error:
            problem = unusable_clip(clip.clip_id, error)
            yield problem if not heard else _from_there(problem, heard)
        yield from clip_warnings(clip.clip_id, warnings)


def _from_there(problem: Problem, seconds: float) -> Problem:
    return Problem(problem.clip_id, problem.reason, f"{problem.message} (used up to {seconds:.2f} s)")


def _predict_batch(trained: TrainedModel, windows: list[_Window], options: InferenceOptions) -> WindowPredictions:
    spec = trained.front_end
    batches = []
    if windows:
        waveforms, lengths = stack_waveforms([window.waveform for window in windows])
        inputs = normalise(log_mel(waveforms.to(options.device, non_blocking=True), lengths, spec), spec)
        ones = np.ones(len(windows), np.int64)
        batches.append(EvaluationBatch(inputs, np.arange(len(windows)), ones, ()))
    predicted = predict(trained.model, batches, trained.multilabel, options.autocast)
    starts = np.array([window.start for window in windows], np.float64)
    return WindowPredictions(
        positions=np.array([window.position for window in windows], np.int64),
        starts=starts,
        ends=starts + np.array([len(window.waveform) for window in windows], np.float64) / spec.sample_rate,
        logits=predicted.logits,
        embeddings=predicted.embeddings,
    )


def _rows_finite(result: WindowPredictions) -> np.ndarray:
    """(n,) bool: whether a window's whole output is finite."""
    rows = [result.embeddings, *result.logits.values()] if len(result) else []
    return np.logical_and.reduce([np.isfinite(values).all(axis=1) for values in rows]) if rows else np.ones(0, bool)


def _not_finite(result: WindowPredictions, index: ClipIndex) -> Iterator[Problem]:
    for row in np.flatnonzero(~_rows_finite(result)):
        clip_id = index.clip_ids[int(result.positions[row])]
        message = f"{clip_id}: from {result.starts[row]:.2f} s the model's output is not finite; check its weights"
        yield Problem(clip_id, "output not finite", message)


def _finite(result: WindowPredictions, problems: tuple[Problem, ...]) -> WindowPredictions:
    """`result` with `problems` and without the windows whose output is not finite."""
    kept = _rows_finite(result)
    return WindowPredictions(
        positions=result.positions[kept],
        starts=result.starts[kept],
        ends=result.ends[kept],
        logits={head: values[kept] for head, values in result.logits.items()},
        embeddings=result.embeddings[kept] if len(kept) else result.embeddings,
        problems=problems,
    )

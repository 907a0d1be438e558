"""Run `predict --window` and `embed --window`: a trained model on recordings of any length. Imports torch."""

from __future__ import annotations

import argparse
import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, groupby
from pathlib import Path

from reproduce.audio.decoding import stated_seconds
from reproduce.cli.progress import log, print_result, progress_bar
from reproduce.datasets import ClipIndex
from reproduce.errors import InputError, displayable
from reproduce.evaluation.events import Choice, Detection, WindowDetections, merge_events
from reproduce.evaluation.inference import InferenceOptions, TrainedModel, probabilities
from reproduce.evaluation.windows import WindowPredictions, Windows, predict_windows

TOP = 1  # classes per window
MERGE_THRESHOLD = 0.5
HEADER = ("file", "start", "end", "head", "label", "score")
PROBED_FILES = 200  # headers that are read for the bar's total

Row = tuple[str, Detection]  # the file and what was found in it


def asks_for_windows(options: argparse.Namespace) -> bool:
    """Whether `predict` or `embed` cuts the sounds into windows: any of the options about them says so."""
    given = [options.window, options.hop, getattr(options, "threshold", None)]
    return any(value is not None for value in given) or getattr(options, "merge", False) or is_audacity(options)


def is_audacity(options: argparse.Namespace) -> bool:
    """Whether the output is a label track."""
    return getattr(options, "format", "") == "audacity"


def predict_in_windows(
    options: argparse.Namespace, trained: TrainedModel, index: ClipIndex, inference: InferenceOptions
) -> int:
    """Print rows of start, end, label and score as they are found; return the exit status."""
    if is_audacity(options) and len(index) > 1:
        raise InputError(f"--format audacity: a label track is of one file, and there are {len(index)}: pass one")
    merged = options.merge
    threshold = options.threshold if options.threshold is not None else MERGE_THRESHOLD if merged else 0.0
    choice = Choice(top=options.top or (None if merged else TOP), threshold=threshold)
    batches = window_batches(options, trained, index, inference)
    detected = ((index.clip(position).path, found) for position, found in _detect(batches, trained, choice))
    rows = _rows(detected, merge_events if merged else _as_they_are)
    first = next(rows, None)
    for text in _FORMATS[options.format](rows if first is None else chain([first], rows)):
        print_result(text)
    if first is None:
        log(f"no window has a class with a probability of {threshold:g} or more: lower --threshold")
    return 0


def window_batches(
    options: argparse.Namespace, trained: TrainedModel, index: ClipIndex, inference: InferenceOptions
) -> Iterator[WindowPredictions]:
    """Predictions of every window under a progress bar; problems are logged."""
    if inference.crops > 1:
        raise InputError("--crops averages over a whole sound: leave it out, or leave the options of windows out")
    windows = Windows.fitted(trained.front_end, options.window, options.hop)
    if advice := windows.advice(trained.front_end):
        log(f"warning: {advice}")
    with _seconds_bar(index) as on_seconds:
        for batch in predict_windows(trained, index, windows, inference, on_seconds):
            for problem in batch.problems:
                log(f"{'not used' if problem.fatal else 'note'}: {problem.message}")
            yield batch


@contextmanager
def _seconds_bar(index: ClipIndex) -> Iterator[Callable[[float], None]]:
    """A bar of the seconds of sound; its total is what the files' headers claim, or unknown."""
    claimed = [stated_seconds(index.clip(i).path) for i in range(len(index))] if len(index) <= PROBED_FILES else [None]
    known = [seconds for seconds in claimed if seconds is not None]
    with progress_bar("predict", "s", round(sum(known)) if len(known) == len(claimed) else None) as bar:

        def on_seconds(seconds: float) -> None:
            bar.update(seconds if bar.total is None else max(0.0, min(seconds, bar.total - bar.n)))

        yield on_seconds


# --- rows -------------------------------------------------------------------------------------------------------------


def _detect(
    batches: Iterable[WindowPredictions], trained: TrainedModel, choice: Choice
) -> Iterator[tuple[int, WindowDetections]]:
    """The position of every window's file, and what was found in the window."""
    for batch in batches:
        chances = {head: probabilities(values, trained.multilabel) for head, values in batch.logits.items()}
        names = {head: trained.class_names(head, values.shape[1]) for head, values in chances.items()}
        for row, position in enumerate(batch.positions):
            start, end = float(batch.starts[row]), float(batch.ends[row])
            found = choice.of(start, end, {head: values[row] for head, values in chances.items()}, names)
            yield int(position), WindowDetections(start=start, end=end, found=found)


def _rows(
    detected: Iterable[tuple[Path, WindowDetections]],
    collect: Callable[[Iterable[WindowDetections]], Iterator[Detection]],
) -> Iterator[Row]:
    for path, windows in groupby(detected, key=lambda item: item[0]):
        name = displayable(str(path))
        yield from ((name, detection) for detection in collect(window for _, window in windows))


def _as_they_are(windows: Iterable[WindowDetections]) -> Iterator[Detection]:
    for window in windows:
        yield from window.found


# --- formats: each yields text as the rows come -----------------------------------------------------------------------


def _terminal(rows: Iterable[Row]) -> Iterator[str]:
    for name, found in rows:
        label = found.label if found.head == "label" else f"{found.head}: {found.label}"
        yield f"{name}  {found.start:9.2f} {found.end:9.2f}  {found.score:.2f}  {label}\n"


def _csv(rows: Iterable[Row]) -> Iterator[str]:
    yield _csv_line(HEADER)
    for name, found in rows:
        times = f"{found.start:.3f}", f"{found.end:.3f}"
        yield _csv_line((name, *times, found.head, found.label, f"{found.score:.6f}"))


def _csv_line(values: tuple[str, ...]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()


def _json(rows: Iterable[Row]) -> Iterator[str]:
    separator = "[\n "
    for name, found in rows:
        values = (name, round(found.start, 3), round(found.end, 3), found.head, found.label, found.score)
        yield separator + json.dumps(dict(zip(HEADER, values, strict=True)))
        separator = ",\n "
    yield "[]\n" if separator.startswith("[") else "\n]\n"


def _audacity(rows: Iterable[Row]) -> Iterator[str]:
    """Audacity's label track: start, end and text, separated by tabs (File > Import > Labels)."""
    for _, found in rows:
        yield f"{found.start:.6f}\t{found.end:.6f}\t{found.label} {found.score:.2f}\n"


_FORMATS = {"terminal": _terminal, "csv": _csv, "json": _json, "audacity": _audacity}
FORMATS = tuple(_FORMATS)

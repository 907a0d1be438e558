"""From the probabilities of windows to rows with start, end, label and score, and to merged events. No torch here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """One label of a window, or of several consecutive ones.

    Args:
        start: seconds into the file.
        end: seconds into the file.
        head: of the model; "label" where it has one.
        label: class name.
        score: probability; of several windows the mean.
    """

    start: float
    end: float
    head: str
    label: str
    score: float


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which classes of a window are reported.

    Args:
        top: the most probable ones; None for all.
        threshold: least probability.
    """

    top: int | None = None
    threshold: float = 0.0

    def of(
        self, start: float, end: float, probabilities: Mapping[str, np.ndarray], names: Mapping[str, Sequence[str]]
    ) -> list[Detection]:
        """The reported classes of one window, the most probable first.

        Args:
            start: of the window, seconds.
            end: of the window, seconds.
            probabilities: head -> (classes,).
            names: head -> class names in that order.
        """
        found = []
        for head, chances in probabilities.items():
            for i in np.argsort(-chances, kind="stable")[: self.top]:
                if chances[i] >= self.threshold:
                    label, score = names[head][int(i)], float(chances[i])
                    found.append(Detection(start=start, end=end, head=head, label=label, score=score))
        return found


@dataclass(frozen=True, kw_only=True)
class WindowDetections:
    """A window and what was found in it, which may be nothing.

    Args:
        start: seconds into the file.
        end: seconds into the file.
        found: see `Choice.of`.
    """

    start: float
    end: float
    found: Sequence[Detection]


@dataclass
class _Open:
    """An event that may go on: its first detection, the end so far, and the scores of its windows."""

    first: Detection
    end: float
    total: float
    windows: int

    def close(self) -> Detection:
        return replace(self.first, end=self.end, score=self.total / self.windows)


def merge_events(windows: Iterable[WindowDetections]) -> Iterator[Detection]:
    """Join consecutive windows of one label, and yield the events of one file ordered by start.

    Windows that overlap say the same second several times. Each stands for the part of the file that is nearest to its
    middle: from halfway to the window before to halfway to the next one, the first from its own start and the last to
    its own end. So events of different labels meet where the label changes, and do not overlap by a window.

    Args:
        windows: all windows of the file in order, those without a detection too.
    """
    going_on: dict[tuple[str, str], _Open] = {}
    closed: list[Detection] = []
    before: WindowDetections | None = None
    for window in windows:
        border = window.start
        if before is not None:
            border = (before.start + before.end + window.start + window.end) / 4
            for event in going_on.values():
                event.end = min(border, before.end)
        found = {(detection.head, detection.label): detection for detection in window.found}
        closed += [going_on.pop(key).close() for key in list(going_on) if key not in found]
        for key, detection in found.items():
            event = going_on.setdefault(key, _Open(replace(detection, start=max(border, window.start)), 0.0, 0.0, 0))
            event.end, event.total, event.windows = window.end, event.total + detection.score, event.windows + 1
        before = window
        ready = min((event.first.start for event in going_on.values()), default=float("inf"))
        yield from sorted((event for event in closed if event.start < ready), key=_order)
        closed = [event for event in closed if event.start >= ready]
    yield from sorted([*closed, *(event.close() for event in going_on.values())], key=_order)


def _order(event: Detection) -> tuple[float, float, str, str]:
    return event.start, event.end, event.head, event.label

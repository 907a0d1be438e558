"""Rows and events from the probabilities of windows."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from reproduce.evaluation.events import Choice, Detection, WindowDetections, merge_events


def windows_of(*labels: str, window: float = 5.0, hop: float = 5.0, score: float = 0.8) -> list[WindowDetections]:
    """Windows of one label each, "" for none, "a+b" for two."""
    result = []
    for i, text in enumerate(labels):
        start, end = i * hop, i * hop + window
        found = [
            Detection(start=start, end=end, head="label", label=label, score=score)
            for label in text.split("+")
            if label
        ]
        result.append(WindowDetections(start=start, end=end, found=found))
    return result


def spans(windows: list[WindowDetections]) -> list[tuple[str, float, float]]:
    return [(event.label, event.start, event.end) for event in merge_events(windows)]


def test_the_most_probable_classes_above_the_threshold_are_reported() -> None:
    chances, names = {"label": np.array([0.2, 0.7, 0.1])}, {"label": ("cat", "dog", "owl")}
    assert [row.label for row in Choice().of(0, 1, chances, names)] == ["dog", "cat", "owl"]
    assert [row.label for row in Choice(top=2).of(0, 1, chances, names)] == ["dog", "cat"]
    assert [row.label for row in Choice(threshold=0.2).of(0, 1, chances, names)] == ["dog", "cat"]
    assert Choice(threshold=0.8).of(0, 1, chances, names) == []
    (row,) = Choice(top=1).of(3.0, 4.0, chances, names)
    assert row == Detection(start=3.0, end=4.0, head="label", label="dog", score=pytest.approx(0.7))


def test_consecutive_windows_of_a_label_are_one_event_with_their_mean_score() -> None:
    windows = windows_of("dog", "dog", "", "dog", "cat")
    assert spans(windows) == [("dog", 0, 10), ("dog", 15, 20), ("cat", 20, 25)]
    low, high = windows_of("dog", score=0.6), windows_of("", "dog", score=1.0)[1:]
    (event,) = merge_events([*low, *high])
    assert event.score == pytest.approx(0.8)


def test_events_of_overlapping_windows_meet_where_the_label_changes() -> None:
    # A sound that changes at 10 s, windows of 5 s every second: a window says what fills more than half of it.
    labels = ["dog" if start + 2.5 < 10 else "cat" for start in range(16)]
    assert spans(windows_of(*labels, hop=1.0)) == [("dog", 0, 10), ("cat", 10, 20)]


def test_an_event_reaches_the_files_end_through_a_last_window_aligned_to_it() -> None:
    *regular, last = windows_of("dog", "dog", "cat", window=4.0, hop=2.0)
    moved = WindowDetections(start=3.0, end=7.0, found=last.found)
    assert spans([*regular, moved]) == [("dog", 0, 4.5), ("cat", 4.5, 7.0)]


def test_windows_with_gaps_report_no_more_than_they_cover() -> None:
    assert spans(windows_of("dog", "cat", "cat", window=1.0, hop=10.0)) == [("dog", 0, 1), ("cat", 10, 21)]


def test_labels_may_overlap_and_events_come_in_order_of_their_start() -> None:
    assert spans(windows_of("a+b", "a", "a+c", "a")) == [("b", 0, 5), ("a", 0, 20), ("c", 10, 15)]
    assert spans(windows_of("", "")) == []
    assert spans([]) == []


def test_events_are_yielded_before_the_file_ends() -> None:
    endless = (window for i in itertools.count() for window in windows_of("dog", "")[i % 2 : i % 2 + 1])
    assert next(merge_events(endless)).label == "dog"

"""The training clips of an experiment: all of its splits, or a part of them that is drawn class by class. No torch."""

from __future__ import annotations

import hashlib

import numpy as np

from reproduce.datasets import ClipIndex
from reproduce.experiments.experiment import Experiment


def training_positions(experiment: Experiment, index: ClipIndex) -> np.ndarray:
    """Positions of the training clips in `index`, ascending, (n,).

    Of a part, each class keeps its share of clips, rounded, and at least one; clips with several heads or labels are
    drawn regardless of class. A clip's rank depends on its id and the experiment's seed alone. So the smaller part is
    within the larger one, and both models of a comparison train on the same clips.

    Args:
        experiment: splits, fraction and seed.
        index: the clips that can be used.
    """
    positions = index.positions_of(*experiment.train_splits)
    fraction = experiment.train_fraction
    if fraction >= 1 or not len(positions):
        return positions
    ranks = [hashlib.sha256(f"{experiment.seed} {index.clip_ids[int(p)]}".encode()).digest() for p in positions]
    order = sorted(range(len(positions)), key=ranks.__getitem__)
    classes = _class_of(index, positions)
    kept: list[int] = []
    for name in np.unique(classes):
        own = [place for place in order if classes[place] == name]
        kept += own[: max(1, round(fraction * len(own)))]
    return np.sort(positions[kept])


def _class_of(index: ClipIndex, positions: np.ndarray) -> np.ndarray:
    """The class of each clip, (n,); 0 for all where clips have several heads or labels."""
    if index.multilabel or len(index.classes) != 1:
        return np.zeros(len(positions), int)
    (head,) = index.classes
    return np.asarray(index.targets(head, positions).argmax(axis=1))

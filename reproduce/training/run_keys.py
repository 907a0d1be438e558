"""Keys of the records of runs on a store. No torch here."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from reproduce.data.content import content_sha256
from reproduce.data.waveform_store import WaveformStore
from reproduce.experiments.experiment import Experiment
from reproduce.experiments.training_subset import training_positions

Splits = tuple[str, ...]
Part = tuple[Splits, float, int]  # splits, fraction, and the seed that draws a fraction


@dataclass(frozen=True)
class RunKeys:
    """Compute the keys of experiments on one store. Each set of clips is hashed once.

    Args:
        store: the clips that decoded: a relabelled or repaired clip makes another run.
    """

    store: WaveformStore
    _identities: dict[Part, str] = field(default_factory=dict)
    _contents: dict[Part, str] = field(default_factory=dict)

    def names_key(self, experiment: Experiment) -> str:
        """Return the key of version 1, which covers ids, stretches and labels of the clips, but not their sound."""
        return experiment.key(*self._both(experiment))

    def key(self, experiment: Experiment) -> str:
        """Return the key of version 2, which also covers the sound; of version 1 if the store has no digests."""
        return experiment.key(*self._both(experiment), self.content(experiment))

    def content(self, experiment: Experiment) -> tuple[str, ...]:
        """Return the hashes of the sound of the training and of the test clips; () if the store has no digests."""
        digests = self.store.digests
        if digests is None or not self.store.has_content:
            return ()
        parts = []
        for part, positions in self._parts(experiment):
            if part not in self._contents:
                self._contents[part] = content_sha256(self.store.index.take(positions), digests[positions])
            parts.append(self._contents[part])
        return tuple(parts)

    def _both(self, experiment: Experiment) -> tuple[str, str]:
        """Identity of the training and of the test clips."""
        for part, positions in self._parts(experiment):
            if part not in self._identities:
                self._identities[part] = self.store.index.take(positions).identity_sha256()
        train, test = (self._identities[part] for part, _ in self._parts(experiment))
        return train, test

    def _parts(self, experiment: Experiment) -> tuple[tuple[Part, np.ndarray], tuple[Part, np.ndarray]]:
        """The training and the test clips of an experiment: what names them, and their positions."""
        index, fraction = self.store.index, experiment.train_fraction
        train: Part = (experiment.train_splits, fraction, experiment.seed if fraction < 1 else 0)
        test: Part = (experiment.test_splits, 1.0, 0)
        return (train, training_positions(experiment, index)), (test, index.positions_of(*experiment.test_splits))

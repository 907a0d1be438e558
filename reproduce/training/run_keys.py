"""Keys of the records of runs on a store. No torch here."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from reproduce.data.content import content_sha256
from reproduce.data.waveform_store import WaveformStore
from reproduce.experiments.experiment import Experiment

Splits = tuple[str, ...]


@dataclass(frozen=True)
class RunKeys:
    """Compute the keys of experiments on one store. Each set of splits is hashed once.

    Args:
        store: the clips that decoded: a relabelled or repaired clip makes another run.
    """

    store: WaveformStore
    _identities: dict[Splits, str] = field(default_factory=dict)
    _contents: dict[Splits, str] = field(default_factory=dict)

    def names_key(self, experiment: Experiment) -> str:
        """Return the key of version 1, which covers ids, stretches and labels of the clips, but not their sound."""
        return experiment.key(self._identity(experiment.train_splits), self._identity(experiment.test_splits))

    def key(self, experiment: Experiment) -> str:
        """Return the key of version 2, which also covers the sound; of version 1 if the store has no digests."""
        identities = self._identity(experiment.train_splits), self._identity(experiment.test_splits)
        return experiment.key(*identities, self.content(experiment))

    def content(self, experiment: Experiment) -> tuple[str, ...]:
        """Return the hashes of the sound of the training and of the test clips; () if the store has no digests."""
        digests = self.store.digests
        if digests is None or not self.store.has_content:
            return ()
        return self._content(experiment.train_splits, digests), self._content(experiment.test_splits, digests)

    def _identity(self, splits: Splits) -> str:
        if splits not in self._identities:
            self._identities[splits] = self.store.index.where_split(*splits).identity_sha256()
        return self._identities[splits]

    def _content(self, splits: Splits, digests: np.ndarray) -> str:
        if splits not in self._contents:
            positions = self.store.index.positions_of(*splits)
            self._contents[splits] = content_sha256(self.store.index.take(positions), digests[positions])
        return self._contents[splits]

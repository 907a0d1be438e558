"""The baseline of a comparison: logistic regression on log-mel statistics, as a record with predictions."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from reproduce.data.waveform_store import WaveformStore
from reproduce.datasets import Problem
from reproduce.environment import describe_environment
from reproduce.errors import InputError
from reproduce.experiments.experiment import Experiment, run_key
from reproduce.experiments.recipe import baseline_settings
from reproduce.metrics.headline import score
from reproduce.records.predictions import FOLDER, StoredPredictions, save_predictions
from reproduce.records.record import RunRecord, now
from reproduce.records.runs import LOGMEL_LR
from reproduce.records.store import append_record
from reproduce.training.baseline_features import FRONT_END, STATISTICS, store_features
from reproduce.training.logistic import CHOSEN_ON, ITERATIONS, STRENGTHS, TrainingRows, fit_and_score
from reproduce.training.run_record import describe_data

MOST_TRAINING_CLIPS = 20_000  # a random sample of a larger corpus gives the same score within its interval


@dataclass(frozen=True, kw_only=True)
class BaselinePlan:
    """A baseline on the clips of an experiment.

    Args:
        experiment: the stored definition.
        train_splits: of the training clips.
        test_splits: of the scored clips.
        seconds: of a longer clip, its first seconds count.
        scale: as in `Experiment`.
    """

    experiment: Mapping[str, Any]
    train_splits: tuple[str, ...]
    test_splits: tuple[str, ...]
    seconds: float
    scale: str

    def key(self, store: WaveformStore) -> str:
        """Key of its record on these clips; it covers the sound where the store's digests are known."""
        train, test = store.where_split(*self.train_splits), store.where_split(*self.test_splits)
        content = (train.content_sha256(), test.content_sha256()) if store.has_content else ()
        return run_key(self.experiment, train.index.identity_sha256(), test.index.identity_sha256(), content)


def plan_baselines(experiments: Sequence[Experiment]) -> list[BaselinePlan]:
    """One baseline per pair of training and test clips; models, seeds and recipes share it."""
    plans: dict[tuple[Any, ...], BaselinePlan] = {}
    for experiment in experiments:
        settings = baseline_settings(experiment.recipe, experiment.front_end.seconds)
        splits = (experiment.train_splits, experiment.test_splits)
        definition = {
            "model": LOGMEL_LR,
            "dataset": experiment.dataset,
            "protocol": experiment.variant,
            "train_splits": list(experiment.train_splits),
            "test_splits": list(experiment.test_splits),
            "front_end": FRONT_END.to_dict(),
            **settings,
            "statistics": list(STATISTICS),
            "strengths": list(STRENGTHS),
            "chosen_on": CHOSEN_ON,
            "iterations": ITERATIONS,
        }
        plan = BaselinePlan(
            experiment=definition,
            train_splits=experiment.train_splits,
            test_splits=experiment.test_splits,
            seconds=settings["seconds"],
            scale=experiment.scale,
        )
        plans.setdefault((*splits, *settings.values()), plan)
    return list(plans.values())


@dataclass
class BaselineFitter:
    """Fits baselines on one store; the features of its clips are computed once.

    Args:
        store: every clip.
        records: folder of the records.
        name: of the user's own corpus, "" for others.
        on_clip: called after every clip whose features are computed.
    """

    store: WaveformStore
    records: Path
    name: str = ""
    on_clip: Callable[[], object] = lambda: None
    _features: dict[float, list[np.ndarray | Problem]] = field(default_factory=dict)

    def run(self, plan: BaselinePlan) -> RunRecord:
        """Fit, score, store and return the record.

        Raises:
            InputError: no training or no test clip can be used, or a folder cannot be written.
        """
        start = time.perf_counter()
        if plan.seconds not in self._features:
            self._features[plan.seconds] = store_features(self.store, plan.seconds, self.on_clip)
        features = self._features[plan.seconds]
        train: list[int] = []
        test: list[int] = []
        met: list[Problem] = []
        for positions, splits in ((train, plan.train_splits), (test, plan.test_splits)):
            for i in self.store.index.positions_of(*splits).tolist():
                row = features[i]
                if isinstance(row, Problem):
                    met.append(row)
                else:
                    positions.append(i)
            if not positions:
                raise InputError(f"{self.store.index.root}: no clip of split {', '.join(splits)} can be used")
        if len(train) > MOST_TRAINING_CLIPS:
            train = sorted(np.random.default_rng(0).choice(train, MOST_TRAINING_CLIPS, replace=False).tolist())
        logits, strengths = self._fit(plan, features, np.array(train), np.array(test))
        return self._store(plan, (logits, strengths), np.array(train), np.array(test), met, start)

    def _fit(
        self, plan: BaselinePlan, features: Sequence[np.ndarray | Problem], train: np.ndarray, test: np.ndarray
    ) -> tuple[dict[str, np.ndarray], dict[str, float]]:
        index = self.store.index
        rows = {
            name: np.stack([np.asarray(features[i]) for i in at]) for name, at in (("train", train), ("test", test))
        }
        units = index.units()
        logits, strengths = {}, {}
        for head in index.classes:
            training = TrainingRows(
                features=rows["train"],
                targets=index.targets(head, train),
                groups=[str(units[int(i)]) for i in train],
                multilabel=index.multilabel,
                balanced=bool(plan.experiment["balanced"]),
            )
            logits[head], strengths[head] = fit_and_score(training, rows["test"])
        return logits, strengths

    def _store(
        self,
        plan: BaselinePlan,
        fitted: tuple[dict[str, np.ndarray], dict[str, float]],
        train: np.ndarray,
        test: np.ndarray,
        met: Sequence[Problem],
        start: float,
    ) -> RunRecord:
        store, index, (logits, strengths) = self.store, self.store.index, fitted
        targets = {head: index.targets(head, test) for head in index.classes}
        majority = {head: int(index.targets(head, train).sum(axis=0).argmax()) for head in index.classes}
        correct = {head: int(targets[head][:, at].sum()) for head, at in majority.items()}
        key = plan.key(store)
        train_clips, test_clips = store.where_split(*plan.train_splits), store.where_split(*plan.test_splits)
        clips = StoredPredictions(
            np.array(index.clip_ids[test].tolist()),
            logits,
            targets,
            np.empty((len(test), 0), np.float32),
            None if index.groups is None else np.array(index.groups[test].tolist()),
            store.digests[test] if store.digests is not None and store.has_content else None,
        )
        record = RunRecord(
            kind="baseline",
            key=key,
            experiment=dict(plan.experiment),
            scale=plan.scale,
            metrics=score(logits, targets, index.multilabel),
            dataset={
                **describe_data(store, train_clips, test_clips, len(test), met),
                **({"corpus": self.name} if self.name else {}),
            },
            seed=0,
            details={
                "strength": strengths,
                "majority": {head: index.classes[head][at] for head, at in majority.items()},
                "majority_correct": correct,
                "fitted_to": len(train),
            },
            predictions=(FOLDER / f"{key}-{datetime.now(UTC):%Y%m%dT%H%M%S}.npz").as_posix(),
            wall_time_s=time.perf_counter() - start,
            environment=describe_environment("cpu"),
            created=now(),
        )
        save_predictions(self.records, Path(str(record.predictions)).stem, clips)
        append_record(self.records, record)
        return record

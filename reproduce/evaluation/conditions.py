"""Test a trained run again under other conditions: noise, low-pass, shift, other lengths. One record per run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from models.checkpoints import weights_sha256
from reproduce.audio.corruptions import add_noise, low_pass, repeated, shift
from reproduce.audio.spec import AudioSpec
from reproduce.audio.waveforms import crop
from reproduce.data.waveform_store import Waveforms, WaveformStore
from reproduce.datasets.index import DEFAULT_HEAD
from reproduce.environment import describe_environment
from reproduce.errors import InputError
from reproduce.evaluation.inference import InferenceOptions, TrainedModel, load_trained_model, predict_store
from reproduce.experiments.conditions import LENGTH, LOW_PASS, NOISE, NOISE_SEED, SHIFT, STUDIES, Condition
from reproduce.keys import hash_key
from reproduce.metrics.scores import top_k_correct
from reproduce.records.outcomes import Outcomes, save_outcomes
from reproduce.records.record import RunRecord, now
from reproduce.records.runs import TrainedRun
from reproduce.records.store import append_record


def condition_experiment(run: TrainedRun, kind: str) -> dict[str, Any]:
    """Return what defines the measurement, JSON-ready; the key of its record is the hash of this.

    Args:
        run: the trained run.
        kind: "robustness" or "transfer".
    """
    return {
        "of": run.key,
        "weights_sha256": run.weights_sha256,
        "model": run.model,
        "model_config": dict(run.model_config),
        "dataset": run.dataset,
        "protocol": run.variant,
        "recipe_name": run.recipe_name,
        "test_splits": list(run.test_splits),
        "conditions": [{"kind": c.kind, "level": c.level} for c in STUDIES[kind]],
        "noise_seed": NOISE_SEED,
    }


@dataclass(frozen=True)
class ConditionedWaveforms:
    """Waveforms under a condition, as the `Waveforms` of a store.

    Args:
        waveforms: as they are, in the order of `clip_ids`.
        clip_ids: which noise each clip has.
        spec: of the front end that they go to.
        trained: of the front end that the model was trained with.
        condition: what is done to them.
        whole: keep longer clips whole, for several crops.
    """

    waveforms: Waveforms
    clip_ids: tuple[str, ...]
    spec: AudioSpec
    trained: AudioSpec
    condition: Condition
    whole: bool

    def __len__(self) -> int:
        return len(self.waveforms)

    def __getitem__(self, position: int, /) -> np.ndarray:
        waveform = self.waveforms[position]
        if len(waveform) > self.trained.samples and not self.whole:
            waveform = crop(waveform, self.trained.samples, 0)
        kind, level = self.condition.kind, self.condition.level
        if kind == NOISE:
            return add_noise(waveform, level, self.clip_ids[position], NOISE_SEED)
        if kind == LOW_PASS:
            return low_pass(waveform, level, self.spec.sample_rate)
        if kind == SHIFT:
            return shift(waveform, round(level * self.spec.sample_rate))
        if kind == LENGTH:
            return repeated(waveform, self.spec.samples) if level > 1 else waveform  # a shorter input takes its start
        return waveform

    def take(self, positions: np.ndarray) -> ConditionedWaveforms:
        """The waveforms at `positions`, in that order."""
        ids = tuple(self.clip_ids[int(i)] for i in positions)
        return replace(self, waveforms=self.waveforms.take(positions), clip_ids=ids)

    def memory_bytes(self, spec: AudioSpec, whole: bool) -> int:
        """Bytes that all waveforms need in memory."""
        return self.waveforms.memory_bytes(spec, whole)


def under_condition(store: WaveformStore, condition: Condition, whole: bool = False) -> WaveformStore:
    """The clips of a store under a condition; of another length, with the front end of that length.

    Args:
        store: the clips, with the front end that the model was trained with.
        condition: see there.
        whole: keep longer clips whole, for several crops.
    """
    spec = store.spec
    if condition.kind == LENGTH:
        spec = replace(spec, frames=max(1, round(spec.frames * condition.level)))
    ids = tuple(map(str, store.index.clip_ids.tolist()))
    waveforms = ConditionedWaveforms(store.waveforms, ids, spec, store.spec, condition, whole)
    return replace(store, spec=spec, waveforms=waveforms)


@dataclass(frozen=True, kw_only=True)
class ConditionsJob:
    """One run to test again.

    Args:
        run: its record.
        weights: its weights.
        kind: "robustness" or "transfer".
        store: its test clips, with the front end that it was trained with.
        device: of the model.
    """

    run: TrainedRun
    weights: Path
    kind: str
    store: WaveformStore
    device: str


def measure_conditions(
    job: ConditionsJob, records_dir: Path, on_condition: Callable[[], object] = lambda: None
) -> RunRecord:
    """Score the run's test clips under every condition of the study, store the outcomes, append and return the record.

    Raises:
        InputError: the weights are not the run's or cannot be read, a clip could not be used, or a file cannot be
            written.
    """
    trained, options = _load(job), InferenceOptions(device=job.device, crops=job.run.recipe.test_crops)
    rows, positions = [], np.empty(0, np.int64)
    targets = job.store.index.targets(DEFAULT_HEAD, np.arange(len(job.store))).argmax(axis=1)
    for number, condition in enumerate(STUDIES[job.kind]):
        store = under_condition(job.store, condition, whole=options.crops > 1)
        fitting = trained
        if store.spec.frames != job.store.spec.frames:
            fitting = load_trained_model(str(job.weights), job.device, frames=store.spec.frames)
        predictions = predict_store(fitting, store, options)
        if number and not np.array_equal(predictions.positions, positions):
            raise InputError(f"{job.weights}: under {condition.name} other clips could be used than without")
        positions = predictions.positions
        rows.append(top_k_correct(predictions.logits[DEFAULT_HEAD], targets[positions]))
        on_condition()
    record = _make_record(job, np.array(rows), positions, records_dir)
    append_record(records_dir, record)
    return record


def _load(job: ConditionsJob) -> TrainedModel:
    trained = load_trained_model(str(job.weights), job.device)
    if weights_sha256(trained.model) != job.run.weights_sha256:
        raise InputError(f"{job.weights}: not the weights of record {job.run.key}: train it again with --run all")
    return trained


def _make_record(job: ConditionsJob, correct: np.ndarray, positions: np.ndarray, records_dir: Path) -> RunRecord:
    """Store the outcomes, and make the record that names their file."""
    run, index = job.run, job.store.index
    experiment = condition_experiment(run, job.kind)
    key = hash_key({"kind": job.kind, **experiment})
    ids = np.array(index.clip_ids[positions].tolist())
    units = ids if index.groups is None else np.array(index.groups[positions].tolist())
    outcomes = save_outcomes(
        records_dir, f"{job.kind}-{key}", Outcomes(clip_ids=ids, units=units, correct=np.array(correct, bool))
    )
    data: Mapping[str, Any] = run.record.dataset
    return RunRecord(
        kind=job.kind,
        key=key,
        experiment=experiment,
        scale=run.scale,
        metrics={
            "clips": len(ids),
            **{c.name: 100.0 * float(row.mean()) for c, row in zip(STUDIES[job.kind], correct, strict=True)},
        },
        environment=describe_environment(job.device),
        dataset={name: value for name, value in data.items() if name != "problems"},
        seed=run.seed,
        weights_sha256=run.weights_sha256,
        details={"outcomes": outcomes},
        created=now(),
    )

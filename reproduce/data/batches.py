"""Batches of log-mels, for training and for evaluation.

Every random draw of training depends on (seed, epoch, step) alone and is made for the whole global batch, of which each
rank takes its part. So an epoch is the same from memory, files or shards, resumed or not, on one process or many, and
no generator state has to be stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch

from reproduce.audio.augment import mask_log_mels, mix_waveforms
from reproduce.audio.log_mel import log_mel, normalise, stack_waveforms
from reproduce.audio.spec import AudioSpec
from reproduce.audio.waveforms import crop
from reproduce.data.augmentation_draws import AugmentationDraws, draw_augmentation
from reproduce.data.rank_share import RankShare
from reproduce.data.read_ahead import read_ahead
from reproduce.data.sampling import class_balanced_weights, draw_weighted
from reproduce.data.waveform_store import WaveformStore
from reproduce.datasets import ClipIndex, Problem
from reproduce.datasets.index import DEFAULT_HEAD
from reproduce.errors import InputError
from reproduce.experiments.recipe import Recipe
from reproduce.pool import ordered_map

NO_SOUND = np.zeros(1, np.float32)  # in the place of a clip that cannot be used

# --- training -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class EpochPart:
    """The part of a training run's data that one call of `training_batches` yields.

    Args:
        seed: of the run.
        epoch: number of the epoch, from 0.
        share: the rank's part of every step.
        first_step: first step to yield, for an epoch that was interrupted.
    """

    seed: int
    epoch: int
    share: RankShare = RankShare()
    first_step: int = 0


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One micro-batch of a training step, on the device.

    Args:
        inputs: (batch, 1, mels, frames), normalised.
        targets: head -> (batch, classes), soft.
        positions: (batch,) int64, positions in the store.
        weights: (batch,) 1; 0 for a clip that could not be used, and for the clip of a rank that has none in this step.
        step: number of the step in its epoch.
        last: whether this is the rank's last micro-batch of the step.
        clips: clips of the whole step, over all ranks.
        problems: clips that could not be used, and warnings about others (not fatal), read ahead perhaps.
    """

    inputs: torch.Tensor
    targets: dict[str, torch.Tensor]
    positions: np.ndarray
    weights: torch.Tensor
    step: int
    last: bool
    clips: int
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _MicroBatchRows:
    """Which rows of a step one micro-batch takes."""

    step: int
    rows: range
    last: bool


@dataclass(frozen=True, kw_only=True)
class _WaveformBatch:
    """A `Batch` before its log-mels, in main memory: what worker processes return.

    Args:
        waveforms: (batch, samples) float32, zeros behind shorter clips.
        lengths: (batch,) int64, samples of each clip.
        freq_spans: (batch, 2) int64, see `draw_spans`.
        time_spans: (batch, 2) int64, see `draw_spans`.
    """

    waveforms: torch.Tensor
    lengths: torch.Tensor
    targets: dict[str, torch.Tensor]
    positions: np.ndarray
    weights: torch.Tensor
    freq_spans: torch.Tensor
    time_spans: torch.Tensor
    step: int
    last: bool
    clips: int
    problems: tuple[Problem, ...]

    def pin_memory(self) -> _WaveformBatch:
        """Called by DataLoader for a GPU, which does not look into dataclasses."""
        targets = {head: target.pin_memory() for head, target in self.targets.items()}
        return replace(self, waveforms=self.waveforms.pin_memory(), targets=targets, weights=self.weights.pin_memory())


def steps_per_epoch(clips: int, recipe: Recipe) -> int:
    """Steps of an epoch over `clips` clips; the last one may be smaller."""
    return -(-clips // recipe.batch_size)


def epoch_order(index: ClipIndex, recipe: Recipe, seed: int, epoch: int) -> np.ndarray:
    """Positions in the order of the epoch, (n,): each clip once, or n draws with AST's class-balanced weights.

    Raises:
        InputError: balanced sampling of clips that have several heads.
    """
    rng = np.random.default_rng((seed, epoch))
    if recipe.sampler == "shuffle":
        return rng.permutation(len(index))
    if set(index.labels) != {DEFAULT_HEAD}:
        raise InputError(f"{index.dataset}: sampler 'balanced' needs one head of labels; use 'shuffle'")
    weights = class_balanced_weights(index.labels[DEFAULT_HEAD], len(index.classes[DEFAULT_HEAD]))
    return draw_weighted(weights, len(index), rng)


def training_batches(
    store: WaveformStore, recipe: Recipe, part: EpochPart, device: str | torch.device, workers: int = 0
) -> Iterator[Batch]:
    """Yield the micro-batches of one epoch, in AST's order: crop -> mixup -> log-mel -> SpecAugment -> normalise.

    A clip that cannot be used has weight 0 in its batch and is in its `problems`; a mixup partner that cannot be used
    leaves its clip unmixed.

    Args:
        store: the training clips.
        recipe: batch size, sampler and augmentation.
        part: seed, epoch and the rank's part.
        device: where the log-mels are computed and stay.
        workers: processes that read and mix ahead; 0 does it in this process.

    Raises:
        InputError: see `epoch_order`; a shard that cannot be read; or a whole epoch without a usable clip.
    """
    reader = _MicroBatchReader(store, recipe, part)
    usable, problems = 0.0, 0
    for batch in read_ahead(reader.read, len(reader.micro_batches), device, workers):
        usable += float(batch.weights.sum())
        problems += sum(problem.fatal for problem in batch.problems)
        yield _to_batch(batch, store.spec, device)
    if problems and not usable and part.share.world_size == 1:  # several ranks would have to ask each other
        raise InputError(
            f"{store.index.root}: none of the {len(store)} training clips can be used; `data audit` lists the reasons"
        )


class _MicroBatchReader:
    """Reads the micro-batches of one epoch that belong to one rank, by number."""

    def __init__(self, store: WaveformStore, recipe: Recipe, part: EpochPart) -> None:
        self.store, self.recipe, self.part = store, recipe, part
        self.order = epoch_order(store.index, recipe, part.seed, part.epoch)
        self.micro_batches = [
            _MicroBatchRows(step=step, rows=rows, last=rows is rows_of_step[-1])
            for step in range(part.first_step, steps_per_epoch(len(self.order), recipe))
            for rows_of_step in [part.share.micro_batches(len(self._positions_of(step)))]
            for rows in rows_of_step
        ]

    def read(self, number: int) -> _WaveformBatch:
        """Draw, read and mix the clips of micro-batch `number`."""
        rows = self.micro_batches[number]
        seed = (self.part.seed, self.part.epoch, rows.step)
        draws = draw_augmentation(self._positions_of(rows.step), self.store, self.recipe, seed)
        return _read_micro_batch(self.store, self.recipe, draws, rows)

    def _positions_of(self, step: int) -> np.ndarray:
        size = self.recipe.batch_size
        return self.order[step * size : (step + 1) * size]


def _read_micro_batch(
    store: WaveformStore, recipe: Recipe, draws: AugmentationDraws, part: _MicroBatchRows
) -> _WaveformBatch:
    """Read, crop and mix the clips of `part` of a step; `batch` clips, at most `spec.samples` samples each."""
    # A rank with no clips in this step still runs one clip, with weight 0: every rank must join the all-reduce.
    rows = np.asarray(part.rows or range(1))
    positions, partners = draws.positions[rows], draws.partners[rows]
    problems: list[Problem] = []
    clips = [
        _read_crop(store, position, point, problems)
        for position, point in zip(positions, draws.crop_points[rows, 0], strict=True)
    ]
    weights = torch.tensor([float(bool(part.rows) and clip is not None) for clip in clips])
    waveforms, lengths = _stack(clips)
    targets = {head: torch.from_numpy(store.index.targets(head, positions)) for head in store.index.classes}
    if recipe.mixup:
        mixup_weights = draws.mixup_weights[rows].copy()
        mixed_in = [
            _read_crop(store, position, point, problems) if weight < 1 else None
            for position, point, weight in zip(partners, draws.crop_points[rows, 1], mixup_weights, strict=True)
        ]
        mixup_weights[[clip is None for clip in mixed_in]] = 1.0  # without a usable partner a clip stays unmixed
        partner_targets = {head: torch.from_numpy(store.index.targets(head, partners)) for head in targets}
        waveforms, targets = mix_waveforms(
            waveforms, lengths, targets, _stack(mixed_in)[0], partner_targets, mixup_weights
        )
    return _WaveformBatch(
        waveforms=waveforms,
        lengths=lengths,
        targets=targets,
        positions=positions,
        weights=weights,
        freq_spans=draws.freq_spans[rows],
        time_spans=draws.time_spans[rows],
        step=part.step,
        last=part.last,
        clips=len(draws.positions),
        problems=(*problems, *store.take_warnings()),
    )


def _stack(clips: list[np.ndarray | None]) -> tuple[torch.Tensor, torch.Tensor]:
    """`stack_waveforms`, with NO_SOUND for a clip that cannot be used."""
    return stack_waveforms([NO_SOUND if clip is None else clip for clip in clips])


def _read_crop(store: WaveformStore, position: int, point: float, problems: list[Problem]) -> np.ndarray | None:
    """Read at most `spec.samples` samples of a clip, (samples,) float32; None, and a problem, if it cannot be used.

    Args:
        store: the clips.
        position: of the clip.
        point: where a longer clip is cropped: 0 is the earliest crop, 1 the latest.
        problems: receives the problem.
    """
    waveform = store.read(int(position))
    if isinstance(waveform, Problem):
        problems.append(waveform)
        return None
    latest = max(0, len(waveform) - store.spec.samples)
    return _copy_crop(waveform, store.spec.samples, int(point * (latest + 1)))


def _copy_crop(waveform: np.ndarray, samples: int, offset: int) -> np.ndarray:
    """`crop`; a copy of a longer waveform's, as a view would keep the whole recording in memory."""
    return crop(waveform, samples, offset).copy() if len(waveform) > samples else waveform


def _to_batch(batch: _WaveformBatch, spec: AudioSpec, device: str | torch.device) -> Batch:
    """(batch, samples) waveforms to masked, then normalised log-mels (batch, 1, mels, frames) on `device`."""
    log_mels = log_mel(batch.waveforms.to(device, non_blocking=True), batch.lengths, spec)
    return Batch(
        inputs=normalise(mask_log_mels(log_mels, batch.freq_spans, batch.time_spans), spec),
        targets={head: target.to(device, non_blocking=True) for head, target in batch.targets.items()},
        positions=batch.positions,
        weights=batch.weights.to(device, non_blocking=True),
        step=batch.step,
        last=batch.last,
        clips=batch.clips,
        problems=batch.problems,
    )


# --- evaluation -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EvaluationBatch:
    """Crops of some clips, on the device.

    Args:
        inputs: (crops, 1, mels, frames), normalised.
        positions: (clips,) int64, positions in the store of the clips that could be used.
        crops: (clips,) int64, consecutive rows of `inputs` per clip.
        problems: clips that could not be used, and warnings about others (not fatal), read ahead perhaps.
    """

    inputs: torch.Tensor
    positions: np.ndarray
    crops: np.ndarray
    problems: tuple[Problem, ...]


def evaluation_batches(
    store: WaveformStore,
    batch_size: int,
    device: str | torch.device,
    crops: int = 1,
    share: RankShare = RankShare(),
    threads: int = 0,
) -> Iterator[EvaluationBatch]:
    """Yield every clip of the rank's share once, in order, without augmentation.

    Args:
        store: the clips to evaluate.
        batch_size: clips per batch.
        device: where the log-mels are computed and stay.
        crops: crops of a clip longer than the input, evenly spaced from its start to its end; 1 takes the start.
        share: the rank's part of the clips.
        threads: threads that decode one batch ahead, several clips at once; 0 decodes in this thread.

    Raises:
        InputError: a shard that cannot be read.
    """

    def read(position: int) -> list[np.ndarray] | Problem:
        return _read_crops(store, position, crops)

    positions = share.of(len(store))
    clips = ordered_map(read, positions, threads, max(batch_size, 2 * threads)) if threads else map(read, positions)
    numbered = zip(positions, clips, strict=True)
    while batch := list(islice(numbered, batch_size)):
        yield _to_evaluation_batch(batch, store, device)


def _read_crops(store: WaveformStore, position: int, crops: int) -> list[np.ndarray] | Problem:
    """Read the evenly spaced crops of one clip, (samples,) float32 each; a clip that fits has one."""
    waveform = store.read(position)
    if isinstance(waveform, Problem):
        return waveform
    latest = max(0, len(waveform) - store.spec.samples)
    offsets = np.linspace(0, latest, crops).astype(int) if latest else [0]
    return [_copy_crop(waveform, store.spec.samples, int(offset)) for offset in offsets]


def _to_evaluation_batch(
    clips: list[tuple[int, list[np.ndarray] | Problem]], store: WaveformStore, device: str | torch.device
) -> EvaluationBatch:
    """Compute the log-mels of the crops of (position, crops) clips on `device`."""
    spec = store.spec
    usable = [(position, crops) for position, crops in clips if not isinstance(crops, Problem)]
    inputs = torch.empty(0, 1, spec.mels, spec.frames, device=device)
    if usable:
        waveforms, lengths = stack_waveforms([crop for _, crops in usable for crop in crops])
        inputs = normalise(log_mel(waveforms.to(device, non_blocking=True), lengths, spec), spec)
    return EvaluationBatch(
        inputs,
        np.array([position for position, _ in usable], np.int64),
        np.array([len(crops) for _, crops in usable], np.int64),
        (*(clip for _, clip in clips if isinstance(clip, Problem)), *store.take_warnings()),
    )

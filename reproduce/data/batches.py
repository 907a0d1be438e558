"""From a clip index to batches: where waveforms come from, what an epoch draws, and who of several processes reads it.

Every random draw comes from (seed, epoch, step) alone and is made for the whole global batch, of which a process takes
its share. So an epoch is the same whatever ran before it, from memory, files or shards, resumed or not, on one process
or on many, and no generator has to be stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from reproduce.audio.augment import draw_mixup, draw_spans, mask_log_mels, mix_waveforms
from reproduce.audio.log_mel import log_mel, normalise, stack_waveforms
from reproduce.audio.spec import AudioSpec
from reproduce.audio.waveforms import crop
from reproduce.data.rank_share import RankShare
from reproduce.data.read_ahead import read_ahead
from reproduce.data.sampling import class_balanced_weights, draw_weighted
from reproduce.data.waveform_store import WaveformStore
from reproduce.datasets import ClipIndex, Problem
from reproduce.datasets.index import DEFAULT_HEAD
from reproduce.errors import InputError
from reproduce.experiments.recipe import Recipe

# --- training -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Batch:
    """One piece of a step, on the device.

    Args:
        inputs: (batch, 1, mels, frames), normalised.
        targets: head -> (batch, classes), soft.
        positions: (batch,) in the store.
        weights: (batch,) 1, or 0 for a row that is only there because a process must take part in every step, or
            whose clip could not be used.
        step: number of the step in its epoch. last: whether it is the step's last piece in this process.
        clips: of the whole step, over all processes.
        problems: clips that could not be used.
    """

    inputs: torch.Tensor
    targets: dict[str, torch.Tensor]
    positions: np.ndarray
    weights: torch.Tensor
    step: int
    last: bool
    clips: int
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class _Draws:
    """Everything random about the clips of a step: (clips,) or (clips, 2) each."""

    positions: np.ndarray
    partners: np.ndarray
    shares: np.ndarray  # 1 where the clip is not mixed
    crops: np.ndarray  # of the clip and its partner, 0 to 1 of the room that a longer clip leaves
    freq_spans: torch.Tensor
    time_spans: torch.Tensor


@dataclass(frozen=True)
class _Piece:
    """A `Batch` before its spectrograms: what workers hand over, in main memory."""

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

    def pin_memory(self) -> _Piece:
        """What DataLoader calls for a GPU; it would pass a dataclass by."""
        targets = {head: target.pin_memory() for head, target in self.targets.items()}
        return replace(self, waveforms=self.waveforms.pin_memory(), targets=targets, weights=self.weights.pin_memory())


def steps_per_epoch(clips: int, recipe: Recipe) -> int:
    return -(-clips // recipe.batch_size)


def epoch_order(index: ClipIndex, recipe: Recipe, seed: int, epoch: int) -> np.ndarray:
    """(n,) positions in the order of the epoch: each clip once, or as many draws with AST's class-balanced weights.

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
    store: WaveformStore,
    recipe: Recipe,
    seed: int,
    epoch: int,
    device: str | torch.device,
    share: RankShare = RankShare(),
    first_step: int = 0,
    workers: int = 0,
) -> Iterator[Batch]:
    """One epoch in AST's order: crop -> mixup -> log-mel -> SpecAugment -> normalise.

    Args:
        first_step: the steps before it are skipped, for an epoch that was interrupted.
        workers: processes that read and mix ahead; 0 does it here.
    """
    pieces = _Pieces(store, recipe, seed, epoch, share, first_step)
    for piece in read_ahead(pieces.read, len(pieces.places), device, workers):
        yield _to_batch(piece, store.spec, recipe, device)


class _Pieces:
    """The pieces of an epoch that fall to one process, by number."""

    def __init__(
        self, store: WaveformStore, recipe: Recipe, seed: int, epoch: int, share: RankShare, first_step: int
    ) -> None:
        self.store, self.recipe, self.seed, self.epoch = store, recipe, seed, epoch
        self.order = epoch_order(store.index, recipe, seed, epoch)
        self.places = [
            (step, rows, rows is rows_of_step[-1])
            for step in range(first_step, steps_per_epoch(len(self.order), recipe))
            for rows_of_step in [share.micro_batches(len(self._clips_of(step)))]
            for rows in rows_of_step
        ]

    def read(self, number: int) -> _Piece:
        step, rows, last = self.places[number]
        clips = self._clips_of(step)
        draws = _draw(clips, self.store, self.recipe, (self.seed, self.epoch, step))
        # A process without clips in this step goes through the motions with the first one, which weighs nothing.
        return _read_piece(self.store, self.recipe, draws, rows or range(1), bool(rows), step, last)

    def _clips_of(self, step: int) -> np.ndarray:
        size = self.recipe.batch_size
        return self.order[step * size : (step + 1) * size]


def _draw(positions: np.ndarray, store: WaveformStore, recipe: Recipe, seed: tuple[int, int, int]) -> _Draws:
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
    clips = len(positions)
    return _Draws(
        positions,
        rng.integers(len(store), size=clips),
        draw_mixup(clips, recipe.mixup, rng),
        rng.random((clips, 2)) if recipe.crop == "random" else np.zeros((clips, 2)),
        draw_spans(clips, store.spec.mels, recipe.freq_mask, generator),
        draw_spans(clips, store.spec.frames, recipe.time_mask, generator),
    )


def _read_piece(
    store: WaveformStore, recipe: Recipe, draws: _Draws, rows: range, counts: bool, step: int, last: bool
) -> _Piece:
    taken = np.asarray(rows)
    positions, partners, shares = draws.positions[taken], draws.partners[taken], draws.shares[taken].copy()
    problems: list[Problem] = []
    own = [_read_crop(store, p, crop, problems) for p, crop in zip(positions, draws.crops[taken, 0], strict=True)]
    weights = torch.tensor([float(counts and waveform is not None) for waveform in own])
    waveforms, lengths = stack_waveforms([np.zeros(1, np.float32) if w is None else w for w in own])
    targets = {head: torch.from_numpy(store.index.targets(head, positions)) for head in store.index.classes}
    if recipe.mixup:
        others = [
            _read_crop(store, p, crop, problems) if share < 1 else None
            for p, crop, share in zip(partners, draws.crops[taken, 1], shares, strict=True)
        ]
        shares[[other is None for other in others]] = 1.0  # a partner that cannot be used leaves its clip unmixed
        mixed_in, _ = stack_waveforms([np.zeros(1, np.float32) if other is None else other for other in others])
        partner_targets = {head: torch.from_numpy(store.index.targets(head, partners)) for head in targets}
        waveforms, targets = mix_waveforms(waveforms, lengths, targets, mixed_in, partner_targets, shares)
    return _Piece(
        waveforms,
        lengths,
        targets,
        positions,
        weights,
        draws.freq_spans[taken],
        draws.time_spans[taken],
        step,
        last,
        len(draws.positions),
        tuple(problems),
    )


def _read_crop(store: WaveformStore, position: int, place: float, problems: list[Problem]) -> np.ndarray | None:
    """At most `spec.samples` of a clip, from `place` (0 to 1) of the room that a longer one leaves."""
    waveform = store.read(int(position))
    if isinstance(waveform, Problem):
        problems.append(waveform)
        return None
    room = max(0, len(waveform) - store.spec.samples)
    return crop(waveform, store.spec.samples, int(place * (room + 1)))


def _to_batch(piece: _Piece, spec: AudioSpec, recipe: Recipe, device: str | torch.device) -> Batch:
    spectrograms = log_mel(piece.waveforms.to(device, non_blocking=True), piece.lengths, spec)
    spectrograms = normalise(mask_log_mels(spectrograms, piece.freq_spans, piece.time_spans), spec)
    targets = {head: target.to(device, non_blocking=True) for head, target in piece.targets.items()}
    return Batch(
        spectrograms,
        targets,
        piece.positions,
        piece.weights.to(device, non_blocking=True),
        piece.step,
        piece.last,
        piece.clips,
        piece.problems,
    )


# --- evaluation -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EvaluationBatch:
    """Crops of some clips, on the device.

    Args:
        inputs: (crops, 1, mels, frames), normalised.
        positions: (clips,) in the store; clips that could not be used are not among them.
        crops: (clips,) how many of `inputs`' rows are each clip's, in order.
        problems: clips that could not be used.
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
    workers: int = 0,
) -> Iterator[EvaluationBatch]:
    """Every clip of the process' share once, in order, without augmentation.

    Args:
        crops: of a clip longer than the input, evenly spaced from its start to its end; 1 takes the start.
    """
    own = share.of(len(store))
    chunks = [own[i : i + batch_size] for i in range(0, len(own), batch_size)]
    reader = _Chunks(store, crops, chunks)
    for waveforms, lengths, positions, counts, problems in read_ahead(reader.read, len(chunks), device, workers):
        inputs = torch.empty(0, 1, store.spec.mels, store.spec.frames, device=device)
        if len(positions):
            inputs = normalise(log_mel(waveforms.to(device, non_blocking=True), lengths, store.spec), store.spec)
        yield EvaluationBatch(inputs, positions, counts, tuple(problems))


class _Chunks:
    """The chunks of a store that fall to one process, by number."""

    def __init__(self, store: WaveformStore, crops: int, chunks: list[range]) -> None:
        self.store, self.crops, self.chunks = store, crops, chunks

    def read(self, number: int) -> tuple[torch.Tensor, torch.Tensor, np.ndarray, np.ndarray, list[Problem]]:
        spec, pieces, problems = self.store.spec, [], []
        positions, counts = [], []
        for position in self.chunks[number]:
            waveform = self.store.read(position)
            if isinstance(waveform, Problem):
                problems.append(waveform)
                continue
            room = max(0, len(waveform) - spec.samples)
            offsets = np.linspace(0, room, self.crops).astype(int) if room else [0]
            pieces += [crop(waveform, spec.samples, int(offset)) for offset in offsets]
            positions.append(position)
            counts.append(len(offsets))
        waveforms, lengths = stack_waveforms(pieces or [np.zeros(1, np.float32)])
        return waveforms, lengths, np.asarray(positions, np.int64), np.asarray(counts, np.int64), problems

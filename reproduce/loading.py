"""From a clip index to batches: where waveforms come from, what an epoch draws, and who of several processes reads it.

Every random draw comes from (seed, epoch, step) alone and is made for the whole global batch, of which a process takes
its share. So an epoch is the same whatever ran before it, from memory, files or shards, resumed or not, on one process
or on many, and no generator has to be stored.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from reproduce.audio import decode_many, fit, is_silent, load_waveform, log_mel, normalise, stack_waveforms
from reproduce.audio_errors import AudioError
from reproduce.audio_spec import AudioSpec
from reproduce.augment import draw_mixup, draw_shifts, draw_spans, mask_log_mels, mix_waveforms, roll_time
from reproduce.datasets import ClipIndex, Problem
from reproduce.datasets.base import DEFAULT_HEAD
from reproduce.environment import decoding_threads
from reproduce.errors import InputError
from reproduce.experiments import Recipe
from reproduce.sampling import class_balanced_weights, draw_weighted
from reproduce.standin import standin_marker

FLOAT32_BYTES = 4

T = TypeVar("T")


# --- where waveforms come from --------------------------------------------------------------------------------------


class Waveforms(Protocol):
    """Clips by position, (samples,) float32 each, mean removed; reading one may raise AudioError."""

    def __len__(self) -> int: ...

    def __getitem__(self, position: int, /) -> np.ndarray: ...

    def take(self, positions: np.ndarray) -> Waveforms:
        """Those at `positions`, in that order."""


class DecodedWaveforms(tuple[np.ndarray, ...]):
    """Held in memory."""

    def take(self, positions: np.ndarray) -> DecodedWaveforms:
        return DecodedWaveforms(self[i] for i in positions)


@dataclass(frozen=True)
class FileWaveforms:
    """Decoded from the corpus' own files whenever they are asked for: for corpora larger than memory."""

    index: ClipIndex
    spec: AudioSpec

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, position: int, /) -> np.ndarray:
        clip = self.index.clip(int(position))
        return load_waveform(clip.path, self.spec, clip.start, clip.stop)

    def take(self, positions: np.ndarray) -> FileWaveforms:
        return FileWaveforms(self.index.take(positions), self.spec)


@dataclass(frozen=True)
class WaveformStore:
    """The clips of a corpus and their waveforms, position by position.

    Args:
        index: the clips; of a decoded corpus exactly those that decoded.
        spec: front end.
        waveforms: see `Waveforms`.
        problems: everything met on the way.
        standin: the `standin_marker` of a corpus that was synthesised, None for any other.
    """

    index: ClipIndex
    spec: AudioSpec
    waveforms: Waveforms
    problems: tuple[Problem, ...]
    standin: Mapping[str, Any] | None = None

    def __len__(self) -> int:
        return len(self.waveforms)

    def where_split(self, *names: str) -> WaveformStore:
        """The clips of these splits; the problems stay with the whole. InputError if none of them could be used."""
        positions = self.index.positions_of(*names)
        if not len(positions):
            listed = sum(self.index.listed.get(name, 0) for name in names)
            raise InputError(
                f"{self.index.root}: none of the {listed} listed clips in split {', '.join(names)} can be used; "
                "mend or replace their files"
            )
        return replace(self, index=self.index.take(positions), waveforms=self.waveforms.take(positions))

    def read(self, position: int) -> np.ndarray | Problem:
        """One whole waveform, or what was wrong with it."""
        try:
            return self.waveforms[position]
        except AudioError as error:
            return Problem(str(self.index.clip_ids[position]), error.reason, str(error))


def load_waveforms(
    index: ClipIndex,
    spec: AudioSpec,
    on_clip: Callable[[], object] = lambda: None,
    workers: int | None = None,
    whole: bool = False,
) -> WaveformStore:
    """Decode every clip of `index` once. A clip that cannot be used is left out and reported, never fatal to the rest.

    Args:
        index: what to decode.
        spec: front end; clips longer than it are cut to their first `spec.samples`.
        on_clip: called after every clip, for a progress bar.
        workers: decoding threads, by default two a core.
        whole: keep longer clips whole, for random or several crops.

    Raises:
        InputError: no clip could be used, or the waveforms would not fit into memory.
    """
    check_memory(len(index), spec)
    clips = (index.clip(i) for i in range(len(index)))
    sources = ((clip.path, clip.start, clip.stop) for clip in clips)
    kept, waveforms, problems = [], [], list(index.problems)
    for i, decoded in decode_many(sources, spec, workers or decoding_threads()):
        on_clip()
        clip_id = str(index.clip_ids[i])
        if isinstance(decoded, AudioError):
            problems.append(Problem(clip_id, decoded.reason, str(decoded)))
            continue
        if is_silent(decoded):
            path = index.clip(i).path
            problems.append(
                Problem(clip_id, "silent", f"{path}: silent; used as it is, check the recording", fatal=False)
            )
        kept.append(i)
        waveforms.append(decoded if whole else decoded[: spec.samples].copy())  # a view would keep the whole recording
    if not kept:
        first = f" (first: {problems[0].message})" if problems else ""
        raise InputError(f"{index.root}: none of {sum(index.listed.values())} listed clips can be used{first}")
    usable = index.take(np.asarray(kept))
    return WaveformStore(usable, spec, DecodedWaveforms(waveforms), tuple(problems), standin_marker(index.root))


def stream_waveforms(index: ClipIndex, spec: AudioSpec) -> WaveformStore:
    """The corpus as it lies on disk, decoded anew in every epoch; nothing is read yet.

    A clip that turns out to be unusable weighs nothing in its batch and is reported with the run.
    """
    if not len(index):
        raise InputError(f"{index.root}: none of {sum(index.listed.values())} listed clips has a file")
    return WaveformStore(index, spec, FileWaveforms(index, spec), index.problems, standin_marker(index.root))


def check_memory(clips: int, spec: AudioSpec) -> None:
    """InputError if the waveforms of so many clips do not fit into the memory that is free."""
    needed, available = clips * spec.samples * FLOAT32_BYTES, available_memory_bytes()
    if available is not None and needed > available:
        raise InputError(
            f"{clips} clips of {spec.seconds:.1f} s need {needed / 2**30:.1f} GiB of memory as waveforms, "
            f"{available / 2**30:.1f} GiB are free: use --stream, fewer clips or a larger machine"
        )


def fits_in_memory(clips: int, spec: AudioSpec, processes: int) -> bool:
    """Whether `processes` on this machine may each hold the waveforms and leave half of the free memory alone."""
    available = available_memory_bytes()
    return available is None or 2 * processes * clips * spec.samples * FLOAT32_BYTES < available


def available_memory_bytes() -> int | None:
    """Memory that can be had without swapping, the file cache included; None where the system does not say.

    Inside a container or a scheduler's job it is that of the job.
    """
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        return None
    sizes_kib = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    available = int(sizes_kib["MemAvailable"].split()[0]) * 1024
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.exists() and (most := limit.read_text().strip()) != "max":
        available = min(available, max(0, int(most) - int(used.read_text())))
    return available


# --- who reads what -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Share:
    """What one of several processes does of every batch.

    Args:
        rank, world_size: process `rank` of `world_size`.
        micro_batch: clips that the device takes at once, None for its whole share: with fewer, gradients accumulate
            and the global batch stays what the recipe says.
    """

    rank: int = 0
    world_size: int = 1
    micro_batch: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world_size:
            raise ValueError(f"need 0 <= rank < world_size, not {self}")
        if self.micro_batch is not None and self.micro_batch < 1:
            raise ValueError(f"micro_batch must be at least 1, not {self.micro_batch}")

    def of(self, total: int) -> range:
        """Its stretch of `total` items: all processes together cover each once, and differ by one item at most."""
        return range(total * self.rank // self.world_size, total * (self.rank + 1) // self.world_size)

    def micro_batches(self, total: int) -> list[range]:
        """Its stretch of a batch of `total` clips, in pieces. Where it has none, one empty piece."""
        own = self.of(total)
        size = self.micro_batch or max(1, len(own))
        return [own[i : i + size] for i in range(0, len(own), size)] or [range(0)]


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
    shifts: torch.Tensor


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
    shifts: torch.Tensor
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
    share: Share = Share(),
    first_step: int = 0,
    workers: int = 0,
) -> Iterator[Batch]:
    """One epoch in AST's order: crop -> mixup -> log-mel -> SpecAugment -> normalise -> roll.

    Args:
        first_step: the steps before it are skipped, for an epoch that was interrupted.
        workers: processes that read and mix ahead; 0 does it here.
    """
    pieces = _Pieces(store, recipe, seed, epoch, share, first_step)
    for piece in _read_ahead(pieces.read, len(pieces.places), device, workers):
        yield _to_batch(piece, store.spec, recipe, device)


def _read_ahead(read: Callable[[int], T], items: int, device: str | torch.device, workers: int) -> Iterator[T]:
    """read(0), read(1), ... by `workers` processes ahead, or here with none; page-locked on their way to a GPU."""
    loader = DataLoader(
        _Items(read, items),
        batch_size=None,
        num_workers=workers,
        collate_fn=_as_it_is,  # the default one makes tensors of arrays
        prefetch_factor=2 if workers else None,
        pin_memory=torch.device(device).type == "cuda",
        worker_init_fn=_serve_quietly,
        generator=torch.Generator(),  # without one it draws a seed from the global generator, which is the models'
    )
    for item in loader:
        if isinstance(item, InputError):
            raise item
        yield item


def _as_it_is(item: T) -> T:
    return item


def _serve_quietly(worker: int) -> None:
    torch.set_num_threads(1)  # there are as many workers as cores
    # Schedulers and terminals signal whole process groups. Whether to stop is the training process' to decide: it must
    # have its clips until its checkpoint is written, and workers end with it.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


class _Items(Dataset[T | InputError]):
    """An InputError is handed over as an item: raised in a worker, its line would arrive as a traceback of many."""

    def __init__(self, read: Callable[[int], T], items: int) -> None:
        self.read, self.items = read, items

    def __len__(self) -> int:
        return self.items

    def __getitem__(self, number: int) -> T | InputError:
        try:
            return self.read(number)
        except InputError as error:
            return error


class _Pieces:
    """The pieces of an epoch that fall to one process, by number."""

    def __init__(
        self, store: WaveformStore, recipe: Recipe, seed: int, epoch: int, share: Share, first_step: int
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
        draw_shifts(clips, recipe.roll, generator),
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
        draws.shifts[taken],
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
    return fit(waveform, store.spec, int(place * (room + 1)))


def _to_batch(piece: _Piece, spec: AudioSpec, recipe: Recipe, device: str | torch.device) -> Batch:
    spectrograms = log_mel(piece.waveforms.to(device, non_blocking=True), piece.lengths, spec)
    spectrograms = normalise(mask_log_mels(spectrograms, piece.freq_spans, piece.time_spans), spec)
    if recipe.roll:
        spectrograms = roll_time(spectrograms, piece.shifts)
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
    share: Share = Share(),
    workers: int = 0,
) -> Iterator[EvaluationBatch]:
    """Every clip of the process' share once, in order, without augmentation.

    Args:
        crops: of a clip longer than the input, evenly spaced from its start to its end; 1 takes the start.
    """
    own = share.of(len(store))
    chunks = [own[i : i + batch_size] for i in range(0, len(own), batch_size)]
    reader = _Chunks(store, crops, chunks)
    for waveforms, lengths, positions, counts, problems in _read_ahead(reader.read, len(chunks), device, workers):
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
            pieces += [fit(waveform, spec, int(offset)) for offset in offsets]
            positions.append(position)
            counts.append(len(offsets))
        waveforms, lengths = stack_waveforms(pieces or [np.zeros(1, np.float32)])
        return waveforms, lengths, np.asarray(positions, np.int64), np.asarray(counts, np.int64), problems

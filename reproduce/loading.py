"""From a clip index to batches: decode once into memory, then augment and compute log-mels batch by batch.

For corpora whose waveforms fit into memory. Every epoch draws from generators seeded by (seed, epoch) alone, so an
epoch is the same whatever was run before it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reproduce.audio import decode_many, fit, is_silent, log_mel, normalise, stack_waveforms
from reproduce.audio_errors import AudioError
from reproduce.audio_spec import AudioSpec
from reproduce.augment import mixup_waveforms, roll_time, spec_augment
from reproduce.datasets import ClipIndex, Problem
from reproduce.errors import InputError
from reproduce.experiments import Recipe
from reproduce.standin import standin_marker

FLOAT32_BYTES = 4


@dataclass(frozen=True)
class Batch:
    """Inputs (batch, 1, mels, frames), normalised; soft targets {head: (batch, classes)}; positions in the store."""

    inputs: torch.Tensor
    targets: dict[str, torch.Tensor]
    positions: np.ndarray


@dataclass(frozen=True)
class WaveformStore:
    """Decoded clips: `index` holds exactly those that decoded, `problems` everything met on the way.

    `standin` is the `standin_marker` of a corpus that was synthesised, None for any other.
    """

    index: ClipIndex
    spec: AudioSpec
    waveforms: tuple[np.ndarray, ...]
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
        waveforms = tuple(self.waveforms[i] for i in positions)
        return replace(self, index=self.index.take(positions), waveforms=waveforms)

    def _stack(self, positions: np.ndarray, device: str) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
        waveforms, lengths = stack_waveforms([self.waveforms[i] for i in positions])
        targets = {
            head: torch.from_numpy(self.index.targets(head, positions)).to(device) for head in self.index.classes
        }
        return waveforms.to(device), lengths, targets


def load_waveforms(
    index: ClipIndex,
    spec: AudioSpec,
    on_clip: Callable[[], object] = lambda: None,
    workers: int | None = None,
) -> WaveformStore:
    """Decode every clip of `index` once. A clip that cannot be used is left out and reported, never fatal to the rest.

    Args:
        index: what to decode.
        spec: front end; clips longer than it are cut to their first `spec.samples`.
        on_clip: called after every clip, for a progress bar.
        workers: decoding threads, by default one a core.

    Raises:
        InputError: no clip could be used, or the waveforms would not fit into memory.
    """
    check_memory(len(index), spec)
    clips = (index.clip(i) for i in range(len(index)))
    sources = ((clip.path, clip.start, clip.stop) for clip in clips)
    kept, waveforms, problems = [], [], list(index.problems)
    for i, decoded in decode_many(sources, spec, workers or os.cpu_count() or 1):
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
        waveforms.append(fit(decoded, spec).copy())  # a view would keep the whole recording
    if not kept:
        first = f" (first: {problems[0].message})" if problems else ""
        raise InputError(f"{index.root}: none of {sum(index.listed.values())} listed clips can be used{first}")
    usable = index.take(np.asarray(kept))
    return WaveformStore(usable, spec, tuple(waveforms), tuple(problems), standin_marker(index.root))


def check_memory(clips: int, spec: AudioSpec) -> None:
    """InputError if the waveforms of so many clips do not fit into the memory that is free."""
    needed, available = clips * spec.samples * FLOAT32_BYTES, available_memory_bytes()
    if available is not None and needed > available:
        raise InputError(
            f"{clips} clips of {spec.seconds:.1f} s need {needed / 2**30:.1f} GiB of memory as waveforms, "
            f"{available / 2**30:.1f} GiB are free: use fewer clips or a larger machine"
        )


def available_memory_bytes() -> int | None:
    """Memory that can be had without swapping, the file cache included; None where the system does not say."""
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        return None
    sizes_kib = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    return int(sizes_kib["MemAvailable"].split()[0]) * 1024


def training_batches(store: WaveformStore, recipe: Recipe, seed: int, epoch: int, device: str) -> Iterator[Batch]:
    """One epoch, each clip once, in AST's order: mixup -> log-mel -> SpecAugment -> normalise -> roll."""
    rng = np.random.default_rng((seed, epoch))
    generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
    order = rng.permutation(len(store))
    for first in range(0, len(order), recipe.batch_size):
        positions = order[first : first + recipe.batch_size]
        waveforms, lengths, targets = store._stack(positions, device)
        if recipe.mixup:
            partners, _, partner_targets = store._stack(rng.integers(len(store), size=len(positions)), device)
            waveforms, targets = mixup_waveforms(
                waveforms, lengths, targets, partners, partner_targets, recipe.mixup, rng
            )
        spectrograms = log_mel(waveforms, lengths, store.spec)
        spectrograms = spec_augment(spectrograms, recipe.freq_mask, recipe.time_mask, generator)
        spectrograms = normalise(spectrograms, store.spec)
        if recipe.roll:
            spectrograms = roll_time(spectrograms, recipe.roll, generator)
        yield Batch(spectrograms, targets, positions)


def evaluation_batches(store: WaveformStore, batch_size: int, device: str) -> Iterator[Batch]:
    """Every clip once, in order, without augmentation."""
    for first in range(0, len(store), batch_size):
        positions = np.arange(first, min(first + batch_size, len(store)))
        waveforms, lengths, targets = store._stack(positions, device)
        yield Batch(normalise(log_mel(waveforms, lengths, store.spec), store.spec), targets, positions)

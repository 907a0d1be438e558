"""Mean and standard deviation of a corpus's log-mels, which `audio.normalise` takes: by AST's rule and by a plain one.

- `ast` is what YuanGongND/ast `src/get_norm_stats.py` computes: with the training augmentation on (waveform mixup 0.5,
  SpecAugment 24/192) and the padding included, the means and the (n - 1) standard deviations of batches of 1000 clips,
  averaged. Padding and masks are 0 in log-mel units, a loud constant, so they pull the mean up.
- `plain` is the mean and the standard deviation over every cell that is sound: no augmentation, no padding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from reproduce.audio.augment import draw_mixup, draw_spans, mask_log_mels, mix_waveforms
from reproduce.audio.errors import AudioError
from reproduce.audio.log_mel import log_mel, stack_waveforms
from reproduce.audio.spec import AudioSpec
from reproduce.audio.waveforms import decode_many
from reproduce.datasets.index import ClipIndex
from reproduce.datasets.registry import DatasetSpec
from reproduce.datasets.standin_marker import standin_marker
from reproduce.errors import InputError
from reproduce.machine import decoding_threads

AST_BATCH = 1000
AST_MIXUP = 0.5
AST_FREQ_MASK, AST_TIME_MASK = 24, 192  # exclusive bounds, in mels and frames of 128 x 1024
MAX_FRAMES = 1024
_CHUNK = 32  # clips decoded and transformed at once


@dataclass(frozen=True)
class Moments:
    """Count, mean and sum of squared deviations of numbers seen so far; `+` merges two (Chan, Golub & LeVeque 1979)."""

    n: int = 0
    mean: float = 0.0
    m2: float = 0.0

    @classmethod
    def of(cls, values: torch.Tensor) -> Moments:
        if not values.numel():
            return cls()
        values = values.double()
        mean = values.mean()
        return cls(values.numel(), float(mean), float((values - mean).square().sum()))

    def __add__(self, other: Moments) -> Moments:
        n = self.n + other.n
        if not n:
            return self
        delta = other.mean - self.mean
        mean = self.mean + delta * other.n / n
        return Moments(n, mean, self.m2 + other.m2 + delta * delta * self.n * other.n / n)

    def std(self, ddof: int) -> float:
        """NaN where there are too few numbers."""
        return (self.m2 / (self.n - ddof)) ** 0.5 if self.n > ddof else float("nan")


@dataclass(frozen=True)
class NormStats:
    """Log-mel mean and standard deviation by one rule, and over how many cells."""

    mean: float
    std: float
    cells: int


@dataclass(frozen=True)
class CorpusStats:
    """Statistics by both rules, and what they were taken from."""

    ast: NormStats
    plain: NormStats
    clips: int
    unusable: int


def training_clips(index: ClipIndex, spec: DatasetSpec, clips: int | None, seed: int) -> ClipIndex:
    """The training clips, or all where the corpus is cross-validated; at random `clips` of them if given.

    Raises:
        InputError: a sample of no clip.
    """
    splits = [split for split in spec.train_splits if split in index.split_names()]
    chosen = index.where_split(*splits) if splits else index
    if clips is None or clips >= len(chosen):
        return chosen
    if clips < 1:
        raise InputError(f"--clips {clips}: give at least 1")
    sample = np.random.default_rng(seed).choice(len(chosen), clips, replace=False, shuffle=False)
    return chosen.take(np.sort(sample))


def stats_spec(clip_seconds: float) -> AudioSpec:
    """AST's front end with frames for a usual clip: the next power of two, so 512 for ESC-50 and 1024 for 10 s."""
    frames = AudioSpec().frames_of(round(clip_seconds * AudioSpec().sample_rate))
    return AudioSpec(frames=min(MAX_FRAMES, 1 << max(0, frames - 1).bit_length()))


def measure_stats(
    index: ClipIndex,
    spec: AudioSpec,
    seed: int = 0,
    workers: int | None = None,
    on_clip: Callable[[], object] = lambda: None,
) -> CorpusStats:
    """Both rules in one pass over the clips of `index`; longer clips count with their first `spec.frames`.

    Mixup partners are drawn from all clips, as in training, and decoded anew, so this decodes twice as many.
    A partner that cannot be used leaves its clip unmixed.

    Args:
        seed: of mixup and SpecAugment; the plain rule does not depend on it.
        on_clip: called after every clip, for a progress bar.

    Raises:
        InputError: no clip can be used.
    """
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
    workers = workers or decoding_threads()
    plain, batch, batches, usable = Moments(), Moments(), [], 0
    in_batch = 0
    for own, partners in _decoded_pairs(index, spec, rng, workers, on_clip):
        waveforms, lengths = stack_waveforms(own)
        log_mels = log_mel(waveforms, lengths, spec)
        plain += Moments.of(_sounding_cells(log_mels, lengths, spec))
        augmented = _augmented(waveforms, lengths, partners, spec, rng, generator)
        # A chunk may reach over the end of one of AST's batches into the next.
        for part in torch.split(augmented, _split_at(AST_BATCH - in_batch, len(own))):
            batch, in_batch = batch + Moments.of(part), in_batch + len(part)
            if in_batch == AST_BATCH:
                batches.append(batch)
                batch, in_batch = Moments(), 0
        usable += len(own)
    if in_batch:
        batches.append(batch)
    if not usable:
        raise InputError(f"{index.root}: none of {len(index)} clips can be used; `data audit` says why")
    return CorpusStats(
        ast=NormStats(
            float(np.mean([b.mean for b in batches])),
            float(np.mean([b.std(ddof=1) for b in batches])),
            sum(b.n for b in batches),
        ),
        plain=NormStats(plain.mean, plain.std(ddof=0), plain.n),
        clips=usable,
        unusable=len(index) - usable,
    )


def _split_at(first: int, total: int) -> list[int]:
    """Sizes of the pieces of `total` clips, the first of at most `first`."""
    return [size for size in (min(first, total), total - first) if size > 0]


def _decoded_pairs(
    index: ClipIndex, spec: AudioSpec, rng: np.random.Generator, workers: int, on_clip: Callable[[], object]
) -> Iterator[tuple[list[np.ndarray], list[np.ndarray]]]:
    """Chunks of usable clips, and for each its mixup partner, both cut to the front end's length."""
    for first in range(0, len(index), _CHUNK):
        positions = np.arange(first, min(first + _CHUNK, len(index)))
        drawn = rng.integers(len(index), size=len(positions))
        clips = [index.clip(int(i)) for i in np.concatenate([positions, drawn])]
        decoded = list(decode_many([(c.path, c.start, c.stop) for c in clips], spec, workers, spec.samples))
        own, partners = [], []
        for waveform, partner in zip(decoded[: len(positions)], decoded[len(positions) :], strict=True):
            on_clip()
            if isinstance(waveform, AudioError):
                continue
            own.append(waveform.waveform)
            partners.append(own[-1] if isinstance(partner, AudioError) else partner.waveform)
        if own:
            yield own, partners


def _augmented(
    waveforms: torch.Tensor,
    lengths: torch.Tensor,
    partners: list[np.ndarray],
    spec: AudioSpec,
    rng: np.random.Generator,
    generator: torch.Generator,
) -> torch.Tensor:
    """Log-mels as AST trains on them, before normalisation: (batch, 1, mels, frames)."""
    no_targets = torch.zeros(len(waveforms), 0)
    shares = draw_mixup(len(waveforms), AST_MIXUP, rng)
    mixed, _ = mix_waveforms(waveforms, lengths, no_targets, stack_waveforms(partners)[0], no_targets, shares)
    freq_spans = draw_spans(len(mixed), spec.mels, min(AST_FREQ_MASK, spec.mels), generator)
    time_spans = draw_spans(len(mixed), spec.frames, min(AST_TIME_MASK, spec.frames), generator)
    return mask_log_mels(log_mel(mixed, lengths, spec), freq_spans, time_spans)


def _sounding_cells(log_mels: torch.Tensor, lengths: torch.Tensor, spec: AudioSpec) -> torch.Tensor:
    """(cells,) of the frames that a clip fills itself."""
    frames = torch.tensor([spec.frames_of(int(n)) for n in lengths]).view(-1, 1, 1, 1)
    own = torch.arange(spec.frames) < frames  # (batch, 1, 1, frames)
    return log_mels[own.expand_as(log_mels)]


def describe_stats(stats: CorpusStats, index: ClipIndex, spec: DatasetSpec, seed: int) -> dict[str, Any]:
    """JSON-ready: the statistics, what they were measured on, and the published ones."""
    return {
        "dataset": index.dataset,
        "protocol": index.variant,
        "standin": standin_marker(index.root),
        "splits": list(index.split_names()),
        "clips": stats.clips,
        "unusable": stats.unusable,
        "ids_sha256": index.ids_sha256(),
        "seed": seed,
        "front_end": _measured_front_end(stats_spec(spec.clip_seconds)),
        "ast": asdict(stats.ast),
        "plain": asdict(stats.plain),
        "published": {"mean": spec.mean, "std": spec.std, "source": spec.stats_source},
    }


def _measured_front_end(spec: AudioSpec) -> dict[str, Any]:
    """Without the statistics that a spec holds as well: these are what is being measured."""
    return {name: value for name, value in spec.to_dict().items() if name not in ("mean", "std")}


def stats_text(described: Mapping[str, Any]) -> str:
    """What `describe_stats` says, as a small table."""
    clips = f"{described['clips']} clips of {', '.join(described['splits'])}"
    variant = f" ({described['protocol']})" if described["protocol"] else ""
    standin = ", synthetic STAND-IN" if described["standin"] else ""
    lines = [
        f"{described['dataset']}{variant}{standin}: {clips}, {described['unusable']} unusable; "
        f"{described['front_end']['frames']} frames",
        f"{'rule':<12}{'mean':>10}{'std':>10}",
    ]
    for rule, about in (
        ("ast", "augmented and padded, mean over batches"),
        ("plain", "every cell of sound"),
        ("published", described["published"]["source"]),
    ):
        lines.append(f"{rule:<12}{described[rule]['mean']:>10.4f}{described[rule]['std']:>10.4f}  {about}")
    return "\n".join(lines)

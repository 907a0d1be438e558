"""Mean and standard deviation of a corpus' log-mels, which `normalise` takes: by AST's rule and by a plain one.

- `ast` is what YuanGongND/ast `src/get_norm_stats.py` computes: with the training augmentation on (waveform mixup 0.5,
  SpecAugment 24/192) and the padding included, the means and the (n - 1) standard deviations of batches of 1000 clips,
  averaged. Padding and masks are 0 in log-mel units, a loud constant, so they increase the mean.
- `plain` is the mean and the standard deviation over all frames of sound: no augmentation, no padding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from reproduce.audio.augment import draw_mixup, draw_spans, mask_log_mels, mix_waveforms
from reproduce.audio.log_mel import log_mel, stack_waveforms
from reproduce.audio.spec import AudioSpec
from reproduce.data.waveform_store import stream_waveforms, trimmed
from reproduce.datasets.index import ClipIndex, Problem
from reproduce.datasets.registry import DatasetSpec
from reproduce.datasets.standin_marker import standin_marker
from reproduce.errors import InputError
from reproduce.machine import decoding_threads
from reproduce.pool import ordered_map

MAX_FRAMES = 1024


@dataclass(frozen=True, kw_only=True)
class AstRule:
    """The settings of AST's rule; the defaults are those of its script.

    Args:
        batch: clips over which a mean and a deviation are taken.
        mixup: probability of mixing a clip.
        freq_mask: SpecAugment's exclusive bound, in mels of 128.
        time_mask: SpecAugment's exclusive bound, in frames of 1024.
    """

    batch: int = 1000
    mixup: float = 0.5
    freq_mask: int = 24
    time_mask: int = 192


@dataclass(frozen=True)
class Moments:
    """Count, mean and sum of squared deviations of numbers; `+` merges two sets (Chan, Golub & LeVeque 1979)."""

    n: int = 0
    mean: float = 0.0
    m2: float = 0.0

    @classmethod
    def of(cls, values: torch.Tensor) -> Moments:
        """The moments of all elements of `values`."""
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
        """Standard deviation with divisor n - `ddof`; NaN where that is not positive."""
        return (self.m2 / (self.n - ddof)) ** 0.5 if self.n > ddof else float("nan")


@dataclass(frozen=True)
class NormStats:
    """Log-mel mean and standard deviation by one rule, and the number of cells they are taken over."""

    mean: float
    std: float
    cells: int


@dataclass(frozen=True)
class CorpusStats:
    """The statistics by both rules, over `clips` clips; `unusable` more could not be decoded."""

    ast: NormStats
    plain: NormStats
    clips: int
    unusable: int


def training_clips(index: ClipIndex, spec: DatasetSpec, clips: int | None, seed: int) -> ClipIndex:
    """The training clips, or all clips where the corpus is cross-validated; `clips` of them at random if given.

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


@dataclass(frozen=True, kw_only=True)
class StatsOptions:
    """How the statistics are measured.

    Args:
        seed: of mixup and SpecAugment; the plain rule does not depend on it.
        workers: decoding threads; None takes two per core.
        rule: settings of AST's rule.
        chunk: clips that are decoded and transformed at once.
    """

    seed: int = 0
    workers: int | None = None
    rule: AstRule = AstRule()
    chunk: int = 32


def measure_stats(
    index: ClipIndex,
    spec: AudioSpec,
    options: StatsOptions = StatsOptions(),
    on_clip: Callable[[], object] = lambda: None,
) -> CorpusStats:
    """Measure both rules in one pass over the clips of `index`; of longer clips the first `spec.frames` count.

    Mixup partners are drawn from all clips, as in training, and decoded again, so twice as many clips are decoded. A
    partner that cannot be used leaves its clip unmixed.

    Args:
        index: the clips.
        spec: front end.
        options: seed, threads and rule.
        on_clip: called after every clip, for a progress bar.

    Raises:
        InputError: no clip can be used.
    """
    rng = np.random.default_rng(options.seed)
    augment = _AstAugmentation(options.rule, rng, torch.Generator().manual_seed(int(rng.integers(2**63))))
    batch_size = options.rule.batch
    plain, batch, batches, usable = Moments(), Moments(), [], 0
    in_batch = 0
    for clips, partners in _decoded_pairs(index, spec, options, rng, on_clip):
        waveforms, lengths = stack_waveforms(clips)
        plain += Moments.of(sound_cells(log_mel(waveforms, lengths, spec), lengths, spec))
        augmented = augment(waveforms, lengths, partners, spec)
        # A chunk may extend over the end of one of AST's batches into the next.
        for part in augmented.split(_split_sizes(batch_size - in_batch, batch_size, len(clips))):
            batch, in_batch = batch + Moments.of(part), in_batch + len(part)
            if in_batch == batch_size:
                batches.append(batch)
                batch, in_batch = Moments(), 0
        usable += len(clips)
    if in_batch:
        batches.append(batch)
    if not usable:
        raise InputError(f"{index.root}: none of {len(index)} clips can be used; `data audit` lists the reasons")
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


def _split_sizes(first: int, batch: int, total: int) -> list[int]:
    """Sizes of the parts of `total` clips at the ends of batches, of which the current one lacks `first` clips."""
    ends = [*range(first, total, batch), total]
    return [end - begin for begin, end in zip([0, *ends], ends, strict=False)]


def _decoded_pairs(
    index: ClipIndex,
    spec: AudioSpec,
    options: StatsOptions,
    rng: np.random.Generator,
    on_clip: Callable[[], object],
) -> Iterator[tuple[list[np.ndarray], list[np.ndarray]]]:
    """Chunks of usable clips and, for each clip, its mixup partner, both trimmed to the front end's length."""
    store = stream_waveforms(index, spec)

    def read(position: np.int64) -> np.ndarray | None:
        waveform = store.read(int(position))
        return None if isinstance(waveform, Problem) else trimmed(waveform, spec, whole=False)

    for first in range(0, len(index), options.chunk):
        positions = np.arange(first, min(first + options.chunk, len(index)))
        drawn = rng.integers(len(index), size=len(positions))
        threads = options.workers or decoding_threads()
        decoded = list(ordered_map(read, np.concatenate([positions, drawn]), threads))
        clips, partners = [], []
        for waveform, partner in zip(decoded[: len(positions)], decoded[len(positions) :], strict=True):
            on_clip()
            if waveform is not None:
                clips.append(waveform)
                partners.append(waveform if partner is None else partner)
        if clips:
            yield clips, partners


@dataclass(frozen=True)
class _AstAugmentation:
    """Mixup and SpecAugment of AST's rule, and the generators that they draw from."""

    rule: AstRule
    rng: np.random.Generator
    generator: torch.Generator

    def __call__(
        self, waveforms: torch.Tensor, lengths: torch.Tensor, partners: list[np.ndarray], spec: AudioSpec
    ) -> torch.Tensor:
        """Log-mels as AST trains on them, before normalisation: (batch, 1, mels, frames)."""
        clips, rule = len(waveforms), self.rule
        no_targets = torch.zeros(clips, 0)
        weights = draw_mixup(clips, rule.mixup, self.rng)
        mixed, _ = mix_waveforms(waveforms, lengths, no_targets, stack_waveforms(partners)[0], no_targets, weights)
        freq_spans = draw_spans(clips, spec.mels, min(rule.freq_mask, spec.mels), self.generator)
        time_spans = draw_spans(clips, spec.frames, min(rule.time_mask, spec.frames), self.generator)
        return mask_log_mels(log_mel(mixed, lengths, spec), freq_spans, time_spans)


def sound_cells(log_mels: torch.Tensor, lengths: torch.Tensor, spec: AudioSpec) -> torch.Tensor:
    """The (cells,) of (batch, 1, mels, frames) that are no padding."""
    frames = torch.tensor([spec.frames_of(int(n)) for n in lengths]).view(-1, 1, 1, 1)
    is_sound = torch.arange(spec.frames) < frames  # (batch, 1, 1, frames)
    return log_mels[is_sound.expand_as(log_mels)]


def describe_stats(stats: CorpusStats, index: ClipIndex, spec: DatasetSpec, seed: int) -> dict[str, Any]:
    """JSON-ready: the statistics, the clips they were measured on, and the published ones."""
    front_end = stats_spec(spec.clip_seconds).to_dict()
    return {
        "dataset": index.dataset,
        "protocol": index.variant,
        "standin": standin_marker(index.root),
        "splits": list(index.split_names()),
        "clips": stats.clips,
        "unusable": stats.unusable,
        "ids_sha256": index.ids_sha256(),
        "seed": seed,
        # A front end holds statistics too; these are what is measured.
        "front_end": {name: value for name, value in front_end.items() if name not in ("mean", "std")},
        "ast": asdict(stats.ast),
        "plain": asdict(stats.plain),
        "published": {"mean": spec.mean, "std": spec.std, "source": spec.stats_source},
    }


def stats_text(described: Mapping[str, Any]) -> str:
    """The result of `describe_stats` as a small table."""
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
        ("plain", "all frames of sound"),
        ("published", described["published"]["source"]),
    ):
        lines.append(f"{rule:<12}{described[rule]['mean']:>10.4f}{described[rule]['std']:>10.4f}  {about}")
    return "\n".join(lines)

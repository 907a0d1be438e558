"""Compare both implementations of the front end on a corpus' own clips."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch

from reproduce.audio.log_mel import log_mel
from reproduce.audio.spec import BATCHED, TORCHAUDIO, AudioSpec
from reproduce.data.waveform_store import stream_waveforms, trimmed
from reproduce.datasets.index import ClipIndex, Problem
from reproduce.errors import InputError, displayable
from reproduce.machine import decoding_threads
from reproduce.pool import ordered_map

TOLERANCE = 1e-4  # in log-mel units; a corpus' standard deviation is about 5


@dataclass(frozen=True, kw_only=True)
class FrontEndCheck:
    """How far the log-mels of both implementations lie apart.

    Args:
        dataset: registered name.
        clips: clips that were compared.
        unusable: clips that could not be decoded.
        mels: of the front end.
        frames: of the front end.
        largest: largest absolute difference of any cell, in log-mel units.
        worst: id of the clip where it occurs.
    """

    dataset: str
    clips: int
    unusable: int
    mels: int
    frames: int
    largest: float
    worst: str

    @property
    def passed(self) -> bool:
        """Whether the implementations agree within the tolerance."""
        return self.largest <= TOLERANCE

    def to_dict(self) -> dict[str, str | int | float | bool]:
        """JSON values."""
        return {**asdict(self), "tolerance": TOLERANCE, "passed": self.passed}

    def text(self) -> str:
        """One line."""
        verdict = f"equal within {TOLERANCE:g}" if self.passed else f"NOT equal within {TOLERANCE:g}"
        return (
            f"{self.dataset}: log-mels ({self.mels} x {self.frames}) of the batched front end and of torchaudio's "
            f"differ by at most {self.largest:.1e} over {self.clips} clips, {self.unusable} unusable ({verdict}; "
            f"largest in {displayable(self.worst)})"
        )


def check_front_ends(
    index: ClipIndex,
    spec: AudioSpec,
    workers: int | None = None,
    on_clip: Callable[[], object] = lambda: None,
) -> FrontEndCheck:
    """Compute every clip's log-mels by both implementations; of longer clips the first `spec.frames` count.

    Args:
        index: the clips.
        spec: front end; its `implementation` is ignored.
        workers: decoding threads; None takes two per core.
        on_clip: called after every clip, for a progress bar.

    Raises:
        InputError: no clip can be used, or torchaudio cannot be imported.
    """
    store = stream_waveforms(index, spec)
    first, second = (replace(spec, implementation=name) for name in (BATCHED, TORCHAUDIO))
    clips, largest, worst = 0, -1.0, ""

    def read(position: int) -> np.ndarray | None:
        waveform = store.read(position)
        return None if isinstance(waveform, Problem) else trimmed(waveform, spec, whole=False)

    decoded = ordered_map(read, range(len(index)), workers or decoding_threads())
    for clip_id, waveform in zip(index.clip_ids, decoded, strict=True):
        on_clip()
        if waveform is not None:
            samples = torch.from_numpy(waveform)[None]
            difference = float((log_mel(samples, None, first) - log_mel(samples, None, second)).abs().max())
            clips += 1
            if difference > largest:
                largest, worst = difference, clip_id
    if not clips:
        raise InputError(f"{index.root}: none of {len(index)} clips can be used; `data audit` lists the reasons")
    return FrontEndCheck(
        dataset=index.dataset,
        clips=clips,
        unusable=len(index) - clips,
        mels=spec.mels,
        frames=spec.frames,
        largest=largest,
        worst=worst,
    )

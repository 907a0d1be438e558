"""The parameters of the front end, without torch, so that experiments and reports can use them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from numbers import Integral, Real
from typing import Any

MILLISECOND = 0.001  # seconds
# Log-mel means and deviations that AST normalises with (YuanGongND/ast egs/*/run*.sh).
AUDIOSET_MEAN, AUDIOSET_STD = -4.2677393, 4.5689974
ESC50_MEAN, ESC50_STD = -6.6268077, 5.358466
BATCHED, TORCHAUDIO = "batched", "torchaudio"
FRONT_ENDS = (BATCHED, TORCHAUDIO)
MOST_CELLS = 1 << 26  # frames times samples per transform, 256 MiB: five times those of a minute of 48 kHz


@dataclass(frozen=True)
class AudioSpec:
    """Parameters of a log-mel spectrogram. Defaults are AST's for AudioSet.

    Args:
        sample_rate: Hz.
        mels: mel filters, i.e. the model's frequency axis.
        frames: the model's time axis; longer clips are cut, shorter ones padded.
        frame_length_ms: analysis window.
        frame_shift_ms: hop between windows.
        low_hz: lower edge of the mel filter bank.
        high_hz: upper edge of the mel filter bank; 0 means Nyquist.
        preemphasis: coefficient of the first-order high-pass applied within each frame.
        mean: of the log-mels; `normalise` computes (x - mean) / (2 * std).
        std: standard deviation of the log-mels.
        pad: always "zero": `log_mel` pads short clips with PADDING_LOG_MEL frames. Stored front ends carry it.
        implementation: "batched", this project's, or "torchaudio", `torchaudio.compliance.kaldi.fbank` clip by clip.
            A stored front end lacks it at its default, as those of earlier versions do.

    Raises:
        ValueError: a field is out of range.
    """

    sample_rate: int = 16_000
    mels: int = 128
    frames: int = 1024
    frame_length_ms: float = 25.0
    frame_shift_ms: float = 10.0
    low_hz: float = 20.0
    high_hz: float = 0.0
    preemphasis: float = 0.97
    mean: float = AUDIOSET_MEAN
    std: float = AUDIOSET_STD
    pad: str = "zero"
    implementation: str = field(default=BATCHED, metadata={"later": True})  # as `experiments.recipe.later`

    def __post_init__(self) -> None:
        kinds = {"int": (Integral, "a whole number"), "float": (Real, "a number"), "str": (str, "a text")}
        for stated in fields(self):
            value, (kind, what) = getattr(self, stated.name), kinds[str(stated.type)]
            if not isinstance(value, kind):
                raise ValueError(f"AudioSpec.{stated.name} must be {what}, not {value!r:.40}")
        for name in ("sample_rate", "mels", "frames", "frame_length_ms", "frame_shift_ms", "std"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"AudioSpec.{name} must be positive and finite, not {getattr(self, name)!r}")
        if not math.isfinite(self.mean):
            raise ValueError(f"AudioSpec.mean must be finite, not {self.mean!r}")
        if self.win_length < 2 or self.hop_length < 1:
            raise ValueError(
                f"AudioSpec: a window of {self.win_length} or a hop of {self.hop_length} samples is too short"
            )
        if self.frames * self.n_fft > MOST_CELLS:
            raise ValueError(
                f"AudioSpec: {self.frames:.3g} frames of {self.n_fft:.3g} samples do not fit: take fewer frames or a "
                "shorter window"
            )
        if not 0 <= self.low_hz < self.top_hz <= self.sample_rate / 2:
            raise ValueError(
                f"AudioSpec: need 0 <= low_hz < high_hz <= {self.sample_rate / 2:g} Hz (Nyquist), "
                f"not {self.low_hz!r} and {self.high_hz!r}"
            )
        if not 0 <= self.preemphasis <= 1:
            raise ValueError(f"AudioSpec.preemphasis must lie in [0, 1], not {self.preemphasis!r}")
        if self.pad != "zero":
            raise ValueError(f"AudioSpec.pad must be 'zero', not {self.pad!r}")
        if self.implementation not in FRONT_ENDS:
            raise ValueError(
                f"AudioSpec.implementation must be one of {', '.join(FRONT_ENDS)}, not {self.implementation!r}"
            )

    @property
    def win_length(self) -> int:
        """Analysis window, samples (400)."""
        return int(self.sample_rate * self.frame_length_ms * MILLISECOND)

    @property
    def hop_length(self) -> int:
        """Frame shift, samples (160)."""
        return int(self.sample_rate * self.frame_shift_ms * MILLISECOND)

    @property
    def n_fft(self) -> int:
        """FFT size, samples (512): the window rounded up to a power of two."""
        return 1 << (self.win_length - 1).bit_length()

    @property
    def top_hz(self) -> float:
        """Upper edge of the mel filter bank, Hz (8000)."""
        return self.high_hz or self.sample_rate / 2

    @property
    def samples(self) -> int:
        """Waveform length that fills all frames, samples (164,080)."""
        return self.win_length + (self.frames - 1) * self.hop_length

    @property
    def seconds(self) -> float:
        """Waveform length that fills all frames, seconds (10.255)."""
        return self.samples / self.sample_rate

    def frames_of(self, samples: int) -> int:
        """Frames of `samples` samples: whole windows only, at most `frames`; 998 for 10 s."""
        return 0 if samples < self.win_length else min(self.frames, 1 + (samples - self.win_length) // self.hop_length)

    def to_dict(self) -> dict[str, Any]:
        """Field -> value, for JSON; without `implementation` at its default, so that stored keys stay the same."""
        values = asdict(self)
        if self.implementation == BATCHED:
            del values["implementation"]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> AudioSpec:
        """Inverse of `to_dict`.

        Raises:
            ValueError: an unknown field, which it names, or one that is out of range.
        """
        unknown = sorted(set(values) - {f.name for f in fields(cls)})
        if unknown:
            raise ValueError(f"AudioSpec has no field {', '.join(unknown)}")
        return cls(**values)

"""The conditions under which trained models are tested again: noise, low-pass, shift, and other lengths. No torch."""

from __future__ import annotations

from dataclasses import dataclass

AS_TRAINED_KIND, NOISE, LOW_PASS, SHIFT, LENGTH = "as trained", "noise", "low-pass", "shift", "length"
TITLES = {
    NOISE: "white noise, SNR (dB)",
    LOW_PASS: "low-pass, cut-off (Hz)",
    SHIFT: "shift in time (s)",
    LENGTH: "clip length (1: as trained)",
}


@dataclass(frozen=True, order=True)
class Condition:
    """What is done to every test clip.

    Args:
        kind: AS_TRAINED_KIND, NOISE, LOW_PASS, SHIFT or LENGTH.
        level: signal-to-noise ratio in dB, cut-off in Hz, seconds to the right (the end comes first then), or clip
            length as a share of the length that the model was trained on; 0 as trained.
    """

    kind: str
    level: float = 0.0

    @property
    def name(self) -> str:
        """Name of its metric in a record: "noise 10 dB"."""
        units = {NOISE: " dB", LOW_PASS: " Hz", SHIFT: " s", LENGTH: " x"}
        return self.kind if self.kind == AS_TRAINED_KIND else f"{self.kind} {self.level:g}{units[self.kind]}"


AS_TRAINED = Condition(AS_TRAINED_KIND)
ROBUSTNESS = (
    AS_TRAINED,
    *(Condition(NOISE, level) for level in (30.0, 20.0, 10.0, 0.0)),
    *(Condition(LOW_PASS, level) for level in (4000.0, 2000.0, 1000.0)),
    *(Condition(SHIFT, level) for level in (0.5, 1.0, 2.0)),
)
TRANSFER = (AS_TRAINED, *(Condition(LENGTH, level) for level in (0.25, 0.5, 0.75, 1.5, 2.0)))
STUDIES = {"robustness": ROBUSTNESS, "transfer": TRANSFER}  # kind of the records -> conditions
NOISE_SEED = 0

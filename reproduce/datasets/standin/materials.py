"""What is excited: objects as banks of damped modes (modal synthesis), sizes and damping drawn per source.

Mode ratios are the textbook ones (Fletcher & Rossing, "The Physics of Musical Instruments"): free bars 1, 2.76, 5.40;
circular membranes 1, 1.59, 2.14; strings and pipes 1, 2, 3. Damping grows with frequency, faster in wood than in
metal, by which a listener recognises materials (Klatzky, Pai & Krotkov 2000).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

SAMPLE_RATE = 16_000  # Hz, the rate of every recipe in the paper
RING_SAMPLES = 20_000  # 1.25 s: longer rings are faded out there
_BAR = (1.0, 2.756, 5.404, 8.933, 13.34)
_PLATE = (1.0, 1.52, 1.94, 2.71, 3.18, 4.02, 4.63, 5.91, 7.34, 8.8, 10.9, 13.1)
_MEMBRANE = (1.0, 1.594, 2.136, 2.296, 2.653, 2.918, 3.156, 3.6)
_SHELL = (1.0, 2.32, 4.25, 6.63, 9.38)  # wine glass, bowl
_TUNED_BAR = (1.0, 3.93, 9.24)  # xylophone bar, undercut so that the second mode is two octaves up
_STRING = tuple(float(k) for k in range(1, 15))


@dataclass(frozen=True, slots=True)
class Material:
    """A family of objects.

    Args:
        fundamental: Hz, range that the fundamental of one object is drawn from (log-uniform).
        ratios: mode frequencies over the fundamental.
        ring: seconds, range of the fundamental's decay time constant.
        damping: mode k decays in ring * ratio_k ** -damping.
        tilt: mode k has the amplitude ratio_k ** -tilt.
        noise: level of the short noise burst of the surface, beside the modes.
        noise_hz: centre of the burst's band, which is about two octaves wide.
        noise_ring: seconds, decay time constant of the burst.
        contact: seconds of contact with the exciter; longer is duller.
    """

    fundamental: tuple[float, float]
    ratios: tuple[float, ...]
    ring: tuple[float, float]
    damping: float
    tilt: float
    noise: float = 0.05
    noise_hz: float = 2500.0
    noise_ring: float = 0.004
    contact: float = 0.0004


MATERIALS: Mapping[str, Material] = MappingProxyType(
    {
        "wood": Material((240, 560), _BAR, (0.02, 0.05), 0.9, 0.5, noise=0.15, noise_hz=900, contact=0.0008),
        "board": Material((110, 240), _PLATE, (0.025, 0.05), 1.0, 0.7, noise=0.2, noise_hz=600, contact=0.0012),
        "metal": Material((420, 950), _PLATE, (0.25, 0.6), 0.25, 0.05, noise=0.05, noise_hz=5000, contact=0.0002),
        "gong": Material((90, 190), _PLATE, (0.4, 0.7), 0.35, 0.5, noise=0.03, noise_hz=1500, contact=0.001),
        "pan": Material((200, 420), _PLATE, (0.12, 0.3), 0.45, 0.25, noise=0.08, noise_hz=2000, contact=0.0004),
        "blade": Material((1500, 2600), _BAR[:3], (0.1, 0.25), 0.2, -0.1, noise=0.1, noise_hz=6000, contact=0.0001),
        "lid": Material((700, 1300), _PLATE[:6], (0.06, 0.14), 0.4, 0.1, noise=0.1, noise_hz=3500, contact=0.0002),
        "glass": Material((1000, 2200), _SHELL, (0.12, 0.35), 0.6, 0.3, noise=0.03, noise_hz=5000, contact=0.0002),
        "ceramic": Material((620, 1150), _SHELL, (0.03, 0.08), 0.6, 0.2, noise=0.08, noise_hz=3000, contact=0.0003),
        "bowl": Material((330, 560), _SHELL, (0.15, 0.4), 0.7, 0.6, noise=0.04, noise_hz=1500, contact=0.0006),
        "skin": Material((75, 170), _MEMBRANE, (0.08, 0.2), 0.7, 0.8, noise=0.1, noise_hz=700, contact=0.002),
        "plastic": Material((480, 900), _MEMBRANE, (0.007, 0.016), 0.5, 0.4, noise=0.3, noise_hz=1800, contact=0.0005),
        "stone": Material((1300, 2500), _BAR[:4], (0.006, 0.014), 0.4, 0.2, noise=0.5, noise_hz=4000, contact=0.0002),
        "paper": Material((2200, 4200), (1.0,), (0.001, 0.002), 0.0, 0.0, noise=1.0, noise_hz=4500, noise_ring=0.003),
        "cardboard": Material((160, 330), _MEMBRANE, (0.008, 0.016), 0.4, 0.8, noise=0.6, noise_hz=800, contact=0.001),
        "foil": Material(
            (4200, 6200), (1.0, 1.21), (0.002, 0.004), 0.0, 0.0, noise=1.0, noise_hz=6500, noise_ring=0.002
        ),
        "water": Material((500, 1100), (1.0, 1.9), (0.012, 0.03), 0.3, 0.8, noise=0.15, noise_hz=1500, contact=0.0005),
        "snow": Material((300, 600), (1.0,), (0.004, 0.008), 0.0, 0.0, noise=1.0, noise_hz=1600, noise_ring=0.012),
        "mud": Material((140, 300), (1.0, 2.2), (0.015, 0.03), 0.5, 0.8, noise=0.6, noise_hz=500, noise_ring=0.02),
        "ball": Material((70, 130), _MEMBRANE[:5], (0.05, 0.09), 0.4, 0.6, noise=0.3, noise_hz=450, contact=0.002),
        "lane": Material((50, 90), _PLATE, (0.03, 0.06), 0.6, 0.5, noise=0.3, noise_hz=250, contact=0.003),
        "pins": Material((550, 1000), _BAR, (0.015, 0.03), 0.5, 0.2, noise=0.3, noise_hz=2500, contact=0.0004),
        "shoe": Material((900, 1500), _BAR[:3], (0.008, 0.015), 0.5, 0.3, noise=0.5, noise_hz=2500, contact=0.0003),
        "pen": Material((2400, 3800), _BAR[:2], (0.004, 0.008), 0.4, 0.2, noise=0.3, noise_hz=4500, contact=0.0002),
        "snare": Material((170, 240), _MEMBRANE[:4], (0.05, 0.08), 0.5, 0.5, noise=0.9, noise_hz=4000, noise_ring=0.05),
        "cymbal": Material((3000, 4200), _PLATE[:5], (0.03, 0.07), 0.1, 0.0, noise=0.8, noise_hz=7000, noise_ring=0.03),
        "engine": Material((90, 160), (1.0, 2.1, 3.3, 4.9, 7.1), (0.015, 0.03), 0.4, 0.5, noise=0.5, noise_hz=900),
        "string": Material((110, 190), _STRING, (0.25, 0.5), 0.6, 0.9, noise=0.02, contact=0.0008),
        "tapped string": Material((260, 400), _STRING[:10], (0.05, 0.1), 0.5, 0.6, noise=0.15, contact=0.0005),
        "bass string": Material((41, 75), _STRING[:10], (0.4, 0.8), 0.7, 1.1, noise=0.01, contact=0.003),
        "piano string": Material((200, 330), _STRING, (0.35, 0.8), 0.4, 1.3, noise=0.06, noise_hz=500, contact=0.001),
        "tine": Material((220, 360), (1.0, 2.0, 4.0, 7.0), (0.2, 0.35), 0.8, 0.6, noise=0.01, contact=0.002),
        "tuned bar": Material((420, 800), _TUNED_BAR, (0.06, 0.14), 0.9, 0.4, noise=0.06, contact=0.0004),
        # Bodies of sustained sources: a few broad resonances (formants) rather than ringing modes.
        "voice": Material((480, 820), (1.0, 1.9, 4.1, 5.6), (0.003, 0.005), 0.0, 0.6, noise=0.15, noise_hz=2500),
        "nose": Material((250, 400), (1.0, 3.6, 7.5), (0.003, 0.006), 0.0, 0.3, noise=0.5, noise_hz=1800),
        "breath": Material((300, 500), (1.0,), (0.001, 0.002), 0.0, 0.0, noise=1.0, noise_hz=700, noise_ring=0.002),
        "reed": Material((1300, 1700), (1.0, 2.1), (0.0015, 0.003), 0.0, 0.5, noise=0.3, noise_hz=1500),
        "horn": Material((900, 1300), (1.0, 1.9), (0.001, 0.002), 0.0, 0.3, noise=0.3, noise_hz=1800),
        "pipe": Material((500, 900), (1.0, 3.1), (0.001, 0.002), 0.0, 0.8, noise=0.3, noise_hz=1000),
        "fiddle": Material((280, 460), (1.0, 1.7, 6.5, 9.5), (0.004, 0.007), 0.0, 0.2, noise=0.3, noise_hz=3000),
        "cable": Material((100, 110), (1.0, 2.0), (0.004, 0.006), 0.0, 0.3, noise=0.2, noise_hz=400),
    }
)


@dataclass(frozen=True, slots=True)
class Resonator:
    """One object: a material with its size, damping and contact point decided.

    Args:
        material: gives the surface noise and the contact time.
        frequencies: (modes,) Hz.
        decays: (modes,) time constants in seconds.
        gains: (modes,) amplitudes.
        burst: (samples,) noise burst of the surface, before its band is filtered out.
    """

    material: Material
    frequencies: np.ndarray
    decays: np.ndarray
    gains: np.ndarray
    burst: np.ndarray

    @classmethod
    def draw(cls, rng: np.random.Generator, name: str) -> Resonator:
        """One object of the family `name`, no two alike."""
        material = MATERIALS[name]
        ratios = np.asarray(material.ratios) * np.exp(rng.normal(0, 0.008, len(material.ratios)))
        ratios[0] = 1.0
        low, high = np.log(material.fundamental)
        ring = np.exp(rng.uniform(*np.log(material.ring)))
        point = rng.uniform(0.12, 0.5)  # of contact: modes with a node there are silent
        shape = 0.15 + np.abs(np.sin(np.pi * np.arange(1, len(ratios) + 1) * point))
        gains = ratios**-material.tilt * shape * np.exp(rng.normal(0, 0.25, len(ratios)))
        samples = int(6 * material.noise_ring * SAMPLE_RATE)
        decay = np.exp(-np.arange(samples) / (material.noise_ring * SAMPLE_RATE))
        burst = rng.standard_normal(samples) * decay
        return cls(material, np.exp(rng.uniform(low, high)) * ratios, ring * ratios**-material.damping, gains, burst)

    def impulse_response(self, pitch: float, softness: float) -> np.ndarray:
        """The sound of one touch, (samples,) float32 of unit energy.

        Args:
            pitch: factor on all mode frequencies.
            softness: factor on the contact time.
        """
        frequencies = self.frequencies * pitch
        audible = frequencies < 0.47 * SAMPLE_RATE
        length = min(RING_SAMPLES, int(6 * self.decays.max() * SAMPLE_RATE) + len(self.burst))
        time = (np.arange(length) / SAMPLE_RATE).astype(np.float32)
        response = np.zeros(length, np.float32)
        modes = zip(frequencies[audible], self.decays[audible], self.gains[audible], strict=True)
        for frequency, decay, gain in modes:
            span = time[: int(6 * decay * SAMPLE_RATE)]
            wave = np.sin(np.float32(2 * np.pi * frequency) * span) * np.exp(span * np.float32(-1 / decay))
            response[: len(span)] += np.float32(gain) * wave
        response *= 1 / max(float(np.sqrt(np.sum(response**2))), 1e-6)
        response[: len(self.burst)] += self._surface_noise()
        fade = length // 4
        response[-fade:] *= np.linspace(1, 0, fade, dtype=np.float32)
        contact = max(int(self.material.contact * softness * SAMPLE_RATE), 1)
        response = np.convolve(response, np.hanning(contact + 2)[1:-1].astype(np.float32))
        return response / max(float(np.sqrt(np.sum(response**2))), 1e-6)

    def _surface_noise(self) -> np.ndarray:
        spectrum = np.fft.rfft(self.burst)
        octaves = np.log2(np.maximum(np.fft.rfftfreq(len(self.burst), 1 / SAMPLE_RATE), 20) / self.material.noise_hz)
        band = np.fft.irfft(spectrum * np.exp(-0.5 * octaves**2), len(self.burst))
        return (self.material.noise * band / max(float(np.sqrt(np.sum(band**2))), 1e-6)).astype(np.float32)

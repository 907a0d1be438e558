"""Small synthetic recordings for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

RATE = 16_000
TONES_HZ = {"low": 300.0, "high": 3000.0}  # class name -> pitch


def tone(hz: float, seconds: float = 1.0, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """(samples,) a sine of random phase and level in a little noise."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(round(seconds * rate)) / rate
    sine = rng.uniform(0.2, 0.6) * np.sin(2 * np.pi * hz * time_s + rng.uniform(0, 2 * np.pi))
    return (sine + 0.01 * rng.standard_normal(len(time_s))).astype(np.float32)


def make_esc50_folder(root: Path, per_fold: int = 2, folds: int = 5, seconds: float = 1.0) -> Path:
    """ESC-50's layout with `per_fold` clips of each class of TONES_HZ in every fold, called FOLD-NUMBER-TARGET.wav."""
    (root / "audio").mkdir(parents=True)
    (root / "meta").mkdir()
    rows = ["filename,fold,target,category,esc10,src_file,take"]
    for fold in range(1, folds + 1):
        for number in range(per_fold):
            for target, (name, hz) in enumerate(TONES_HZ.items()):
                filename = f"{fold}-{number}-{target}.wav"
                samples = tone(hz, seconds, seed=100 * fold + 10 * number + target)
                soundfile.write(root / "audio" / filename, samples, RATE)
                rows.append(f"{filename},{fold},{target},{name},True,{number},A")
    (root / "meta/esc50.csv").write_text("\n".join(rows) + "\n")
    return root


def cut_short(path: Path) -> None:
    """Keep the first half of the bytes, as a broken download does."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

"""From ogg files to log-mels: decoding, resampling and the front end, alone and in front of a model.

The files are ESC-10's real recordings (5 s, 44.1 kHz) where `../shared/data/esc10` or `$MAST_SHARED` has them, else
generated ones of the same length and rate.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from bench.conftest import Comparison
from models import create_model
from reproduce.audio.errors import AudioError
from reproduce.audio.log_mel import log_mel, normalise, stack_waveforms
from reproduce.audio.spec import AudioSpec
from reproduce.audio.waveforms import LoadedClip, decode_many, load_waveform
from reproduce.data.batches import EvaluationBatch, evaluation_batches
from reproduce.data.waveform_store import stream_waveforms
from reproduce.efficiency.candidates import inference_candidate
from reproduce.efficiency.interleaved import Candidate
from reproduce.efficiency.stopping import Budget
from reproduce.evaluation.inference import InferenceOptions, TrainedModel, index_of_sounds, predict_store
from reproduce.machine import decoding_threads, usable_cores

SHARED = Path(os.environ.get("MAST_SHARED", Path(__file__).resolve().parents[2] / "shared"))
RATE, SECONDS = 44_100, 5
SPEC = AudioSpec(frames=512)  # five seconds, as AST takes ESC-50
FILES, FILES_BEFORE_A_MODEL, DEBUG_FILES = 100, 64, 4
BATCH = 8
BUDGET = Budget(least=3, most=9, seconds=10)


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[Path]]:
    """Return the name of the recordings and FILES Ogg files."""
    real = sorted((SHARED / "data/esc10/audio").glob("*.ogg"))[:FILES]
    if len(real) == FILES:
        return "ESC-10", real
    folder = tmp_path_factory.mktemp("ogg")
    rng = np.random.default_rng(0)
    time_s = np.arange(RATE * SECONDS) / RATE
    for number in range(FILES):
        tone = 0.3 * np.sin(2 * np.pi * rng.uniform(100, 4000) * time_s)
        soundfile.write(folder / f"{number:03}.ogg", tone + 0.05 * rng.standard_normal(len(time_s)), RATE)
    return "generated", sorted(folder.glob("*.ogg"))


def spectrograms_of(files: Sequence[Path], device: str) -> torch.Tensor:
    """Decode on every core, and compute log-mels in batches on the device while the next clips decode."""
    decoded = decode_many(((path, None, None) for path in files), SPEC, decoding_threads(), SPEC.samples)
    groups = iter(lambda: list(islice(decoded, BATCH)), [])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the decoding threads use the other cores
    try:
        return torch.cat([_spectrograms(group, device) for group in groups])
    finally:
        torch.set_num_threads(threads)


def _spectrograms(group: Sequence[LoadedClip | AudioError], device: str) -> torch.Tensor:
    waveforms = []
    for decoded in group:
        if isinstance(decoded, AudioError):
            raise decoded
        waveforms.append(decoded.waveform)
    batch, lengths = stack_waveforms(waveforms)
    return normalise(log_mel(batch.to(device), lengths, SPEC), SPEC)


def spectrograms_one_by_one(files: Sequence[Path], device: str) -> None:
    """Decode and transform one file after another on one core."""
    for path in files:
        batch, lengths = stack_waveforms([load_waveform(path, SPEC, max_samples=SPEC.samples)])
        normalise(log_mel(batch.to(device), lengths, SPEC), SPEC)


@pytest.fixture(scope="session")
def kept_decoded(recordings: tuple[str, list[Path]], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Write the recordings as `data shard` does: decoded and resampled once, 16 kHz FLAC."""
    folder = tmp_path_factory.mktemp("flac")
    paths = [folder / f"{file.stem}.flac" for file in recordings[1]]
    for file, path in zip(recordings[1], paths, strict=True):
        soundfile.write(path, np.clip(load_waveform(file, SPEC), -1, 1), SPEC.sample_rate)
    return paths


def test_files_to_log_mels(
    compare: Comparison, recordings: tuple[str, list[Path]], kept_decoded: list[Path], device: str, largest: str
) -> None:
    source, files = recordings
    count = DEBUG_FILES if largest == "debug" else FILES
    files, kept = files[:count], kept_decoded[:count]
    candidates = [
        Candidate(f"{decoding_threads()} threads, batched", lambda: spectrograms_of(files, device), len(files)),
        Candidate("plain loop", lambda: spectrograms_one_by_one(files, device), len(files)),
        Candidate("kept as 16 kHz flac, batched", lambda: spectrograms_of(kept, device), len(kept)),
    ]
    compare("input pipeline", candidates, device, BUDGET, source=source, rate=RATE, seconds=SECONDS, files=len(files))


def test_end_to_end_beside_the_model_alone(
    compare: Comparison, recordings: tuple[str, list[Path]], device: str, largest: str
) -> None:
    """Time `predict` beside its model on batches in memory, and beside decoding: it must not hold the model up."""
    source, files = recordings
    files = files[: DEBUG_FILES if largest == "debug" else FILES_BEFORE_A_MODEL]
    preset = largest if largest == "debug" else "tiny"
    name = f"mast_{preset}"
    model = create_model(name, input_size=(SPEC.mels, SPEC.frames)).eval().to(device)
    trained = TrainedModel(model=model, name=name, front_end=SPEC, labels={}, multilabel=True)
    options = InferenceOptions(device=device)
    store = stream_waveforms(index_of_sounds(files, trained), SPEC)

    def decoded() -> Iterator[EvaluationBatch]:
        return evaluation_batches(store, options.batch_size, device, threads=usable_cores())

    ready = list(decoded())

    def alone() -> None:
        with torch.inference_mode():
            for batch in ready:
                model(batch.inputs)

    held = inference_candidate(name, model, ready[0].inputs)
    candidates = [
        Candidate(f"{name} alone", alone, len(files), held.held_bytes, held.attention),
        Candidate(f"files to {name}", lambda: predict_store(trained, store, options), len(files), held.held_bytes),
        Candidate("decoding and log-mels alone", lambda: list(decoded()), len(files)),
    ]
    compare(
        "end to end",
        candidates,
        device,
        BUDGET,
        source=source,
        rate=RATE,
        seconds=SECONDS,
        preset=preset,
        batch=len(files),
    )

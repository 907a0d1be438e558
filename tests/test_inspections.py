"""`inspect`: one sound through a trained model, stored and drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from make_weights import with_description

from models import create_model
from models.checkpoints import save_checkpoint
from reports.plots import PLOTS, use_style
from reproduce.__main__ import main
from reproduce.audio.spec import AudioSpec
from reproduce.errors import InputError
from reproduce.evaluation.relative_positions import mean_bias_by_distance, relative_profiles
from reproduce.paper import load_paper
from reproduce.records.inspections import load_inspection, newest_inspection
from reproduce.records.store import load_records
from reproduce.tables import TableInputs

pytestmark = pytest.mark.usefixtures("one_thread")
SPEC = AudioSpec(mels=32, frames=64, frame_length_ms=40.0, frame_shift_ms=40.0, mean=-6.6, std=5.4)
SIZE = (SPEC.mels, SPEC.frames)


def checkpoint(folder: Path, name: str) -> Path:
    path = folder / f"{name}.safetensors"
    model = create_model(name, num_classes=2, input_size=SIZE)
    save_checkpoint(path, model, name, front_end=SPEC.to_dict(), labels={"label": ["high", "low"]}, multilabel=False)
    return path


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    path = tmp_path / "tone.wav"
    seconds = np.arange(2 * 16_000) / 16_000
    soundfile.write(path, 0.5 * np.sin(2 * np.pi * 440 * seconds), 16_000)
    return path


def inspected(sound: Path, model: Path, records: Path) -> int:
    return main(["inspect", str(sound), "--model", str(model), "--records", str(records), "--device", "cpu"])


def test_a_sound_through_mast_is_stored_and_drawn(sound: Path, tmp_path: Path) -> None:
    records = tmp_path / "records"
    assert inspected(sound, checkpoint(tmp_path, "mast_debug"), records) == 0
    loaded = load_records(records)
    record = newest_inspection(loaded, "mast")
    assert record is not None and record.sound == "tone.wav"
    assert str(tmp_path) not in repr(record)
    found = load_inspection(records, record)
    assert found is not None
    assert found.log_mel.shape == SIZE
    assert len(found.waveform) == 2 * 16_000
    loudest = found.log_mel[:, :40].mean(axis=1).argmax()
    assert 440 in range(*(int(hz) for hz in mel_band_hz(int(loudest))))
    assert len(found.freq) == len(found.time) == 4
    use_style()
    inputs = TableInputs(load_paper(), loaded, records)
    for name in ("log_mel", "relative_positions"):
        drawn = PLOTS[name].draw(inputs)
        assert drawn is not None and "tone.wav" in drawn.caption
        assert drawn.svg == PLOTS[name].draw(inputs).svg  # type: ignore[union-attr]


def mel_band_hz(band: int) -> tuple[float, float]:
    """Lower and upper edge of a triangular filter."""
    low, high = (1127 * np.log(1 + hz / 700) for hz in (SPEC.low_hz, 8000))
    edges = low + (high - low) * np.arange(band, band + 3) / (SPEC.mels + 1)
    hz = 700 * (np.exp(edges / 1127) - 1)
    return float(hz[0]), float(hz[2])


@pytest.mark.parametrize(
    "damage", [{"front_end": {"mels": "x"}}, {"front_end": {"frames": -1}}, {"extra": {"experiment": 3}}], ids=str
)
def test_a_damaged_description_of_a_model_is_one_line(
    damage: dict[str, Any], sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = with_description(checkpoint(tmp_path, "ast_debug"), lambda description: description.update(damage))
    assert inspected(sound, path, tmp_path / "records") == 2
    assert "damaged description" in capsys.readouterr().err


def test_ast_has_no_relative_positions_to_draw(sound: Path, tmp_path: Path) -> None:
    records = tmp_path / "records"
    assert inspected(sound, checkpoint(tmp_path, "ast_debug"), records) == 0
    inputs = TableInputs(load_paper(), load_records(records), records)
    assert PLOTS["relative_positions"].draw(inputs) is None
    assert PLOTS["log_mel"].draw(inputs) is not None


@pytest.mark.parametrize(("queries", "keys"), [(8, 8), (8, 2), (4, 8)])
def test_biases_equal_to_the_distance_give_a_straight_profile(queries: int, keys: int) -> None:
    """Distances are from the query's centre to the key's."""
    centres_q, centres_k = ((np.arange(n) + 0.5) / n for n in (queries, keys))
    distances = centres_k[None] - centres_q[:, None]
    profile = mean_bias_by_distance(distances, 1.0)
    assert np.all(np.diff(profile.offsets) > 0)
    np.testing.assert_allclose(profile.bias, profile.offsets, atol=1e-12)


def test_a_table_with_one_row_favours_its_distance_alone() -> None:
    model = create_model("mast_debug", num_classes=2, input_size=SIZE).eval()
    attn = model.blocks[-1].attn
    assert attn.q_grid[0] == attn.k_grid[0]  # pooled alike along frequency
    with torch.no_grad():
        attn.rel_pos_time.zero_()
        attn.rel_pos_freq.zero_()[attn.k_grid[0] - 1] = 1.0
    with torch.inference_mode():
        freq, time = relative_profiles(model, torch.randn(1, 1, *SIZE), SPEC)
    assert not time[-1].bias.any()
    assert freq[-1].offsets[np.flatnonzero(freq[-1].bias)].tolist() == [0.0]


def test_an_unusable_sound_is_one_line(sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = checkpoint(tmp_path, "mast_debug")
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    for wrong in (tmp_path / "broken.wav", tmp_path / "absent.wav"):
        assert inspected(wrong, model, tmp_path / "records") == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert wrong.name in line
    assert not load_records(tmp_path / "records")


def test_a_damaged_file_of_arrays_is_named(sound: Path, tmp_path: Path) -> None:
    records = tmp_path / "records"
    assert inspected(sound, checkpoint(tmp_path, "mast_debug"), records) == 0
    (record,) = load_records(records)
    path = records / str(record.predictions)
    path.write_bytes(b"not an archive")
    with pytest.raises(InputError, match=path.name):
        load_inspection(records, record)
    path.unlink()
    assert load_inspection(records, record) is None

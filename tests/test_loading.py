"""From an index to batches: each clip once, in an order that seed and epoch decide; bad files never stop the rest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from make_audio import RATE, cut_short, make_esc50_folder, tone

from reproduce import loading
from reproduce.audio_spec import AudioSpec
from reproduce.datasets import read_dataset
from reproduce.errors import InputError
from reproduce.experiments import Recipe
from reproduce.loading import Batch, WaveformStore, evaluation_batches, load_waveforms, training_batches

SPEC = AudioSpec(mels=16, frames=32, frame_shift_ms=30.0, mean=-6.6, std=5.4)  # 0.955 s
RECIPE = Recipe(epochs=1, batch_size=8, lr=1e-3, warmup_steps=0, mixup=0.5, freq_mask=4, time_mask=8)
PLAIN = Recipe(epochs=1, batch_size=8, lr=1e-3, warmup_steps=0)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> WaveformStore:
    """20 clips: two folds of five of each class."""
    root = make_esc50_folder(tmp_path_factory.mktemp("esc50") / "data", per_fold=5, folds=2)
    return load_waveforms(read_dataset("esc50", root), SPEC)


def epoch_of(store: WaveformStore, recipe: Recipe = RECIPE, seed: int = 0, epoch: int = 0) -> list[Batch]:
    return list(training_batches(store, recipe, seed, epoch, "cpu"))


def positions(batches: list[Batch]) -> list[int]:
    return [int(p) for batch in batches for p in batch.positions]


def same_inputs(first: list[Batch], second: list[Batch]) -> bool:
    return all(torch.equal(a.inputs, b.inputs) for a, b in zip(first, second, strict=True))


# --- batches --------------------------------------------------------------------------------------------------------


def test_an_epoch_has_each_clip_once_in_full_batches_and_a_rest(store: WaveformStore) -> None:
    batches = epoch_of(store)
    assert [len(batch.positions) for batch in batches] == [8, 8, 4]
    assert [tuple(batch.inputs.shape) for batch in batches] == [(8, 1, 16, 32), (8, 1, 16, 32), (4, 1, 16, 32)]
    assert sorted(positions(batches)) == list(range(20))
    assert positions(batches) != list(range(20))


def test_an_epoch_depends_on_seed_and_epoch_alone(store: WaveformStore) -> None:
    first = epoch_of(store, seed=3, epoch=2)
    torch.manual_seed(999)
    np.random.seed(999)
    epoch_of(store, seed=3, epoch=1)
    again = epoch_of(store, seed=3, epoch=2)
    assert positions(again) == positions(first)
    assert same_inputs(first, again)
    assert all(torch.equal(a.targets["label"], b.targets["label"]) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize(("seed", "epoch"), [(3, 1), (4, 2), (2, 3)])
def test_another_seed_or_epoch_gives_another_order(store: WaveformStore, seed: int, epoch: int) -> None:
    assert positions(epoch_of(store, seed=seed, epoch=epoch)) != positions(epoch_of(store, seed=3, epoch=2))


def test_augmentation_changes_inputs_and_not_the_order(store: WaveformStore) -> None:
    augmented, plain = epoch_of(store), epoch_of(store, PLAIN)
    assert positions(augmented) == positions(plain)
    assert not same_inputs(augmented, plain)


def test_without_augmentation_training_and_evaluation_see_the_same_spectrograms(store: WaveformStore) -> None:
    evaluated = torch.cat([batch.inputs for batch in evaluation_batches(store, 7, "cpu")])
    for batch in epoch_of(store, PLAIN):
        assert torch.equal(batch.inputs, evaluated[torch.from_numpy(batch.positions)])


@pytest.mark.parametrize(
    "recipe",
    [replace(PLAIN, mixup=0.9), replace(PLAIN, freq_mask=8), replace(PLAIN, time_mask=8), replace(PLAIN, roll=8)],
    ids=["mixup", "freq_mask", "time_mask", "roll"],
)
def test_every_augmentation_of_the_recipe_is_applied(store: WaveformStore, recipe: Recipe) -> None:
    assert not same_inputs(epoch_of(store, recipe), epoch_of(store, PLAIN))


def test_mixed_clips_carry_both_labels_in_proportion(store: WaveformStore) -> None:
    targets = torch.cat([b.targets["label"] for b in epoch_of(store, replace(PLAIN, mixup=1.0))])
    assert torch.allclose(targets.sum(dim=1), torch.ones(20))
    assert ((targets > 0) & (targets < 1)).any()


def test_evaluation_takes_every_clip_once_in_order_whatever_the_batch(store: WaveformStore) -> None:
    for size in (1, 8, 64):
        batches = list(evaluation_batches(store, size, "cpu"))
        assert positions(batches) == list(range(20))
        targets = torch.cat([batch.targets["label"] for batch in batches])
        assert (targets.numpy() == store.index.targets()).all()


def test_a_split_of_the_store_holds_the_waveforms_of_its_clips(store: WaveformStore) -> None:
    fold = store.where_split("2")
    assert len(fold) == len(fold.index) == 10
    assert set(map(str, fold.index.splits)) == {"2"}
    first = list(map(str, store.index.clip_ids)).index(str(fold.index.clip_ids[0]))
    assert fold.waveforms[0] is store.waveforms[first]


# --- decoding -------------------------------------------------------------------------------------------------------


def test_bad_files_are_left_out_and_listed_and_the_rest_can_train(tmp_path: Path) -> None:
    root = make_esc50_folder(tmp_path / "data", per_fold=2, folds=2)
    cut_short(root / "audio/1-0-0.wav")
    (root / "audio/1-0-1.wav").write_bytes(b"")
    (root / "audio/2-0-0.wav").write_text("<html>404</html>")
    counted = []
    store = load_waveforms(read_dataset("esc50", root), SPEC, on_clip=lambda: counted.append(1))
    problems = {p.clip_id: (p.reason, p.fatal) for p in store.problems}
    assert problems == {
        "1-0-0": ("truncated", True),
        "1-0-1": ("zero-byte", True),
        "2-0-0": ("not audio", True),
    }
    assert all(f"{p.clip_id}.wav" in p.message and "\n" not in p.message for p in store.problems)
    assert sorted(map(str, store.index.clip_ids)) == ["1-1-0", "1-1-1", "2-0-1", "2-1-0", "2-1-1"]
    assert len(counted) == 8
    assert sorted(positions(epoch_of(store))) == [0, 1, 2, 3, 4]


def test_labels_stay_with_their_waveforms_when_clips_are_left_out(tmp_path: Path) -> None:
    root = make_esc50_folder(tmp_path / "data", per_fold=3, folds=2)
    for name in ("1-0-0", "1-1-1", "2-2-0"):
        (root / f"audio/{name}.wav").write_bytes(b"")
    store = load_waveforms(read_dataset("esc50", root), SPEC)
    spectra = torch.cat([batch.inputs for batch in evaluation_batches(store, 4, "cpu")])
    loudest_mel = spectra.mean(dim=(1, 3)).argmax(dim=1).numpy()
    # Class 1 is the high tone: its energy lies in higher mels than the low one's.
    assert ((loudest_mel > 7) == store.index.targets()[:, 1].astype(bool)).all()


def test_a_silent_clip_is_kept_with_a_warning(tmp_path: Path) -> None:
    root = make_esc50_folder(tmp_path / "data", per_fold=1, folds=2)
    soundfile.write(root / "audio/1-0-0.wav", np.zeros(RATE), RATE)
    store = load_waveforms(read_dataset("esc50", root), SPEC)
    assert len(store) == 4
    (problem,) = store.problems
    assert (problem.clip_id, problem.reason, problem.fatal) == ("1-0-0", "silent", False)
    assert all(torch.isfinite(batch.inputs).all() for batch in epoch_of(store))


def test_stereo_at_another_rate_becomes_mono_at_16_khz(tmp_path: Path) -> None:
    root = make_esc50_folder(tmp_path / "data", per_fold=1, folds=2)
    stereo = np.stack([tone(300.0, rate=44_100)] * 2, axis=1)
    soundfile.write(root / "audio/1-0-0.wav", stereo, 44_100)
    store = load_waveforms(read_dataset("esc50", root), SPEC)
    assert not store.problems
    assert store.waveforms[0].shape == (SPEC.samples,)  # one second, cut to what the model takes


def test_no_usable_clip_is_one_line_with_the_first_reason(tmp_path: Path) -> None:
    root = make_esc50_folder(tmp_path / "data", per_fold=1, folds=2)
    for path in (root / "audio").iterdir():
        path.write_bytes(b"")
    with pytest.raises(InputError, match="none of 4 listed clips can be used") as error:
        load_waveforms(read_dataset("esc50", root), SPEC)
    assert "zero-byte" in str(error.value) and "\n" not in str(error.value)


def test_a_split_without_a_usable_clip_is_one_line(tmp_path: Path) -> None:
    root = make_esc50_folder(tmp_path / "data", per_fold=1, folds=3)
    for path in (root / "audio").glob("2-*"):
        path.write_bytes(b"")
    store = load_waveforms(read_dataset("esc50", root), SPEC)
    assert len(store.where_split("1", "2")) == 2
    with pytest.raises(InputError, match="none of the 2 listed clips in split 2 can be used") as error:
        store.where_split("2")
    assert str(root) in str(error.value) and "\n" not in str(error.value)


def test_more_waveforms_than_memory_are_refused_before_decoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = read_dataset("esc50", make_esc50_folder(tmp_path / "data", per_fold=1, folds=2))
    needed = 4 * SPEC.samples * 4
    monkeypatch.setattr(loading, "available_memory_bytes", lambda: needed - 1)
    monkeypatch.setattr(loading, "decode_many", lambda *_: pytest.fail("decoding began"))
    with pytest.raises(InputError, match=r"4 clips of 1\.0 s need .* GiB of memory"):
        load_waveforms(index, SPEC)
    monkeypatch.undo()
    for enough in (needed, None):
        monkeypatch.setattr(loading, "available_memory_bytes", lambda free=enough: free)
        assert len(load_waveforms(index, SPEC)) == 4


def test_free_memory_counts_the_file_cache() -> None:
    available = loading.available_memory_bytes()
    if available is None:
        pytest.skip("no /proc/meminfo on this system")
    lines = Path("/proc/meminfo").read_text().splitlines()
    total = int(next(line for line in lines if line.startswith("MemTotal")).split()[1]) * 1024
    assert 0 < available < total


def test_real_recordings_of_five_seconds_all_decode(esc10: Path) -> None:
    index = read_dataset("esc50", esc10)
    some = index.take(np.arange(0, len(index), 10))
    spec = AudioSpec(mels=128, frames=512)
    store = load_waveforms(some, spec)
    assert len(store) == 40 and not [p for p in store.problems if p.fatal]
    assert all(len(w) == pytest.approx(5 * RATE, rel=0.02) for w in store.waveforms)  # ogg moves the end a little
    batch = next(evaluation_batches(store, 8, "cpu"))
    assert batch.inputs.shape == (8, 1, 128, 512)
    assert batch.targets["label"].shape == (8, 10)
    assert torch.isfinite(batch.inputs).all()

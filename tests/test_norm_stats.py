"""Normalisation statistics follow the rule they name: AST's, padding and masks included, or plain sound."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from make_audio import RATE, cut_short, make_esc50_folder

from reproduce.__main__ import main
from reproduce.audio.log_mel import log_mel, stack_waveforms
from reproduce.audio.spec import AudioSpec
from reproduce.audio.waveforms import load_waveform
from reproduce.data.norm_stats import AstRule, Moments, StatsOptions, measure_stats, stats_spec, training_clips
from reproduce.datasets import ClipIndex, dataset_spec, read_dataset
from reproduce.errors import InputError

SPEC = AudioSpec(mels=32, frames=64)  # 0.655 s
NO_AUGMENTATION = AstRule(mixup=0.0, freq_mask=0, time_mask=0)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> ClipIndex:
    """20 clips of 0.3 s: 28 frames of 64, so more than half of the cells are padding."""
    return read_dataset("esc50", make_esc50_folder(tmp_path_factory.mktemp("esc50"), seconds=0.3))


def features(index: ClipIndex, spec: AudioSpec) -> torch.Tensor:
    waveforms = [load_waveform(index.clip(i).path, spec)[: spec.samples] for i in range(len(index))]
    return log_mel(*stack_waveforms(waveforms), spec)


@given(st.lists(st.lists(st.floats(-20, 5), max_size=8), min_size=1, max_size=6))
@settings(deadline=None)
def test_merged_moments_equal_those_of_the_whole(parts: list[list[float]]) -> None:
    merged = sum((Moments.of(torch.tensor(part, dtype=torch.float64)) for part in parts), Moments())
    whole = np.array([value for part in parts for value in part])
    assert merged.n == len(whole)
    if len(whole):
        assert merged.mean == pytest.approx(whole.mean(), abs=1e-9)
        assert merged.std(ddof=0) == pytest.approx(whole.std(), abs=1e-7)
    if len(whole) > 1:
        assert merged.std(ddof=1) == pytest.approx(whole.std(ddof=1), abs=1e-7)
    else:
        assert np.isnan(merged.std(ddof=1))


def test_moments_keep_their_digits_far_from_zero() -> None:
    values = torch.randn(10_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 1e6
    merged = sum((Moments.of(part) for part in values.split(7)), Moments())
    assert merged.std(ddof=1) == pytest.approx(float(values.std()), rel=1e-9)


def test_the_plain_rule_is_over_all_frames_of_sound(corpus: ClipIndex) -> None:
    stats = measure_stats(corpus, SPEC)
    cells = features(corpus, SPEC)[..., :28].double()
    assert stats.plain.cells == cells.numel() == 20 * 32 * 28
    assert stats.plain.mean == pytest.approx(float(cells.mean()), abs=1e-9)
    assert stats.plain.std == pytest.approx(float(cells.std(unbiased=False)), abs=1e-9)


@pytest.mark.parametrize("batch", [20, 8, 3])
def test_asts_rule_averages_batches_with_their_padding(corpus: ClipIndex, batch: int) -> None:
    """With the augmentation off there is a closed form: torch.mean and torch.std of each batch, as in their script."""
    rule = replace(NO_AUGMENTATION, batch=batch)
    stats = measure_stats(corpus, SPEC, StatsOptions(rule=rule, chunk=7))  # chunks extend over the batches' ends
    batches = features(corpus, SPEC).double().split(batch)
    assert stats.ast.mean == pytest.approx(np.mean([float(b.mean()) for b in batches]), abs=1e-9)
    assert stats.ast.std == pytest.approx(np.mean([float(b.std()) for b in batches]), abs=1e-9)
    assert stats.ast.cells == 20 * 32 * 64


def test_masks_raise_the_mean_and_mixup_changes_it(corpus: ClipIndex) -> None:
    augmented, masked, bare = (
        measure_stats(corpus, SPEC, StatsOptions(rule=rule)).ast
        for rule in (AstRule(), AstRule(mixup=0.0), NO_AUGMENTATION)
    )
    assert bare.mean < masked.mean < 0  # a mask is 0
    assert augmented != masked


def test_the_seed_decides_the_augmentation_alone(corpus: ClipIndex) -> None:
    first, again, other = (measure_stats(corpus, SPEC, StatsOptions(seed=seed)) for seed in (0, 0, 1))
    assert first == again
    assert other.ast.mean != first.ast.mean
    assert other.plain == first.plain


def test_unusable_clips_are_counted_and_left_out(corpus: ClipIndex, tmp_path: Path) -> None:
    root = make_esc50_folder(tmp_path / "esc50", seconds=0.3)
    cut_short(root / "audio/1-0-0.wav")
    index = read_dataset("esc50", root)
    stats = measure_stats(index, SPEC)
    assert (stats.clips, stats.unusable) == (19, 1)
    assert stats.plain == measure_stats(corpus.take(np.arange(20)[corpus.clip_ids != "1-0-0"]), SPEC).plain
    with pytest.raises(InputError, match="none of 1 clips can be used"):
        measure_stats(index.take(np.flatnonzero(index.clip_ids == "1-0-0")), SPEC)


@pytest.mark.parametrize(("seconds", "frames"), [(5.0, 512), (10.0, 1024), (147.0, 1024), (1.0, 128)])
def test_frames_follow_asts_inputs(seconds: float, frames: int) -> None:
    assert stats_spec(seconds) == replace(AudioSpec(), frames=frames)


def test_a_sample_is_of_training_clips_and_set_by_its_seed(corpus: ClipIndex) -> None:
    spec = replace(dataset_spec("esc50"), train_splits=("1", "2"))
    assert set(training_clips(corpus, spec, None, 0).splits.tolist()) == {"1", "2"}
    samples = [training_clips(corpus, spec, 5, seed).clip_ids.tolist() for seed in (0, 0, 1)]
    assert samples[0] == samples[1] != samples[2]
    assert len(set(samples[0])) == 5
    assert len(training_clips(corpus, dataset_spec("esc50"), 99, 0)) == len(corpus)
    with pytest.raises(InputError, match="--clips 0"):
        training_clips(corpus, spec, 0, 0)


def test_data_stats_on_the_command_line(corpus: ClipIndex, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["data", "stats", "esc50", "--data", f"esc50={corpus.root}", "--clips", "4"]
    assert main([*arguments, "--format", "json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["published"] == {"mean": -6.6268077, "std": 5.358466, "source": "YuanGongND/ast egs/esc50"}
    assert (said["clips"], said["front_end"]["frames"], said["front_end"]["sample_rate"]) == (4, 512, RATE)
    assert main(arguments) == 0
    text = capsys.readouterr().out
    for rule in ("ast", "plain", "published"):
        assert f"{said[rule]['mean']:.4f}" in text and f"{said[rule]['std']:.4f}" in text


def test_check_compares_both_front_ends_on_the_users_own_clips(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torchaudio.compliance.kaldi")
    folder = make_esc50_folder(tmp_path / "esc50", folds=2)
    cut_short(next(iter(sorted((folder / "audio").iterdir()))))
    command = ["data", "stats", "esc50", "--data", f"esc50={folder}", "--check"]
    assert main(command) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("esc50: log-mels (128 x 512) of the batched front end and of torchaudio's differ by at most")
    assert "1 unusable (equal within 0.0001" in line
    assert main([*command, "--format", "json"]) == 0
    checked = json.loads(capsys.readouterr().out)
    assert checked["passed"] and 0 <= checked["largest"] <= checked["tolerance"]


def test_a_difference_between_front_ends_is_status_1(
    corpus: ClipIndex, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kaldi = pytest.importorskip("torchaudio.compliance.kaldi")
    original = kaldi.fbank
    monkeypatch.setattr(kaldi, "fbank", lambda *args, **options: original(*args, **options) + 0.5)
    assert main(["data", "stats", "esc50", "--data", f"esc50={corpus.root}", "--check"]) == 1
    assert "differ by at most 5.0e-01 over 20 clips, 0 unusable (NOT equal within 0.0001" in capsys.readouterr().out

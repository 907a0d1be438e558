"""A user's own clips: what is said about them, and the settings that follow, before anything is trained."""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from make_audio import cut_short, tone

from reproduce import load_classifier
from reproduce.__main__ import main
from reproduce.audio.spec import AudioSpec
from reproduce.data.group_hints import group_hint
from reproduce.data.shard_reader import open_shards
from reproduce.data.shard_writer import write_shards
from reproduce.data.survey import survey_clips, usable_clips
from reproduce.data.training_norm import training_norms
from reproduce.datasets import read_dataset
from reproduce.datasets.holdout import HELD_OUT, hold_out
from reproduce.datasets.readers.folds import grouped_folds
from reproduce.errors import InputError
from reproduce.experiments.own_settings import Asked, OwnClips, fit_input, fit_preset, fitted_seconds
from reproduce.experiments.preset_files import choose_preset
from reproduce.experiments.presets import PRESETS
from reproduce.records.runs import SearchRun, TrainedRun
from reproduce.records.store import load_records

DEMO = PRESETS["demo"]
SPEAKERS = ("anna", "ben", "cleo", "dan", "eve", "fred")


def write(path: Path, hz: float, seconds: float = 0.5, rate: int = 16_000, channels: int = 1, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.repeat(tone(hz, seconds, rate, seed)[:, None], channels, axis=1)
    soundfile.write(path, samples, rate)


def make_list(folder: Path, splits: tuple[str, ...] = (), per_class: int = 6, seconds: float = 0.5) -> Path:
    """A CSV of low and high tones by six speakers, each in one of `splits` in turn; without splits in none."""
    rows = []
    for label, hz in (("low", 300.0), ("high", 3000.0)):
        for number in range(per_class):
            name = f"{label}{number}.wav"
            write(folder / name, hz, seconds, seed=number)
            row = {"path": name, "label": label, "speaker": SPEAKERS[number % len(SPEAKERS)]}
            rows.append({**row, "split": splits[number % len(splits)]} if splits else row)
    table = folder / "list.csv"
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return table


def train(*arguments: str | Path) -> int:
    return main(list(map(str, arguments)))


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative folders of results are below the test's own folder."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


# --- the input ---


@pytest.mark.parametrize("seconds", [0.2, 1.0, 3.3, 5.0, 10.24, 30.0])
@pytest.mark.parametrize("preset", ["demo", "base", "debug"])
def test_the_input_covers_the_clips_and_is_filled_by_them(preset: str, seconds: float) -> None:
    spec = fit_input(PRESETS[preset].front_end, seconds)
    assert seconds - spec.frame_shift_ms / 1000 <= spec.seconds
    assert spec.frames % 32 == 0
    if seconds >= 1:
        assert spec.seconds <= 1.05 * seconds
    assert spec.frame_shift_ms <= PRESETS[preset].front_end.frame_shift_ms


def test_an_input_of_ten_seconds_is_the_one_of_before() -> None:
    spec = fit_input(DEMO.front_end, 10.24)
    assert (spec.frames, spec.frame_shift_ms, spec.frame_length_ms) == (256, 40.0, 40.0)


def test_the_length_is_the_95th_percentile_up_to_asts_input() -> None:
    assert fitted_seconds(np.array([1.0] * 99 + [60.0])) == 1.0
    assert fitted_seconds(np.array([300.0, 600.0])) == 10.24


def clips(seconds: list[float], train_clips: int = 100, counts: tuple[int, ...] = (50, 50)) -> OwnClips:
    return OwnClips(seconds=np.array(seconds), train_clips=train_clips, class_counts=counts)


def test_longer_clips_are_cropped_at_random_and_tested_on_several_crops() -> None:
    recipe = fit_preset(DEMO, clips([2.0] * 50 + [30.0] * 50)).recipe
    assert (recipe.crop, recipe.test_crops) == ("random", 3)
    recipe = fit_preset(DEMO, clips([2.0] * 100)).recipe
    assert (recipe.crop, recipe.test_crops) == ("first", 1)


def test_small_corpora_train_for_more_epochs_within_bounds() -> None:
    epochs = [fit_preset(DEMO, clips([1.0], train_clips=n)).recipe.epochs for n in (20, 800, 100_000)]
    assert epochs == sorted(epochs, reverse=True)
    assert len(set(epochs)) == 3
    assert fit_preset(PRESETS["debug"], clips([1.0])).recipe.epochs == 1


def test_unequal_classes_are_balanced_unless_the_user_decides() -> None:
    unequal = clips([1.0], counts=(90, 10))
    assert fit_preset(DEMO, unequal).recipe.sampler == "balanced"
    assert fit_preset(DEMO, unequal, Asked(class_balanced=False)).recipe.sampler == "shuffle"
    assert fit_preset(DEMO, clips([1.0])).recipe.sampler == "shuffle"


def test_masks_shrink_with_the_input() -> None:
    preset = fit_preset(DEMO, clips([0.2]))
    assert preset.recipe.time_mask <= preset.front_end.frames * DEMO.recipe.time_mask / DEMO.front_end.frames + 1


# --- the survey ---


def test_the_survey_decodes_lengths_rates_and_channels_and_keeps_what_it_found(tmp_path: Path) -> None:
    root = tmp_path / "mixed"
    write(root / "dog/short.wav", 300, 0.2, 8_000)
    write(root / "dog/wide.wav", 300, 1.0, 96_000, channels=6)
    write(root / "rain/long.wav", 900, 12.0, 44_100, channels=2)
    write(root / "rain/broken.wav", 900)
    cut_short(root / "rain/broken.wav")
    index = read_dataset("folder", root)
    seen = []
    survey = survey_clips(index, tmp_path / "cache", on_clip=lambda: seen.append(1))
    found = zip(survey.seconds, survey.rates, survey.channels, strict=True)
    by_name = dict(zip(index.clip_ids.tolist(), found, strict=True))
    assert by_name["dog/short.wav"] == (0.2, 8_000, 1)
    assert by_name["dog/wide.wav"] == (1.0, 96_000, 6)
    assert by_name["rain/long.wav"] == (12.0, 44_100, 2)
    assert by_name["rain/broken.wav"] == (0.0, 0, 0)
    usable = usable_clips(index, survey)
    assert len(usable) == 3
    assert any(problem.clip_id == "rain/broken.wav" and problem.fatal for problem in usable.problems)
    again = survey_clips(index, tmp_path / "cache", on_clip=lambda: seen.append(1))
    assert len(seen) == 4  # nothing is decoded twice
    assert again.problems == survey.problems
    write(root / "dog/short.wav", 300, 0.3, 8_000)
    changed = survey_clips(read_dataset("folder", root), tmp_path / "cache")
    assert 0.3 in changed.seconds


def test_statistics_are_those_of_the_training_clips_alone(tmp_path: Path) -> None:
    for name, level in (("train/a", 1.0), ("test/a", 0.001)):
        for number in range(4):
            path = tmp_path / f"data/{name}/{number}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, level * tone(400, seed=number), 16_000)
    index = read_dataset("folder", tmp_path / "data")
    spec = AudioSpec(mels=32, frames=64)
    loud = training_norms(index, spec, [("train",)], tmp_path / "cache")[("train",)]
    both = training_norms(index, spec, [("train", "test")], tmp_path / "cache")[("train", "test")]
    assert loud.mean > both.mean + 1
    assert replace(loud, mean=0.0, std=1.0) == replace(spec, mean=0.0, std=1.0)
    write_shards(index, tmp_path / "shards")
    shards = open_shards(tmp_path / "shards", spec)
    waveforms = shards.waveforms
    from_shards = training_norms(shards.index, spec, [("train",)], tmp_path / "cache", waveforms=waveforms)
    assert from_shards == {("train",): loud}


@pytest.mark.parametrize(
    ("names", "suggests"),
    [
        ([f"speaker{s}_{take}" for s in range(5) for take in range(4)], True),
        ([f"1-{1000 + source}-{take}-7" for source in range(8) for take in "AB"], True),
        ([f"rec{r}/part{part}" for r in range(6) for part in range(3)], True),
        ([f"dog_{number:03}" for number in range(20)], False),
        ([f"{number}" for number in range(20)], False),
        ([f"dog-bark-{number}" for number in range(20)], False),
    ],
)
def test_names_suggest_groups_where_a_part_of_them_repeats(names: list[str], suggests: bool) -> None:
    assert (group_hint(names, [0] * len(names)) is not None) == suggests


# --- splits ---


def test_groups_are_dealt_whole_and_every_fold_has_every_class() -> None:
    rows = [(f"{s} {w} {take}", f"speaker {s}", w) for s in range(10) for w in ("yes", "no") for take in range(3)]
    folds = grouped_folds(rows)
    assert folds == grouped_folds(reversed(rows))
    assert sorted(set(folds.values())) == ["1", "2", "3", "4", "5"]
    counts = {fold: [0, 0] for fold in set(folds.values())}
    for _, group, word in rows:
        counts[folds[group]][word == "yes"] += 1
    assert set(map(tuple, counts.values())) == {(6, 6)}


def test_few_groups_make_few_folds() -> None:
    assert sorted(set(grouped_folds([(f"{i}", f"{i % 2}", "a") for i in range(10)]).values())) == ["1", "2"]
    assert set(grouped_folds([("1", "one", "a"), ("2", "one", "b")]).values()) == {"1"}


def test_the_held_out_part_divides_no_group_and_takes_no_test_clip(tmp_path: Path) -> None:
    index = read_dataset("csv", make_list(tmp_path / "data", ("train", "train", "test"), per_class=12))
    held = hold_out(index, ("train",))
    assert held.where_split("test").clip_ids.tolist() == index.where_split("test").clip_ids.tolist()
    parts = [set(held.where_split(name).units().tolist()) for name in ("train", HELD_OUT)]
    assert parts[0] and parts[1] and not parts[0] & parts[1]


# --- presets ---


def test_a_preset_file_and_set_change_what_they_name_and_the_rest_is_fitted(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('base = "debug"\nmodels = ["mast_debug"]\n[recipe]\nepochs = 3\n[rates]\nmast_debug = 0.002\n')
    chosen = choose_preset(str(file), {"batch_size": "4"})
    assert chosen.preset.models == ("mast_debug",)
    assert chosen.changes == {"epochs": 3, "batch_size": "4"}
    assert chosen.preset.recipe_of("mast_debug").lr == 0.002


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("epochs = 3\n", "unknown key 'epochs'"),
        ("[recipe]\nepoch = 3\n", "no field 'epoch'"),
        ("[recipe]\nepochs = 0\n", "epochs=0"),
        ('base = "huge"\n', "is no preset"),
        ("models = []\n", "models must be a list"),
        ("[rates]\nast_tiny = -1\n", "no learning rate"),
        ("[recipe\n", "write it as TOML"),
        ("recipe = 3\n", "must be a table"),
    ],
)
def test_a_file_that_is_no_preset_is_one_line(tmp_path: Path, content: str, says: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(content)
    with pytest.raises(InputError, match=says) as caught:
        choose_preset(str(file), {})
    assert str(file) in str(caught.value)


# --- the commands ---


def test_a_dry_run_tells_and_trains_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = make_list(tmp_path / "birds", ("train", "val", "test"))
    assert train("train", "csv", table, "--preset", "debug", "--dry-run") == 0
    out = capsys.readouterr().out
    for words in (
        "birds: 12 of 12 listed clips",
        "0.50 s / 0.50 s",
        "6 speakers",
        "val is scored every epoch",
        "clips/s",
    ):
        assert words in out
    assert not Path("runs/records").exists()


def test_a_dry_run_counts_the_time_of_what_is_not_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = make_list(tmp_path / "birds", ("train", "val", "test"))
    options = ("train", "csv", table, "--preset", "debug", "--models", "ast_debug")
    assert train(*options) == 0
    capsys.readouterr()
    assert train(*options, "--dry-run") == 0
    assert "nothing to train; 1 of 1 run recorded, by the names of their clips" in capsys.readouterr().out
    assert train(*options, "--dry-run", "--seeds", "3") == 0
    out = capsys.readouterr().out
    assert "for 2 runs, one after another; 1 of 3 runs recorded, " in out
    assert "ast_debug: 2 x " in out
    assert train(*options, "--dry-run", "--run", "all") == 0
    assert "recorded" not in capsys.readouterr().out
    assert train(*options, "--dry-run", "--seeds", "3", "--run", "none") == 0
    assert "nothing to train; 1 of 3 runs recorded" in capsys.readouterr().out


def test_folds_are_normalised_each_by_its_own_clips_and_one_run_is_no_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(6):
        for name, hz in (("dog", 300.0), ("rain", 2000.0)):
            write(tmp_path / f"data/{name}/{number}.wav", hz, 0.3 + 0.1 * number, seed=number)
    options = ("--preset", "debug", "--dry-run", "--models", "ast_debug")
    assert train("train", "folder", tmp_path / "data", *options) == 0
    out = capsys.readouterr().out
    assert re.search(r"each fold by its own training clips: mean -?[\d.]+ to -?[\d.]+, deviation [\d.]+", out)
    assert "at most 10.24 s" not in out
    assert train("train", "folder", tmp_path / "data", *options, "--folds", "1") == 0
    out = capsys.readouterr().out
    assert "1 seed: 1 run, " in out and "1 epoch," in out


def test_clips_beyond_the_longest_fitted_input_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(4):
        for name, hz in (("dog", 300.0), ("rain", 2000.0)):
            write(tmp_path / f"data/{name}/{number}.wav", hz, 11.5, seed=number)
    options = ("train", "folder", tmp_path / "data", "--preset", "debug", "--dry-run")
    assert train(*options) == 0
    assert "the fitted input is at most 10.24 s (--seconds" in capsys.readouterr().out
    assert train(*options, "--seconds", "2") == 0
    assert "at most 10.24 s" not in capsys.readouterr().out


def test_own_records_go_to_the_runs_folder_with_name_and_validation_curve(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = make_list(tmp_path / "birds", ("train", "val", "test"))
    options = ("--preset", "debug", "--format", "json", "--set", "epochs=2", "--name", "tones")
    assert train("train", "csv", table, *options) == 0
    printed = capsys.readouterr()
    assert not Path("reports").exists()
    runs = load_records(Path("runs/records")).of_kind(TrainedRun)
    assert {run.corpus for run in runs} == {"tones"}
    assert {run.normalise for run in runs} == {"data"}
    assert all(len([epoch for epoch in run.history if "validation_top1" in epoch]) == 2 for run in runs)
    assert all(f"runs/{run.key}.safetensors" in printed.err for run in runs)
    for name in ("tones/ast_debug", f"runs/{runs[0].key}", f"./runs/{runs[0].key}/", runs[0].key):
        with pytest.raises(InputError, match=rf"{re.escape(name)}: a run, not its weights: pass runs/\w+\.safetensors"):
            load_classifier(name)
    result = json.loads(printed.out)
    assert {row["row"] for row in result["rows"]} >= {"ast_debug", "mast_debug", "baseline", "majority class"}
    assert "top5" not in {row["column"] for row in result["rows"] if row["row"] == "ratio"}
    (recall,) = result["blocks"]
    assert {row["row"] for row in recall["rows"]} == {"low", "high"}
    assert train("train", "csv", table, *options) == 0
    assert "2 recorded, 0 to train" in capsys.readouterr().err
    assert train("train", "csv", table, *options, "--run", "none") == 0
    assert json.loads(capsys.readouterr().out)["rows"] == result["rows"]


def test_the_printed_comparison_works_whatever_was_trained_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = make_list(tmp_path / "birds", ("1", "2", "3"))
    options = ("--preset", "debug", "--name", "tones")
    assert train("train", "csv", table, *options, "--models", "ast_debug", "--folds", "2") == 0
    capsys.readouterr()
    for rate in (0.001, 0.002, 0.001):  # the last has records: the names then stand for the second
        assert train("train", "csv", table, *options, "--folds", "1", "--set", f"lr={rate}") == 0
        (line,) = [line for line in capsys.readouterr().err.splitlines() if " compare " in line]
        assert train(*shlex.split(line)[3:], "--format", "json") == 0
        compared = {row["row"] for row in json.loads(capsys.readouterr().out)["rows"]}
        runs = load_records(Path("runs/records")).of_kind(TrainedRun)
        assert compared == {run.key for run in runs if run.lr == rate and run.fold == "1"}


@pytest.mark.parametrize("splits", [(), ("train", "test"), ("train", "train", "val", "test")])
def test_a_search_on_any_clips_scores_no_test_clip(
    splits: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = make_list(tmp_path / "birds", splits, per_class=12)
    assert train("tune", "csv", table, "--preset", "debug", "--format", "json") == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["rows"]
    runs = load_records(Path("runs/records")).of_kind(SearchRun)
    assert ("no test clip is read" in printed.err) == bool(splits)
    assert ("`train` tests those clips too" in printed.err) == (not splits)
    commands = [shlex.split(line)[3:] for line in printed.err.splitlines() if " train csv " in line]
    for model in ("ast_debug", "mast_debug"):
        best = max((run for run in runs if run.model == model), key=lambda run: (run.metric("top1"), -run.lr))
        (command,) = [c for c in commands if f"lr={best.lr:g}" in c]
        assert "--models" not in command or model in command[command.index("--models") + 1]
        assert train(*command, "--dry-run") == 0
    assert len(runs) == 2 * len(PRESETS["debug"].search_lrs)
    tested = {split for run in runs for split in run.test_splits}
    assert tested == ({"val"} if "val" in splits else {HELD_OUT} if splits else {"1"})
    assert not any("test" in (*run.train_splits, *run.test_splits) for run in runs)


def test_sounds_that_are_in_training_and_test_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for split, number in (("train", 0), ("train", 1), ("val", 2), ("test", 3)):
        for name, hz in (("dog", 300.0), ("rain", 2000.0)):
            write(tmp_path / f"data/{split}/{name}/{number}.wav", hz, 0.3, seed=number)
    command = ("train", "folder", tmp_path / "data", "--preset", "debug", "--dry-run")
    assert train(*command) == 0
    assert "copies" not in capsys.readouterr().out
    for copy, original in (("val/dog/copy", "train/dog/0"), ("train/dog/again", "train/dog/1")):
        shutil.copy(tmp_path / f"data/{original}.wav", tmp_path / f"data/{copy}.wav")
    assert train(*command) == 0
    assert "copies" not in capsys.readouterr().out  # no test clip is trained on
    shutil.copy(tmp_path / "data/train/dog/1.wav", tmp_path / "data/test/dog/copy.wav")
    assert train(*command) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "warnings 1: copies 1 3 clips are the same sounds in training and in test, such as" in told
    assert "test/dog/copy.wav (test)" in told and "train/dog/1.wav (train)" in told.replace("again", "1")


def test_classes_that_are_tested_untrained_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for split, name, hz in (("train", "dog", 300.0), ("train", "rain", 2000.0), ("test", "dog", 310.0)):
        write(tmp_path / f"data/{split}/{name}/0.wav", hz, 0.3)
    command = ("train", "folder", tmp_path / "data", "--preset", "debug", "--dry-run")
    assert train(*command) == 0
    assert "untrained-classes" not in capsys.readouterr().out
    write(tmp_path / "data/test/saw/0.wav", 900.0, 0.3)
    assert train(*command) == 0
    assert "a run has test clips but no training clip of saw: it cannot name them" in capsys.readouterr().out


def test_sounds_that_several_folds_share_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(10):
        for name, hz in (("dog", 300.0), ("rain", 2000.0)):
            write(tmp_path / f"data/{name}/{number}.wav", hz, 0.3, seed=0 if name == "dog" else number)
    assert train("train", "folder", tmp_path / "data", "--preset", "debug", "--dry-run") == 0
    assert "10 clips are the same sounds in training and in test, such as" in capsys.readouterr().out
    assert train("train", "folder", tmp_path / "data", "--preset", "debug", "--models", "ast_debug") == 0
    assert "10 clips are the same sounds in training and in test" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("place", ["file", "shards"])
def test_a_dry_run_reads_shards_and_loads_the_weights(
    place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = make_list(tmp_path / "birds", ("train", "test"))
    path: Path = table
    if place == "shards":
        path = tmp_path / "shards"
        assert main(["data", "shard", "csv", str(path), "--data", f"csv={table}"]) == 0
    options = ("--preset", "debug", "--dry-run", "--models", "ast_debug", "--data", f"csv={path}")
    assert train("train", "csv", *options) == 0
    assert "ast_debug" in capsys.readouterr().out
    torch.save({"unrelated": torch.zeros(3)}, tmp_path / "other.pt")
    assert train("train", "csv", *options, "--weights", tmp_path / "other.pt") == 2
    assert "other.pt" in capsys.readouterr().err.splitlines()[-1]


def test_a_broken_file_and_classes_that_differ_by_case_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, hz in (("dog", 300.0), ("Dog", 2000.0)):
        for number in range(6):
            write(tmp_path / f"data/{name}/{number}.wav", hz, 0.3 + 0.1 * number, seed=number)
    cut_short(tmp_path / "data/dog/0.wav")
    assert train("train", "folder", tmp_path / "data", "--preset", "debug", "--dry-run") == 0
    out = capsys.readouterr().out
    assert "11 of 12 listed clips" in out
    assert "truncated" in out
    assert "'Dog' and 'dog'" in out


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--seconds", "9999"), "--seconds 9999"),
        (("--set", "epoch=3"), "no field 'epoch'"),
        (("--set", "front_end.mels=0"), "mels"),
        (("--name", "a/b"), "--name a/b"),
        (("--preset", "nothing.toml"), "nothing.toml"),
        (("--data", "csv=elsewhere"), "keep one"),
    ],
)
def test_what_cannot_be_asked_is_one_line(
    options: tuple[str, ...], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = make_list(tmp_path / "birds", ("train", "test"))
    assert train("train", "csv", table, "--dry-run", *options) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and says in error


def test_without_a_path_the_message_shows_where_it_goes(capsys: pytest.CaptureFixture[str]) -> None:
    assert train("train", "folder") == 2
    assert "train folder PATH" in capsys.readouterr().err


def test_robustness_of_own_clips_says_which_command_works_and_it_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = make_list(tmp_path / "birds", ("train", "test"))
    data = ("--data", f"csv={table}", "--figures", tmp_path)
    assert train("robustness", *data) == 2
    error = capsys.readouterr().err
    assert "add --records runs/records, or train them: " in error and "esc50" not in error
    command = shlex.split(error.strip().rpartition("train them: ")[2])[3:]
    assert train(*command, "--preset", "debug", "--models", "ast_debug") == 0
    capsys.readouterr()
    assert train("robustness", *data, "--records", "runs/records", "--format", "json") == 0
    assert "1 to measure" in capsys.readouterr().err
    (weights,) = Path("runs").glob("*.safetensors")
    assert train("robustness", *data, "--model", weights) == 2
    assert "pass --records runs/records" in capsys.readouterr().err


def test_a_path_in_place_of_a_name_is_told_the_word_that_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    make_list(tmp_path / "my-sounds", ("train", "test"))
    for arguments, meant in (
        (("train", "my-sounds"), "train folder my-sounds"),
        (("tune", "my-sounds/list.csv"), "tune csv my-sounds/list.csv"),
        (("train", "folder", "my-sounds/list.csv"), "train csv my-sounds/list.csv"),
    ):
        assert train(*arguments) == 2
        assert capsys.readouterr().err.strip().endswith(f": write {meant}")


def test_models_of_nearly_a_name_are_suggested(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = make_list(tmp_path / "birds", ("train", "test"))
    for wrong, meant in (("resnet18", "timm:resnet18"), ("ast_tny", "ast_tiny")):
        assert train("train", "csv", table, "--models", wrong) == 2
        assert f"did you mean {meant}?" in capsys.readouterr().err
    for wrong, meant in (("dmo", "demo"), ("dem:ast_tiny", "demo:ast_tiny"), ("mast_tiny", "demo:mast_tiny")):
        assert train("predict", tmp_path / "birds/low0.wav", "--model", wrong) == 2
        assert f"did you mean {meant}?" in capsys.readouterr().err
    assert train("predict", tmp_path / "birds/low0.wav", "--model", "nonsense") == 2
    assert "nonsense: no such file; give one of demo, demo:mast_tiny, " in capsys.readouterr().err


def test_clips_of_one_class_alone_are_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(6):
        write(tmp_path / f"data/dog/{number}.wav", 300.0, seed=number)
    assert train("train", "folder", tmp_path / "data", "--preset", "debug") == 2
    assert "one class, dog: there is nothing to tell apart" in capsys.readouterr().err


def test_a_run_that_was_searched_and_trained_is_listed_once_with_both_kinds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = make_list(tmp_path / "birds", ("1", "2", "3"))
    options = ("--preset", "debug", "--models", "ast_debug")
    assert train("tune", "csv", table, *options) == 0
    assert train("train", "csv", table, *options, "--folds", "1") == 0
    capsys.readouterr()
    assert train("runs", "list", "--format", "json") == 0
    rows = {cell["row"]: cell for cell in json.loads(capsys.readouterr().out)["rows"] if cell["column"] == "kind"}
    (trained,) = load_records(Path("runs/records")).of_kind(TrainedRun)
    assert sorted(map(str, (rows[key]["text"] for key in rows))) == ["baseline", "search", "train and search"]
    assert rows[trained.key]["text"] == "train and search"
    assert train("compare", trained.key, trained.key) == 0  # the key names one run
    Path("runs").rename("elsewhere")
    assert train("runs", "show", trained.key, "--runs", "elsewhere") == 0
    assert f"elsewhere/{trained.key}.safetensors" in capsys.readouterr().out
    assert train("runs", "list", "--runs", "runs2") == 2
    assert "runs2/records: no such folder of records" in capsys.readouterr().err


def test_a_search_on_clips_of_several_labels_ranks_the_rates_by_map(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = make_list(tmp_path / "birds", ("1", "2", "3"))
    lines = table.read_text().splitlines()
    table.write_text("\n".join([*lines[:-3], *(line.replace(",high,", ",high;low,") for line in lines[-3:])]) + "\n")
    assert train("tune", "csv", table, "--preset", "debug", "--models", "ast_debug", "--format", "json") == 0
    printed = capsys.readouterr()
    rates = {row["row"]: row["measured"] for row in json.loads(printed.out)["rows"]}
    best = max(rates, key=lambda name: rates[name])
    assert f"--set {best} --models ast_debug" in printed.err


def test_shards_of_own_clips_train_with_the_statistics_of_their_sound(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = make_list(tmp_path / "data", splits=("train", "train", "test"))
    shards = tmp_path / "shards"
    assert main(["data", "shard", "csv", str(shards), "--data", f"csv={listed}"]) == 0
    assert main(["train", "csv", str(shards), "--preset", "debug", "--runs", str(tmp_path / "runs")]) == 0
    trained = load_records(tmp_path / "runs/records").of_kind(TrainedRun)
    assert len(trained) == 2
    assert all(run.normalise and run.front_end.mean != PRESETS["debug"].front_end.mean for run in trained)

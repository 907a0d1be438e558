"""The stand-ins: official layouts, the same bytes for a seed, killable; sounds neither trivial nor alike."""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from reproduce.__main__ import main
from reproduce.datasets import read_dataset
from reproduce.datasets.standin import catalogue
from reproduce.datasets.standin.catalogue import ORDER_PAIRS
from reproduce.datasets.standin.layouts import audioset_labels, epic_segments, render_clip, verb_and_noun
from reproduce.datasets.standin.synthesis import to_pcm16
from reproduce.datasets.standin.write import SAMPLE_RATE, STANDINS, class_examples, write_standin
from reproduce.datasets.standin_marker import MARKER, standin_marker
from reproduce.errors import InputError

SMALL = {"kinetics_sounds": 10, "epic_kitchens": 60, "vggsound": 10, "audioset": 12}
SOURCES = 6  # recordings per class that the measurements below are taken on


def files_of(root: Path) -> dict[str, str]:
    """Every file under root, hidden ones too: relative path -> SHA-256."""
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def audio_in(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*.flac")}


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("standins")
    return {name: write_standin(name, root / name, clips=clips, seed=3) for name, clips in SMALL.items()}


# --- layouts ---


@pytest.mark.parametrize("name", list(STANDINS))
def test_the_data_sets_reader_finds_every_clip(name: str, trees: dict[str, Path]) -> None:
    index = read_dataset(name, trees[name], **({"variant": "full"} if name == "audioset" else {}))
    assert (len(index), len(index.missing_ids), sum(index.listed.values())) == (SMALL[name], 0, SMALL[name])
    assert not [problem for problem in index.problems if problem.reason != "class-absent"]
    assert set(index.paths) == audio_in(trees[name])
    classes = STANDINS[name].classes
    assert {head: set(names) for head, names in index.classes.items()} == {h: set(c) for h, c in classes.items()}


def test_audioset_files_are_as_long_as_their_official_rows_state(trees: dict[str, Path]) -> None:
    root = trees["audioset"]
    for split in ("balanced_train", "unbalanced_train", "eval"):
        lines = (root / f"{split}_segments.csv").read_text(encoding="utf-8").splitlines()
        assert [line[0] for line in lines[:3]] == ["#"] * 3
        for line in lines[3:]:
            match = re.fullmatch(r'([\w-]{11}), (\d+\.\d{3}), (\d+\.\d{3}), "([^"]+)"', line)
            assert match, line
            duration = soundfile.info(root / f"audio/{split}_segments/Y{match[1]}.flac").duration
            assert duration == float(match[3]) - float(match[2])


def test_epic_kitchens_has_the_official_columns_and_class_files(trees: dict[str, Path], annotations: Path) -> None:
    official = annotations / "epic_kitchens_100"
    for name in ("EPIC_100_validation.csv", "EPIC_100_verb_classes.csv", "EPIC_100_noun_classes.csv"):
        ours, real = read_csv(trees["epic_kitchens"] / name)[0], read_csv(official / name)[0]
        assert list(ours) == list(real)
    real_row, our_row = (
        read_csv(official / "EPIC_100_validation.csv")[1],
        read_csv(trees["epic_kitchens"] / "EPIC_100_train.csv")[1],
    )
    for column, value in real_row.items():
        shape = re.sub(r"\d+", "0", value), re.sub(r"\d+", "0", our_row[column])
        if "timestamp" in column or "frame" in column or column.endswith(("_id", "_class", "_classes")):
            assert shape[0] == shape[1], column


def test_epic_kitchens_segments_lie_inside_their_video(trees: dict[str, Path]) -> None:
    root = trees["epic_kitchens"]
    verbs, nouns = STANDINS["epic_kitchens"].classes["verb"], STANDINS["epic_kitchens"].classes["noun"]
    videos: dict[str, set[str]] = {}
    for split in ("train", "validation"):
        rows = read_csv(root / f"EPIC_100_{split}.csv")
        videos[split] = {row["video_id"] for row in rows}
        for row in rows:
            start, stop = (_seconds(row[f"{end}_timestamp"]) for end in ("start", "stop"))
            assert 0 <= start < stop <= soundfile.info(root / f"audio/{row['video_id']}.flac").duration
            assert verbs[int(row["verb_class"])] == row["verb"]
            assert nouns[int(row["noun_class"])] == row["noun"]
    assert not videos["train"] & videos["validation"]
    assert {f"audio/{video}.flac" for video in videos["train"] | videos["validation"]} == audio_in(root)


def _seconds(timestamp: str) -> float:
    return sum(float(part) * unit for part, unit in zip(timestamp.split(":"), (3600, 60, 1), strict=True))


@pytest.mark.parametrize("name", list(STANDINS))
def test_audio_is_16_khz_mono_16_bit_and_neither_silent_nor_clipped(name: str, trees: dict[str, Path]) -> None:
    for path in sorted(trees[name].rglob("*.flac")):
        info = soundfile.info(path)
        assert (info.samplerate, info.channels, info.subtype) == (SAMPLE_RATE, 1, "PCM_16")
        peak = np.abs(soundfile.read(path)[0]).max()
        assert 0.02 < peak < 0.98


@pytest.mark.parametrize("name", list(STANDINS))
def test_a_stand_in_says_that_it_is_one(name: str, trees: dict[str, Path]) -> None:
    marker = standin_marker(trees[name])
    assert marker is not None
    assert "synthetic stand-in" in marker["title"]
    assert (marker["dataset"], marker["seed"], marker["clips"]) == (name, 3, SMALL[name])
    assert marker["complete"] is True
    assert standin_marker(trees[name].parent) is None


# --- the numbers that make a stand-in resemble its dataset ---


@pytest.mark.parametrize("name", ["kinetics_sounds", "vggsound"])
def test_default_clips_are_equally_many_per_class_in_each_split(name: str) -> None:
    standin = STANDINS[name]
    classes = len(standin.classes["label"])
    assert all(count % classes == 0 for count in standin.clips_per_split(standin.default_clips).values())


def test_audioset_clips_carry_as_many_labels_as_the_real_eval_set() -> None:
    labels = [audioset_labels(0, "eval", i)[0] for i in range(2000)]
    assert abs(np.mean([len(row) for row in labels]) - 51_804 / 20_371) < 0.12
    assert all(len(set(row)) == len(row) for row in labels)
    counts = Counter(itertools.chain.from_iterable(labels))
    assert max(counts.values()) < 1.4 * min(counts.values())


def test_unbalanced_audioset_labels_are_skewed_and_yet_complete() -> None:
    counts = Counter(itertools.chain.from_iterable(audioset_labels(0, "unbalanced_train", i)[0] for i in range(2000)))
    assert set(counts) == set(catalogue.AUDIOSET)
    assert max(counts.values()) > 4 * min(counts.values())


def test_epic_verbs_and_nouns_are_independent_and_segments_as_long_as_real_ones() -> None:
    pairs = Counter(verb_and_noun(i) for i in range(160))
    verbs, nouns = len(catalogue.EPIC_VERBS), len(catalogue.EPIC_NOUNS)
    assert len(pairs) == verbs * nouns
    assert set(pairs.values()) == {2}
    segments = [segment for video in range(60) for segment in epic_segments(0, "train", video, 20)]
    lengths = np.array([segment.stop - segment.start for segment in segments]) / 100
    assert lengths.min() >= 0.5
    assert 1.7 < np.median(lengths) < 2.3  # 1.96 in the validation set
    assert 0.01 < np.mean(lengths > 10.24) < 0.1  # 6.9% there: some segments must need several crops


# --- bytes ---


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_clips(
    trees: dict[str, Path], tmp_path: Path
) -> None:
    again = write_standin("vggsound", tmp_path / "again", clips=SMALL["vggsound"], seed=3)
    assert files_of(again) == files_of(trees["vggsound"])
    other = write_standin("vggsound", tmp_path / "other", clips=SMALL["vggsound"], seed=4)
    assert not audio_in(other) & audio_in(again)
    assert files_of(other)["vggsound.csv"] != files_of(again)["vggsound.csv"]  # other ids; the class list is the same


@pytest.mark.parametrize("name", list(STANDINS))
def test_a_seed_gives_the_sounds_that_it_gave_in_version_1(name: str) -> None:
    """Stored records name the seed of their stand-in.

    Mean of |x| and of |dx|, and the centre of the energy in time, of every class, computed at commit 2887e4b; there
    the classes were measured to be distinct, and the pairs in ORDER_PAIRS to differ along time alone.
    """
    stored = json.loads((Path(__file__).parent / "golden/standin_levels.json").read_text(encoding="utf-8"))[name]
    examples = class_examples(name, seed=0, seconds=1.0)
    assert examples.keys() == stored.keys()
    for key, wave in examples.items():
        power = wave.astype(np.float64) ** 2
        centre = power @ np.arange(len(wave)) / power.sum() / len(wave)
        found = [float(np.abs(wave).mean()), float(np.abs(np.diff(wave)).mean()), float(centre)]
        assert found == pytest.approx(stored[key], rel=1e-3), key


@pytest.mark.parametrize(
    ("name", "sha256"),
    [
        ("kinetics_sounds", "2b586e0f4faaa519d1c0ac6c1f7f0c8427b6e5b15bf8d452479e13b62a0aa49f"),
        ("epic_kitchens", "41079ebb73d09f9843fac06e550d6f27fad82d30c7e15e429944644b81d525f5"),
        ("vggsound", "a1965bcd148db1e4413dcf3c37434a9475eedc44eb3376b54edf7cd75b38351b"),
        ("audioset", "68bbe3a5bdb4bfec8495c76e4f002565ed03637b729c9458b52949c5df0447de"),
    ],
)
def test_a_seed_gives_the_lists_that_it_gave_in_version_1(name: str, sha256: str, trees: dict[str, Path]) -> None:
    """Names of all files and the content of the text files, as commit 2887e4b wrote them."""
    digest = hashlib.sha256()
    for path in sorted(trees[name].rglob("*")):
        if path.is_file():
            text = b"" if path.suffix == ".flac" else path.read_bytes()
            digest.update(path.relative_to(trees[name]).as_posix().encode() + b"\n" + text)
    assert digest.hexdigest() == sha256


@pytest.mark.parametrize("name", list(STANDINS))
def test_any_clip_can_be_made_alone(name: str, trees: dict[str, Path]) -> None:
    standin = STANDINS[name]
    path, render = standin.plan(3, standin.clips_per_split(SMALL[name])).audio[-1]
    stored, _ = soundfile.read(trees[name] / path, dtype="int16")
    assert np.array_equal(to_pcm16(render()), stored)


def test_no_source_is_used_twice() -> None:
    sound = catalogue.VGGSOUND["striking glass, clinking"]
    clips = [render_clip(sound, 1.0, "vggsound", split, i, seed=0) for split in ("train", "test") for i in range(4)]
    spectra = np.stack([np.abs(np.fft.rfft(clip)) for clip in clips])
    likeness = np.corrcoef(np.log(spectra + 1e-3)) - np.eye(len(clips))
    assert likeness.max() < 0.95


KILLED = """
import os, signal, sys
from reproduce.datasets.standin.write import write_standin
def progress(done, files):
    if done == 3:
        os.kill(os.getpid(), signal.SIGKILL)
write_standin("vggsound", sys.argv[1], clips=10, seed=3, progress=progress)
"""


def test_the_command_completes_a_killed_run_to_the_same_tree(
    trees: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "vggsound"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(root)], cwd=Path(__file__).parents[1], check=False)
    assert killed.returncode == -signal.SIGKILL and not (root / "vggsound.csv").exists()  # the lists come last
    kept = {path: path.stat().st_mtime_ns for path in root.rglob("*.flac")}
    assert len(kept) == 3
    (next(iter(kept)).parent / ".half a clip.flac.x.tmp").write_bytes(b"fLaC")  # as a kill within a write leaves
    assert main(["data", "standin", "vggsound", "--clips", "10", "--seed", "3", "--out", str(tmp_path)]) == 0
    assert f"--data vggsound={root}" in capsys.readouterr().out
    assert files_of(root) == files_of(trees["vggsound"])
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


# --- bad input ---


def test_a_folder_that_holds_something_else_is_left_alone(trees: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "vggsound.csv").write_text("real data")
    with pytest.raises(InputError, match="no stand-in"):
        write_standin("vggsound", tmp_path, clips=10)
    assert [path.name for path in tmp_path.iterdir()] == ["vggsound.csv"]
    before = files_of(trees["vggsound"])
    with pytest.raises(InputError, match="other seed"):
        write_standin("vggsound", trees["vggsound"], clips=SMALL["vggsound"], seed=9)
    with pytest.raises(InputError, match="other clips"):
        write_standin("vggsound", trees["vggsound"], clips=SMALL["vggsound"] + 1, seed=3)
    assert files_of(trees["vggsound"]) == before


def test_unknown_names_too_few_clips_and_broken_markers_are_named_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="audioset, epic_kitchens"):
        write_standin("audiosset", tmp_path)
    with pytest.raises(InputError, match="at least 6"):
        write_standin("audioset", tmp_path / "a", clips=5)
    assert not (tmp_path / "a").exists()
    (tmp_path / MARKER).write_text("{")
    with pytest.raises(InputError, match=MARKER) as raised:
        standin_marker(tmp_path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", sorted(STANDINS))
def test_a_stand_in_that_is_not_finished_is_not_read(name: str, trees: dict[str, Path], tmp_path: Path) -> None:
    root = tmp_path / name
    shutil.copytree(trees[name], root)
    assert len(read_dataset(name, root)) > 0
    marker = json.loads((root / MARKER).read_text(encoding="utf-8"))
    (root / MARKER).write_text(json.dumps({**marker, "complete": False}), encoding="utf-8")
    with pytest.raises(InputError, match="run `data standin` again") as raised:
        read_dataset(name, root)
    assert str(raised.value).startswith(str(root))
    write_standin(name, root, clips=SMALL[name], seed=3)
    assert len(read_dataset(name, root)) > 0


def test_a_place_that_cannot_be_written_is_named_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    blocked = tmp_path / "blocked"
    (blocked / MARKER).mkdir(parents=True)  # where the marker should be put
    for root in (file, file / "below", blocked):
        with pytest.raises(InputError) as raised:
            write_standin("vggsound", root, clips=10)
        assert str(raised.value).startswith(str(root))
        assert "\n" not in str(raised.value)
    assert file.read_text() == "mine"


def test_a_clip_that_cannot_be_written_is_named_in_one_line(tmp_path: Path) -> None:
    standin = STANDINS["vggsound"]
    relative, _ = standin.plan(0, standin.clips_per_split(10)).audio[0]
    root = tmp_path / "vggsound"
    write_standin("vggsound", root, clips=10)
    (root / relative).unlink()
    (root / relative / "in the way").mkdir(parents=True)
    with pytest.raises(InputError, match="cannot be written") as raised:
        write_standin("vggsound", root, clips=10)
    assert str(root) in str(raised.value)


def test_examples_cover_every_class_of_every_head() -> None:
    for name, standin in STANDINS.items():
        examples = class_examples(name, seconds=0.5)
        expected = set(standin.classes.get("label", ()))
        if not expected:
            expected = {f"{head}: {label}" for head, labels in standin.classes.items() for label in labels}
        assert set(examples) == expected
        assert all(wave.dtype == np.float32 and len(wave) == SAMPLE_RATE // 2 for wave in examples.values())


# --- what can be heard ---


def log_mel(waveform: np.ndarray) -> np.ndarray:
    """(frames, 64) natural log, 25 ms windows every 10 ms: enough for means, and free of torch."""
    edges = 700 * np.expm1(np.linspace(np.log1p(20 / 700), np.log1p(8000 / 700), 66))
    bins = np.fft.rfftfreq(512, 1 / SAMPLE_RATE)
    rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    frames = np.lib.stride_tricks.sliding_window_view(waveform, 400)[::160] * np.hanning(400)
    return np.log(np.abs(np.fft.rfft(frames, 512)) ** 2 @ np.clip(np.minimum(rising, falling), 0, None).T + 1e-7)


@pytest.mark.parametrize("name", ["kinetics_sounds", "vggsound"])
def test_time_averaged_log_mels_are_neither_useless_nor_enough(name: str) -> None:
    """The nearest class mean recognises some of the clips; sounds of ORDER_PAIRS have the same mean."""
    sounds = getattr(catalogue, name.upper())
    features = {
        label: np.stack([log_mel(render_clip(sound, 6.0, "test", label, i, seed=0)).mean(0) for i in range(SOURCES)])
        for label, sound in sounds.items()
    }
    labels = np.array(STANDINS[name].classes["label"])
    means = np.stack([features[label][:4].mean(0) for label in labels])
    test = np.concatenate([features[label][4:] for label in labels])
    guesses = labels[((test[:, None] - means) ** 2).sum(-1).argmin(1)]
    assert 0.25 < np.mean(guesses == np.repeat(labels, SOURCES - 4)) < 0.8
    apart = [np.linalg.norm(one.mean(0) - other.mean(0)) for one, other in itertools.combinations(features.values(), 2)]
    pairs = [np.linalg.norm(features[one].mean(0) - features[other].mean(0)) for one, other in ORDER_PAIRS[name]]
    assert np.mean(pairs) < np.quantile(apart, 0.1)

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
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.signal import find_peaks

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
FRAME = 160  # samples per 10 ms
QUICKENING = 21  # where `measure` puts the rhythm's direction


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
    """Stored records name the seed of their stand-in: mean amplitude of every class, made by commit 2887e4b."""
    stored = json.loads((Path(__file__).parent / "golden/standin_levels.json").read_text(encoding="utf-8"))[name]
    examples = class_examples(name, seed=0, seconds=1.0)
    assert {key: float(np.abs(wave).mean()) for key, wave in examples.items()} == pytest.approx(stored, rel=1e-3)


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


def test_a_killed_run_is_completed_to_the_same_tree(trees: dict[str, Path], tmp_path: Path) -> None:
    root = tmp_path / "killed"
    code = (
        "from reproduce.datasets.standin.write import write_standin\n"
        f"write_standin('kinetics_sounds', {str(root)!r}, clips={SMALL['kinetics_sounds']}, seed=3)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[1])
    deadline = time.monotonic() + 60
    while len(list(root.rglob("*.flac"))) < 2 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {path: path.stat().st_mtime_ns for path in root.rglob("*.flac") if not path.name.startswith(".")}
    assert len(kept) >= 2
    interrupted = root / "train" / ".half a clip.flac.x.tmp"  # the kill may or may not have left one
    interrupted.write_bytes(b"fLaC")
    calls: list[tuple[int, int]] = []
    write_standin(
        "kinetics_sounds", root, SMALL["kinetics_sounds"], seed=3, progress=lambda done, of: calls.append((done, of))
    )
    assert files_of(root) == files_of(trees["kinetics_sounds"])
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert calls == [(i, SMALL["kinetics_sounds"]) for i in range(1, SMALL["kinetics_sounds"] + 1)]


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


def measure(waveform: np.ndarray) -> np.ndarray:
    """What one listens for, one number each: spectrum, onsets, decay, rhythm and direction in time."""
    frames = np.lib.stride_tricks.sliding_window_view(waveform, 320)[::FRAME] * np.hanning(320).astype(np.float32)
    power = np.abs(np.fft.rfft(frames, 512)).astype(np.float32) ** 2
    power = np.maximum(power - 2 * np.quantile(power[::4], 0.03, axis=0), 1e-9)  # without the steady background
    hz = np.fft.rfftfreq(512, 1 / SAMPLE_RATE)
    octave = np.log2(np.maximum(hz, 40))
    mean = power.mean(0) / power.mean(0).sum()
    centroid = mean @ octave
    bands = [mean[(hz >= low) & (hz < 2 * low)].sum() for low in (62.5, 125, 250, 500, 1000, 2000, 4000)]
    loud = 10 * np.log10(power.sum(1))
    loud = np.maximum(loud - np.sort(loud)[-20:].mean(), -40)
    active = loud > -20
    rise = np.maximum(np.diff(np.log(power + 1e-5 * power.max()), axis=0), 0).mean(1)
    onsets = find_peaks(rise, height=max(3 * np.median(rise), 0.25 * rise.max()), distance=4)[0]
    gaps = np.diff(onsets) * FRAME / SAMPLE_RATE if len(onsets) > 3 else np.full(3, 3.0)
    trend = np.diff(np.log(gaps))
    falls = loud[np.minimum(onsets + 2, len(loud) - 1)] - loud[np.minimum(onsets + 8, len(loud) - 1)]
    modulation = np.abs(np.fft.rfft(loud - loud.mean(), 2048)) / np.sqrt(len(loud))
    rhythm = [modulation[low:high].mean() for low, high in itertools.pairwise((4, 16, 40, 80, 160, 400, 1000))]
    pitch = (power @ octave) / power.sum(1)
    later = [_direction(curve, active, lag) for curve in (pitch, loud) for lag in (10, 30, 60)]
    return np.array(
        [
            centroid,
            np.sqrt(mean @ (octave - centroid) ** 2),
            np.log(mean + 1e-7).mean(),
            *np.log(np.array(bands) + 1e-4),
            np.log(len(onsets) + 1),
            np.log(np.median(gaps)),
            np.log(np.quantile(gaps, 0.9) / np.quantile(gaps, 0.1)),
            np.mean(falls) if len(falls) else 0.0,
            np.mean(active),
            *np.log(np.array(rhythm) + 0.1),
            np.mean(trend < -0.03) - np.mean(trend > 0.03),
            np.std(pitch[active]),
            *later,
        ]
    )


def _direction(curve: np.ndarray, active: np.ndarray, lag: int) -> float:
    """Share of sounding moments after which `curve` is higher rather than lower `lag` frames later."""
    both = active[lag:] & active[:-lag]
    return float(np.mean(np.sign((curve[lag:] - curve[:-lag])[both]))) if both.any() else 0.0


TWIN = "playing piano, under another name"  # a control: the measurements must not find a difference


@pytest.fixture(scope="module")
def heard() -> dict[str, dict[str, dict[str, np.ndarray]]]:
    """dataset -> {"measure", "log_mel"} -> class -> (SOURCES, features). AudioSet's beds join VGGSound's classes."""
    beds = {name: catalogue.AUDIOSET[name] for name in catalogue.AUDIOSET_BEDS}
    twin = {TWIN: catalogue.KINETICS_SOUNDS["playing piano"]}
    tables = {"kinetics_sounds": {**catalogue.KINETICS_SOUNDS, **twin}, "vggsound": {**catalogue.VGGSOUND, **beds}}
    features: dict[str, dict[str, dict[str, np.ndarray]]] = {}
    for name, sounds in tables.items():
        features[name] = {"measure": {}, "log_mel": {}}
        for label, sound in sounds.items():
            clips = [render_clip(sound, 6.0, "test", label, i, seed=0) for i in range(SOURCES)]
            features[name]["measure"][label] = np.stack([measure(clip) for clip in clips])
            features[name]["log_mel"][label] = np.stack([log_mel(clip).mean(0) for clip in clips])
    return features


def share_distinguished(one: np.ndarray, other: np.ndarray, precision: np.ndarray | None = None) -> float:
    """Share of clips that lie nearer to their own class's mean, which is taken over the other clips of that class."""
    precision = np.eye(one.shape[1]) if precision is None else precision
    right = []
    for own, rival in ((one, other), (other, one)):
        for i in range(len(own)):
            centres = np.delete(own, i, axis=0).mean(0), rival.mean(0)
            near, far = ((own[i] - centre) @ precision @ (own[i] - centre) for centre in centres)
            right.append(near < far)
    return float(np.mean(right))


def within_class_precision(classes: dict[str, np.ndarray]) -> np.ndarray:
    """Inverse of the pooled within-class covariance, slightly shrunk to its diagonal."""
    residuals = np.concatenate([rows - rows.mean(0) for rows in classes.values()])
    covariance = residuals.T @ residuals / len(residuals)
    return np.linalg.inv(covariance + 0.05 * np.diag(np.diag(covariance)))


def nearest_mean(train: np.ndarray, labels: np.ndarray, test: np.ndarray) -> np.ndarray:
    names = np.unique(labels)
    means = np.stack([train[labels == name].mean(0) for name in names])
    return names[((test[:, None] - means) ** 2).sum(-1).argmin(1)]


@pytest.mark.parametrize("name", ["kinetics_sounds", "vggsound"])
def test_no_two_classes_are_the_same_sound_under_two_names(
    name: str, heard: dict[str, dict[str, dict[str, np.ndarray]]]
) -> None:
    classes = heard[name]["measure"]
    precision = within_class_precision(classes)
    apart = {
        pair: share_distinguished(classes[pair[0]], classes[pair[1]], precision)
        for pair in itertools.combinations(classes, 2)
    }
    twins = apart.pop(("playing piano", TWIN), None)
    assert twins is None or twins < 0.75
    alike = {pair: share for pair, share in apart.items() if share < 0.75}
    assert not alike


@pytest.mark.parametrize("name", ["kinetics_sounds", "vggsound"])
def test_time_averaged_log_mels_are_neither_useless_nor_enough(
    name: str, heard: dict[str, dict[str, dict[str, np.ndarray]]]
) -> None:
    classes = {
        label: rows for label, rows in heard[name]["log_mel"].items() if label in STANDINS[name].classes["label"]
    }
    labels = np.array(list(classes))
    cut = 2 * SOURCES // 3
    train = np.concatenate([rows[:cut] for rows in classes.values()])
    test = np.concatenate([rows[cut:] for rows in classes.values()])
    guesses = nearest_mean(train, np.repeat(labels, cut), test)
    assert 0.25 < np.mean(guesses == np.repeat(labels, SOURCES - cut)) < 0.8


@pytest.mark.parametrize("name", ["kinetics_sounds", "vggsound"])
def test_order_pairs_differ_along_time_only(name: str, heard: dict[str, dict[str, dict[str, np.ndarray]]]) -> None:
    precision = within_class_precision(heard[name]["measure"])
    by_mean, by_time = [], []
    for one, other in ORDER_PAIRS[name]:
        by_mean.append(share_distinguished(heard[name]["log_mel"][one], heard[name]["log_mel"][other]))
        by_time.append(share_distinguished(heard[name]["measure"][one], heard[name]["measure"][other], precision))
    assert np.mean(by_mean) < 0.7
    assert min(by_time) > 0.8


def test_opening_and_closing_differ_along_time_only() -> None:
    nouns = list(catalogue.EPIC_NOUNS)
    clips = {
        verb: [render_clip(catalogue.epic_sound(verb, noun), 2.0, "test", verb, noun, seed=0) for noun in nouns]
        for verb in ORDER_PAIRS["epic_kitchens"][0]
    }
    quickening = {verb: [_quickening(clip) for clip in waves] for verb, waves in clips.items()}
    means = {verb: np.stack([log_mel(clip).mean(0) for clip in waves]) for verb, waves in clips.items()}
    assert share_distinguished(means["open"], means["close"]) < 0.7
    assert np.mean(quickening["open"]) > 0.2
    assert np.mean(quickening["close"]) < -0.2


def _quickening(waveform: np.ndarray) -> float:
    """Share of gaps between onsets that are shorter, less the share that are longer, than the gap before."""
    return float(measure(waveform)[QUICKENING])


def test_epic_verbs_and_nouns_need_more_than_the_mean_spectrum() -> None:
    counts = {"train": 240, "validation": 80}
    plan = STANDINS["epic_kitchens"].plan(0, counts)
    rows = []
    renders = iter(plan.audio)
    for split, count in counts.items():
        for video in range(count // 20):
            audio = next(renders)[1]()
            for segment in epic_segments(0, split, video, 20):
                clip = audio[segment.start * 160 : segment.stop * 160]
                rows.append((split, segment.verb, segment.noun, log_mel(clip).mean(0), measure(clip)))
    train = np.array([row[0] == "train" for row in rows])
    mean, along_time = (np.stack([row[k] for row in rows]) for k in (3, 4))
    along_time = (along_time - along_time[train].mean(0)) / (along_time[train].std(0) + 1e-6)
    verbs, nouns = (np.array([row[k] for row in rows]) for k in (1, 2))

    def accuracy(features: np.ndarray, labels: np.ndarray) -> float:
        return float(np.mean(nearest_mean(features[train], labels[train], features[~train]) == labels[~train]))

    assert 0.25 < accuracy(mean, nouns) < 0.8  # chance 0.1
    assert 0.15 < accuracy(mean, verbs) < 0.5  # chance 0.125: a verb is mostly rhythm
    assert accuracy(along_time, verbs) > max(0.35, accuracy(mean, verbs))


def test_audioset_mixtures_are_neither_trivial_nor_hopeless_for_nearest_mean() -> None:
    counts = {"balanced_train": 186, "eval": 62}
    names = list(catalogue.AUDIOSET)
    plan = STANDINS["audioset"].plan(0, counts)
    labels = [audioset_labels(0, split, i)[0] for split, count in counts.items() for i in range(count)]
    targets = np.array([[name in row for name in names] for row in labels])
    features = np.stack([log_mel(render()).mean(0) for _, render in plan.audio])
    train, test = slice(None, 186), slice(186, None)
    centre, spread = features[train].mean(0), features[train].std(0)
    features = (features - centre) / spread
    means = np.stack([features[train][targets[train, k]].mean(0) for k in range(len(names))])
    guesses = ((features[test][:, None] - means) ** 2).sum(-1).argmin(1)
    hits = targets[test][np.arange(len(guesses)), guesses].mean()
    assert 2 * targets[test].mean() < hits < 0.8

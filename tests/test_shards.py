"""Shards hold what the files hold, on any number of ranks and after any kill; damage is never passed on."""

from __future__ import annotations

import hashlib
import io
import json
import re
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from make_audio import RATE, cut_short, make_esc50_folder, tone

from reproduce.__main__ import main
from reproduce.audio.log_mel import log_mel, stack_waveforms
from reproduce.audio.spec import AudioSpec
from reproduce.audio.waveforms import load_waveform
from reproduce.data.batches import EpochPart, evaluation_batches, training_batches
from reproduce.data.rank_share import RankShare
from reproduce.data.shard_codec import decode_waveform, encode_waveform
from reproduce.data.shard_index import INDEX_NAME, JOURNAL_NAME, LOCK_NAME, read_shard_index
from reproduce.data.shard_reader import ShardWaveforms, in_memory, open_shards
from reproduce.data.shard_writer import write_shards
from reproduce.data.waveform_store import DecodedWaveforms, WaveformStore, load_waveforms, stream_waveforms
from reproduce.datasets import ClipIndex, read_dataset, read_variant
from reproduce.datasets.index import Labels
from reproduce.datasets.standin.write import STANDINS, write_standin
from reproduce.datasets.standin_marker import standin_marker
from reproduce.datasets.strings import Strings
from reproduce.errors import InputError
from reproduce.experiments.recipe import Recipe
from reproduce.files import file_lock

pytest.importorskip("webdataset", reason="writing shards needs webdataset")

# Two worker processes are what is tested, even where there is one core.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")

SPEC = AudioSpec(mels=32, frames=64, frame_shift_ms=20.0)  # 1.285 s
CLIPS = 20  # of `corpus`: 5 folds of 4


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> ClipIndex:
    return read_dataset("esc50", make_esc50_folder(tmp_path_factory.mktemp("esc50"), seconds=0.3))


@pytest.fixture(scope="module")
def shards(corpus: ClipIndex, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folds of 4 clips in shards of 3, so 3 and 1: ten shards."""
    out = tmp_path_factory.mktemp("shards")
    write_shards(corpus, out, clips_per_shard=3)
    return out


@pytest.fixture(scope="module")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Path]]:
    """Folders of a stand-in's files and of its shards, made once per data set; not to be changed by a test."""

    @cache
    def make(name: str) -> tuple[Path, Path]:
        folder = tmp_path_factory.mktemp(name)
        files = write_standin(name, folder / "files", clips=32)
        write_shards(read_variant(name, files), folder / "shards")
        return files, folder / "shards"

    return make


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != LOCK_NAME}


def copied(folder: Path, to: Path) -> Path:
    to.mkdir()
    for name, data in contents(folder).items():
        (to / name).write_bytes(data)
    return to


def inodes(folder: Path) -> dict[str, int]:
    """Which shards were written anew: a file that is replaced gets another inode."""
    return {path.name: path.stat().st_ino for path in folder.glob("*.tar")}


def one_line(error: pytest.ExceptionInfo[InputError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


# --- what a shard holds ---------------------------------------------------------------------------------------------


def test_16_bit_recordings_come_back_exactly_with_their_ids_and_targets(corpus: ClipIndex, shards: Path) -> None:
    opened: list[int] = []
    store = open_shards(shards, SPEC, on_clip=lambda: opened.append(1))
    assert len(store) == len(store.index) == len(opened) == CLIPS
    for i in range(CLIPS):
        clip, source = store.index.clip(i), corpus.clip(i)
        assert (clip.clip_id, clip.split, clip.labels) == (source.clip_id, source.split, source.labels)
        assert (store.waveforms[i] == load_waveform(source.path, SPEC)).all()
    assert (store.index.targets() == corpus.targets()).all()


@pytest.mark.parametrize("peak", [0.3, 1.0, 1.7, 9.0])
def test_quantisation_moves_a_sample_by_half_a_step_of_its_scale(peak: float) -> None:
    waveform = tone(440.0)
    waveform *= np.float32(peak) / np.abs(waveform).max()
    data, scale = encode_waveform(waveform)
    assert scale == 2.0 ** max(0, np.ceil(np.log2(peak)))
    # Full scale itself has no 16-bit number: there the step is a whole one.
    step = scale * 2.0**-16 * (2 if peak == 1.0 else 1.001)
    assert np.abs(decode_waveform(data, len(waveform), scale) - waveform).max() <= step


def test_features_of_resampled_recordings_stay_within_tolerance(esc10: Path, tmp_path: Path) -> None:
    """44.1 kHz sources, so 16 bits cost half a step. Only cells near the quantisation noise move."""
    index = read_dataset("esc50", esc10)
    index = index.take(np.arange(0, len(index), 40))
    write_shards(index, tmp_path)
    spec = AudioSpec(frames=512)
    store = open_shards(tmp_path, spec)
    for i in range(len(index)):
        waveform, source = store.waveforms[i], load_waveform(index.clip(i).path, spec)
        # A step at full scale, half a step elsewhere; and the mean's.
        assert np.abs(waveform - source).max() <= 2.0**-14
        ours, theirs = (log_mel(*stack_waveforms([w]), spec) for w in (waveform, source))
        difference = (ours - theirs).abs()
        assert difference[theirs > -8].max() < 0.25
        assert difference[theirs > -4].max() < 0.05
        assert difference.mean() < 0.15


def test_webdataset_itself_reads_the_shards(corpus: ClipIndex, shards: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    index = read_shard_index(shards)
    dataset = webdataset.WebDataset([str(shards / shard.file) for shard in index.shards], shardshuffle=False)
    samples = list(dataset)
    assert sorted(json.loads(sample["json"])["clip_id"] for sample in samples) == sorted(corpus.clip_ids.tolist())
    assert all(set(sample) > {"flac", "json", "__key__"} for sample in samples)


def test_the_same_clips_give_the_same_bytes(corpus: ClipIndex, tmp_path: Path) -> None:
    few = corpus.where_split("1", "2")
    for name, workers in (("a", 1), ("b", 3)):
        write_shards(few, tmp_path / name, clips_per_shard=3, workers=workers)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def multi_head_index(root: Path) -> ClipIndex:
    """Three stretches of one recording, with two heads and ids that no file could be called."""
    soundfile.write(root / "video.wav", tone(500.0, seconds=3.0), RATE)
    return ClipIndex(
        dataset="epic_kitchens",
        classes={"verb": ("take", "put"), "noun": ("cup", "pan", "lid")},
        multilabel=True,
        root=root,
        clip_ids=Strings.of(["P01/a.b.c", "P01/ä b", "P01/c"]),
        paths=Strings.of(["video.wav"] * 3),
        splits=Strings.of(["train/a", "train/a", "test"]),
        start=np.array([0.0, 0.5, np.nan]),
        stop=np.array([0.5, 1.25, np.nan]),
        labels={"verb": Labels.from_rows([[0], [1], [0]]), "noun": Labels.from_rows([[0, 2], [], [1]])},
        listed={"train/a": 3, "test": 1},
        missing_ids=Strings.of(["P01/lost"]),
        missing_splits=Strings.of(["train/a"]),
    )


def test_stretches_heads_multilabels_and_odd_names_survive(tmp_path: Path) -> None:
    index = multi_head_index(tmp_path)
    write_shards(index, tmp_path / "out")
    store = open_shards(tmp_path / "out", SPEC)
    assert store.index.clip_ids.tolist() == index.clip_ids.tolist()
    assert store.index.splits.tolist() == index.splits.tolist()
    assert [len(store.waveforms[i]) for i in range(3)] == [RATE // 2, RATE * 3 // 4, RATE * 3]
    for head in index.classes:
        assert (store.index.targets(head) == index.targets(head)).all()
    assert store.index.missing_ids.tolist() == ["P01/lost"]
    assert store.index.missing_splits.tolist() == ["train/a"]


def test_the_index_describes_the_corpus(corpus: ClipIndex, shards: Path) -> None:
    index = read_shard_index(shards)
    assert (index.dataset, index.multilabel, index.classes) == ("esc50", False, corpus.classes)
    assert index.listed == corpus.listed
    assert index.clips() == CLIPS and index.clips("1", "2") == 8
    assert sorted(shard.clips for shard in index.shards) == [1] * 5 + [3] * 5
    for split in corpus.split_names():
        assert index.ids_sha256[split] == corpus.where_split(split).ids_sha256()


def test_unusable_clips_are_named_as_the_corpus_names_them(tmp_path: Path) -> None:
    root = make_esc50_folder(tmp_path / "esc50", seconds=0.3)
    cut_short(root / "audio/1-0-0.wav")
    (root / "audio/2-0-0.wav").write_bytes(b"")
    soundfile.write(root / "audio/3-0-0.wav", np.zeros(RATE), RATE)
    (root / "audio/4-0-0.wav").unlink()
    corpus = read_dataset("esc50", root)
    result = write_shards(corpus, tmp_path / "out", clips_per_shard=3)
    packed, store = open_shards(tmp_path / "out", SPEC), load_waveforms(corpus, SPEC)
    expected = {("1-0-0", "truncated", True), ("2-0-0", "zero-byte", True), ("3-0-0", "silent", False)}
    for problems in (result.problems, packed.problems, store.problems):
        assert expected < {(p.clip_id, p.reason, p.fatal) for p in problems}
    assert packed.index.clip_ids.tolist() == store.index.clip_ids.tolist()
    assert read_shard_index(tmp_path / "out") == result
    assert result.ids_sha256["1"] == store.index.where_split("1").ids_sha256()
    assert result.clips() == CLIPS - 3
    # Shards are copied to other machines: they do not name this one's folders.
    assert str(tmp_path) not in (tmp_path / "out" / INDEX_NAME).read_text()
    assert any(problem.message.startswith("audio/1-0-0.wav: truncated") for problem in result.problems)


# --- reading --------------------------------------------------------------------------------------------------------


RECIPE = Recipe(epochs=1, batch_size=7, lr=1e-3, warmup_steps=1, mixup=0.5, freq_mask=8, time_mask=8, crop="random")
PLAIN = replace(RECIPE, mixup=0.0)
FIRST_EPOCH = EpochPart(seed=0, epoch=0)
SHORT = replace(SPEC, frames=8)  # 0.165 s, so that there is room for random crops


def bits_of(store: WaveformStore, recipe: Recipe, share: RankShare, workers: int = 0) -> list[tuple[object, ...]]:
    """Everything that an epoch hands to the model, comparable."""
    return [
        (
            *(b.step, b.last, b.clips, b.positions.tolist(), b.weights.tolist(), b.inputs.numpy().tobytes()),
            *((head, target.numpy().tobytes()) for head, target in b.targets.items()),
        )
        for b in training_batches(store, recipe, EpochPart(seed=3, epoch=1, share=share), "cpu", workers)
    ]


@pytest.mark.parametrize("recipe", [RECIPE, replace(RECIPE, sampler="balanced")], ids=["shuffle", "balanced"])
@pytest.mark.parametrize("share", [RankShare(), RankShare(1, 3, micro_batch=2), RankShare(4, 5)], ids=["1", "3", "5"])
def test_training_from_shards_sees_the_epochs_of_the_files(
    corpus: ClipIndex, shards: Path, share: RankShare, recipe: Recipe
) -> None:
    packed = open_shards(shards, SHORT)
    assert packed.index.clip_ids.tolist() == corpus.clip_ids.tolist()
    assert packed.index.ids_sha256() == corpus.ids_sha256()
    expected = bits_of(stream_waveforms(corpus, SHORT), recipe, share)
    assert bits_of(packed, recipe, share) == expected
    assert bits_of(in_memory(packed, whole=True), recipe, share) == expected
    assert bits_of(load_waveforms(corpus, SHORT, whole=True), recipe, share) == expected


@pytest.mark.parametrize("share", [RankShare(), RankShare(1, 2)], ids=["1", "2"])
def test_workers_read_the_same_epoch_from_shards(shards: Path, share: RankShare) -> None:
    store = open_shards(shards, SHORT)
    assert bits_of(store, RECIPE, share, workers=2) == bits_of(store, RECIPE, share)


def test_evaluation_from_shards_sees_what_the_files_hold(corpus: ClipIndex, shards: Path) -> None:
    packed, files = (
        torch.cat([batch.inputs for batch in evaluation_batches(store, 6, "cpu", crops=3)])
        for store in (open_shards(shards, SHORT), stream_waveforms(corpus, SHORT))
    )
    assert len(packed) == 3 * CLIPS and torch.equal(packed, files)


def test_splits_are_read_alone_and_an_unknown_one_is_an_error(corpus: ClipIndex, shards: Path) -> None:
    few, source = open_shards(shards, SPEC).where_split("2", "5"), corpus.where_split("2", "5")
    assert few.index.clip_ids.tolist() == source.clip_ids.tolist()
    assert all((few.waveforms[i] == load_waveform(source.clip(i).path, SPEC)).all() for i in range(8))
    with pytest.raises(InputError, match="split train") as error:
        few.where_split("train")
    one_line(error)


def test_in_memory_clips_are_trimmed_unless_they_stay_whole(shards: Path) -> None:
    packed = open_shards(shards, SHORT)
    cut, whole = in_memory(packed), in_memory(packed, whole=True)
    assert isinstance(cut.waveforms, DecodedWaveforms) and cut.index is packed.index
    for i in range(CLIPS):
        assert len(whole.waveforms[i]) == RATE * 3 // 10 and (whole.waveforms[i] == packed.waveforms[i]).all()
        assert (cut.waveforms[i] == whole.waveforms[i][: SHORT.samples]).all() and cut.waveforms[i].base is None


@pytest.mark.parametrize("whole", [False, True])
def test_shards_beyond_memory_are_refused_before_decoding(shards: Path, whole: bool) -> None:
    store = open_shards(shards, SHORT)
    needed = CLIPS * 4 * (RATE * 3 // 10 if whole else SHORT.samples)
    decoded: list[int] = []
    with pytest.raises(InputError, match="GiB of memory") as error:
        in_memory(store, on_clip=lambda: decoded.append(1), whole=whole, memory_limit=needed - 1)
    assert one_line(error) and not decoded
    assert in_memory(store, whole=whole, memory_limit=needed).memory_bytes(whole) == needed


@pytest.mark.parametrize("name", sorted(STANDINS))
def test_clips_from_shards_are_the_same_experiment_as_from_files(
    name: str, standin: Callable[[str], tuple[Path, Path]]
) -> None:
    root, out = standin(name)
    files, packed = load_waveforms(read_variant(name, root), SPEC, whole=True), open_shards(out, SPEC)
    assert packed.index.identity_sha256() == files.index.identity_sha256()
    assert len(packed) == len(files)
    assert all((packed.waveforms[i] == files.waveforms[i]).all() for i in range(len(files)))
    split = packed.index.split_names()[0]
    assert packed.where_split(split).content_sha256() == files.with_digests(None).where_split(split).content_sha256()
    assert packed.where_split(split).standin == files.standin == standin_marker(root) is not None


def test_another_sample_rate_is_refused(shards: Path) -> None:
    with pytest.raises(InputError, match="16000 Hz, the front end takes 24000 Hz"):
        open_shards(shards, replace(SPEC, sample_rate=24_000))


# --- damage ---------------------------------------------------------------------------------------------------------


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "message"),
    [(flip_a_byte, "checksum differs"), (cut_short, "bytes, index.json lists"), (Path.unlink, "missing")],
    ids=["flipped", "cut", "missing"],
)
def test_a_damaged_shard_is_one_line_and_running_again_mends_it_alone(
    corpus: ClipIndex,
    shards: Path,
    tmp_path: Path,
    damage: Callable[[Path], None],
    message: str,
) -> None:
    out = copied(shards, tmp_path / "out")
    damage(out / "esc50-3-000000.tar")
    with pytest.raises(InputError, match=message) as error:
        open_shards(out, SPEC)
    assert "esc50-3-000000.tar" in one_line(error) and "data shard" in one_line(error)

    before = inodes(out)
    write_shards(corpus, out, clips_per_shard=3)
    assert contents(out) == contents(shards)
    assert {name for name, inode in inodes(out).items() if inode != before.get(name)} == {"esc50-3-000000.tar"}


def test_a_clip_that_is_damaged_after_verification_is_a_problem_alone(shards: Path, tmp_path: Path) -> None:
    out = copied(shards, tmp_path / "out")
    store = open_shards(out, SPEC)
    waveforms = store.waveforms
    assert isinstance(waveforms, ShardWaveforms)
    with open(out / str(waveforms.files[5]), "r+b") as file:
        file.seek(int(waveforms.offsets[5]))
        file.write(bytes(100))
    batches = list(evaluation_batches(store, 8, "cpu"))
    assert [int(p) for batch in batches for p in batch.positions] == [p for p in range(CLIPS) if p != 5]
    (problem,) = [problem for batch in batches for problem in batch.problems]
    assert (problem.clip_id, problem.reason) == (str(store.index.clip_ids[5]), "unreadable")
    assert str(waveforms.files[5]) in problem.message and "\n" not in problem.message
    with pytest.raises(InputError, match="unreadable") as error:
        in_memory(store)
    one_line(error)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_shard_that_vanishes_while_it_is_used_gives_one_line(shards: Path, tmp_path: Path, workers: int) -> None:
    out = copied(shards, tmp_path / "out")
    store = open_shards(out, SPEC)
    (out / "esc50-3-000000.tar").unlink()
    for batches in (
        training_batches(store, RECIPE, FIRST_EPOCH, "cpu", workers),
        evaluation_batches(store, 8, "cpu", threads=workers),
    ):
        with pytest.raises(InputError, match=r"esc50-3-000000\.tar: No such file.*; copy the shard again") as error:
            list(batches)
        one_line(error)


def test_a_folder_without_an_index_or_with_a_foreign_one_gives_one_line(tmp_path: Path) -> None:
    path = tmp_path / INDEX_NAME
    for text, message in (
        (None, "no such file"),
        ("{", "copy it again"),
        ("[]", "not an index"),
        ('{"format": "MAST vs AST shards", "version": 99}', "not an index"),
        ('{"format": "MAST vs AST shards", "version": 2, "classes": {}}', "incomplete"),
        ('{"format": "MAST vs AST shards", "version": 2, "codec": "ogg"}', "shard the data set again, as flac"),
    ):
        if text is not None:
            path.write_text(text)
        with pytest.raises(InputError, match=message) as error:
            open_shards(tmp_path, SPEC)
        assert str(path) in one_line(error)


Change = Callable[[str, bytes], list[tuple[str, bytes]]]


def rewrite(out: Path, shard: str, change: Change, suffix: str = "json", members: int = 1) -> None:
    """Replace the first `members` members of a kind in a shard, and give index.json its new size and checksum."""
    with tarfile.open(out / shard) as tar:
        old = [(member.name, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]
    with tarfile.open(out / shard, "w") as tar:
        for name, data in old:
            changes = name.endswith(suffix) and members > 0
            members -= changes
            for new_name, new_data in change(name, data) if changes else [(name, data)]:
                info = tarfile.TarInfo(new_name)
                info.size = len(new_data)
                tar.addfile(info, io.BytesIO(new_data))
    seal(out, shard)


def seal(out: Path, name: str) -> None:
    index = json.loads((out / INDEX_NAME).read_text())
    data = (out / name).read_bytes()
    for shard in index["shards"]:
        if shard["file"] == name:
            shard |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (out / INDEX_NAME).write_text(json.dumps(index))


DESCRIPTION_DAMAGE: dict[str, dict[str, Any]] = {
    "label": {"labels": {"label": [99]}},
    "negative label": {"labels": {"label": [-1]}},
    "head": {"labels": {"noun": [0]}},
    "labels": {"labels": 3},
    "split": {"split": "5"},
    "id": {"clip_id": "another"},
    "id type": {"clip_id": 3},
    "time": {"start": "soon"},
    "endless time": {"start": 10**400},
    "samples": {"samples": 0},
    "many samples": {"samples": 10**30},
    "scale": {"scale": float("nan")},
    "great scale": {"scale": 1e300},
    "source": {"source": "x"},
    "field": {"colour": "red"},
}


@pytest.mark.parametrize("damage", DESCRIPTION_DAMAGE.values(), ids=DESCRIPTION_DAMAGE)
def test_a_wrong_description_is_refused_whatever_the_checksum(
    shards: Path, tmp_path: Path, damage: dict[str, Any]
) -> None:
    out = copied(shards, tmp_path / "out")
    rewrite(out, "esc50-3-000000.tar", lambda name, data: [(name, json.dumps(json.loads(data) | damage).encode())])
    with pytest.raises(InputError, match=r"esc50-3-000000\.tar: damaged|ids of split 3") as error:
        open_shards(out, SPEC)
    one_line(error)


@pytest.mark.parametrize(
    "change",
    [
        lambda name, data: [],
        lambda name, data: [(name, data), (name, data)],
        lambda name, data: [(name, data), ("readme.txt", b"")],
        lambda name, data: [(f"../{name}", data)],
        lambda name, data: [(name, b"[" * 9999)],
        lambda name, data: [(name, b"\xff")],
    ],
    ids=["one lacks", "one twice", "another file", "a path", "deep json", "no utf-8"],
)
def test_wrong_members_are_refused_whatever_the_checksum(shards: Path, tmp_path: Path, change: Change) -> None:
    out = copied(shards, tmp_path / "out")
    rewrite(out, "esc50-3-000000.tar", change)
    with pytest.raises(InputError, match=r"esc50-3-000000\.tar: damaged") as error:
        open_shards(out, SPEC)
    one_line(error)


def longer_flac() -> bytes:
    file = io.BytesIO()
    soundfile.write(file, tone(440.0, seconds=2.0), RATE, format="FLAC")
    return file.getvalue()


@pytest.mark.parametrize("audio", [b"", b"no flac", longer_flac()], ids=["empty", "no flac", "longer"])
def test_damaged_audio_is_that_clips_problem_whatever_the_checksum(shards: Path, tmp_path: Path, audio: bytes) -> None:
    out = copied(shards, tmp_path / "out")
    rewrite(out, "esc50-3-000000.tar", lambda name, data: [(name, audio)], suffix="flac")
    store = open_shards(out, SPEC)
    (problem,) = [problem for batch in evaluation_batches(store, 8, "cpu") for problem in batch.problems]
    assert problem.reason == "unreadable" and problem.clip_id.startswith("3-") and "\n" not in problem.message
    assert sum(float(batch.weights.sum()) for batch in training_batches(store, PLAIN, FIRST_EPOCH, "cpu")) == CLIPS - 1


def test_shards_written_before_there_were_digests_are_read(shards: Path, tmp_path: Path) -> None:
    def without_source(name: str, data: bytes) -> list[tuple[str, bytes]]:
        return [(name, json.dumps({k: v for k, v in json.loads(data).items() if k != "source"}).encode())]

    out = copied(shards, tmp_path / "out")
    for shard in read_shard_index(out).shards:
        rewrite(out, shard.file, without_source, members=shard.clips)
    (out / INDEX_NAME).write_text(re.sub(r',\s*"content": "\w*"', "", (out / INDEX_NAME).read_text()))
    store, newer = open_shards(out, SPEC), open_shards(shards, SPEC)
    assert all((store.waveforms[i] == newer.waveforms[i]).all() for i in range(CLIPS))
    assert store.content_sha256() == open_shards(out, SPEC).content_sha256() != newer.content_sha256()


# --- kill, resume, and other runs -----------------------------------------------------------------------------------

KILLED_RUN = """
import os, signal, sys
from pathlib import Path
from reproduce.datasets import read_dataset
from reproduce.data.shard_writer import write_shards
done = 0
def on_clips(clips):
    global done
    done += clips
    if done == 6:  # within the third shard: the first two hold 3 and 1 clips
        os.kill(os.getpid(), signal.SIGKILL)
write_shards(read_dataset("esc50", sys.argv[1]), Path(sys.argv[2]), clips_per_shard=3, workers=1, on_clips=on_clips)
"""


def test_a_run_killed_within_a_shard_is_resumed_to_the_same_bytes(
    corpus: ClipIndex, shards: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    killed = subprocess.run([sys.executable, "-c", KILLED_RUN, str(corpus.root), str(out)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not (out / INDEX_NAME).exists() and len(list(out.glob("*.tar"))) == 2
    with pytest.raises(InputError, match="not finished") as error:
        open_shards(out, SPEC)
    one_line(error)

    finished, done = inodes(out), []
    write_shards(corpus, out, clips_per_shard=3, on_clips=done.append)
    assert contents(out) == contents(shards)  # nothing is left of the shard that was half written
    assert sum(done) == CLIPS and finished.items() <= inodes(out).items()


def test_running_again_takes_in_a_clip_that_was_mended(tmp_path: Path) -> None:
    root, out = make_esc50_folder(tmp_path / "esc50", seconds=0.3), tmp_path / "out"
    index = read_dataset("esc50", root)
    sound = (root / "audio/1-0-0.wav").read_bytes()
    for name in ("1-0-0.wav", "2-0-0.wav"):
        (root / "audio" / name).write_bytes(b"")
    assert write_shards(index, out).clips() == CLIPS - 2
    before = inodes(out)

    (root / "audio/1-0-0.wav").write_bytes(sound)
    again = write_shards(index, out)
    assert [problem.clip_id for problem in again.problems] == ["2-0-0"]
    assert set(open_shards(out, SPEC).index.clip_ids.tolist()) == set(index.clip_ids.tolist()) - {"2-0-0"}
    assert {name for name, inode in inodes(out).items() if inode != before[name]} == {"esc50-1-000000.tar"}


def test_running_again_takes_in_other_sound_under_the_same_name(tmp_path: Path) -> None:
    root, out = make_esc50_folder(tmp_path / "esc50", seconds=0.3), tmp_path / "out"
    index = read_dataset("esc50", root)
    write_shards(index, out)
    before = in_memory(open_shards(out, SPEC))
    soundfile.write(root / "audio/4-1-1.wav", tone(700.0, seconds=0.3), RATE)
    write_shards(index, out)
    after = open_shards(out, SPEC)
    changed = [str(after.index.clip_ids[i]) for i in range(CLIPS) if (after.waveforms[i] != before.waveforms[i]).any()]
    assert changed == ["4-1-1"]
    same = [before.where_split(n).content_sha256() == after.where_split(n).content_sha256() for n in "12345"]
    assert same == [True, True, True, False, True]


def test_a_journal_line_that_was_cut_off_is_dropped(corpus: ClipIndex, shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def stop(clips: int) -> None:
        if (out / JOURNAL_NAME).read_bytes().count(b"\n") == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shards(corpus, out, clips_per_shard=3, on_clips=stop)
    journal = out / JOURNAL_NAME
    journal.write_bytes(journal.read_bytes()[:-20])
    write_shards(corpus, out, clips_per_shard=3)
    assert contents(out) == contents(shards)


def test_other_clips_or_settings_are_not_written_over(corpus: ClipIndex, shards: Path, tmp_path: Path) -> None:
    out = copied(shards, tmp_path / "out")
    relabelled = replace(corpus, labels={"label": Labels.from_rows([[1]] * CLIPS)})
    for index, clips_per_shard in ((corpus, 4), (corpus.where_split("1"), 3), (relabelled, 3)):
        with pytest.raises(InputError, match="other clips, labels or settings") as error:
            write_shards(index, out, clips_per_shard)
        one_line(error)
    assert {name: data for name, data in contents(out).items() if name != JOURNAL_NAME} == contents(shards)


def test_two_runs_do_not_write_to_one_folder(corpus: ClipIndex, tmp_path: Path) -> None:
    with file_lock(tmp_path / LOCK_NAME, "busy"), pytest.raises(InputError, match="another run is writing") as error:
        write_shards(corpus, tmp_path)
    one_line(error)


def test_a_folder_that_cannot_be_written_gives_one_line(corpus: ClipIndex, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file") as error:
        write_shards(corpus, tmp_path / "file")
    one_line(error)


# --- command line ---------------------------------------------------------------------------------------------------


def test_data_shard_on_the_command_line(
    corpus: ClipIndex, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["data", "shard", "esc50", str(out), "--data", f"esc50={corpus.root}", "--clips-per-shard", "3"]
    assert main(arguments) == 0
    assert "20 of 20 listed clips in 10 shards" in capsys.readouterr().out
    assert contents(out) == contents(shards)
    with pytest.raises(InputError, match="--clips-per-shard 0"):
        write_shards(corpus, out, clips_per_shard=0)
    assert main(["data", "shard", "esc50", str(out)]) == 2
    assert "--data esc50=DIR" in capsys.readouterr().err


def test_shards_of_another_variant_or_unfinished_are_not_trained_on(
    standin: Callable[[str], tuple[Path, Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = copied(standin("vggsound")[1], tmp_path / "shards")
    command = ["train", "vggsound", "--data", f"vggsound={out}", "--preset", "debug", "--records", str(tmp_path / "r")]
    assert main([*command, "--variant", "full"]) == 2
    assert f"{out}: these shards contain vggsound its only variant, but full is needed" in capsys.readouterr().err
    (out / INDEX_NAME).rename(out / JOURNAL_NAME)
    assert main(command) == 2
    assert "sharding is not finished; run the same `data shard` again" in capsys.readouterr().err

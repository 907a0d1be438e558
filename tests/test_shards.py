"""Shards hold what the files hold: each clip once, whoever reads, whatever was killed; damage is never passed on."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from make_audio import RATE, cut_short, make_esc50_folder, tone

from reproduce.__main__ import main
from reproduce.audio import load_mono, load_waveform, log_mel, stack_waveforms
from reproduce.audio_spec import AudioSpec
from reproduce.datasets import ClipIndex, read_dataset, read_variant
from reproduce.datasets.base import STRING, Labels
from reproduce.errors import InputError
from reproduce.experiments import Recipe
from reproduce.loading import load_waveforms, training_batches
from reproduce.shard_reader import Part, ShardDataset, ShardReader, load_shards
from reproduce.shards import (
    INDEX_NAME,
    JOURNAL_NAME,
    decode_waveform,
    encode_waveform,
    read_shard_index,
    write_shards,
)
from reproduce.standin import STANDINS, standin_marker, write_standin

pytest.importorskip("webdataset", reason="writing shards needs webdataset")

SPEC = AudioSpec(mels=32, frames=64, frame_shift_ms=20.0)
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


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def copied(folder: Path, to: Path) -> Path:
    to.mkdir()
    for name, data in contents(folder).items():
        (to / name).write_bytes(data)
    return to


def one_line(error: pytest.ExceptionInfo[InputError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


# --- what a shard holds ---------------------------------------------------------------------------------------------


def test_16_bit_recordings_come_back_exactly_with_their_ids_and_targets(corpus: ClipIndex, shards: Path) -> None:
    clips = {clip.position: clip for clip in ShardReader(shards).clips()}
    assert sorted(clips) == list(range(CLIPS))
    for i, clip in clips.items():
        source = corpus.clip(i)
        assert (clip.clip_id, clip.split, clip.labels) == (source.clip_id, source.split, source.labels)
        assert (clip.waveform == load_waveform(source.path, SPEC)).all()
        assert (clip.targets["label"] == corpus.targets("label", np.array([i]))[0]).all()


@pytest.mark.parametrize("peak", [0.3, 1.0, 1.7, 9.0])
def test_quantisation_moves_a_sample_by_half_a_step_of_its_scale(peak: float) -> None:
    waveform = tone(440.0)
    waveform *= np.float32(peak) / np.abs(waveform).max()
    data, scale = encode_waveform(waveform, "flac")
    assert scale == 2.0 ** max(0, np.ceil(np.log2(peak)))
    # Full scale itself has no 16-bit number: there the step is a whole one.
    assert np.abs(decode_waveform(data, scale) - waveform).max() <= scale * 2.0**-16 * (2 if peak == 1.0 else 1.001)


def test_features_of_resampled_recordings_stay_within_tolerance(esc10: Path, tmp_path: Path) -> None:
    """44.1 kHz sources, so 16 bits cost half a step. Only cells near the quantisation noise move; see shards.py."""
    index = read_dataset("esc50", esc10)
    index = index.take(np.arange(0, len(index), 40))
    write_shards(index, tmp_path)
    spec = AudioSpec(frames=512)
    for clip in ShardReader(tmp_path).clips():
        source = load_waveform(index.clip(clip.position).path, spec)
        assert (
            np.abs(clip.waveform - source).max() <= 2.0**-14
        )  # a step at full scale, half a step elsewhere; and the mean's
        ours, theirs = (log_mel(*stack_waveforms([w]), spec) for w in (clip.waveform, source))
        difference = (ours - theirs).abs()
        assert difference[theirs > -8].max() < 0.25
        assert difference[theirs > -4].max() < 0.05
        assert difference.mean() < 0.15


def test_ogg_keeps_the_length_and_nearly_the_sound(corpus: ClipIndex, tmp_path: Path) -> None:
    write_shards(corpus, tmp_path, codec="ogg")
    for clip in ShardReader(tmp_path).clips():
        source = load_waveform(corpus.clip(clip.position).path, SPEC)
        assert len(clip.waveform) == len(source)
        assert np.corrcoef(clip.waveform, source)[0, 1] > 0.95


def test_webdataset_itself_reads_the_shards(corpus: ClipIndex, shards: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    index = read_shard_index(shards)
    dataset = webdataset.WebDataset([str(shards / shard.file) for shard in index.shards], shardshuffle=False)
    samples = list(dataset)
    assert sorted(json.loads(sample["json"])["clip_id"] for sample in samples) == sorted(corpus.clip_ids.tolist())
    assert all(set(sample) > {"flac", "json", "__key__"} for sample in samples)


@pytest.mark.parametrize("codec", ["flac", "ogg"])
def test_the_same_clips_give_the_same_bytes(corpus: ClipIndex, tmp_path: Path, codec: str) -> None:
    few = corpus.where_split("1", "2")
    for name, workers in (("a", 1), ("b", 3)):
        write_shards(few, tmp_path / name, clips_per_shard=3, codec=codec, workers=workers)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def multi_head_index(root: Path) -> ClipIndex:
    """Three stretches of one recording, with two heads and ids that no file could be called."""
    soundfile.write(root / "video.wav", tone(500.0, seconds=3.0), RATE)
    return ClipIndex(
        dataset="epic_kitchens",
        classes={"verb": ("take", "put"), "noun": ("cup", "pan", "lid")},
        multilabel=True,
        root=root,
        clip_ids=np.array(["P01/a.b.c", "P01/ä b", "P01/c"], STRING),
        paths=np.array(["video.wav"] * 3, STRING),
        splits=np.array(["train/a", "train/a", "test"], STRING),
        start=np.array([0.0, 0.5, np.nan]),
        stop=np.array([0.5, 1.25, np.nan]),
        labels={"verb": Labels.from_rows([[0], [1], [0]]), "noun": Labels.from_rows([[0, 2], [], [1]])},
        listed={"train/a": 3, "test": 1},
        missing_ids=np.array(["P01/lost"], STRING),
        missing_splits=np.array(["train/a"], STRING),
    )


def test_stretches_heads_multilabels_and_odd_names_survive(tmp_path: Path) -> None:
    index = multi_head_index(tmp_path)
    write_shards(index, tmp_path / "out")
    store = load_shards(tmp_path / "out", replace(SPEC, frames=256))
    assert store.index.clip_ids.tolist() == index.clip_ids.tolist()
    assert store.index.splits.tolist() == index.splits.tolist()
    assert [len(waveform) for waveform in store.waveforms] == [RATE // 2, RATE * 3 // 4, RATE * 3]
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


def test_unusable_clips_are_named_and_the_rest_is_there(tmp_path: Path) -> None:
    root = make_esc50_folder(tmp_path / "esc50", seconds=0.3)
    cut_short(root / "audio/1-0-0.wav")
    (root / "audio/2-0-0.wav").write_bytes(b"")
    soundfile.write(root / "audio/3-0-0.wav", np.zeros(RATE), RATE)
    corpus = read_dataset("esc50", root)
    result = write_shards(corpus, tmp_path / "out", clips_per_shard=3)
    assert {(p.clip_id, p.reason, p.fatal) for p in result.problems} == {
        ("1-0-0", "truncated", True),
        ("2-0-0", "zero-byte", True),
        ("3-0-0", "silent", False),
    }
    ids = [clip.clip_id for clip in ShardReader(tmp_path / "out").clips()]
    assert sorted(ids) == sorted(set(corpus.clip_ids.tolist()) - {"1-0-0", "2-0-0"})
    assert read_shard_index(tmp_path / "out") == result
    store = load_waveforms(corpus, SPEC)
    assert result.ids_sha256["1"] == store.index.where_split("1").ids_sha256()
    assert result.clips() == CLIPS - 2


def test_the_index_does_not_name_the_machines_folders(tmp_path: Path) -> None:
    root = make_esc50_folder(tmp_path / "esc50", seconds=0.3)
    cut_short(root / "audio/1-0-0.wav")
    (root / "audio/2-0-0.wav").unlink()
    soundfile.write(root / "audio/3-0-0.wav", np.zeros(RATE), RATE)
    result = write_shards(read_dataset("esc50", root), tmp_path / "out")
    assert {"truncated", "silent"} < {problem.reason for problem in result.problems}
    assert str(tmp_path) not in (tmp_path / "out" / INDEX_NAME).read_text()
    assert any(problem.message.startswith("audio/1-0-0.wav: truncated") for problem in result.problems)


# --- reading --------------------------------------------------------------------------------------------------------


def parts(world_size: int, workers: int) -> Iterator[Part]:
    for rank in range(world_size):
        for worker in range(workers):
            yield Part(rank, world_size, worker, workers)


@pytest.mark.parametrize("shuffle", [None, (0, 3)])
@pytest.mark.parametrize(("world_size", "workers"), [(1, 1), (1, 3), (3, 2), (2, 7), (5, 6)])
def test_nodes_and_workers_share_an_epoch_each_clip_once(
    corpus: ClipIndex, shards: Path, world_size: int, workers: int, shuffle: tuple[int, int] | None
) -> None:
    shares = [
        [clip.clip_id for clip in ShardReader(shards).clips(part, shuffle)] for part in parts(world_size, workers)
    ]
    assert sorted(clip_id for share in shares for clip_id in share) == sorted(corpus.clip_ids.tolist())
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("workers", [0, 2])
def test_a_data_loaders_workers_share_an_epoch(corpus: ClipIndex, shards: Path, workers: int) -> None:
    ids: list[str] = []
    for rank in range(2):
        dataset = ShardDataset(ShardReader(shards), rank=rank, world_size=2, shuffle=(0, 0))
        loader = torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=workers)
        ids += [clip.clip_id for clip in loader]
    assert sorted(ids) == sorted(corpus.clip_ids.tolist())


@pytest.mark.parametrize("part", [(2, 2, 0, 1), (0, 1, 3, 3), (-1, 2, 0, 1)])
def test_a_part_that_does_not_exist_is_an_error(part: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="rank < world_size"):
        Part(*part)


def test_seed_and_epoch_set_the_order(shards: Path) -> None:
    def order(shuffle: tuple[int, int] | None) -> list[str]:
        return [clip.clip_id for clip in ShardReader(shards).clips(shuffle=shuffle)]

    assert order((0, 0)) == order((0, 0))
    assert len({tuple(order(shuffle)) for shuffle in (None, (0, 0), (0, 1), (1, 0))}) == 4


def test_shuffling_mixes_clips_beyond_the_window(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reproduce.shard_reader.SHUFFLED_CLIPS", 4)
    assert len({clip.clip_id for clip in ShardReader(shards).clips(shuffle=(0, 0))}) == CLIPS


def test_splits_are_read_alone_and_an_unknown_one_is_an_error(corpus: ClipIndex, shards: Path) -> None:
    reader = ShardReader(shards, "2", "5")
    assert len(reader) == 8
    assert {clip.clip_id for clip in reader.clips()} == set(corpus.where_split("2", "5").clip_ids.tolist())
    with pytest.raises(InputError, match=r"no split train; it has 1, 2, 3, 4, 5") as error:
        ShardReader(shards, "train")
    one_line(error)


def test_training_from_shards_sees_the_epochs_of_the_files(corpus: ClipIndex, shards: Path) -> None:
    files, packed = load_waveforms(corpus, SPEC), load_shards(shards, SPEC)
    assert packed.index.clip_ids.tolist() == files.index.clip_ids.tolist()
    assert packed.index.ids_sha256() == files.index.ids_sha256()
    recipe = Recipe(epochs=1, batch_size=8, lr=1e-3, warmup_steps=1, mixup=0.5, freq_mask=8, time_mask=12)
    for theirs, ours in zip(
        training_batches(files, recipe, 0, 1, "cpu"), training_batches(packed, recipe, 0, 1, "cpu"), strict=True
    ):
        assert (ours.positions == theirs.positions).all()
        assert torch.equal(ours.inputs, theirs.inputs)
        assert torch.equal(ours.targets["label"], theirs.targets["label"])


@pytest.mark.parametrize("name", sorted(STANDINS))
def test_clips_from_shards_are_the_same_experiment_as_from_files(name: str, tmp_path: Path) -> None:
    index = read_variant(name, write_standin(name, tmp_path / "files", clips=64))
    write_shards(index, tmp_path / "shards")
    files, packed = load_waveforms(index, SPEC), load_shards(tmp_path / "shards", SPEC)
    assert packed.index.identity_sha256() == files.index.identity_sha256()
    assert all((ours == theirs).all() for ours, theirs in zip(packed.waveforms, files.waveforms, strict=True))
    split = packed.index.split_names()[0]
    assert packed.where_split(split).standin == files.standin == standin_marker(tmp_path / "files") is not None


def test_another_sample_rate_is_refused(shards: Path) -> None:
    with pytest.raises(InputError, match="16000 Hz, the front end takes 24000 Hz"):
        load_shards(shards, replace(SPEC, sample_rate=24_000))


# --- damage ---------------------------------------------------------------------------------------------------------


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "message"),
    [(flip_a_byte, "checksum differs"), (cut_short, "bytes where index.json says"), (Path.unlink, "missing")],
    ids=["flipped", "cut", "missing"],
)
def test_a_damaged_shard_gives_one_line_and_running_again_mends_it_alone(
    corpus: ClipIndex,
    shards: Path,
    tmp_path: Path,
    damage: object,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = copied(shards, tmp_path / "out")
    damage(out / "esc50-3-000000.tar")  # type: ignore[operator]
    with pytest.raises(InputError, match=message) as error:
        list(ShardReader(out).clips())
    assert "esc50-3-000000.tar" in one_line(error) and "data shard" in one_line(error)
    assert len(list(ShardReader(out, "1", "2").clips())) == 8  # the others can still be read

    decoded: list[str] = []
    monkeypatch.setattr(
        "reproduce.shards.load_mono", lambda path, *rest: (decoded.append(path.stem), load_mono(path, *rest))[1]
    )
    write_shards(corpus, out, clips_per_shard=3)
    assert contents(out) == contents(shards)
    assert len(decoded) == 3 and all(name.startswith("3-") for name in decoded)


def test_a_folder_without_an_index_or_with_a_foreign_one_gives_one_line(tmp_path: Path) -> None:
    path = tmp_path / INDEX_NAME
    for text, message in (
        (None, "no such file"),
        ("{", "copy it again"),
        ("[]", "not an index"),
        ('{"format": "MAST vs AST shards", "version": 99}', "not an index"),
        ('{"format": "MAST vs AST shards", "version": 2, "classes": {}}', "incomplete"),
    ):
        if text is not None:
            path.write_text(text)
        with pytest.raises(InputError, match=message) as error:
            ShardReader(tmp_path)
        assert str(path) in one_line(error)


# --- kill, resume, and other runs -----------------------------------------------------------------------------------

KILLED_RUN = """
import os, signal, sys
from pathlib import Path
from reproduce.datasets import read_dataset
from reproduce.shards import write_shards
done = 0
def on_clips(clips):
    global done
    done += clips
    if done == 6:  # within the third shard: the first two hold 3 and 1 clips
        os.kill(os.getpid(), signal.SIGKILL)
write_shards(read_dataset("esc50", sys.argv[1]), Path(sys.argv[2]), clips_per_shard=3, workers=1, on_clips=on_clips)
"""


def test_a_run_killed_within_a_shard_goes_on_and_ends_with_the_same_bytes(
    corpus: ClipIndex, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    killed = subprocess.run([sys.executable, "-c", KILLED_RUN, str(corpus.root), str(out)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not (out / INDEX_NAME).exists() and len(list(out.glob("*.tar"))) == 2
    with pytest.raises(InputError, match="not finished") as error:
        ShardReader(out)
    one_line(error)

    decoded: list[str] = []
    monkeypatch.setattr(
        "reproduce.shards.load_mono", lambda path, *rest: (decoded.append(path.stem), load_mono(path, *rest))[1]
    )
    told: list[int] = []
    write_shards(corpus, out, clips_per_shard=3, on_clips=told.append)
    assert contents(out) == contents(shards)
    assert sum(told) == CLIPS and len(decoded) == CLIPS - 4  # the finished shards were kept


def test_running_again_takes_in_a_clip_that_was_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, out = make_esc50_folder(tmp_path / "esc50", seconds=0.3), tmp_path / "out"
    index = read_dataset("esc50", root)
    sound = {name: (root / "audio" / name).read_bytes() for name in ("1-0-0.wav", "2-0-0.wav")}
    for name in sound:
        (root / "audio" / name).write_bytes(b"")
    assert write_shards(index, out).clips() == CLIPS - 2

    (root / "audio/1-0-0.wav").write_bytes(sound["1-0-0.wav"])
    decoded: list[str] = []
    monkeypatch.setattr(
        "reproduce.shards.load_mono", lambda path, *rest: (decoded.append(path.stem), load_mono(path, *rest))[1]
    )
    again = write_shards(index, out)
    assert [problem.clip_id for problem in again.problems] == ["2-0-0"]
    assert {clip.clip_id for clip in ShardReader(out).clips()} == set(index.clip_ids.tolist()) - {"2-0-0"}
    # Of the other shards, only what was unusable is looked at.
    assert {name for name in decoded if not name.startswith("1-")} == {"2-0-0"}


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
    for index, options in (
        (corpus, {"clips_per_shard": 4}),
        (corpus, {"clips_per_shard": 3, "codec": "ogg"}),
        (corpus.where_split("1"), {"clips_per_shard": 3}),
        (relabelled, {"clips_per_shard": 3}),
    ):
        with pytest.raises(InputError, match="other clips, labels or settings") as error:
            write_shards(index, out, **options)
        one_line(error)
    assert {name: data for name, data in contents(out).items() if name != JOURNAL_NAME} == contents(shards)


def test_two_runs_do_not_write_to_one_folder(corpus: ClipIndex, tmp_path: Path) -> None:
    with open(tmp_path / JOURNAL_NAME, "ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another run is writing") as error:
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
    assert main([*arguments[:-1], "0"]) == 2
    assert "--clips-per-shard 0" in capsys.readouterr().err
    assert main(["data", "shard", "esc50", str(out)]) == 2
    assert "--data esc50=DIR" in capsys.readouterr().err


def train(data: Path, work: Path, *options: str) -> int:
    arguments = ["train", "vggsound", "--data", f"vggsound={data}", "--preset", "debug", "--format", "json"]
    return main([*arguments, "--records", str(work / "records"), "--runs", str(work / "runs"), *options])


def test_a_stand_in_is_named_as_one_from_shards_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files, out = write_standin("vggsound", tmp_path / "files", clips=84), tmp_path / "shards"
    assert main(["data", "shard", "vggsound", str(out), "--data", f"vggsound={files}"]) == 0
    capsys.readouterr()
    assert train(out, tmp_path) == 0
    assert "synthetic STAND-IN" in json.loads(capsys.readouterr().out)["title"]
    assert train(files, tmp_path, "--run", "none") == 0
    assert "2 recorded, 0 to train" in capsys.readouterr().err  # the files are the same experiment


def test_shards_of_another_protocol_or_unfinished_are_not_trained_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "shards"
    write_shards(read_variant("vggsound", write_standin("vggsound", tmp_path / "files", clips=64)), out)
    assert train(out, tmp_path, "--protocol", "full") == 2
    assert f"--protocol full: the shards in {out} hold" in capsys.readouterr().err
    (out / INDEX_NAME).rename(out / JOURNAL_NAME)
    assert train(out, tmp_path) == 2
    assert "sharding is not finished; run the same `data shard` again" in capsys.readouterr().err


def test_help_imports_neither_torch_nor_webdataset() -> None:
    code = (
        "import sys, reproduce.__main__ as m; m.build_parser(); print(sorted({'torch', 'webdataset'} & {*sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": "."}
    )
    assert done.stdout.strip() == "[]"

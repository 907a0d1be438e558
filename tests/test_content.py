"""Digests of a corpus' files: they follow the sound, are computed once per file, and never stop a run."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from make_audio import RATE, make_esc50_folder, tone

from reproduce.audio.spec import AudioSpec
from reproduce.data.content import UNREADABLE, clip_digests, content_sha256, hash_file
from reproduce.data.waveform_store import load_waveforms, stream_waveforms
from reproduce.datasets import ClipIndex, read_dataset
from reproduce.datasets.strings import Strings

SPEC = AudioSpec(mels=16, frames=32)
CLIPS = 8


@pytest.fixture
def corpus(tmp_path: Path) -> ClipIndex:
    return read_dataset("esc50", make_esc50_folder(tmp_path / "data", per_fold=2, folds=2, seconds=0.1))


def content(index: ClipIndex, cache: Path | None = None) -> str:
    return content_sha256(index, clip_digests(index, cache))


def rows(cache: Path) -> int:
    return sqlite3.connect(cache).execute("SELECT count(*) FROM files").fetchone()[0]


def test_digests_are_those_of_the_files(corpus: ClipIndex) -> None:
    digests = clip_digests(corpus)
    assert digests.tolist() == [hash_file(corpus.clip(i).path) for i in range(CLIPS)]
    assert len(set(digests.tolist())) == CLIPS and all(len(digest) == 32 for digest in digests)


def test_content_follows_the_sound_and_nothing_else(corpus: ClipIndex, tmp_path: Path) -> None:
    before = content(corpus)
    moved = Path(shutil.copytree(corpus.root, tmp_path / "moved"))
    assert content(replace(corpus, root=moved)) == before
    assert content(corpus.take(np.arange(CLIPS)[::-1])) == before
    assert content(corpus.take(np.arange(1, CLIPS))) != before
    soundfile.write(corpus.clip(3).path, tone(500.0, 0.1), RATE)
    assert content(corpus) != before


def test_two_clips_that_swap_their_files_are_other_content(corpus: ClipIndex) -> None:
    swapped = corpus.paths[np.array([1, 0, *range(2, CLIPS)])]
    assert content(replace(corpus, paths=swapped)) != content(corpus)


def test_stretches_of_one_file_and_clips_of_one_pack_share_its_digest(corpus: ClipIndex) -> None:
    file = str(corpus.paths[0])
    shared = replace(corpus, paths=Strings.of([file, f"{file}::3", f"{file}::4", *corpus.paths[3:]]))
    files: list[int] = []
    digests = clip_digests(shared, on_file=lambda: files.append(1))
    assert digests[0] == digests[1] == digests[2] == hash_file(corpus.root / file)
    assert len(files) == CLIPS - 2


def test_a_store_keeps_the_digests_of_its_clips_in_memory_and_streamed(corpus: ClipIndex) -> None:
    (corpus.clip(2).path).write_bytes(b"")
    memory, stream = load_waveforms(corpus, SPEC).with_digests(None), stream_waveforms(corpus, SPEC).with_digests(None)
    assert len(memory) == CLIPS - 1
    split = str(memory.index.splits[-1])
    assert memory.where_split(split).content_sha256() == stream.where_split(split).content_sha256()
    assert memory.where_split(split).content_sha256() == content(corpus.where_split(split))
    with pytest.raises(ValueError, match="with_digests first"):
        load_waveforms(corpus, SPEC).content_sha256()


# --- the cache ---

FAKE = b"0" * 32


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> ClipIndex:
    """A corpus that was written long enough ago to be cached; not to be changed by a test."""
    root = make_esc50_folder(tmp_path_factory.mktemp("settled") / "data", per_fold=2, folds=2, seconds=0.1)
    time.sleep(2.1)
    return read_dataset("esc50", root)


def forge(cache: Path, change: str = "size = size") -> None:
    """Give every cached file the digest FAKE, which shows whether the cache is believed."""
    with sqlite3.connect(cache) as connection:
        connection.execute(f"UPDATE files SET digest = ?, {change}", (FAKE,))


def test_an_unchanged_file_is_hashed_once(settled: ClipIndex, tmp_path: Path) -> None:
    cache = tmp_path / "new" / "digests.sqlite"
    digests = clip_digests(settled, cache)
    assert (digests == clip_digests(settled, cache)).all() and rows(cache) == CLIPS
    forge(cache)
    assert set(clip_digests(settled, cache).tolist()) == {FAKE}


@pytest.mark.parametrize("change", ["size = size + 1", "mtime_ns = mtime_ns - 1", "ctime_ns = ctime_ns - 1"])
def test_a_changed_file_is_hashed_again(settled: ClipIndex, tmp_path: Path, change: str) -> None:
    cache = tmp_path / "digests.sqlite"
    digests = clip_digests(settled, cache)
    forge(cache, change)
    assert (clip_digests(settled, cache) == digests).all() and rows(cache) == CLIPS


def test_a_file_that_was_just_written_is_not_cached(corpus: ClipIndex, tmp_path: Path) -> None:
    clip_digests(corpus, tmp_path / "digests.sqlite")
    assert rows(tmp_path / "digests.sqlite") == 0


@pytest.mark.parametrize("digest", [b"short", b"x" * 32, "0" * 32, None, 7])
def test_a_cached_value_that_is_no_digest_is_replaced(settled: ClipIndex, tmp_path: Path, digest: object) -> None:
    cache = tmp_path / "digests.sqlite"
    digests = clip_digests(settled, cache)
    with sqlite3.connect(cache) as connection:
        connection.execute("UPDATE files SET digest = ?", (digest,))
    assert (clip_digests(settled, cache) == digests).all()


@pytest.mark.parametrize("damage", ["no database", "cut off", "another table", "a folder", "below a file"])
def test_a_cache_that_cannot_be_used_only_costs_time(settled: ClipIndex, tmp_path: Path, damage: str) -> None:
    cache = tmp_path / "digests.sqlite"
    expected = clip_digests(settled, cache)
    if damage == "no database":
        cache.write_bytes(b"no database at all" * 100)
    elif damage == "cut off":
        cache.write_bytes(cache.read_bytes()[:5000])
    elif damage == "another table":
        cache.unlink()
        sqlite3.connect(cache).execute("CREATE TABLE files (colour TEXT)")
    elif damage == "a folder":
        cache.unlink()
        cache.mkdir()
    else:
        cache = cache / "digests.sqlite"
    for _ in range(2):
        assert (clip_digests(settled, cache) == expected).all()


def test_files_that_cannot_be_read_have_no_digest(corpus: ClipIndex) -> None:
    corpus.clip(0).path.unlink()
    corpus.clip(1).path.unlink()
    os.mkfifo(corpus.clip(1).path)  # reading it would wait for ever
    digests = clip_digests(corpus)
    assert digests[:2].tolist() == [UNREADABLE] * 2 and UNREADABLE not in digests[2:].tolist()

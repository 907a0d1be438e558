"""Names from outside: file names of any bytes, links of any kind, labels with control characters."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from make_files import assert_refused, paths_of, reasons, touch, write

from reproduce.datasets import read_dataset, read_variant
from reproduce.datasets.locations import location_of
from reproduce.datasets.readers.scan import media_files
from reproduce.datasets.strings import Strings
from reproduce.errors import InputError, displayable
from reproduce.records.store import load_records

NFC, NFD = "K\u00e4uzchen", "Ka\u0308uzchen"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, Käuzchen, 猫, 🐈", "plain, Käuzchen, 猫, 🐈"),
        ("a\nb\tc\rd", r"a\nb\tc\rd"),
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("caf\udce9", r"caf\xe9"),
        ("abc\u202egnp.exe", r"abc\u202egnp.exe"),
        ("a\u2028b", r"a\u2028b"),
        ("no\u00a0break", "no\u00a0break"),
    ],
)
def test_text_is_made_displayable_on_one_line(text: str, shown: str) -> None:
    assert displayable(text) == shown
    assert str(InputError(text)) == shown


def test_long_text_is_cut_in_its_middle() -> None:
    assert displayable("a" * 5000 + "z", limit=25) == "a" * 10 + " ... " + "a" * 9 + "z"
    assert len(str(InputError("9" * 1_000_000))) < 2100


@pytest.mark.parametrize(
    "name", ["caf\udce9.wav", "two\nlines.wav", "\x1b[2Jclear.wav", "pack.h5::3.wav", "a::b.wav", "猫.wav"]
)
def test_a_file_of_any_name_is_listed_and_read(tmp_path: Path, name: str) -> None:
    (tmp_path / "data/dog").mkdir(parents=True)
    soundfile.write(os.fsencode(tmp_path / "data/dog/x.wav"), np.zeros(800), 16000)
    os.rename(tmp_path / "data/dog/x.wav", tmp_path / "data/dog" / name)
    index = read_dataset("folder", tmp_path / "data")
    assert index.clip_ids.tolist() == [displayable(f"dog/{name}")]
    assert index.clip_ids[0].isprintable()
    assert os.path.samefile(index.clip(0).path, tmp_path / "data/dog" / name)
    index.identity_sha256()


@pytest.mark.parametrize(("listed", "on_disk"), [(NFC, NFD), (NFD, NFC)])
def test_accents_may_be_composed_otherwise_in_a_list_than_on_disk(tmp_path: Path, listed: str, on_disk: str) -> None:
    touch(tmp_path, f"{on_disk}/{on_disk}.wav", "b.wav")
    table = write(tmp_path / "list.csv", "path,label", f"{listed}/{listed}.wav,owl", "b.wav,dog")
    index = read_dataset("csv", table)
    assert paths_of(index) == {f"{listed}/{listed}.wav": f"{on_disk}/{on_disk}.wav", "b.wav": "b.wav"}
    write(tmp_path / "esc/meta/esc50.csv", "filename,fold,target,category", f"{listed}.wav,1,0,owl")
    touch(tmp_path / "esc", f"audio/{on_disk}.ogg")
    assert paths_of(read_dataset("esc50", tmp_path / "esc")) == {listed: f"audio/{on_disk}.ogg"}


def test_the_exact_name_is_preferred_to_an_equivalent_one(tmp_path: Path) -> None:
    touch(tmp_path, f"{NFC}.wav", f"{NFD}.wav")
    table = write(tmp_path / "list.csv", "path,label", f"{NFC}.wav,owl", f"{NFD}.wav,dog")
    assert all(clip_id == path for clip_id, path in paths_of(read_dataset("csv", table)).items())


def test_labels_and_messages_hold_no_terminal_escape(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav")
    table = write(tmp_path / "list.csv", "path,label", "a.wav,\x1b[31mdog", "\x1b]0;title\x07.wav,cat")
    index = read_dataset("csv", table)
    assert index.classes["label"] == (r"\x1b[31mdog", "cat")
    assert index.missing_ids.tolist() == [r"\x1b]0;title\x07.wav"]
    assert index.problems[0].message.isprintable()


@pytest.mark.parametrize(
    "path", ["a\0b.wav", "x" * 5000 + ".wav", "a.wav/b.wav", "dog", "./", "/", "..", "dog/../none.wav"]
)
def test_a_path_that_is_no_file_is_missing_by_name(tmp_path: Path, path: str) -> None:
    touch(tmp_path, "a.wav", "dog/1.wav")
    index = read_dataset("csv", write(tmp_path / "list.csv", "path,label", "a.wav,dog", f"{path},dog"))
    assert (index.clip_ids.tolist(), reasons(index)) == (["a.wav"], ["missing"])


# --- links ---


def test_links_to_themselves_and_to_nothing_do_not_stop_the_others(tmp_path: Path) -> None:
    touch(tmp_path, "dog/1.wav")
    (tmp_path / "dog/self.wav").symlink_to("self.wav")
    (tmp_path / "dog/dangling.wav").symlink_to("nowhere.wav")
    (tmp_path / "self").symlink_to("self")
    index = read_dataset("folder", tmp_path)
    assert index.clip_ids.tolist() == ["dog/1.wav", "dog/dangling.wav", "dog/self.wav"]  # decoding names the two
    assert [p.message.startswith(str(tmp_path / "self")) for p in index.problems] == [True]


def test_sounds_below_linked_folders_are_listed_and_loops_named(tmp_path: Path) -> None:
    touch(tmp_path, "disk2/a.wav", "root/b.mp3", "root/notes.txt")
    (tmp_path / "root/linked").symlink_to(tmp_path / "disk2")
    (tmp_path / "disk2/loop").symlink_to(tmp_path / "root")
    skipped: list[str] = []
    files = media_files(tmp_path / "root", lambda folder, reason: skipped.append(folder))
    assert (files, skipped) == (["b.mp3", "linked/a.wav"], ["linked/loop"])


def test_a_folder_linked_under_two_classes_is_used_once_by_name(tmp_path: Path) -> None:
    touch(tmp_path, "dog/1.wav")
    (tmp_path / "hound").symlink_to("dog")
    index = read_dataset("folder", tmp_path)
    assert index.clip_ids.tolist() == ["dog/1.wav"]
    assert reasons(index) == ["folder", "empty-class"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_a_folder_that_cannot_be_read_does_not_stop_the_others(tmp_path: Path) -> None:
    touch(tmp_path, "dog/1.wav", "dog/locked/2.wav")
    (tmp_path / "dog/locked").chmod(0)
    index = read_dataset("folder", tmp_path)
    assert (index.clip_ids.tolist(), reasons(index)) == (["dog/1.wav"], ["folder"])


@pytest.mark.parametrize("way", ["absolute path", "dots", "link to a file", "link to a folder"])
def test_a_list_that_leads_out_of_its_folder_is_refused_unless_allowed(tmp_path: Path, way: str) -> None:
    touch(tmp_path, "secret/a.wav", "data/b.wav")
    (tmp_path / "data/link.wav").symlink_to(tmp_path / "secret/a.wav")
    (tmp_path / "data/folder").symlink_to(tmp_path / "secret")
    (tmp_path / "data/inside.wav").symlink_to("b.wav")
    path = {
        "absolute path": f"{tmp_path}/secret/a.wav",
        "dots": "../secret/a.wav",
        "link to a file": "link.wav",
        "link to a folder": "folder/a.wav",
    }[way]
    table = write(tmp_path / "data/list.csv", "path,label", "inside.wav,dog", f"{path},dog")
    assert_refused("csv", table, f"row 3: {path} leads out of {tmp_path}/data; .*--follow-outside")
    index = read_variant("csv", table, follow_outside=True)
    assert os.path.samefile(index.clip(1).path, tmp_path / "secret/a.wav")


# --- columns of strings ---


def test_a_column_of_strings_is_indexed_and_compared_like_an_array() -> None:
    texts = ["b", "", "Käuzchen", "caf\udce9", "b"]
    column = Strings.of(texts)
    assert (len(column), column.tolist(), column[2], column[-1]) == (5, texts, "Käuzchen", "b")
    assert column[1:3].tolist() == texts[1:3]
    assert column[np.array([4, 0, 2])].tolist() == ["b", "b", "Käuzchen"]
    assert column[np.array([True, False, False, True, False])].tolist() == ["b", "caf\udce9"]
    assert (column == "b").tolist() == [True, False, False, False, True]
    assert (column != Strings.of(reversed(texts))).tolist() == [False, True, False, True, False]
    assert column[column.order()].tolist() == ["", "Käuzchen", "b", "b", "caf\udce9"]
    assert column.distinct() == ["", "Käuzchen", "b", "caf\udce9"]
    assert column.order().tolist() == [1, 2, 0, 4, 3]  # stable


def test_columns_of_one_and_of_many_strings_can_be_joined() -> None:
    parts = [Strings.repeat("train", 2), Strings.of([]), Strings.repeat("test", 1), Strings.of(["x"])]
    joined = Strings.concatenate(parts)
    assert joined.tolist() == ["train", "train", "test", "x"]
    assert Strings.concatenate(parts[:3]).distinct() == ["test", "train"]
    assert (Strings.concatenate(parts[:3]) == "test").tolist() == [False, False, True]
    assert Strings.concatenate([]).tolist() == []


def test_fixed_width_bytes_become_strings() -> None:
    assert Strings.from_bytes(np.array([b"abc", b"de", b""])).tolist() == ["abc", "de", ""]
    assert Strings.from_bytes(np.array([b"abc", b"def"])[::-1]).tolist() == ["def", "abc"]
    assert Strings.from_bytes(np.empty(0, "S11")).tolist() == []


def test_a_pipe_where_a_list_should_be_is_one_line_and_never_waited_for(tmp_path: Path) -> None:
    """As a device, it may never end."""
    for name in ("list.csv", "sets.toml", "train.jsonl"):
        os.mkfifo(tmp_path / name)
    with pytest.raises(InputError, match=r"list\.csv: not an ordinary file"):
        read_dataset("csv", tmp_path / "list.csv")
    with pytest.raises(InputError, match=r"sets\.toml: not an ordinary file"):
        location_of("csv", [], tmp_path / "sets.toml")
    with pytest.raises(InputError, match=r"train\.jsonl: not an ordinary file"):
        load_records(tmp_path)
    with pytest.raises(InputError, match=r"/dev/zero: not an ordinary file"):
        read_dataset("csv", Path("/dev/zero"))

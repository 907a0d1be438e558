"""The paper's four corpora in their own formats: what is listed, which file belongs to which clip, what is refused."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from make_files import touch, write

from reproduce.audio.errors import AudioError
from reproduce.audio.packs import read_packed
from reproduce.datasets import ClipIndex, dataset_spec, read_dataset
from reproduce.datasets.readers.audioset_lists import iter_json_list, read_classes, read_segments
from reproduce.datasets.readers.epic_kitchens import seconds
from reproduce.datasets.readers.kinetics_sounds import KS31, KS32, KS34, RENAMED, canonical_class
from reproduce.datasets.readers.youtube_files import NO_START, parse_stem, scan_youtube_files
from reproduce.errors import InputError

A, B, C = "aaaaaaaaaaa", "-bbbbb_bbb-", "Yccccccccc_"  # ids may begin with - or Y and end with - or _
SEGMENT_HEAD = ("# Segments csv", "# num_ytids=2, num_segs=2", "# YTID, start_seconds, end_seconds, positive_labels")


def strings(column: np.ndarray) -> list[str]:
    return list(map(str, column))


def files_of(index: ClipIndex) -> dict[str, str]:
    return dict(zip(strings(index.clip_ids), strings(index.paths), strict=True))


def reasons(index: ClipIndex) -> list[str]:
    return [problem.reason for problem in index.problems]


# --- the real annotation files --------------------------------------------------------------------------------------


def test_audioset_eval_lists_20371_segments_with_51804_labels(annotations: Path) -> None:
    index = read_dataset("audioset", annotations / "audioset")
    assert dict(index.listed) == {"eval": 20371}
    counts = index.listed_per_class["eval", "label"]
    assert (counts.sum(), len(counts), (counts > 0).sum()) == (51804, 527, 527)
    assert (len(index), len(index.missing_ids)) == (0, 20371)
    assert reasons(index) == ["no-annotation"]  # balanced_train_segments.csv is not at hand
    assert index.classes["label"][:2] == ("Speech", "Male speech, man speaking")


def test_audioset_eval_segments_are_read_as_written(annotations: Path) -> None:
    mids, _ = read_classes(annotations / "audioset/class_labels_indices.csv")
    listing, problems = read_segments(annotations / "audioset/eval_segments.csv", "eval", mids)
    assert not problems
    assert (str(listing.clip_ids[0]), listing.start[1], listing.stop[1]) == ("--4gqARaEJE", 20.0, 30.0)
    assert listing.labels.row(0) == tuple(mids[m] for m in ("/m/068hy", "/m/07q6cd_", "/m/0bt9lr", "/m/0jbk"))
    assert ((listing.stop - listing.start) < 10).sum() == 362
    assert len(set(strings(listing.clip_ids))) == 20371


def test_epic_validation_lists_9668_segments_of_97_verbs_and_300_nouns(annotations: Path) -> None:
    index = read_dataset("epic_kitchens", annotations / "epic_kitchens_100")
    assert dict(index.listed) == {"validation": 9668}
    assert (len(index.classes["verb"]), len(index.classes["noun"])) == (97, 300)
    seen = [int((index.listed_per_class["validation", head] > 0).sum()) for head in ("verb", "noun")]
    assert seen == [78, 211]
    assert len(index.missing_ids) == 9668
    assert reasons(index) == ["no-annotation"]


def test_vggsound_test_lists_15446_clips_in_309_classes(annotations: Path) -> None:
    index = read_dataset("vggsound", annotations / "vggsound")
    counts = index.listed_per_class["test", "label"]
    assert dict(index.listed) == {"test": 15446}
    assert (len(counts), counts.min(), counts.max()) == (309, 49, 50)
    assert index.classes["label"][0] == "air conditioning noise"
    assert "bird chirping, tweeting" in index.classes["label"]
    assert len(set(strings(index.missing_ids))) == 15446


def test_real_epic_segments_are_cut_from_whole_videos(annotations: Path, tmp_path: Path) -> None:
    touch(tmp_path, "P01/videos/P01_11.MP4", "P32_10.wav")
    index = read_dataset("epic_kitchens", tmp_path, annotations=annotations / "epic_kitchens_100")
    videos = [str(clip_id).rsplit("_", 1)[0] for clip_id in index.clip_ids]
    assert set(videos) == {"P01_11", "P32_10"}
    clip = index.clip(strings(index.clip_ids).index("P01_11_100"))
    assert (clip.start, clip.stop, clip.split) == (327.28, 331.97, "validation")
    assert clip.labels == {"verb": (2,), "noun": (17,)}
    assert clip.path == tmp_path / "P01/videos/P01_11.MP4"
    assert len(index) + len(index.missing_ids) == 9668


# --- finding files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("video", [A, B, C, "Y1234567890"])
@pytest.mark.parametrize(
    ("form", "start"),
    [
        ("{}", NO_START),
        ("Y{}", NO_START),
        ("{}_30", 30_000),
        ("{}_000030", 30_000),
        ("Y{}_30", 30_000),
        ("{}_000030_000040", 30_000),
        ("{}_30.500_40.500", 30_500),
        ("{}_30000_40000", 30_000_000),
        ("{}-30-40", 30_000),
    ],
)
def test_names_of_every_scheme_give_id_and_start(video: str, form: str, start: int) -> None:
    assert parse_stem(form.format(video)) == (video, start)


@pytest.mark.parametrize(
    "stem", ["", "short", "README", "aaaaaaaaaaaa", "aaaaaaaaaaa_x", "aaaaaaaaaaa_1_2_3", "ä" * 11]
)
def test_other_names_give_nothing(stem: str) -> None:
    assert parse_stem(stem) is None


@pytest.mark.parametrize(
    "name",
    [
        f"{A}_000030.mp4", f"flat/{A}.wav", f"Y{A}.flac", f"class a/{A}_30.webm", f"{A}_30000_40000.m4a",
        f"{A}_30.0_40.0.MKV",
    ],
)  # fmt: skip
def test_a_clip_is_found_under_any_scheme(tmp_path: Path, name: str) -> None:
    files = scan_youtube_files(touch(tmp_path, name, f"{B}.wav"))
    rows = files.find(np.array([A.encode()]), np.array([30.0]))
    assert strings(files.paths(rows)) == [name]


def found(root: Path, *clips: tuple[str, float]) -> list[str | None]:
    files = scan_youtube_files(root)
    rows = files.find(np.array([video.encode() for video, _ in clips], "S11"), np.array([start for _, start in clips]))
    return [str(files.paths(np.array([row]))[0]) if row >= 0 else None for row in rows]


def test_another_start_is_another_clip(tmp_path: Path) -> None:
    touch(tmp_path, f"{A}_000030.mp4", f"{A}_000060.mp4")
    assert found(tmp_path, (A, 60), (A, 30), (A, 90)) == [f"{A}_000060.mp4", f"{A}_000030.mp4", None]


def test_a_name_with_the_start_beats_one_without_and_sound_beats_video(tmp_path: Path) -> None:
    touch(tmp_path, f"{A}.wav", f"{A}_000030.mp4", f"{A}_000030.ogg", f"{B}.mp4", f"z/{B}.wav", f"a/{B}.wav")
    assert found(tmp_path, (A, 30), (B, 5)) == [f"{A}_000030.ogg", f"a/{B}.wav"]


def test_a_fractional_start_is_found_rounded_down(tmp_path: Path) -> None:
    touch(tmp_path, f"{A}_417.wav", f"{B}_417.300.wav", f"{C}_417300.wav")
    assert None not in found(tmp_path, (A, 417.3), (B, 417.3), (C, 417.3))


def test_a_file_without_start_is_given_to_none_of_two_clips_of_its_video(tmp_path: Path) -> None:
    touch(tmp_path, f"{A}.wav", f"{B}.wav")
    assert found(tmp_path, (A, 30), (A, 60), (B, 0)) == [None, None, f"{B}.wav"]


def test_an_unknown_start_takes_whatever_the_video_has(tmp_path: Path) -> None:
    assert found(touch(tmp_path, f"{A}_000030.wav"), (A, np.nan), (B, np.nan)) == [f"{A}_000030.wav", None]


def test_the_copy_that_replaces_a_broken_video_is_preferred(tmp_path: Path) -> None:
    replacement = f"replacement/replacement_for_corrupted_k400/{A}.mp4"
    touch(tmp_path, f"train/{A}_000030_000040.mp4", replacement)
    assert found(tmp_path, (A, 30)) == [replacement]


def test_lookup_in_an_empty_tree_finds_nothing(tmp_path: Path) -> None:
    assert found(tmp_path, (A, 30)) == [None]


def test_media_files_without_an_id_are_summed_up(tmp_path: Path) -> None:
    files = scan_youtube_files(touch(tmp_path, "intro.mp4", "b/outro.wav", "notes.txt", f"{A}.wav"))
    assert [(p.reason, p.fatal) for p in files.problems] == [("unknown-name", False)]
    assert "2 media files" in files.problems[0].message
    assert "b/outro.wav" in files.problems[0].message


def test_lookup_equals_a_naive_one_on_many_random_clips(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    letters = np.frombuffer(b"ab-_Y0", np.uint8)
    videos = sorted({bytes(row).decode() for row in letters[rng.integers(0, 6, (600, 11))]})
    clips = [(video, float(start)) for video in videos for start in rng.permutation(3)[: rng.integers(1, 3)]]
    on_disk = [f"{i % 7}/{video}_{int(start):06d}.wav" for i, (video, start) in enumerate(clips) if rng.random() < 0.7]
    touch(tmp_path, *on_disk)
    expected = {Path(name).stem: name for name in on_disk}
    assert found(tmp_path, *clips) == [expected.get(f"{video}_{int(start):06d}") for video, start in clips]


# --- VGGSound -------------------------------------------------------------------------------------------------------


def vgg_root(root: Path) -> Path:
    write(root / "stat.csv", "dog barking,10,animals", '"bird chirping, tweeting",10,animals')
    write(root / "train.csv", f'{A}_000030.mp4,"bird chirping, tweeting"', f"{A}_000060.mp4,dog barking")
    write(root / "test.csv", f"{B}_000000.mp4,dog barking")
    return touch(root, f"videos/{A}_000030.mp4", f"videos/{B}.m4a")


def test_vggsound_names_labels_and_missing_clips(tmp_path: Path) -> None:
    index = read_dataset("vggsound", vgg_root(tmp_path))
    assert files_of(index) == {f"{A}_000030": f"videos/{A}_000030.mp4", f"{B}_000000": f"videos/{B}.m4a"}
    assert index.classes["label"] == ("bird chirping, tweeting", "dog barking")
    assert index.labels["label"].values.tolist() == [0, 1]
    assert (strings(index.splits), dict(index.listed)) == (["train", "test"], {"train": 2, "test": 1})
    assert (strings(index.missing_ids), strings(index.missing_splits)) == ([f"{A}_000060"], ["train"])
    assert not index.problems
    assert not index.multilabel
    assert index.clip(0).start is None  # files are cut already


def test_both_forms_of_vggsounds_lists_give_the_same_index(tmp_path: Path) -> None:
    two = read_dataset("vggsound", vgg_root(tmp_path / "two"))
    root = vgg_root(tmp_path / "one")
    write(
        root / "meta/vggsound.csv",
        f'{A},30,"bird chirping, tweeting",train',
        f"{A},60,dog barking,train",
        f"{B},0,dog barking,test",
    )
    one = read_dataset("vggsound", root)
    assert (one.ids_sha256(), one.listed, files_of(one)) == (two.ids_sha256(), two.listed, files_of(two))
    assert one.labels["label"].values.tolist() == two.labels["label"].values.tolist()


def test_vggsound_without_stat_takes_the_labels_seen_and_says_so(tmp_path: Path) -> None:
    (vgg_root(tmp_path) / "stat.csv").unlink()
    index = read_dataset("vggsound", tmp_path)
    assert index.classes["label"] == ("bird chirping, tweeting", "dog barking")
    assert "2 labels where VGGSound has 309" in index.problems[0].message


@pytest.mark.parametrize(
    ("file", "row", "says"),
    [
        ("test.csv", f"{A}_000030.mp4,bird chirping, tweeting", "row 1: 3 columns .*quote labels"),
        ("test.csv", "filename,label", "row 1: 'filename' is no file name"),
        ("test.csv", f"{A}.mp4,dog barking", "row 1: .* is no file name"),
        ("test.csv", f"{A}_000030.mp4,dog barkin", "row 1: unknown class 'dog barkin'"),
        ("vggsound.csv", f"{A},30,dog barking", "row 1: 3 columns where VGGSound has 4"),
        ("vggsound.csv", "short,30,dog barking,test", "row 1: 'short' is no YouTube id"),
        ("vggsound.csv", f"{A},3o,dog barking,test", "row 1: start '3o'"),
        ("vggsound.csv", f"{A},30,dog barking,val", "row 1: split 'val'"),
        ("stat.csv", "dog barking,10", "stat.csv row 1: must be label,count,group"),
    ],
)
def test_mangled_vggsound_lists_are_refused_with_row_and_remedy(tmp_path: Path, file: str, row: str, says: str) -> None:
    write(vgg_root(tmp_path) / file, row)
    assert_refused("vggsound", tmp_path, says)


def assert_refused(name: str, root: Path, says: str, **options: Any) -> None:
    with pytest.raises(InputError, match=says) as caught:
        read_dataset(name, root, **options)
    assert "\n" not in str(caught.value)
    assert str(root) in str(caught.value)


def test_vggsound_clip_listed_twice_is_used_once(tmp_path: Path) -> None:
    write(vgg_root(tmp_path) / "test.csv", f"{B}_000000.mp4,dog barking", f"{A}_000030.mp4,dog barking")
    index = read_dataset("vggsound", tmp_path)
    assert (reasons(index), dict(index.listed)) == (["duplicate"], {"train": 2, "test": 1})
    assert strings(index.splits) == ["train", "test"]


def test_vggsound_without_any_list_is_refused(tmp_path: Path) -> None:
    assert_refused("vggsound", tmp_path, "neither vggsound.csv nor train.csv")


def test_a_file_without_start_is_not_shared_between_train_and_test(tmp_path: Path) -> None:
    write(vgg_root(tmp_path) / "test.csv", f"{B}_000000.mp4,dog barking", f"{C}_000090.mp4,dog barking")
    write(tmp_path / "train.csv", f"{C}_000010.mp4,dog barking")
    touch(tmp_path, f"{C}.mp4")
    index = read_dataset("vggsound", tmp_path)
    assert strings(index.clip_ids) == [f"{B}_000000"]
    assert sorted(strings(index.missing_ids)) == [f"{C}_000010", f"{C}_000090"]


# --- Kinetics-Sounds ------------------------------------------------------------------------------------------------

KINETICS_HEAD = "label,youtube_id,time_start,time_end,split,is_cc"


def kinetics_root(root: Path) -> Path:
    write(
        root / "annotations/train.csv",
        KINETICS_HEAD,
        f'"bowling",{A},30,40,train,0',
        f"abseiling,{B},0,10,train,0",
        f"strumming guitar,{B},10,20,train,0",
    )
    write(root / "annotations/val.csv", KINETICS_HEAD, f'"stomping grapes",{C},5,15,validate,0')
    return touch(root, f"train/bowling/{A}_000030_000040.mp4", f"val/{C}.mp4", f"train/{B}_000010_000020.webm")


def test_protocols_have_the_class_lists_of_their_sources() -> None:
    assert [len(classes) for classes in (KS31, KS32, KS34)] == [31, 32, 34]
    assert all(list(classes) == sorted(set(classes)) for classes in (KS31, KS32, KS34))
    assert set(KS34) - set(KS32) == {"patting", "typing"}
    assert set(KS32) - set(KS31) == {"strumming guitar"}
    assert set(RENAMED.values()) <= set(KS32)
    assert not set(RENAMED) & set(KS34)
    assert dataset_spec("kinetics_sounds").variants[0] == "ks32"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("Blowing_out", "blowing out candles"),
        ("mowing the lawn by pushing lawnmower", "mowing lawn"),
        ("playing_bass_guitar", "playing bass guitar"),
        ("  tap  dancing ", "tap dancing"),
    ],
)
def test_old_and_underscored_class_names_are_understood(written: str, meant: str) -> None:
    assert canonical_class(written) == meant


def test_kinetics_sounds_keeps_the_protocols_classes_only(tmp_path: Path) -> None:
    index = read_dataset("kinetics_sounds", kinetics_root(tmp_path))
    assert index.variant == "ks32"
    assert files_of(index) == {
        f"{A}_000030_000040": f"train/bowling/{A}_000030_000040.mp4",
        f"{B}_000010_000020": f"train/{B}_000010_000020.webm",
        f"{C}_000005_000015": f"val/{C}.mp4",
    }
    names = [index.classes["label"][i] for i in index.labels["label"].values]
    assert names == ["bowling", "strumming guitar", "stomping grapes"]
    assert (strings(index.splits), reasons(index)) == (["train", "train", "val"], ["class-absent"])
    assert "29 of the 32 classes: blowing nose" in index.problems[0].message


def test_kinetics_sounds_protocol_decides_what_is_listed(tmp_path: Path) -> None:
    root = kinetics_root(tmp_path)
    assert dict(read_dataset("kinetics_sounds", root, variant="ks31").listed) == {"train": 1, "val": 1}
    wide = read_dataset("kinetics_sounds", root, variant="ks34")
    assert (len(wide.classes["label"]), wide.variant) == (34, "ks34")
    assert_refused_protocol("kinetics_sounds", root, "ks33", "ks32, ks31, ks34")


def assert_refused_protocol(name: str, root: Path, variant: str, known: str) -> None:
    with pytest.raises(InputError, match=f"no protocol '{variant}'; choose one of {known}"):
        read_dataset(name, root, variant=variant)


def test_kinetics_sounds_without_lists_reads_class_folders(tmp_path: Path) -> None:
    touch(
        tmp_path,
        f"videos/train/playing_guitar/{A}_000030_000040.mp4",
        "videos/train/stomping/own name.mp4",
        "videos/train/abseiling/x.mp4",
        f"videos/validate/playing_guitar/{B}.mp4",
        f"videos/validate/playing_guitar/{B}.wav",
        "videos/train/playing_guitar/list.txt",
    )
    index = read_dataset("kinetics_sounds", tmp_path)
    assert files_of(index) == {
        f"{A}_000030_000040": f"videos/train/playing_guitar/{A}_000030_000040.mp4",
        "own name": "videos/train/stomping/own name.mp4",
        B: f"videos/validate/playing_guitar/{B}.wav",
    }
    assert (dict(index.listed), reasons(index)) == ({"train": 2, "val": 1}, ["no-annotation", "duplicate"])
    assert "no train.csv (val.csv) of Kinetics-400: listed is what lies there" in index.problems[0].message
    assert not index.problems[0].fatal


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ((f"bowling,{A},30,40",), r"train.csv row 1: no column 'label', 'youtube_id'"),
        ((KINETICS_HEAD, f"bowling,{A},30,40"), "row 2: 4 columns where the header has 6"),
        ((KINETICS_HEAD, "bowling,short,30,40,train,0"), "row 2: 'short' is no YouTube id"),
        ((KINETICS_HEAD, f"bowling,{A},x,40,train,0"), "row 2: time 'x'"),
        ((KINETICS_HEAD, f"bowling,{A},40,40,train,0"), "row 2: time_end 40 is not after"),
        ((KINETICS_HEAD, f"playing acordion,{A},30,40,train,0"), "row 2: .* is not 'playing accordion'; mend it"),
        ((KINETICS_HEAD, f"fingerpickin,{A},30,40,train,0"), "row 2: .* is not 'fingerpicking'; mend it"),
        ((KINETICS_HEAD, f'"""bowling""",{A},30,40,train,0'), "row 2: .* is no class name; mend its quotes"),
        ((KINETICS_HEAD, f'"""abseiling""",{A},30,40,train,0'), "row 2: .* is no class name; mend its quotes"),
        ((KINETICS_HEAD, f",{A},30,40,train,0"), "row 2: .* is no class name"),
    ],
)
def test_mangled_kinetics_lists_are_refused_with_row_and_remedy(
    tmp_path: Path, rows: tuple[str, ...], says: str
) -> None:
    write(tmp_path / "train.csv", *rows)
    assert_refused("kinetics_sounds", tmp_path, says)


def test_other_classes_of_kinetics_400_are_not_taken_for_misspelt_ones(tmp_path: Path) -> None:
    others = (
        "playing cymbals", "playing recorder", "playing ukulele", "playing cello", "playing chess", "playing cricket",
        "playing flute", "playing harp", "playing poker", "blowing leaves", "blowing glass", "chopping meat",
        "tango dancing", "belly dancing", "clapping", "slapping", "drumming fingers", "shooting basketball",
        "dunking basketball", "folding paper", "air drumming", "golf putting", "petting animal (not cat)",
    )  # fmt: skip
    ids = [f"{i:011d}" for i in range(len(others) + len(KS34))]
    labels = (*others, *KS34)
    rows = [f"{label},{video},0,10,train,0" for label, video in zip(labels, ids, strict=True)]
    write(tmp_path / "train.csv", KINETICS_HEAD, *rows)
    for variant, classes in (("ks31", KS31), ("ks34", KS34)):
        assert read_dataset("kinetics_sounds", tmp_path, variant=variant).listed["train"] == len(classes)


def test_kinetics_sounds_without_lists_or_folders_is_refused(tmp_path: Path) -> None:
    assert_refused("kinetics_sounds", tmp_path, "no train.csv or val.csv of Kinetics-400")


# --- EPIC-KITCHENS-100 ----------------------------------------------------------------------------------------------

EPIC_HEAD = "narration_id,participant_id,video_id,start_timestamp,stop_timestamp,verb,verb_class,noun,noun_class"
EPIC_ROW = "P01_01_0,P01,P01_01,00:00:01.50,00:00:02.25,wash,1,cup,2"


def epic_root(root: Path, *rows: str) -> Path:
    write(root / "EPIC_100_verb_classes.csv", "id,key,instances,category", "0,take,['x'],a", "1,wash,\"['x', 'y']\",a")
    write(root / "EPIC_100_noun_classes.csv", "id,key,instances,category", "0,tap,a,b", "1,pan,a,b", "2,cup,a,b")
    write(root / "EPIC_100_train.csv", EPIC_HEAD, "P02_01_0,P02,P02_01,00:00:00.00,00:01:00.00,take,0,tap,0")
    write(root / "EPIC_100_validation.csv", EPIC_HEAD, *(rows or (EPIC_ROW,)))
    return root


def test_timestamps_are_exact_to_the_hundredth() -> None:
    assert [seconds(t) for t in ("00:00:00.00", "00:05:27.28", "01:59:59.99")] == [0.0, 327.28, 7199.99]
    for bad in ("5:27", "00:61:00.00", "00:00:60.00", "", "00:00:01,50"):
        with pytest.raises(ValueError, match="HH:MM:SS"):
            seconds(bad)


def test_epic_has_two_heads_and_segments_of_videos(tmp_path: Path) -> None:
    touch(epic_root(tmp_path), "audio/P01_01.wav", "audio/P01_01.mp4")
    index = read_dataset("epic_kitchens", tmp_path)
    clip = index.clip(0)
    assert (clip.clip_id, clip.labels, clip.start, clip.stop) == ("P01_01_0", {"verb": (1,), "noun": (2,)}, 1.5, 2.25)
    assert clip.path == tmp_path / "audio/P01_01.wav"
    assert index.classes == {"verb": ("take", "wash"), "noun": ("tap", "pan", "cup")}
    assert (dict(index.listed), strings(index.missing_ids)) == ({"train": 1, "validation": 1}, ["P02_01_0"])
    assert index.targets("noun").tolist() == [[0, 0, 1]]
    assert not index.problems


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (EPIC_ROW + ",x", "row 2: 10 columns where the header has 9"),
        (EPIC_ROW.replace("wash,1", "wash,2"), "row 2: unknown class '2', verb_class must be 0 to 1"),
        (EPIC_ROW.replace("cup,2", "cup,-1"), "row 2: unknown class '-1', noun_class must be 0 to 2"),
        (EPIC_ROW.replace("00:00:02.25", "00:00:01.50"), "row 2: stops at 00:00:01.50, not after"),
        (EPIC_ROW.replace("00:00:02.25", "2.25"), "row 2: timestamp '2.25' is not of the form"),
    ],
)
def test_mangled_epic_lists_are_refused_with_row_and_remedy(tmp_path: Path, row: str, says: str) -> None:
    assert_refused("epic_kitchens", epic_root(tmp_path, row), says)


def test_epic_class_table_with_a_gap_is_refused(tmp_path: Path) -> None:
    write(epic_root(tmp_path) / "EPIC_100_noun_classes.csv", "id,key", "0,tap", "2,cup")
    assert_refused("epic_kitchens", tmp_path, "noun_classes.csv row 3: not class 1")
    (tmp_path / "EPIC_100_noun_classes.csv").unlink()
    assert_refused("epic_kitchens", tmp_path, "no EPIC_100_noun_classes.csv")


def test_epic_narration_listed_twice_is_used_once(tmp_path: Path) -> None:
    touch(epic_root(tmp_path, EPIC_ROW, EPIC_ROW), "P01_01.flac")
    index = read_dataset("epic_kitchens", tmp_path)
    assert (reasons(index), len(index)) == (["duplicate"], 1)


# --- AudioSet -------------------------------------------------------------------------------------------------------


def audioset_root(root: Path, *rows: str) -> Path:
    write(
        root / "class_labels_indices.csv",
        "index,mid,display_name",
        "0,/m/0,Speech",
        '1,/m/1,"Dog, bark"',
        "2,/m/2,Rain",
    )
    rows = rows or (f'{A}, 30.000, 40.000, "/m/0,/m/2"', f'{B}, 0.000, 7.000, "/m/1"')
    write(root / "eval_segments.csv", *SEGMENT_HEAD, *rows)
    return root


def test_audioset_reads_official_lists(tmp_path: Path) -> None:
    root = audioset_root(tmp_path)
    write(root / "metadata/balanced_train_segments.csv", f'{C}, 1.000, 11.000, "/m/1"')
    touch(root, f"audio/eval/Y{A}.wav", f"audio/bal/{C}_1.flac")
    index = read_dataset("audioset", root)
    assert files_of(index) == {C: f"audio/bal/{C}_1.flac", A: f"audio/eval/Y{A}.wav"}
    assert (dict(index.listed), index.variant) == ({"balanced_train": 1, "eval": 2}, "balanced")
    assert index.targets().tolist() == [[0, 1, 0], [1, 0, 1]]
    assert (index.multilabel, index.classes["label"]) == (True, ("Speech", "Dog, bark", "Rain"))
    assert (strings(index.missing_ids), strings(index.missing_splits)) == ([B], ["eval"])
    assert not index.problems


def test_audioset_protocol_full_adds_the_unbalanced_clips(tmp_path: Path) -> None:
    root = audioset_root(tmp_path)
    write(root / "balanced_train_segments.csv", f'{C}, 1.000, 11.000, "/m/1"')
    write(root / "unbalanced_train_segments.csv", 'Y1234567890, 1.000, 11.000, "/m/1"', f'{A}, 0.000, 10.000, "/m/0"')
    full = read_dataset("audioset", root, variant="full")
    # A clip that both train and test list is kept in the first: it must not be tested on after training.
    assert (dict(full.listed), reasons(full)) == (
        {"balanced_train": 1, "unbalanced_train": 2, "eval": 1},
        ["duplicate"],
    )
    spec = dataset_spec("audioset")
    assert set(full.listed) <= {*spec.train_splits, *spec.test_splits}
    assert_refused_protocol("audioset", root, "500k", "balanced, full")


@pytest.mark.parametrize(
    ("row", "says"),
    [
        # As in the copy that YuanGongND/ast ships, saved by a spreadsheet.
        (f'{A},0.000,10.000,"""/m/0",/m/1,"/m/2""",,,,', "row 5: labels are spread over 10 columns"),
        (f'{A},30.000,40.000,"""/m/0"""', "row 5: labels are spread over 4 columns or quoted twice"),
        (f"{A}, 30.000, 40.000", "row 5: 3 columns where AudioSet has 4"),
        ("YTID,start_seconds,end_seconds,positive_labels", "row 5: 'YTID' is no YouTube id .*no header"),
        (f'{A}, 30.000, 40.000, "/m/0,/m/9"', "row 5: unknown class '/m/9', not in class_labels_indices.csv"),
        (f'{A}, 30.000, 30.000, "/m/0"', "row 5: segment from '30.000' to '30.000'"),
        (f'{A}, x, 30.000, "/m/0"', "row 5: segment from 'x'"),
        (f'{A}, nan, 30.000, "/m/0"', "row 5: segment from 'nan'"),
        (f'{A}xyz, 0.000, 30.000, "/m/0"', "row 5: 'aaaaaaaaaaaxyz' is no YouTube id"),
    ],
)
def test_mangled_audioset_lists_are_refused_with_row_and_remedy(tmp_path: Path, row: str, says: str) -> None:
    assert_refused("audioset", audioset_root(tmp_path, f'{B}, 0.000, 7.000, "/m/1"', row), says)


def test_a_mangled_row_far_down_is_named(tmp_path: Path) -> None:
    rows = [f'{i:011d}, 0.000, 10.000, "/m/1"' for i in range(5000)]
    rows[4321] = rows[4321].replace("/m/1", "/m/7")
    assert_refused("audioset", audioset_root(tmp_path, *rows), f"row {4321 + 4}: unknown class '/m/7'")


def test_a_list_cut_off_while_downloading_is_noticed(tmp_path: Path) -> None:
    index = read_dataset("audioset", audioset_root(tmp_path, f'{A}, 30.000, 40.000, "/m/0"'))
    assert reasons(index) == ["truncated-list", "no-annotation"]
    assert "declares 2 segments but 1 follow" in index.problems[0].message


def test_audioset_without_classes_or_lists_is_refused(tmp_path: Path) -> None:
    assert_refused("audioset", tmp_path, "no class_labels_indices.csv")
    (audioset_root(tmp_path) / "eval_segments.csv").unlink()
    assert_refused("audioset", tmp_path, "none of eval_segments.csv")
    write(tmp_path / "eval_segments.csv", *SEGMENT_HEAD)
    assert_refused("audioset", tmp_path, "no row of the form")
    write(tmp_path / "class_labels_indices.csv", "index,mid,display_name", "1,/m/0,Speech")
    assert_refused("audioset", tmp_path, "row 2: not class 0")


def ast_json(path: Path, items: Iterable[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"data": list(items)}, indent=1))
    return path


def item(video: str, labels: str, folder: str = "/data/sls/audioset") -> dict[str, str]:
    return {"video_id": video, "wav": f"{folder}/{video}.flac", "labels": labels}


def test_ast_json_lists_give_the_same_clips_as_the_official_ones(tmp_path: Path) -> None:
    touch(audioset_root(tmp_path / "csv"), f"audio/{A}.wav", f"audio/{B}_0.wav")
    official = read_dataset("audioset", tmp_path / "csv")
    root = touch(audioset_root(tmp_path / "json"), f"audio/{A}.wav", f"audio/{B}_0.wav")
    (root / "eval_segments.csv").unlink()
    ast_json(root / "datafiles/eval_data.json", [item(A, "/m/0,/m/2"), item(f"Y{B}", "/m/1")])
    theirs = read_dataset("audioset", root)
    assert (theirs.ids_sha256(), files_of(theirs)) == (official.ids_sha256(), files_of(official))
    assert theirs.targets().tolist() == official.targets().tolist()


def test_ast_json_audio_may_lie_where_its_wav_paths_say(tmp_path: Path) -> None:
    (audioset_root(tmp_path / "lists") / "eval_segments.csv").unlink()
    touch(tmp_path / "disk2", f"{A}.flac")
    ast_json(tmp_path / "lists/eval_data.json", [item(A, "/m/0", str(tmp_path / "disk2")), item(B, "/m/0")])
    index = read_dataset("audioset", tmp_path / "lists")
    assert [index.clip(i).path for i in range(len(index))] == [tmp_path / f"disk2/{A}.flac"]
    assert strings(index.missing_ids) == [B]


def test_ast_whole_train_list_stands_for_both_train_splits(tmp_path: Path) -> None:
    root = audioset_root(tmp_path)
    ast_json(root / "whole_train_data.json", [item(C, "/m/0")])
    ast_json(root / "balanced_train_data.json", [item(C, "/m/0")])
    index = read_dataset("audioset", root, variant="full")
    assert (dict(index.listed), index.problems) == ({"eval": 2, "whole_train": 1}, ())
    assert dict(read_dataset("audioset", root).listed) == {"balanced_train": 1, "eval": 2}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"data": [{"video_id": "x", "wav": "/x.wav", "labels": "/m/0"}]}', "item 1: neither video_id nor wav"),
        (json.dumps({"data": [item(A, "/m/0"), item(B, "/m/9")]}), "item 2: unknown class '/m/9'"),
        (json.dumps({"data": [{"video_id": A}]}), "item 1: must be"),
        (json.dumps({"data": [item(A, "/m/0")]})[:-2], "item 2: .*cut off"),
        (json.dumps([item(A, "/m/0")]), "must begin with"),
        ('{"data": []}', "its data list is empty"),
    ],
)
def test_mangled_json_lists_are_refused_with_item_and_remedy(tmp_path: Path, content: str, says: str) -> None:
    (audioset_root(tmp_path) / "eval_segments.csv").unlink()
    (tmp_path / "eval_data.json").write_text(content)
    assert_refused("audioset", tmp_path, says)


def test_json_items_come_whole_though_the_file_is_read_in_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reproduce.datasets.readers.audioset._JSON_BLOCK", 256)
    items = [item(f"{i:011d}", "/m/0") for i in range(300)]
    assert list(iter_json_list(ast_json(tmp_path / "list.json", items), "data")) == items


# --- HDF5 packs -----------------------------------------------------------------------------------------------------


def panns_pack(
    path: Path, clips: Sequence[tuple[str, Sequence[int]]], dtype: str = "int16", classes: int = 3
) -> np.ndarray:
    """A pack as qiuqiangkong/audioset_tagging_cnn writes it; returns its waveforms (n, 3200)."""
    h5py = pytest.importorskip("h5py")
    path.parent.mkdir(parents=True, exist_ok=True)
    waveforms = np.random.default_rng(0).integers(-32767, 32767, (len(clips), 3200)).astype(np.int16)
    with h5py.File(path, "w") as file:
        file.create_dataset("audio_name", data=np.array([name.encode() for name, _ in clips], "S20"))
        file.create_dataset("waveform", data=waveforms if dtype == "int16" else waveforms.astype(dtype) / 32767)
        file.create_dataset("target", data=np.array([[k in row for k in range(classes)] for _, row in clips], bool))
        file.attrs["sample_rate"] = 32000
    return waveforms


def passt_pack(path: Path, clips: Sequence[tuple[str, Sequence[int], bytes]]) -> None:
    h5py = pytest.importorskip("h5py")
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.create_dataset("audio_name", data=np.array([name.encode() for name, _, _ in clips], "S20"))
        mp3 = file.create_dataset("mp3", (len(clips),), dtype=h5py.vlen_dtype(np.uint8))
        for row, (_, _, data) in enumerate(clips):
            mp3[row] = np.frombuffer(data, np.uint8)
        targets = np.array([[k in row for k in range(3)] for _, row, _ in clips], bool)
        file.create_dataset("target", data=np.packbits(targets, axis=1))


def test_panns_packs_are_lists_and_audio_at_once(tmp_path: Path) -> None:
    root = audioset_root(tmp_path)
    (root / "eval_segments.csv").unlink()
    waveforms = panns_pack(root / "hdf5s/waveforms/eval.h5", [(f"Y{A}.wav", [0, 2]), ("", []), (f"Y{B}.wav", [1])])
    panns_pack(root / "hdf5s/waveforms/unbalanced_train/unbalanced_train_part00.h5", [(f"Y{C}.wav", [1])])
    index = read_dataset("audioset", root, variant="full")
    pack = "hdf5s/waveforms/eval.h5"
    part = "hdf5s/waveforms/unbalanced_train/unbalanced_train_part00.h5"
    assert files_of(index) == {C: f"{part}::0", A: f"{pack}::0", B: f"{pack}::2"}
    assert index.where_split("eval").targets().tolist() == [[1, 0, 1], [0, 1, 0]]
    assert [p.reason for p in index.problems] == ["no-annotation"]
    samples, rate = read_packed(index.clip(2).path)
    assert (samples.shape, samples.dtype, rate) == ((3200, 1), np.float32, 32000)
    np.testing.assert_allclose(samples[:, 0], waveforms[2] / 32767, atol=1e-7)


def test_with_an_official_list_a_pack_gives_the_audio_and_the_list_the_rest(tmp_path: Path) -> None:
    root = audioset_root(tmp_path)
    panns_pack(root / "eval.h5", [(f"Y{B}.wav", [0])])
    index = read_dataset("audioset", root)
    assert (files_of(index), dict(index.listed)) == ({B: "eval.h5::0"}, {"eval": 2})
    assert index.targets().tolist() == [[0, 1, 0]]
    assert strings(index.missing_ids) == [A]


def test_panns_index_packs_hold_no_audio_and_are_passed_over(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    root = audioset_root(tmp_path)
    (root / "hdf5s/indexes").mkdir(parents=True)
    with h5py.File(root / "hdf5s/indexes/eval.h5", "w") as file:
        file["audio_name"], file["hdf5_path"] = np.array([b"x"]), np.array([b"y"])
    touch(root, f"{A}.wav")
    assert files_of(read_dataset("audioset", root)) == {A: f"{A}.wav"}


def test_passt_packs_hold_mp3_and_packed_targets(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(32000) / 32000)
    stream = io.BytesIO()
    soundfile.write(stream, tone, 32000, format="MP3")
    root = audioset_root(tmp_path)
    (root / "eval_segments.csv").unlink()
    clips = [(f"03/Y{A}.mp3", [2], stream.getvalue()), (f"Y{B}.mp3", [0, 1], b"")]
    passt_pack(root / "mp3/eval_segments_mp3.hdf", clips)
    index = read_dataset("audioset", root)
    assert files_of(index) == {A: "mp3/eval_segments_mp3.hdf::0", B: "mp3/eval_segments_mp3.hdf::1"}
    assert index.targets().tolist() == [[0, 0, 1], [1, 1, 0]]
    samples, rate = read_packed(index.clip(0).path, 0.25, 0.5)
    assert (rate, samples.shape) == (32000, (8000, 1))
    assert np.abs(samples[:, 0] - tone[8000:16000]).max() < 0.02
    with pytest.raises(AudioError) as caught:
        read_packed(index.clip(1).path)
    assert caught.value.reason == "zero-byte"


def test_pack_with_other_classes_is_refused(tmp_path: Path) -> None:
    root = audioset_root(tmp_path)
    (root / "eval_segments.csv").unlink()
    panns_pack(root / "eval.h5", [(f"Y{A}.wav", [0])], classes=5)
    assert_refused("audioset", root, r"target is \(1, 5\) where 3 classes need")


def test_pack_without_labels_is_refused_where_it_is_the_list(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    root = audioset_root(tmp_path)
    panns_pack(root / "eval.h5", [(f"Y{A}.wav", [0])])
    with h5py.File(root / "eval.h5", "a") as file:
        del file["target"]
    assert files_of(read_dataset("audioset", root)) == {A: "eval.h5::0"}  # the official list has the labels
    (root / "eval_segments.csv").unlink()
    assert_refused("audioset", root, "eval.h5: no dataset 'target'")


def asf_pack(path: Path, videos: dict[str, np.ndarray]) -> Path:
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        for name, samples in videos.items():
            file.create_dataset(name, data=samples)
    return path


def test_epic_segments_are_cut_from_auditory_slow_fasts_pack(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).standard_normal(72000).astype(np.float32)
    asf_pack(epic_root(tmp_path) / "EPIC_audio.hdf5", {"P01_01": samples})
    index = read_dataset("epic_kitchens", tmp_path)
    assert strings(index.paths) == ["EPIC_audio.hdf5::P01_01"]
    clip = index.clip(0)
    got, rate = read_packed(clip.path, clip.start, clip.stop)
    assert rate == 24000
    np.testing.assert_array_equal(got[:, 0], samples[36000:54000])
    slow = read_dataset("epic_kitchens", tmp_path, pack_rate=16000)
    assert strings(slow.paths) == ["EPIC_audio.hdf5::P01_01@16000"]
    got, rate = read_packed(slow.clip(0).path, clip.start, clip.stop)
    assert rate == 16000
    np.testing.assert_array_equal(got[:, 0], samples[24000:36000])


def test_a_packed_segment_reads_to_the_end_and_not_beyond(tmp_path: Path) -> None:
    pack = asf_pack(tmp_path / "a.hdf5", {"v": np.arange(24000, dtype=np.float32)})
    assert len(read_packed(f"{pack}::v", 0.5, 9.0)[0]) == 12000
    assert len(read_packed(f"{pack}::v")[0]) == 24000


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("{pack}::other", "missing"),
        ("{pack}::", "missing"),
        ("{pack}", "missing"),
        ("{pack}.gone::v", "missing"),
        ("{text}::v", "unreadable"),
        ("{panns}::1", "missing"),
        ("{panns}::x", "missing"),
    ],
)
def test_unreadable_packed_clips_say_why(tmp_path: Path, path: str, reason: str) -> None:
    names = {
        "pack": asf_pack(tmp_path / "a.hdf5", {"v": np.zeros(10, np.float32)}),
        "text": write(tmp_path / "text.h5", "no HDF5"),
        "panns": tmp_path / "p.h5",
    }
    panns_pack(tmp_path / "p.h5", [(f"Y{A}.wav", [0])])
    with pytest.raises(AudioError, match=str(tmp_path)) as caught:
        read_packed(path.format(**names))
    assert caught.value.reason == reason
    with pytest.raises(AudioError) as caught:
        read_packed(f"{names['pack']}::v", 1.0, 2.0)
    assert caught.value.reason == "empty"


def test_float_packs_of_panns_are_read_too(tmp_path: Path) -> None:
    waveforms = panns_pack(tmp_path / "p.h5", [(f"Y{A}.wav", [0])], dtype="float32")
    np.testing.assert_allclose(
        read_packed(f"{tmp_path / 'p.h5'}::0", 0.05)[0][:, 0], waveforms[0, 1600:] / 32767, atol=1e-6
    )


# --- scale ----------------------------------------------------------------------------------------------------------


def test_a_large_list_leaves_columns_and_no_object_per_clip(tmp_path: Path) -> None:
    """30,000 clips here; by hand, AudioSet's 2,084,320 rows and 1.6 million files: 21 s of CPU time, 0.7 GiB."""
    count = 30_000
    mids = ("/m/0", "/m/1", "/m/2")
    wanted = [tuple(mids[k] for k in range(3) if (i + 1) >> k & 1) or mids[:1] for i in range(count)]
    rows = [f'{i:07d}-_Ab, {i % 90}.000, {i % 90 + 10}.000, "{",".join(wanted[i])}"' for i in range(count)]
    root = audioset_root(tmp_path, *rows)
    touch(root, *(f"audio/Y{i:07d}-_Ab.wav" for i in range(0, count, 3)))
    read_dataset("audioset", root)  # so that what is imported or cached on first use is not counted
    tracemalloc.start()
    index = read_dataset("audioset", root)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert (len(index), len(index.missing_ids), index.listed["eval"]) == (count // 3, count - count // 3, count)
    # A Clip with its strings and dict is over 600 bytes; the columns take under 150.
    assert held / count < 200
    for i in (0, 1, 4321, count // 3 - 1):
        clip = index.clip(i)
        assert clip.path == root / f"audio/Y{3 * i:07d}-_Ab.wav"
        assert clip.labels["label"] == tuple(mids.index(mid) for mid in wanted[3 * i])


def test_hashing_the_ids_of_a_long_partly_ordered_corpus_does_not_crash() -> None:
    """NumPy 2.4 crashes the interpreter on it with its default sort, hence the process of its own."""
    code = (
        "import numpy as np\n"
        "from reproduce.datasets.index import STRING, ClipIndex\n"
        "bytes = [np.random.default_rng(n).integers(33, 122, (n, 11), np.uint8) for n in (2000, 200000, 2000)]\n"
        "ids = np.concatenate([np.sort(b.view('S11').ravel()).astype(STRING) for b in bytes])\n"
        "nan = np.full(len(ids), np.nan); splits = np.full(len(ids), 'a', STRING)\n"
        "index = ClipIndex('x', {}, False, None, ids, ids, splits, nan, nan, {})\n"
        "print(index.ids_sha256() == index.take(np.arange(len(ids))[::-1]).ids_sha256(), index.split_names())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert (done.returncode, done.stdout.strip()) == (0, "True ('a',)")


@pytest.mark.parametrize("reader", ["vggsound", "kinetics_sounds", "audioset", "epic_kitchens"])
def test_ids_do_not_depend_on_where_the_corpus_lies(tmp_path: Path, reader: str) -> None:
    builders: dict[str, Callable[[Path], Path]] = {
        "vggsound": vgg_root, "kinetics_sounds": kinetics_root,
        "audioset": lambda root: touch(audioset_root(root), f"{A}.wav", f"{B}.wav"),
        "epic_kitchens": lambda root: touch(epic_root(root), "P01_01.wav", "P02_01.wav"),
    }  # fmt: skip
    one, two = (read_dataset(reader, builders[reader](tmp_path / name)) for name in ("one", "two"))
    assert len(one) >= 2
    assert one.ids_sha256() == two.ids_sha256()
    assert all(one.clip(i).path.is_file() for i in range(len(one)))


def test_a_label_with_a_comma_survives_the_csv_writer(tmp_path: Path) -> None:
    root = vgg_root(tmp_path)
    with (root / "test.csv").open("w", newline="") as file:
        csv.writer(file).writerow([f"{B}_000000.mp4", "bird chirping, tweeting"])
    index = read_dataset("vggsound", root).where_split("test")
    assert index.clip(0).labels == {"label": (0,)}

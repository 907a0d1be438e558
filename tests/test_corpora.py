"""The paper's four data sets in their official formats: what is listed, and what is refused."""

from __future__ import annotations

import csv
import json
import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from make_files import (
    EPIC_ROW,
    SEGMENT_HEAD,
    VIDEO_IDS,
    assert_refused,
    audioset_root,
    epic_root,
    paths_of,
    reasons,
    touch,
    write,
)

from reproduce.datasets import dataset_spec, read_dataset
from reproduce.datasets.readers.audioset_lists import iter_json_list, read_classes, read_segments
from reproduce.datasets.readers.epic_kitchens import seconds
from reproduce.datasets.readers.kinetics_sounds import KS31, KS32, KS34, RENAMED, canonical_class
from reproduce.errors import InputError

A, B, C = VIDEO_IDS


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
    assert (listing.clip_ids[0], listing.start[1]) == (b"--4gqARaEJE", 20.0)
    assert listing.labels.row(0) == tuple(mids[m] for m in ("/m/068hy", "/m/07q6cd_", "/m/0bt9lr", "/m/0jbk"))
    assert len(set(listing.clip_ids.tolist())) == 20371


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
    assert len(set(index.missing_ids.tolist())) == 15446


def test_real_epic_segments_are_cut_from_whole_videos(annotations: Path, tmp_path: Path) -> None:
    touch(tmp_path, "P01/videos/P01_11.MP4", "P32_10.wav")
    index = read_dataset("epic_kitchens", tmp_path, annotations=annotations / "epic_kitchens_100")
    videos = [clip_id.rsplit("_", 1)[0] for clip_id in index.clip_ids]
    assert set(videos) == {"P01_11", "P32_10"}
    clip = index.clip(index.clip_ids.tolist().index("P01_11_100"))
    assert (clip.start, clip.stop, clip.split) == (327.28, 331.97, "validation")
    assert clip.labels == {"verb": (2,), "noun": (17,)}
    assert clip.path == tmp_path / "P01/videos/P01_11.MP4"
    assert len(index) + len(index.missing_ids) == 9668


# --- VGGSound -------------------------------------------------------------------------------------------------------


def vgg_root(root: Path) -> Path:
    write(root / "stat.csv", "dog barking,10,animals", '"bird chirping, tweeting",10,animals')
    write(root / "train.csv", f'{A}_000030.mp4,"bird chirping, tweeting"', f"{A}_000060.mp4,dog barking")
    write(root / "test.csv", f"{B}_000000.mp4,dog barking")
    return touch(root, f"videos/{A}_000030.mp4", f"videos/{B}.m4a")


def test_vggsound_names_labels_and_missing_clips(tmp_path: Path) -> None:
    index = read_dataset("vggsound", vgg_root(tmp_path))
    assert paths_of(index) == {f"{A}_000030": f"videos/{A}_000030.mp4", f"{B}_000000": f"videos/{B}.m4a"}
    assert index.classes["label"] == ("bird chirping, tweeting", "dog barking")
    assert index.labels["label"].values.tolist() == [0, 1]
    assert (index.splits.tolist(), dict(index.listed)) == (["train", "test"], {"train": 2, "test": 1})
    assert (index.missing_ids.tolist(), index.missing_splits.tolist()) == ([f"{A}_000060"], ["train"])
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
    assert (one.ids_sha256(), one.listed, paths_of(one)) == (two.ids_sha256(), two.listed, paths_of(two))
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
        ("vggsound.csv", f"{A},{'9' * 5000},dog barking,test", "row 1: start '9999"),
        ("vggsound.csv", f"{A},30,dog barking,val", "row 1: split 'val'"),
        ("stat.csv", "dog barking,10", "stat.csv row 1: must be label,count,group"),
    ],
)
def test_mangled_vggsound_lists_are_refused_with_row_and_remedy(tmp_path: Path, file: str, row: str, says: str) -> None:
    write(vgg_root(tmp_path) / file, row)
    assert_refused("vggsound", tmp_path, says)


def test_vggsound_clip_listed_twice_is_used_once(tmp_path: Path) -> None:
    write(vgg_root(tmp_path) / "test.csv", f"{B}_000000.mp4,dog barking", f"{A}_000030.mp4,dog barking")
    index = read_dataset("vggsound", tmp_path)
    assert (reasons(index), dict(index.listed)) == (["duplicate"], {"train": 2, "test": 1})
    assert index.splits.tolist() == ["train", "test"]


def test_vggsound_without_a_list_or_with_an_empty_one_is_refused(tmp_path: Path) -> None:
    assert_refused("vggsound", tmp_path, "neither vggsound.csv nor train.csv")
    touch(tmp_path, "vggsound.csv")
    assert_refused("vggsound", tmp_path, "nothing is listed")


def test_a_file_without_start_is_not_shared_between_train_and_test(tmp_path: Path) -> None:
    write(vgg_root(tmp_path) / "test.csv", f"{B}_000000.mp4,dog barking", f"{C}_000090.mp4,dog barking")
    write(tmp_path / "train.csv", f"{C}_000010.mp4,dog barking")
    touch(tmp_path, f"{C}.mp4")
    index = read_dataset("vggsound", tmp_path)
    assert index.clip_ids.tolist() == [f"{B}_000000"]
    assert sorted(index.missing_ids.tolist()) == [f"{C}_000010", f"{C}_000090"]


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


def test_variants_have_the_class_lists_of_their_sources() -> None:
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


def test_kinetics_sounds_keeps_the_variants_classes_only(tmp_path: Path) -> None:
    index = read_dataset("kinetics_sounds", kinetics_root(tmp_path))
    assert index.variant == "ks32"
    assert paths_of(index) == {
        f"{A}_000030_000040": f"train/bowling/{A}_000030_000040.mp4",
        f"{B}_000010_000020": f"train/{B}_000010_000020.webm",
        f"{C}_000005_000015": f"val/{C}.mp4",
    }
    names = [index.classes["label"][i] for i in index.labels["label"].values]
    assert names == ["bowling", "strumming guitar", "stomping grapes"]
    assert (index.splits.tolist(), reasons(index)) == (["train", "train", "val"], ["class-absent"])
    assert "29 of the 32 classes: blowing nose" in index.problems[0].message


def test_kinetics_sounds_variant_decides_what_is_listed(tmp_path: Path) -> None:
    root = kinetics_root(tmp_path)
    assert dict(read_dataset("kinetics_sounds", root, variant="ks31").listed) == {"train": 1, "val": 1}
    wide = read_dataset("kinetics_sounds", root, variant="ks34")
    assert (len(wide.classes["label"]), wide.variant) == (34, "ks34")
    with pytest.raises(InputError, match="no variant 'ks33'; choose one of ks32, ks31, ks34"):
        read_dataset("kinetics_sounds", root, variant="ks33")


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
    assert paths_of(index) == {
        f"{A}_000030_000040": f"videos/train/playing_guitar/{A}_000030_000040.mp4",
        "own name": "videos/train/stomping/own name.mp4",
        B: f"videos/validate/playing_guitar/{B}.wav",
    }
    assert (dict(index.listed), reasons(index)) == ({"train": 2, "val": 1}, ["no-annotation", "duplicate"])
    assert "no train.csv (val.csv) of Kinetics-400" in index.problems[0].message
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
    assert (dict(index.listed), index.missing_ids.tolist()) == ({"train": 1, "validation": 1}, ["P02_01_0"])
    assert index.targets("noun").tolist() == [[0, 0, 1]]
    assert not index.problems


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (EPIC_ROW + ",x", "row 2: 10 columns where the header has 9"),
        (EPIC_ROW.replace("wash,1", "wash,2"), "row 2: unknown class '2', verb_class must be 0 to 1"),
        (EPIC_ROW.replace("wash,1", "wash," + "9" * 5000), "row 2: unknown class '999"),
        (EPIC_ROW.replace("00:00:02", "9" * 5000 + ":00:02"), "row 2: timestamp '999"),
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


def test_audioset_reads_official_lists(tmp_path: Path) -> None:
    root = audioset_root(tmp_path)
    write(root / "metadata/balanced_train_segments.csv", f'{C}, 1.000, 11.000, "/m/1"')
    touch(root, f"audio/eval/Y{A}.wav", f"audio/bal/{C}_1.flac")
    index = read_dataset("audioset", root)
    assert paths_of(index) == {C: f"audio/bal/{C}_1.flac", A: f"audio/eval/Y{A}.wav"}
    assert (dict(index.listed), index.variant) == ({"balanced_train": 1, "eval": 2}, "balanced")
    assert index.targets().tolist() == [[0, 1, 0], [1, 0, 1]]
    assert (index.multilabel, index.classes["label"]) == (True, ("Speech", "Dog, bark", "Rain"))
    assert (index.missing_ids.tolist(), index.missing_splits.tolist()) == ([B], ["eval"])
    assert not index.problems


def test_audioset_full_adds_the_unbalanced_clips(tmp_path: Path) -> None:
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
    with pytest.raises(InputError, match="no variant '500k'; choose one of balanced, full"):
        read_dataset("audioset", root, variant="500k")


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
        (f'{A}, 0.000, {"9" * 5000}, "/m/0"', "row 5: segment from '0.000' to '9999"),
        (f'{A}xyz, 0.000, 30.000, "/m/0"', "row 5: 'aaaaaaaaaaaxyz' is no YouTube id"),
    ],
)
def test_mangled_audioset_lists_are_refused_with_row_and_remedy(tmp_path: Path, row: str, says: str) -> None:
    assert_refused("audioset", audioset_root(tmp_path, f'{B}, 0.000, 7.000, "/m/1"', row), says)


@pytest.mark.parametrize(
    "row",
    [
        f'{A},30.000,40.000,"/m/0,/m/2"',
        f'{A},  30, 40,  "/m/0,/m/2"\r',
        f'{A}, 3e1, 40.000, "/m/0,/m/2"',
        f'\n{A}, 30.000, 40.000, "/m/0,/m/2"\n# a comment',
        f'"{A}", 30.000, 40.000, "/m/0,/m/2"',
    ],
)
def test_audioset_rows_may_be_spelt_otherwise(tmp_path: Path, row: str) -> None:
    root = touch(audioset_root(tmp_path, f'{B}, 0.000, 7.000, "/m/1"', row), f"{A}_30.wav")
    index = read_dataset("audioset", root)
    assert (dict(index.listed), index.targets().tolist()) == ({"eval": 2}, [[1, 0, 1]])


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
    assert (theirs.ids_sha256(), paths_of(theirs)) == (official.ids_sha256(), paths_of(official))
    assert theirs.targets().tolist() == official.targets().tolist()


def test_folders_that_ast_json_names_are_followed_only_when_allowed(tmp_path: Path) -> None:
    (audioset_root(tmp_path / "lists") / "eval_segments.csv").unlink()
    touch(tmp_path / "disk2", f"{A}.flac")
    ast_json(tmp_path / "lists/eval_data.json", [item(A, "/m/0", str(tmp_path / "disk2")), item(B, "/m/0")])
    inside = read_dataset("audioset", tmp_path / "lists")
    assert (len(inside), "outside" in reasons(inside)) == (0, True)
    assert "--follow-outside" in inside.problems[0].message
    index = read_dataset("audioset", tmp_path / "lists", follow_outside=True)
    assert [index.clip(i).path for i in range(len(index))] == [tmp_path / f"disk2/{A}.flac"]
    assert index.missing_ids.tolist() == [B]


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
        ('{"data": [' + "[" * 100_000, "item 1: .*cut off or no JSON"),
        ('{"data": [' + "9" * 10_000 + "]}", "item 1: .*cut off or no JSON"),
        (json.dumps([item(A, "/m/0")]), "must begin with"),
        ('{"data": []}', "its data list is empty"),
    ],
)
def test_mangled_json_lists_are_refused_with_item_and_remedy(tmp_path: Path, content: str, says: str) -> None:
    (audioset_root(tmp_path) / "eval_segments.csv").unlink()
    (tmp_path / "eval_data.json").write_text(content)
    assert_refused("audioset", tmp_path, says)


def test_json_items_come_whole_though_the_file_is_read_in_blocks(tmp_path: Path) -> None:
    items = [item(f"{i:011d}", "/m/0") for i in range(300)]
    assert list(iter_json_list(ast_json(tmp_path / "list.json", items), "data", block=256)) == items


# --- all of them ----------------------------------------------------------------------------------------------------


def test_a_large_list_leaves_columns_and_no_object_per_clip(tmp_path: Path) -> None:
    """30,000 clips here; by hand, AudioSet's 2,084,320 rows and two million files: 8 s of CPU time, 0.9 GiB."""
    count = 30_000
    mids = ("/m/0", "/m/1", "/m/2")
    wanted = [tuple(mids[k] for k in range(3) if (i + 1) >> k & 1) or mids[:1] for i in range(count)]
    rows = [f'{i:07d}-_Ab, {i % 90}.000, {i % 90 + 10}.000, "{",".join(wanted[i])}"' for i in range(count)]
    root = audioset_root(tmp_path, *rows)
    touch(root, *(f"audio/Y{i:07d}-_Ab.wav" for i in range(0, count, 3)))
    read_dataset("audioset", root)  # so that what is imported or cached on first use is not counted
    before = pyarrow.total_allocated_bytes()
    tracemalloc.start()
    index = read_dataset("audioset", root)
    held = tracemalloc.get_traced_memory()[0] + pyarrow.total_allocated_bytes() - before
    tracemalloc.stop()
    assert (len(index), len(index.missing_ids), index.listed["eval"]) == (count // 3, count - count // 3, count)
    # A Clip with its strings and dict is over 600 bytes; the columns take under 150.
    assert held / count < 200
    for i in (0, 1, 4321, count // 3 - 1):
        clip = index.clip(i)
        assert clip.path == root / f"audio/Y{3 * i:07d}-_Ab.wav"
        assert clip.labels["label"] == tuple(mids.index(mid) for mid in wanted[3 * i])


def test_videos_are_the_unit_of_resampling(tmp_path: Path) -> None:
    epic = read_dataset("epic_kitchens", touch(epic_root(tmp_path / "epic"), "P01_01.wav", "P02_01.wav"))
    vgg = read_dataset("vggsound", vgg_root(tmp_path / "vgg"))
    audioset = read_dataset("audioset", touch(audioset_root(tmp_path / "audioset"), f"{A}.wav"))
    assert {index.unit for index in (epic, vgg, audioset)} == {"video"}
    assert [index.units().tolist() for index in (epic, vgg, audioset)] == [["P02_01", "P01_01"], [A, B], [A]]
    for index in (epic, vgg, audioset):  # as results that were stored without groups get them
        spec = dataset_spec(index.dataset)
        assert (spec.unit, [spec.group_of(clip_id) for clip_id in index.clip_ids]) == ("video", index.units().tolist())


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

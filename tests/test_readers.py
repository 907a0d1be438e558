"""ESC-50, class folders and CSV manifests: what a good layout gives, and what each fault says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from make_files import assert_refused, reasons, touch, write

from reproduce.datasets import ClipIndex, dataset_spec, list_datasets, parse_locations, read_dataset
from reproduce.datasets.index import Labels
from reproduce.datasets.readers.folds import stratified_folds
from reproduce.datasets.registry import register_dataset
from reproduce.errors import InputError

FOLDS = ("1", "2", "3", "4", "5")
ESC_HEADER = "filename,fold,target,category,esc10,src_file,take"


def esc_root(root: Path, *rows: str, files: tuple[str, ...] = ()) -> Path:
    write(root / "meta/esc50.csv", ESC_HEADER, *rows)
    (root / "audio").mkdir()
    return touch(root, *(f"audio/{name}" for name in files))


def csv_root(root: Path, *lines: str, files: tuple[str, ...] = ("a.wav", "b.wav", "c.wav")) -> Path:
    touch(root, *files)
    return write(root / "list.csv", *lines)


def split_of(index: ClipIndex) -> dict[str, str]:
    return dict(zip(index.clip_ids, index.splits, strict=True))


# --- ESC-50 ---------------------------------------------------------------------------------------------------------


def test_esc10_has_400_clips_in_10_classes_and_5_folds_of_80(esc10: Path) -> None:
    index = read_dataset("esc50", esc10)
    assert len(index) == 400
    assert not index.problems
    assert len(index.missing_ids) == 0
    assert dict(index.listed) == dict.fromkeys(FOLDS, 80)
    assert index.split_names() == FOLDS
    assert index.classes["label"][:3] == ("dog", "rooster", "rain")
    assert len(index.classes["label"]) == 10
    # ESC-50's target numbers (the last part of the name) keep their order but lose their gaps.
    targets = np.array([int(name.rsplit("-", 1)[1]) for name in index.clip_ids])
    positions = np.searchsorted(np.unique(targets), targets)
    assert np.array_equal(positions, index.labels["label"].values)
    assert all(index.clip(i).path.is_file() for i in range(len(index)))


def test_esc10s_unit_is_the_source_recording(esc10: Path) -> None:
    index = read_dataset("esc50", esc10)
    sources = [name.split("-")[1] for name in index.clip_ids]
    assert (index.unit, index.units().tolist(), len(set(sources))) == ("recording", sources, 304)
    assert dataset_spec("esc50").group_of("1-100032-A-0") == "100032"
    assert dataset_spec("esc50").group_of("my own name") == "my own name"


def test_esc10_targets_are_one_hot_and_balanced(esc10: Path) -> None:
    index = read_dataset("esc50", esc10)
    targets = index.targets()
    assert targets.shape == (400, 10)
    assert targets.dtype == np.float32
    assert (targets.sum(1) == 1).all()
    assert (targets.sum(0) == 40).all()
    assert np.array_equal(index.targets(indices=np.array([7, 3])), targets[[7, 3]])
    assert all((index.listed_per_class[fold, "label"] == 8).all() for fold in FOLDS)


def test_take_and_where_split_cut_every_column_alike(esc10: Path) -> None:
    index = read_dataset("esc50", esc10)
    picked = index.take(np.array([5, 2]))
    assert [picked.clip(0), picked.clip(1)] == [index.clip(5), index.clip(2)]
    fold = index.where_split("2", "4")
    assert len(fold) == 160
    assert fold.split_names() == ("2", "4")
    assert fold.targets().sum() == 160


def test_esc50_finds_converted_files_by_their_stem(tmp_path: Path) -> None:
    rows = ("1-a-A-0.wav,1,0,dog,True,1,A", "1-b-A-4.wav,2,4,frog,False,2,A")
    index = read_dataset("esc50", esc_root(tmp_path, *rows, files=("1-a-A-0.ogg", "1-a-A-0.flac", "1-b-A-4.WAV")))
    assert index.paths.tolist() == ["audio/1-a-A-0.flac", "audio/1-b-A-4.WAV"]
    assert index.clip_ids.tolist() == ["1-a-A-0", "1-b-A-4"]


def test_esc50_missing_file_is_listed_but_not_kept(tmp_path: Path) -> None:
    rows = ("1-a-A-0.wav,1,0,dog,True,1,A", "1-b-A-4.wav,2,4,frog,False,2,A")
    index = read_dataset("esc50", esc_root(tmp_path, *rows, files=("1-a-A-0.wav",)))
    assert len(index) == 1
    assert dict(index.listed) == {"1": 1, "2": 1}
    assert index.missing_ids.tolist() == ["1-b-A-4"]
    assert index.missing_splits.tolist() == ["2"]
    assert "esc50.csv row 3" in index.problems[0].message
    assert index.classes["label"] == ("dog", "frog")  # the class of a missing clip keeps its index
    assert index.listed_per_class["2", "label"].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("x.wav,6,0,dog,True,1,A", "fold"),
        ("x.wav,1,zero,dog,True,1,A", "label"),
        ("x.wav,1,0,,True,1,A", "empty"),
        ("x.wav,1,0,dog", "columns"),
        ("1-a-A-0.wav,1,0,dog,True,1,A", "duplicate"),
    ],
)
def test_esc50_bad_row_is_a_problem_that_names_the_row(tmp_path: Path, row: str, reason: str) -> None:
    good = "1-a-A-0.wav,1,0,dog,True,1,A"
    index = read_dataset("esc50", esc_root(tmp_path, good, row, files=("1-a-A-0.wav", "x.wav")))
    assert reasons(index) == [reason]
    assert "esc50.csv row 3" in index.problems[0].message
    assert len(index) == 1


@pytest.mark.parametrize("row", ["b.wav,1,0,cat,True,1,A", "b.wav,1,1,dog,True,1,A"])
def test_esc50_contradicting_targets_are_refused(tmp_path: Path, row: str) -> None:
    with pytest.raises(InputError, match=r"esc50.csv row 3: .*mend the csv"):
        read_dataset("esc50", esc_root(tmp_path, "a.wav,1,0,dog,True,1,A", row))


def test_esc50_wrong_header_or_root_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        read_dataset("esc50", tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"meta/esc50\.csv"):
        read_dataset("esc50", tmp_path)
    write(tmp_path / "meta/esc50.csv", "filename,fold,category", "a.wav,1,dog")
    with pytest.raises(InputError, match=r"row 1: no column 'target'"):
        read_dataset("esc50", tmp_path)


# --- class folders --------------------------------------------------------------------------------------------------


def test_class_folders_are_sorted_searched_deep_and_dealt_into_folds(tmp_path: Path) -> None:
    touch(tmp_path, "dog/1.wav", "dog/deep/er/2.FLAC", "cat/3.mp4", "cat/.hidden.wav", ".git/x.wav")
    index = read_dataset("folder", tmp_path)
    assert index.classes["label"] == ("cat", "dog")
    assert sorted(index.clip_ids) == ["cat/3.mp4", "dog/1.wav", "dog/deep/er/2.FLAC"]
    assert not index.problems
    assert set(index.split_names()) <= set(FOLDS)
    assert all(index.clip(i).path.is_file() for i in range(len(index)))


def test_split_folders_give_the_splits(tmp_path: Path) -> None:
    touch(tmp_path, "train/dog/1.wav", "train/cat/2.wav", "validation/dog/3.wav", "test/dog/4.wav")
    index = read_dataset("folder", tmp_path)
    assert split_of(index) == {
        "train/dog/1.wav": "train", "train/cat/2.wav": "train", "validation/dog/3.wav": "val", "test/dog/4.wav": "test"
    }  # fmt: skip
    assert index.classes["label"] == ("cat", "dog")
    assert dict(index.listed) == {"test": 1, "train": 2, "val": 1}


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    assert read_dataset("folder", touch(tmp_path / "one", "train/1.wav")).classes["label"] == ("train",)
    both = touch(tmp_path / "two", "train/1.wav", "tram/2.wav")
    assert read_dataset("folder", both).classes["label"] == ("train", "tram")


def test_folds_are_stratified_and_the_same_in_any_order_and_format() -> None:
    groups = [(f"c{c}/{i}", f"c{c}") for c in range(3) for i in range(11)]
    folds = stratified_folds(groups)
    assert folds == stratified_folds(reversed(groups))
    for c in range(3):
        sizes = np.unique([folds[group] for group, label in groups if label == f"c{c}"], return_counts=True)[1]
        assert sorted(sizes) == [2, 2, 2, 2, 3]
    # Pinned: a change of the rule would silently change everybody's cross-validation.
    assert [folds[f"c0/{i}"] for i in range(11)] == list("13345512422")


def test_one_recording_in_two_formats_stays_in_one_fold(tmp_path: Path) -> None:
    touch(tmp_path, *(f"dog/{i}{suffix}" for i in range(20) for suffix in (".wav", ".flac")))
    splits = split_of(read_dataset("folder", tmp_path))
    assert all(splits[f"dog/{i}.wav"] == splits[f"dog/{i}.flac"] for i in range(20))
    assert set(splits.values()) == set(FOLDS)


def test_empty_class_other_files_and_loose_files_are_named(tmp_path: Path) -> None:
    touch(tmp_path, "dog/1.wav", "dog/notes.txt", "loose.wav", "README.md")
    (tmp_path / "cat").mkdir()
    index = read_dataset("folder", tmp_path)
    assert sorted((p.reason, p.fatal) for p in index.problems) == [
        ("empty-class", True), ("no-class", True), ("not-audio", False), ("not-audio", False)
    ]  # fmt: skip
    empty = next(p for p in index.problems if p.reason == "empty-class")
    assert str(tmp_path / "cat") in empty.message
    assert index.classes["label"] == ("cat", "dog")
    assert len(index) == 1


@pytest.mark.parametrize("below", ["", "audio/"])
def test_urbansound8ks_folds_are_not_taken_for_classes(tmp_path: Path, below: str) -> None:
    touch(tmp_path, *(f"{below}fold{i}/{i}.wav" for i in range(1, 11)))
    assert_refused("folder", tmp_path, r"fold1, fold10, \.\.\. are folds, not classes .* path,label,fold .* `csv`")


def test_folder_layouts_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no class folder"):
        read_dataset("folder", tmp_path)
    (tmp_path / "dog").mkdir()
    with pytest.raises(InputError, match=r"no audio file in any of its 1 class folders, e\.g\. dog/"):
        read_dataset("folder", tmp_path)
    touch(tmp_path, "train/dog/1.wav", "test/dog/2.wav")
    with pytest.raises(InputError, match="holds the split folders test, train beside dog"):
        read_dataset("folder", tmp_path)


# --- CSV manifests --------------------------------------------------------------------------------------------------


def test_csv_reads_labels_splits_and_segments(tmp_path: Path) -> None:
    table = csv_root(
        tmp_path,
        "path,label,split,start,stop",
        "a.wav,dog,train,,",
        'b.wav,"dog; cat",test,1.5,4',
        "b.wav,cat,test,4,",
        f"{tmp_path / 'c.wav'},cat,test,,2.25",
    )
    index = read_dataset("csv", table)  # an absolute path may lead into the folder
    assert not index.problems
    assert index.multilabel
    assert index.classes["label"] == ("cat", "dog")
    assert index.clip_ids.tolist() == ["a.wav", "b.wav#1.5-4", "b.wav#4-", f"{tmp_path / 'c.wav'}#-2.25"]
    assert index.targets().tolist() == [[0, 1], [1, 1], [1, 0], [1, 0]]
    assert index.clip(0).start is None
    assert (index.clip(1).start, index.clip(1).stop) == (1.5, 4.0)
    assert all(index.clip(i).path.is_file() for i in range(4))
    assert dict(index.listed) == {"test": 3, "train": 1}


def test_csv_without_split_keeps_a_files_segments_in_one_fold(tmp_path: Path) -> None:
    files = tuple(f"{i}.wav" for i in range(30))
    lines = [f"{name},dog,{start},{start + 1}" for name in files for start in range(3)]
    index = read_dataset("csv", csv_root(tmp_path, "path,label,start,stop", *lines, files=files))
    splits = split_of(index)
    assert all(len({splits[f"{name}#{start}-{start + 1}"] for start in range(3)}) == 1 for name in files)
    assert set(splits.values()) == set(FOLDS)
    assert not index.multilabel


def test_csv_fold_column_and_class_order_are_taken_as_given(tmp_path: Path) -> None:
    table = csv_root(tmp_path, "label,fold,path", "dog,1,a.wav", "cat,2,b.wav")
    index = read_dataset("csv", tmp_path, classes=("dog", "bird", "cat"))
    assert index.labels["label"].values.tolist() == [0, 2]
    assert index.split_names() == ("1", "2")
    assert index.ids_sha256() == read_dataset("csv", table).ids_sha256()


def test_csv_byte_order_mark_is_dropped(tmp_path: Path) -> None:
    table = csv_root(tmp_path, "\ufeffpath,label", "a.wav,Käuzchen")
    assert read_dataset("csv", table).classes["label"] == ("Käuzchen",)


@pytest.mark.parametrize(
    ("row", "reason", "says"),
    [
        ("b.wav,dog,,2,1", "segment", "stop 1 is not after start 2"),
        ("b.wav,dog,,2,2", "segment", "stop 2 is not after start 2"),
        ("b.wav,dog,,,0", "segment", "stop 0 is not after start 0"),
        ("b.wav,dog,,-1,2", "segment", "start '-1' must be 0 or more"),
        ("b.wav,dog,,0:01,2", "segment", "start '0:01' is not a number"),
        ("b.wav,dog,,nan,2", "segment", "start 'nan' must be"),
        ("b.wav,,,,", "label", "empty label"),
        ("b.wav,dog;;cat,,,", "label", "empty label in 'dog;;cat'"),
        (",dog,,,", "path", "empty path"),
        ("b.wav,dog", "columns", "2 columns where the header has 5"),
        ("b.wav,dog,,,,,", "columns", "7 columns where the header has 5"),
        ("nowhere/b.wav,dog,,,", "missing", "no file nowhere/b.wav"),
        ("b.wav,elk,,,", "label", "label 'elk' is none of the 2 classes"),
        ("a.wav,dog,,,", "duplicate", "a.wav is already in row 2"),
    ],
)
def test_csv_bad_row_is_a_problem_that_names_file_and_row(tmp_path: Path, row: str, reason: str, says: str) -> None:
    table = csv_root(tmp_path, "path,label,note,start,stop", "a.wav,dog,,,", row)
    index = read_dataset("csv", table, classes=("cat", "dog"))
    assert [p.reason for p in index.problems if p.fatal] == [reason]
    message = next(p.message for p in index.problems if p.fatal)
    assert message.startswith(f"{table} row 3: ")
    assert says in message
    assert index.clip_ids.tolist() == ["a.wav"]


@pytest.mark.parametrize("column", ["split", "fold", "speaker"])
def test_csv_empty_split_or_group_is_a_problem(tmp_path: Path, column: str) -> None:
    index = read_dataset("csv", csv_root(tmp_path, f"path,label,{column}", "a.wav,dog,1", "b.wav,dog,"))
    assert (len(index), [p.message.endswith(f"row 3: empty {column}") for p in index.problems]) == (1, [True])


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (("train", "val", "test"), ("train", "val", "test")),
        (("Training", "VALIDATION", "Eval"), ("train", "val", "test")),
        (("TRAIN", "dev", "evaluation"), ("train", "val", "test")),
        (("0", "01", "10"), ("0", "1", "10")),
    ],
)
def test_csv_splits_are_read_in_any_usual_spelling(
    tmp_path: Path, written: tuple[str, ...], read: tuple[str, ...]
) -> None:
    rows = [f"{name}.wav,dog,{split}" for name, split in zip("abc", written, strict=True)]
    index = read_dataset("csv", csv_root(tmp_path, "path,label,split", *rows))
    assert tuple(split_of(index).values()) == read
    assert dict(index.listed) == dict.fromkeys(read, 1)


@pytest.mark.parametrize(
    ("column", "second", "says"),
    [
        ("split", "trian", "row 3: split 'trian' is not one of train, val .* test .* or fold numbers; mend it"),
        ("split", "fold2", "row 3: split 'fold2' is not one of"),
        ("split", "9" * 5000, "row 3: split '9999"),
        ("fold", "train", "row 3: fold 'train' is not a number"),
        ("split", "2", r"split 'train' \(row 2\) beside fold 2 \(row 3\); use named splits or fold numbers"),
    ],
)
def test_csv_unknown_or_mixed_splits_are_refused(tmp_path: Path, column: str, second: str, says: str) -> None:
    first = "1" if column == "fold" else "train"
    table = csv_root(tmp_path, f"path,label,{column}", f"a.wav,dog,{first}", f"b.wav,dog,{second}")
    assert_refused("csv", table, says)


@pytest.mark.parametrize(
    ("column", "unit"),
    [("group", "group"), ("speaker", "speaker"), ("recording", "recording"), ("source", "recording")],
)
def test_csv_group_column_is_the_unit_of_resampling(tmp_path: Path, column: str, unit: str) -> None:
    table = csv_root(tmp_path, f"path,label,split,{column}", "a.wav,dog,train,x", "b.wav,cat,test,y")
    index = read_dataset("csv", table)
    assert (index.unit, index.units().tolist(), index.problems) == (unit, ["x", "y"], ())
    assert index.take(np.array([1])).units().tolist() == ["y"]


def test_csv_groups_are_never_divided_by_folds(tmp_path: Path) -> None:
    files = tuple(f"{i}.wav" for i in range(60))
    rows = [f"{name},dog,speaker {i % 12}" for i, name in enumerate(files)]
    splits = split_of(read_dataset("csv", csv_root(tmp_path, "path,label,speaker", *rows, files=files)))
    assert all(len({splits[f"{i}.wav"] for i in range(k, 60, 12)}) == 1 for k in range(12))
    assert set(splits.values()) == set(FOLDS)


def test_csv_group_on_both_sides_of_a_split_is_a_warning(tmp_path: Path) -> None:
    rows = ("a.wav,dog,train,x", "b.wav,dog,test,x", "c.wav,dog,test,y")
    index = read_dataset("csv", csv_root(tmp_path, "path,label,split,speaker", *rows))
    assert [(p.reason, p.fatal) for p in index.problems] == [("divided-groups", False)]
    assert "1 of 2 groups (column 'speaker')" in index.problems[0].message


def test_csv_clips_are_units_unless_a_file_has_several(tmp_path: Path) -> None:
    table = csv_root(tmp_path, "path,label,start,stop", "a.wav,dog,0,1", "b.wav,dog,,")
    assert read_dataset("csv", table).unit == "clip"
    table = csv_root(tmp_path, "path,label,start,stop", "a.wav,dog,0,1", "a.wav,dog,1,2", "b.wav,dog,,")
    index = read_dataset("csv", table)
    assert (index.unit, index.units().tolist()) == ("recording", ["a", "a", "b"])


def test_labels_that_differ_by_case_or_blanks_alone_are_a_warning(tmp_path: Path) -> None:
    rows = ("a.wav,Dog bark,train", "b.wav,dog  bark,train", "c.wav,cat,test")
    index = read_dataset("csv", csv_root(tmp_path, "path,label,split", *rows))
    assert [(p.reason, p.fatal) for p in index.problems] == [("similar-labels", False)]
    assert "'Dog bark' and 'dog  bark'" in index.problems[0].message
    folders = read_dataset("folder", touch(tmp_path / "folders", "Dog/1.wav", "dog/2.wav", "cat/3.wav"))
    assert reasons(folders) == ["similar-labels"]


@pytest.mark.parametrize("second", ["a.wav,cat,train", "a.wav,dog,test"])
def test_csv_contradicting_rows_are_both_dropped(tmp_path: Path, second: str) -> None:
    index = read_dataset("csv", csv_root(tmp_path, "path,label,split", "a.wav,dog,train", second, "b.wav,cat,test"))
    assert reasons(index) == ["conflict", "conflict"]
    assert index.clip_ids.tolist() == ["b.wav"]
    assert "row 2: a.wav" in index.problems[0].message
    assert "in row 3" in index.problems[0].message
    assert "row 3: a.wav" in index.problems[1].message
    assert "in row 2" in index.problems[1].message


def test_csv_missing_file_counts_as_listed(tmp_path: Path) -> None:
    index = read_dataset("csv", csv_root(tmp_path, "path,label,split", "a.wav,dog,train", "x.wav,cat,train"))
    assert dict(index.listed) == {"train": 2}
    assert index.missing_ids.tolist() == ["x.wav"]
    assert index.listed_per_class["train", "label"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty file"),
        (b"\n\n", "empty file"),
        (b"file,label\na.wav,dog\n", "row 1: no column 'path'"),
        (b"path;label\na.wav;dog\n", "comma-separated"),
        (b"path,label,label\na.wav,dog,dog\n", "'label' is named twice"),
        (b"path,label,split,fold\na.wav,dog,train,1\n", "both a split and a fold"),
        (b"path,label,splits\na.wav,dog,train\n", "did you mean 'split'"),
        (b"path,label\n", "no usable row"),
        (b"path,label\na.wav,\n", "no usable row .*row 2: empty label"),
        (b"path,label\na.wav,dog\nb.wav,K\xe4uzchen\n", "row 3: not UTF-8"),
        (b'path,label\na.wav,"dog\n' + b"x" * 1_100_000, "unbalanced quote"),
    ],
)
def test_csv_that_cannot_be_used_is_refused_in_one_line(tmp_path: Path, content: bytes, says: str) -> None:
    touch(tmp_path, "a.wav", "b.wav")
    table = tmp_path / "list.csv"
    table.write_bytes(content)
    with pytest.raises(InputError, match=says) as caught:
        read_dataset("csv", table)
    assert str(table) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_csv_column_of_the_users_own_is_noted_not_fatal(tmp_path: Path) -> None:
    index = read_dataset("csv", csv_root(tmp_path, "path,label,microphone", "a.wav,dog,left"))
    assert [(p.reason, p.fatal) for p in index.problems] == [("column", False)]
    assert len(index) == 1


def test_csv_folder_must_hold_one_table(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no CSV file"):
        read_dataset("csv", tmp_path)
    touch(tmp_path, "a.csv", "b.csv")
    with pytest.raises(InputError, match=r"2 CSV files \(a.csv, b.csv\)"):
        read_dataset("csv", tmp_path)
    with pytest.raises(InputError, match=r"none.csv: No such file"):
        read_dataset("csv", tmp_path / "none.csv")


# --- the door -------------------------------------------------------------------------------------------------------


def test_unknown_dataset_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"unknown dataset 'esc51': choose one of .*esc50"):
        read_dataset("esc51", "/")
    assert {"esc50", "folder", "csv"} <= set(list_datasets())
    spec = dataset_spec("esc50")
    assert (spec.mean, spec.std) == (-6.6268077, 5.358466)


def test_a_name_is_registered_once() -> None:
    with pytest.raises(ValueError, match="registered twice"):
        register_dataset(dataset_spec("esc50"))


def test_locations_come_from_pairs_and_toml_and_pairs_win(tmp_path: Path) -> None:
    toml = write(tmp_path / "d.toml", "[datasets]", 'esc50 = "esc"', 'folder = "/data/f"')
    assert parse_locations([], toml) == {"esc50": tmp_path / "esc", "folder": Path("/data/f")}
    assert parse_locations(["esc50=/x=y"], toml) == {"esc50": Path("/x=y"), "folder": Path("/data/f")}
    assert parse_locations(["csv=rel.csv"]) == {"csv": Path("rel.csv")}


@pytest.mark.parametrize(
    ("pairs", "says"),
    [
        (["esc50"], "write it as NAME=PATH"),
        (["=x"], "write it as NAME=PATH"),
        (["esc50="], "write it as NAME=PATH"),
        (["esc50=a", "esc50=b"], "given twice"),
        (["esc=a"], "unknown dataset 'esc'"),
        (["esc50=~nosuchuser/data"], "no such user's home folder"),
    ],
)
def test_locations_of_another_form_are_refused(pairs: list[str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        parse_locations(pairs)


@pytest.mark.parametrize("name", ["esc50", "folder", "csv", "audioset"])
def test_an_unknown_home_folder_is_refused_by_every_reader(name: str) -> None:
    with pytest.raises(InputError, match="~nosuchuser/x: no such user's home folder"):
        read_dataset(name, "~nosuchuser/x")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("esc50 = 'x'", r"no \[datasets\] table"),
        ("[datasets]\nesc50 = 5", "datasets.esc50 must be a path"),
        ("[datasets]\nesc = 'x'", "unknown dataset 'esc'"),
        ("[datasets", "write it as TOML"),
        ("[datasets]\nx = " + "[" * 50_000, "nested too deeply"),
        ("[datasets]\nx = " + "9" * 10_000, "write it as TOML"),
        ("[datasets]\nesc50 = '~nosuchuser'", "no such user's home folder"),
    ],
)
def test_bad_toml_is_refused_by_name(tmp_path: Path, content: str, says: str) -> None:
    toml = write(tmp_path / "d.toml", content)
    with pytest.raises(InputError, match=says) as caught:
        parse_locations([], toml)
    assert str(toml) in str(caught.value)
    with pytest.raises(InputError, match=r"none\.toml"):
        parse_locations([], tmp_path / "none.toml")


def test_labels_in_compressed_rows_match_the_rows() -> None:
    rows = [[3, 1], [], [2], [0, 1, 4]]
    labels = Labels.from_rows(rows)
    assert [labels.row(i) for i in range(4)] == [tuple(row) for row in rows]
    taken = labels.take(np.array([3, 1, 0, 3]))
    assert [taken.row(i) for i in range(4)] == [(0, 1, 4), (), (3, 1), (0, 1, 4)]


def test_reading_a_data_set_loads_no_library_that_it_does_not_need(tmp_path: Path) -> None:
    root = esc_root(tmp_path, "1-a-A-0.wav,1,0,dog,True,1,A", files=("1-a-A-0.ogg",))
    code = f"""
import sys
from reproduce.datasets import read_dataset
read_dataset("esc50", {str(root)!r})
print([m for m in ("torch", "pandas", "scipy", "h5py", "av", "soundfile") if m in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[1], check=True
    )
    assert done.stdout.strip() == "[]"

"""AudioSet and EPIC-KITCHENS-100 packed in HDF5: what is listed, and the samples of one clip."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from make_files import VIDEO_IDS, assert_refused, audioset_root, epic_root, paths_of, touch, write

from reproduce.audio.errors import AudioError
from reproduce.audio.heaps import heap_rows
from reproduce.audio.packs import read_packed
from reproduce.datasets import read_dataset

A, B, C = VIDEO_IDS


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
    assert paths_of(index) == {C: f"{part}::0", A: f"{pack}::0", B: f"{pack}::2"}
    assert index.where_split("eval").targets().tolist() == [[1, 0, 1], [0, 1, 0]]
    assert [p.reason for p in index.problems] == ["no-annotation"]
    samples, rate = read_packed(index.clip(2).path)
    assert (samples.shape, samples.dtype, rate) == ((3200, 1), np.float32, 32000)
    np.testing.assert_allclose(samples[:, 0], waveforms[2] / 32767, atol=1e-7)


def test_with_an_official_list_a_pack_gives_the_audio_and_the_list_the_rest(tmp_path: Path) -> None:
    root = audioset_root(tmp_path)
    panns_pack(root / "eval.h5", [(f"Y{B}.wav", [0])])
    index = read_dataset("audioset", root)
    assert (paths_of(index), dict(index.listed)) == ({B: "eval.h5::0"}, {"eval": 2})
    assert index.targets().tolist() == [[0, 1, 0]]
    assert index.missing_ids.tolist() == [A]


def test_panns_index_packs_hold_no_audio_and_are_passed_over(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    root = audioset_root(tmp_path)
    (root / "hdf5s/indexes").mkdir(parents=True)
    with h5py.File(root / "hdf5s/indexes/eval.h5", "w") as file:
        file["audio_name"], file["hdf5_path"] = np.array([b"x"]), np.array([b"y"])
    touch(root, f"{A}.wav")
    assert paths_of(read_dataset("audioset", root)) == {A: f"{A}.wav"}


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
    assert paths_of(index) == {A: "mp3/eval_segments_mp3.hdf::0", B: "mp3/eval_segments_mp3.hdf::1"}
    assert index.targets().tolist() == [[0, 0, 1], [1, 1, 0]]
    samples, rate = read_packed(index.clip(0).path, 0.25, 0.5)
    assert (rate, samples.shape) == (32000, (8000, 1))
    assert np.abs(samples[:, 0] - tone[8000:16000]).max() < 0.02
    with pytest.raises(AudioError) as caught:
        read_packed(index.clip(1).path)
    assert caught.value.reason == "zero-byte"


def test_a_damaged_heap_is_an_error_where_libhdf5_loops_without_end(tmp_path: Path) -> None:
    path = tmp_path / "eval_segments_mp3.hdf"
    passt_pack(path, [(f"Y{A}.mp3", [0], b"mp3 " * 50), (f"Y{B}.mp3", [1], b"mp3 " * 50)])
    data = bytearray(path.read_bytes())
    size_of_first_row = data.index(b"GCOL") + 24
    # With its header of 16 bytes, this size steps by 0 bytes from row to row.
    data[size_of_first_row : size_of_first_row + 8] = (2**64 - 16).to_bytes(8, "little")
    path.write_bytes(data)
    for row in (0, 1):
        with pytest.raises(AudioError, match=rf"HDF5 does not read row {row} of 'mp3' within 2 s and 1 GiB"):
            read_packed(f"{path}::{row}")


def test_a_child_that_was_killed_between_two_rows_is_started_anew(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    psutil = pytest.importorskip("psutil")
    path = tmp_path / "pack.h5"
    with h5py.File(path, "w") as file:
        file["rows"] = ["first", "second", "third"]
    with h5py.File(path) as file:
        rows = heap_rows(path, "rows", file["rows"])
        assert rows[0] == b"first"
        for child in psutil.Process().children():
            if "heap_child" in " ".join(child.cmdline()):
                child.kill()
                child.wait()
        assert rows[1:] == [b"second", b"third"]


def test_names_of_variable_length_are_read(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    root = audioset_root(tmp_path)
    (root / "eval_segments.csv").unlink()
    panns_pack(root / "eval.h5", [("", [0]), ("", [1])])
    with h5py.File(root / "eval.h5", "a") as file:
        del file["audio_name"]
        file["audio_name"] = [f"Y{A}.wav", f"Y{B}.wav"]
    assert paths_of(read_dataset("audioset", root)) == {A: "eval.h5::0", B: "eval.h5::1"}


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
    assert paths_of(read_dataset("audioset", root)) == {A: "eval.h5::0"}  # the official list has the labels
    (root / "eval_segments.csv").unlink()
    assert_refused("audioset", root, "eval.h5: no dataset 'target'")


def test_pack_with_fewer_labels_than_names_is_refused(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    root = audioset_root(tmp_path)
    (root / "eval_segments.csv").unlink()
    panns_pack(root / "eval.h5", [(f"Y{A}.wav", [0]), (f"Y{B}.wav", [1])])
    with h5py.File(root / "eval.h5", "a") as file:
        first = file["target"][:1]
        del file["target"]
        file["target"] = first
    assert_refused("audioset", root, "eval.h5: 'target' has 1 rows, 'audio_name' at least 2")


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
    assert index.paths.tolist() == ["EPIC_audio.hdf5::P01_01"]
    clip = index.clip(0)
    got, rate = read_packed(clip.path, clip.start, clip.stop)
    assert rate == 24000
    np.testing.assert_array_equal(got[:, 0], samples[36000:54000])
    slow = read_dataset("epic_kitchens", tmp_path, pack_rate=16000)
    assert slow.paths.tolist() == ["EPIC_audio.hdf5::P01_01@16000"]
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


@pytest.mark.parametrize("kind", ["panns", "asf"])
def test_a_pack_whose_table_of_names_is_damaged_is_named_when_the_data_set_is_read(tmp_path: Path, kind: str) -> None:
    """h5py opens it, and raises RuntimeError for the first name that is looked up."""
    if kind == "panns":
        root, name = audioset_root(tmp_path), "audioset"
        panns_pack(path := root / "eval.h5", [(f"Y{A}.wav", [0])])
    else:
        root, name = epic_root(tmp_path), "epic_kitchens"
        path = asf_pack(root / "EPIC_audio.hdf5", {"P01_01": np.zeros(72000, np.float32)})
    content = path.read_bytes()
    assert content.count(b"HEAP") == 1
    path.write_bytes(content.replace(b"HEAP", b"HEAD"))
    assert_refused(name, root, rf"{path.name}: unreadable \(damaged pack: .*copy it again\)")


def test_a_link_to_another_file_is_not_listed_as_a_video(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    asf_pack(tmp_path / "outside.h5", {"v": np.zeros(72000, np.float32)})
    root = epic_root(tmp_path / "root")
    with h5py.File(root / "EPIC_audio.hdf5", "w") as file:
        file["P01_01"] = h5py.ExternalLink(str(tmp_path / "outside.h5"), "v")
    index = read_dataset("epic_kitchens", root)
    assert len(index) == 0
    assert "unknown-pack" in [problem.reason for problem in index.problems]


def test_a_pack_that_is_replaced_is_read_anew(tmp_path: Path) -> None:
    pack = asf_pack(tmp_path / "a.hdf5", {"v": np.zeros(24000, np.float32)})
    assert len(read_packed(f"{pack}::v")[0]) == 24000
    asf_pack(tmp_path / "b.hdf5", {"v": np.ones(12000, np.float32)}).replace(pack)
    assert read_packed(f"{pack}::v")[0].tolist() == [[1.0]] * 12000

"""The waveforms of a corpus: bad files are left out by name, clips keep their labels, memory is never exceeded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from make_audio import RATE, cut_short, make_esc50_folder, tone

from reproduce.audio.spec import AudioSpec
from reproduce.data.batches import evaluation_batches
from reproduce.data.waveform_store import fits_in_memory, load_waveforms, stream_waveforms
from reproduce.datasets import ClipIndex, read_dataset
from reproduce.errors import InputError
from reproduce.machine import available_memory_bytes

SPEC = AudioSpec(mels=16, frames=32, frame_shift_ms=30.0, mean=-6.6, std=5.4)  # 0.955 s
CLIPS = 8  # of `corpus`: two folds of two of each class


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_esc50_folder(tmp_path / "data", per_fold=2, folds=2)


@pytest.fixture
def corpus(root: Path) -> ClipIndex:
    """Clips of 0.3, 1 and 2.5 s."""
    for number, path in enumerate(sorted((root / "audio").iterdir())):
        soundfile.write(path, tone(300.0, seconds=(0.3, 1.0, 2.5)[number % 3], seed=number), RATE)
    return read_dataset("esc50", root)


# --- decoding -------------------------------------------------------------------------------------------------------


def test_bad_files_are_left_out_by_name(root: Path) -> None:
    cut_short(root / "audio/1-0-0.wav")
    (root / "audio/1-0-1.wav").write_bytes(b"")
    (root / "audio/2-0-0.wav").write_text("<html>404</html>")
    counted: list[int] = []
    store = load_waveforms(read_dataset("esc50", root), SPEC, on_clip=lambda: counted.append(1))
    problems = {p.clip_id: (p.reason, p.fatal) for p in store.problems}
    assert problems == {"1-0-0": ("truncated", True), "1-0-1": ("zero-byte", True), "2-0-0": ("not audio", True)}
    assert all(f"{p.clip_id}.wav" in p.message and "\n" not in p.message for p in store.problems)
    assert store.index.clip_ids.tolist() == ["1-1-0", "1-1-1", "2-0-1", "2-1-0", "2-1-1"]
    assert len(store) == 5 and len(counted) == CLIPS


def test_labels_stay_with_their_waveforms_when_clips_are_left_out(root: Path) -> None:
    for name in ("1-0-0", "1-1-1"):
        (root / f"audio/{name}.wav").write_bytes(b"")
    store = load_waveforms(read_dataset("esc50", root), SPEC)
    inputs = torch.cat([batch.inputs for batch in evaluation_batches(store, 4, "cpu")])
    loudest_mel = inputs.mean(dim=(1, 3)).argmax(dim=1).numpy()
    # Class 1 is the high tone, in the upper mels.
    assert ((loudest_mel > 7) == store.index.targets()[:, 1].astype(bool)).all()


def test_longer_clips_are_trimmed_unless_they_are_kept_whole(corpus: ClipIndex) -> None:
    whole, cut = load_waveforms(corpus, SPEC, whole=True), load_waveforms(corpus, SPEC)
    assert max(len(whole.waveforms[i]) for i in range(CLIPS)) == 2.5 * RATE
    for i in range(CLIPS):
        assert (cut.waveforms[i] == whole.waveforms[i][: SPEC.samples]).all()
        held = cut.waveforms[i].base  # a view would keep the whole recording
        assert held is None or held.nbytes == cut.waveforms[i].nbytes


def test_no_usable_clip_is_one_line_with_the_first_reason(root: Path) -> None:
    for path in (root / "audio").iterdir():
        path.write_bytes(b"")
    with pytest.raises(InputError, match=r"none of 8 listed clips can be used.*zero-byte") as error:
        load_waveforms(read_dataset("esc50", root), SPEC)
    assert "\n" not in str(error.value)


def test_a_split_without_a_usable_clip_is_one_line(root: Path) -> None:
    for path in (root / "audio").glob("2-*"):
        path.write_bytes(b"")
    store = load_waveforms(read_dataset("esc50", root), SPEC)
    assert len(store.where_split("1", "2")) == 4
    with pytest.raises(InputError, match="none of the 4 listed clips in split 2 can be used") as error:
        store.where_split("2")
    assert str(root) in str(error.value) and "\n" not in str(error.value)


# --- streaming and splits -------------------------------------------------------------------------------------------


def test_a_stream_reads_nothing_before_a_clip_is_asked_for(corpus: ClipIndex, tmp_path: Path) -> None:
    store = stream_waveforms(replace(corpus, root=tmp_path / "absent"), SPEC)
    assert len(store) == CLIPS and len(store.where_split("2").waveforms) == CLIPS // 2


def test_a_split_has_the_waveforms_of_its_clips(corpus: ClipIndex) -> None:
    memory, stream = load_waveforms(corpus, SPEC, whole=True), stream_waveforms(corpus, SPEC)
    second = corpus.positions_of("2")
    for fold in (memory.where_split("2"), stream.where_split("2")):
        assert fold.index.clip_ids.tolist() == corpus.clip_ids[second].tolist()
        for i, position in enumerate(second):
            assert (fold.waveforms[i] == memory.waveforms[position]).all()


def test_a_corpus_without_files_cannot_be_streamed(corpus: ClipIndex) -> None:
    with pytest.raises(InputError, match="has a file") as error:
        stream_waveforms(corpus.take(np.empty(0, np.int64)), SPEC)
    assert "\n" not in str(error.value)


# --- memory ---------------------------------------------------------------------------------------------------------


def test_half_of_the_free_memory_stays_free() -> None:
    assert not fits_in_memory(100, processes=2, limit=400)
    assert fits_in_memory(100, processes=2, limit=401)


def test_free_memory_is_part_of_the_machines() -> None:
    available = available_memory_bytes()
    if available is None:
        pytest.skip("no /proc/meminfo on this system")
    lines = Path("/proc/meminfo").read_text().splitlines()
    total = int(next(line for line in lines if line.startswith("MemTotal")).split()[1]) * 1024
    assert 0 < available < total


@pytest.mark.parametrize("whole", [False, True])
def test_waveforms_beyond_memory_are_refused_before_decoding(corpus: ClipIndex, whole: bool) -> None:
    needed = stream_waveforms(corpus, SPEC).memory_bytes(whole)
    decoded: list[int] = []
    with pytest.raises(InputError, match=r"8 clips need .* GiB of memory.*--stream"):
        load_waveforms(corpus, SPEC, on_clip=lambda: decoded.append(1), whole=whole, memory_limit=needed - 1)
    assert not decoded
    assert len(load_waveforms(corpus, SPEC, whole=whole, memory_limit=needed)) == CLIPS


def test_whole_clips_need_the_memory_of_their_lengths(corpus: ClipIndex) -> None:
    held = load_waveforms(corpus, SPEC, whole=True).memory_bytes(whole=True)
    assert held <= stream_waveforms(corpus, SPEC).memory_bytes(whole=True) < 1.5 * held
    listed = stream_waveforms(replace(corpus, start=np.zeros(CLIPS), stop=np.full(CLIPS, 2.0)), SPEC)
    assert listed.memory_bytes(whole=True) == CLIPS * 2 * RATE * 4
    assert listed.memory_bytes(whole=False) == CLIPS * SPEC.samples * 4


def test_decoding_stops_where_clips_are_longer_than_estimated(corpus: ClipIndex) -> None:
    """The headers of files that libsndfile does not know are not read for the estimate."""
    av = pytest.importorskip("av")
    for i in range(CLIPS):
        path = corpus.clip(i).path
        with av.open(str(path.with_suffix(".mka")), "w", format="matroska") as container:
            stream = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 4 * RATE), np.int16), format="s16", layout="mono")
            frame.sample_rate = RATE
            container.mux([*stream.encode(frame), *stream.encode()])
        path.with_suffix(".mka").replace(path)
    limit = stream_waveforms(corpus, SPEC).memory_bytes(whole=True)
    decoded: list[int] = []
    with pytest.raises(InputError, match="GiB of memory"):
        load_waveforms(corpus, SPEC, lambda: decoded.append(1), workers=1, whole=True, memory_limit=limit)
    assert len(decoded) < CLIPS

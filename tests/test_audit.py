"""`data audit` and `data standin`: every planted fault once, official counts, kills survived, one path for all."""

from __future__ import annotations

import csv
import io
import json
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from make_audio import RATE, cut_short, make_esc50_folder, tone

from reproduce.__main__ import main
from reproduce.audio.spec import AudioSpec
from reproduce.data.audit import examine_clips
from reproduce.data.audit_summary import iter_faults
from reproduce.data.batches import evaluation_batches
from reproduce.data.norm_stats import measure_stats
from reproduce.data.shard_writer import write_shards
from reproduce.data.waveform_store import load_waveforms, stream_waveforms
from reproduce.datasets import read_dataset
from reproduce.datasets.standin.write import STANDINS, write_standin
from reproduce.errors import InputError
from reproduce.files import file_lock
from reproduce.paper import load_paper

ROOT = Path(__file__).resolve().parents[1]
CLIPS = {"kinetics_sounds": 12, "epic_kitchens": 24, "vggsound": 12, "audioset": 24}
SEED = 3
FILE_PER_CLIP = ("kinetics_sounds", "vggsound", "audioset")


@dataclass(frozen=True)
class Audited:
    """What `data audit --format json` printed, and the folder it left behind."""

    report: dict[str, Any]
    out: Path

    def total(self, count: str) -> int:
        return sum(split[count] for split in self.report["splits"].values())

    def faults(self) -> list[dict[str, str]]:
        with (self.out / "faults.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    def state(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.out / "clips.jsonl").read_text().splitlines()]


def run_audit(name: str, root: Path, out: Path, *more: str) -> Audited:
    printed = io.StringIO()
    with redirect_stdout(printed), redirect_stderr(io.StringIO()):
        command = ["data", "audit", name, "--data", f"{name}={root}", "--out", str(out), "--workers", "2", *more]
        assert main([*command, "--format", "json"]) == 0
    return Audited(json.loads(printed.getvalue()), out)


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The four stand-ins, not to be changed by a test."""
    root = tmp_path_factory.mktemp("standins")
    return {name: write_standin(name, root / name, clips, SEED) for name, clips in CLIPS.items()}


@pytest.fixture
def copy_of(trees: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """A stand-in of one's own, to plant faults in."""
    return lambda name: Path(shutil.copytree(trees[name], tmp_path / "data" / name))


def write_video_without_sound(path: Path) -> None:
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        for _ in range(10):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def plant_faults(files: list[Path]) -> dict[str, Path]:
    """One clip of each fault: what is the matter -> the file it lies in (or lay)."""
    names = ("missing", "zero-byte", "truncated", "no audio track", "not audio", "silent", "short", "duplicate")
    planted = dict(zip(names, files, strict=False))
    planted["missing"].unlink()
    planted["zero-byte"].write_bytes(b"")
    cut_short(planted["truncated"])
    planted["no audio track"].unlink()
    planted["no audio track"] = planted["no audio track"].with_suffix(".mp4")
    write_video_without_sound(planted["no audio track"])
    planted["not audio"].write_text("<html>this video is not available</html>")
    soundfile.write(planted["silent"], np.zeros(10 * RATE), RATE)
    soundfile.write(planted["short"], tone(440, 9.5), RATE)
    # The same samples in another format, so that the bytes of the two files differ.
    planted["duplicate"].unlink()
    planted["duplicate"] = planted["duplicate"].with_suffix(".wav")
    soundfile.write(planted["duplicate"], soundfile.read(files[-1], dtype="int16")[0], RATE)
    return planted


# --- counts ---


@pytest.mark.parametrize("name", FILE_PER_CLIP)
def test_each_planted_fault_is_reported_exactly_once(name: str, copy_of: Callable[[str], Path], tmp_path: Path) -> None:
    root = copy_of(name)
    planted = plant_faults(sorted(root.rglob("*.flac"))[:9])
    audited = run_audit(name, root, tmp_path / "out")

    assert Counter(row["fault"] for row in audited.faults()) == dict.fromkeys(planted, 1)
    for row in audited.faults():
        if row["fault"] not in ("missing", "duplicate"):
            assert root / row["path"] == planted[row["fault"]]
    counts = (
        "listed", "present", "missing", "usable", "zero_byte", "no_audio_track", "truncated", "unreadable",
        "short", "silent", "duplicate",
    )  # fmt: skip
    clips = CLIPS[name]
    assert [audited.total(count) for count in counts] == [clips, clips - 1, 1, clips - 5, 1, 1, 1, 1, 1, 1, 1]
    for count in ("listed", "present", "usable"):
        if name != "audioset":  # there a clip carries several labels
            assert sum(row[count] for row in audited.report["classes"]) == audited.total(count)


def test_a_duplicate_names_the_earlier_clip_and_a_leak_is_counted(
    copy_of: Callable[[str], Path], tmp_path: Path
) -> None:
    root = copy_of("kinetics_sounds")
    train, val = (sorted((root / split).rglob("*.flac"))[0] for split in ("train", "val"))
    shutil.copyfile(train, val)
    audited = run_audit("kinetics_sounds", root, tmp_path / "out")
    (row,) = audited.faults()
    assert row == {
        "split": "val",
        "clip_id": val.stem,
        "fault": "duplicate",
        "path": val.relative_to(root).as_posix(),
        "same_as": train.stem,
    }
    assert audited.report["splits"]["val"]["duplicate_across_splits"] == 1
    assert audited.report["splits"]["train"]["duplicate"] == 0
    assert audited.total("usable") == CLIPS["kinetics_sounds"]


def test_silent_clips_are_not_duplicates_of_each_other(copy_of: Callable[[str], Path], tmp_path: Path) -> None:
    root = copy_of("vggsound")
    for path in sorted(root.rglob("*.flac"))[:2]:
        soundfile.write(path, np.full(10 * RATE, 0.25), RATE)  # silent is what does not swing, not what is zero
    audited = run_audit("vggsound", root, tmp_path / "out")
    assert (audited.total("silent"), audited.total("duplicate")) == (2, 0)


def test_an_id_that_is_listed_twice_is_counted_once(copy_of: Callable[[str], Path], tmp_path: Path) -> None:
    root = copy_of("vggsound")
    lists = root / "vggsound.csv"
    first, rest = lists.read_text().split("\n", 1)
    lists.write_text(f"{first}\n{rest}{first}\n")
    audited = run_audit("vggsound", root, tmp_path / "out")
    assert audited.total("listed") == audited.total("usable") == CLIPS["vggsound"]
    assert audited.report["listed_again"] == 1
    assert [row["fault"] for row in audited.faults()] == ["listed again"]


def test_epic_segments_are_judged_one_by_one_within_their_video(copy_of: Callable[[str], Path], tmp_path: Path) -> None:
    root = copy_of("epic_kitchens")
    index = read_dataset("epic_kitchens", root)
    gone = root / str(index.paths[index.positions_of("validation")[0]])
    gone.unlink()
    quiet, late = index.clip(1), index.clip(17)
    assert quiet.path == late.path
    samples, rate = soundfile.read(quiet.path)
    assert quiet.start is not None and quiet.stop is not None and late.start is not None
    samples[round(quiet.start * rate) : round(quiet.stop * rate)] = 0
    soundfile.write(quiet.path, samples[: round((late.start + 0.1) * rate)], rate)
    audited = run_audit("epic_kitchens", root, tmp_path / "out")
    ends_after_cut = {c.clip_id for c in map(index.clip, index.positions_of("train")) if c.stop > late.start + 0.6}
    begins_after_cut = {c.clip_id for c in map(index.clip, index.positions_of("train")) if c.start >= late.start + 0.1}
    found: dict[str, set[str]] = {}
    for row in audited.faults():
        found.setdefault(row["fault"], set()).add(row["clip_id"])
    lost = len(index.where_split("validation"))
    assert len(found["missing"]) == lost
    assert found["silent"] == {quiet.clip_id}
    assert found["short"] == ends_after_cut - begins_after_cut
    assert found.get("empty", set()) == begins_after_cut
    assert audited.report["splits"]["validation"]["present"] == 0


def test_folders_have_no_usual_length_to_fall_short_of(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(5):
            soundfile.write(tmp_path / "data" / name / f"{i}.wav", tone(440, 0.3, seed=i + 10 * ord(name)), RATE)
    assert run_audit("folder", tmp_path / "data", tmp_path / "out").total("short") == 0
    esc50 = run_audit("esc50", make_esc50_folder(tmp_path / "esc50"), tmp_path / "esc50-out")
    assert esc50.total("short") == esc50.total("usable") == 20


def test_odd_sound_is_named_alike_by_audit_memory_shards_and_statistics(inputs: Path, tmp_path: Path) -> None:
    pytest.importorskip("webdataset", reason="writing shards needs webdataset")
    root = make_esc50_folder(tmp_path / "esc50", seconds=0.3)
    shutil.copyfile(inputs / "one_sample_3e29.wav", root / "audio/1-0-0.wav")
    shutil.copyfile(inputs / "antiphase.wav", root / "audio/1-0-1.wav")
    soundfile.write(root / "audio/1-1-0.wav", tone(440, 0.05), RATE)
    soundfile.write(root / "audio/1-1-1.wav", np.full(RATE, np.nan, np.float32), RATE, subtype="FLOAT")
    expected = {
        ("1-0-0", "absurd values"),
        ("1-0-1", "channels cancel"),
        ("1-1-0", "very short"),
        ("1-1-1", "NaN samples"),
    }
    index = read_dataset("esc50", root)
    audited = run_audit("esc50", root, tmp_path / "out")
    assert {(row["clip_id"], row["fault"]) for row in audited.faults() if row["fault"] != "short"} == expected
    assert (audited.total("usable"), audited.total("unreadable"), audited.total("silent")) == (18, 2, 1)
    for problems in (load_waveforms(index, AudioSpec()).problems, write_shards(index, tmp_path / "shards").problems):
        assert {(problem.clip_id, problem.reason) for problem in problems} == expected
        assert {problem.clip_id for problem in problems if problem.fatal} == {"1-0-0", "1-1-1"}
    stats = measure_stats(index, AudioSpec(frames=64))
    assert (stats.clips, stats.unusable) == (18, 2) and np.isfinite([*asdict(stats.ast).values()]).all()
    for batch in evaluation_batches(stream_waveforms(index, AudioSpec(frames=64)), 8, "cpu"):
        assert batch.inputs.isfinite().all()


# --- the official lists and the paper ---


def test_an_unlisted_set_has_no_count_beside_the_papers(copy_of: Callable[[str], Path], tmp_path: Path) -> None:
    root = copy_of("audioset")
    counts = {row["name"]: row for row in run_audit("audioset", root, tmp_path / "full").report["paper"]}
    kept = {name: load_paper().fact(f"clips_audioset_{name}").value for name in ("balanced", "full", "test")}
    assert (kept["balanced"], kept["full"], kept["test"]) == (17823, 1592753, 15818)
    assert [counts[name]["paper_kept"] for name in ("balanced training", "full training", "test")] == list(
        kept.values()
    )
    splits = STANDINS["audioset"].clips_per_split(CLIPS["audioset"])
    assert counts["full training"]["usable"] == splits["balanced_train"] + splits["unbalanced_train"]
    (root / "unbalanced_train_segments.csv").unlink()
    counts = {row["name"]: row for row in run_audit("audioset", root, tmp_path / "balanced").report["paper"]}
    assert (counts["full training"]["listed"], counts["full training"]["usable"]) == (None, None)
    assert counts["balanced training"]["usable"] == splits["balanced_train"]


def test_kinetics_counts_are_compared_under_the_papers_class_list_alone(trees: dict[str, Path], tmp_path: Path) -> None:
    def kept(*more: str) -> list[int]:
        report = run_audit("kinetics_sounds", trees["kinetics_sounds"], tmp_path / "out", *more).report
        return [row["paper_kept"] for row in report["paper"]]

    assert kept() == [22914, 1585]
    assert kept("--variant", "ks31") == []


def test_every_format_names_a_stand_in_as_one(trees: dict[str, Path], tmp_path: Path) -> None:
    audited = run_audit("vggsound", trees["vggsound"], tmp_path)
    printed = io.StringIO()
    with redirect_stdout(printed), redirect_stderr(io.StringIO()):
        for format in ("terminal", "markdown"):
            data = f"vggsound={trees['vggsound']}"
            main(["data", "audit", "vggsound", "--data", data, "--out", str(tmp_path), "--format", format])
    markdown = (tmp_path / "audit.md").read_text()
    assert printed.getvalue().endswith(markdown)
    assert "synthetic stand-in" in printed.getvalue().removesuffix(markdown)
    assert "synthetic stand-in" in markdown
    assert "synthetic stand-in" in audited.report["title"]
    assert json.loads((tmp_path / "audit.json").read_text()) == audited.report


# --- resuming ---


def examined_ids(audited: Audited, lines_before: int) -> list[str]:
    """Ids of the clips that were decoded since the journal had so many lines: each adds one."""
    return sorted(row["clip"] for row in audited.state()[lines_before:])


def run_killed(code: str, *arguments: str) -> None:
    """Run Python code that ends by killing itself."""
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL


KILLED_AUDIT = """
import os, signal, sys
from reproduce.data.audit import examine_clips, read_for_audit
done = []
def on_clip():
    done.append(1)
    if len(done) == 12:
        os.kill(os.getpid(), signal.SIGKILL)
examine_clips(read_for_audit("audioset", sys.argv[1]), sys.argv[2], workers=1, on_clip=on_clip)
"""


def test_a_killed_audit_resumes_and_counts_nothing_twice(copy_of: Callable[[str], Path], tmp_path: Path) -> None:
    root = copy_of("audioset")
    plant_faults(sorted(root.rglob("*.flac"))[:9])
    whole = run_audit("audioset", root, tmp_path / "whole")
    state = tmp_path / "killed" / "clips.jsonl"
    run_killed(KILLED_AUDIT, str(root), str(state))
    known = state.read_bytes().count(b"\n")
    assert 3 <= known < len(whole.state())
    with state.open("ab") as file:  # what a kill in the middle of a write leaves
        file.write(whole.out.joinpath("clips.jsonl").read_bytes().splitlines()[known][:40])

    resumed = run_audit("audioset", root, state.parent)
    assert resumed.report == whole.report
    assert resumed.faults() == whole.faults()
    assert sorted(row["clip"] for row in resumed.state()) == sorted(row["clip"] for row in whole.state())


def test_only_changed_clips_are_examined_again(copy_of: Callable[[str], Path], tmp_path: Path) -> None:
    root = copy_of("vggsound")
    mended, added, kept = sorted(root.rglob("*.flac"))[:3]
    sound = mended.read_bytes()
    mended.write_bytes(b"")
    absent = tmp_path / "elsewhere.flac"
    added.rename(absent)
    before = run_audit("vggsound", root, tmp_path / "out")
    assert (before.total("zero_byte"), before.total("missing")) == (1, 1)
    lines = len(before.state())
    mended.write_bytes(sound)
    absent.rename(added)
    after = run_audit("vggsound", root, tmp_path / "out")
    assert examined_ids(after, lines) == sorted([mended.stem, added.stem])
    assert after.total("usable") == CLIPS["vggsound"]
    kept.unlink()
    assert run_audit("vggsound", root, tmp_path / "out").total("missing") == 1


def test_an_unreadable_clip_is_examined_again(copy_of: Callable[[str], Path], tmp_path: Path) -> None:
    root = copy_of("vggsound")
    broken = sorted(root.rglob("*.flac"))[0]
    broken.write_bytes(b"fLaC and nothing more")
    lines = len(run_audit("vggsound", root, tmp_path / "out").state())
    again = run_audit("vggsound", root, tmp_path / "out")
    assert examined_ids(again, lines) == [broken.stem]
    assert again.total("unreadable") == 1


# --- bad input ---


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["audit", "vggsoud", "--data", "vggsound=."], "unknown dataset 'vggsoud'"),
        (["audit", "vggsound"], "add --data vggsound=DIR"),
        (["audit", "vggsound", "--data", "vggsound=.", "--variant", "ks31"], "not a variant of vggsound"),
        (["standin", "esc50"], "no stand-in for 'esc50'"),
        (["standin", "vggsound", "--clips", "1"], "ask for at least 4"),
    ],
)
def test_bad_options_are_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", *arguments]) == 2
    printed = capsys.readouterr()
    assert message in printed.err.splitlines()[-1]
    assert (printed.out, "Traceback" in printed.err) == ("", False)


@pytest.mark.parametrize(
    "row",
    [
        "{}",
        "null",
        "[" * 5000,
        '{"clip": "a", "path": "a", "start": null, "stop": null, "size": 1, "mtime_ns": 1, "status": "usable", '
        '"seconds": 1e999, "silent": false, "content": "0"}',
    ],
    ids=["no fields", "no object", "deep", "endless"],
)
def test_a_file_that_is_no_journal_is_refused_by_row(row: str, trees: dict[str, Path], tmp_path: Path) -> None:
    index = read_dataset("vggsound", trees["vggsound"])
    state = tmp_path / "clips.jsonl"
    examine_clips(index, state, workers=1)
    first, rest = state.read_text().split("\n", 1)
    state.write_text(f"{first}\n{row}\n{rest}")
    with pytest.raises(InputError, match=r"clips\.jsonl row 2: .*delete the file"):
        examine_clips(index, state, workers=1)
    assert state.read_text() == f"{first}\n{row}\n{rest}"


def test_a_folder_that_cannot_be_written_is_named(trees: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/clips\.jsonl: .*--out DIR"):
        examine_clips(read_dataset("vggsound", trees["vggsound"]), tmp_path / "file" / "clips.jsonl", workers=1)


def test_two_audits_do_not_write_to_one_folder(trees: dict[str, Path], tmp_path: Path) -> None:
    with file_lock(tmp_path / ".clips.jsonl.lock", "busy"), pytest.raises(InputError, match="another audit writes"):
        examine_clips(read_dataset("vggsound", trees["vggsound"]), tmp_path / "clips.jsonl", workers=1)


@pytest.mark.parametrize("file_bytes", [1000, 5000], ids=["journal", "report"])
def test_a_full_disk_is_one_line_and_the_audit_can_be_resumed(
    file_bytes: int, trees: dict[str, Path], tmp_path: Path
) -> None:
    """A limit on the size of files fails writes in the middle, as a full disk does; -B: also those of bytecode."""
    code = (
        f"import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({file_bytes}, {file_bytes})); "
        "from reproduce.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    command = ["data", "audit", "vggsound", "--data", f"vggsound={trees['vggsound']}", "--out", str(tmp_path / "out")]
    call = [sys.executable, "-B", "-c", code, *command]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "free disk space, or give another --out DIR" in done.stderr.splitlines()[-1]
    kept = (tmp_path / "out" / "clips.jsonl").read_bytes().count(b"\n")
    resumed = run_audit("vggsound", trees["vggsound"], tmp_path / "out")
    assert resumed.total("usable") == CLIPS["vggsound"] and len(resumed.state()) == CLIPS["vggsound"] > kept - 1 > 0


def test_a_faultless_tree_has_no_faults(trees: dict[str, Path], tmp_path: Path) -> None:
    index = read_dataset("kinetics_sounds", trees["kinetics_sounds"])
    assert list(iter_faults(index, examine_clips(index, tmp_path / "clips.jsonl", workers=1))) == []
    audited = run_audit("kinetics_sounds", trees["kinetics_sounds"], tmp_path)
    assert audited.report["splits"]["val"]["usable_ids_sha256"] == index.where_split("val").ids_sha256()

"""Files of YouTube clips: which names are understood, and which file belongs to which clip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from make_files import touch

from reproduce.datasets.readers.youtube_files import NO_START, parse_stem, scan_youtube_files, video_of

A, B, C = "aaaaaaaaaaa", "-bbbbb_bbb-", "Yccccccccc_"  # ids may begin with - or Y and end with - or _


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
        ("{}_999999999999", 999_999_999_999_000),
    ],
)
def test_names_of_every_scheme_give_id_and_start(video: str, form: str, start: int) -> None:
    assert parse_stem(form.format(video)) == (video, start)


@pytest.mark.parametrize(
    "stem", ["", "short", "README", "aaaaaaaaaaaa", "aaaaaaaaaaa_x", "aaaaaaaaaaa_1_2_3", "ä" * 11, A + "_" + "9" * 400]
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
    assert files.paths(rows).tolist() == [name]


def files_of(root: Path, *clips: tuple[str, float]) -> list[str | None]:
    """Path of the file of each (video, start), or None."""
    files = scan_youtube_files(root)
    rows = files.find(np.array([video.encode() for video, _ in clips], "S11"), np.array([start for _, start in clips]))
    return [files.paths(np.array([row]))[0] if row >= 0 else None for row in rows]


def test_a_name_with_the_start_beats_one_without_and_sound_beats_video(tmp_path: Path) -> None:
    touch(tmp_path, f"{A}.wav", f"{A}_000030.mp4", f"{A}_000030.ogg", f"{B}.mp4", f"z/{B}.wav", f"a/{B}.wav")
    assert files_of(tmp_path, (A, 30), (B, 5)) == [f"{A}_000030.ogg", f"a/{B}.wav"]


def test_a_fractional_start_is_found_rounded_down(tmp_path: Path) -> None:
    touch(tmp_path, f"{A}_417.wav", f"{B}_417.300.wav", f"{C}_417300.wav")
    assert None not in files_of(tmp_path, (A, 417.3), (B, 417.3), (C, 417.3))


def test_a_file_without_start_is_given_to_neither_of_two_clips(tmp_path: Path) -> None:
    touch(tmp_path, f"{A}.wav", f"{B}.wav")
    assert files_of(tmp_path, (A, 30), (A, 60), (B, 0)) == [None, None, f"{B}.wav"]


def test_an_unknown_start_takes_whatever_the_video_has(tmp_path: Path) -> None:
    assert files_of(touch(tmp_path, f"{A}_000030.wav"), (A, np.nan), (B, np.nan)) == [f"{A}_000030.wav", None]


def test_the_copy_that_replaces_a_broken_video_is_preferred(tmp_path: Path) -> None:
    replacement = f"replacement/replacement_for_corrupted_k400/{A}.mp4"
    touch(tmp_path, f"train/{A}_000030_000040.mp4", replacement)
    assert files_of(tmp_path, (A, 30)) == [replacement]


def test_lookup_in_an_empty_tree_finds_nothing(tmp_path: Path) -> None:
    assert files_of(tmp_path, (A, 30)) == [None]


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
    assert files_of(tmp_path, *clips) == [expected.get(f"{video}_{int(start):06d}") for video, start in clips]


def test_the_video_of_a_clip_is_read_off_its_id() -> None:
    assert [video_of(name) for name in (A, f"{B}_000030", f"{C}_000030_000040", "own name")] == [A, B, C, "own name"]


def test_names_that_are_not_utf_8_do_not_stop_the_scan(tmp_path: Path) -> None:
    touch(tmp_path, "caf\udce9/b\udcff.wav", f"caf\udce9/{A}.wav")
    assert files_of(tmp_path, (A, 30)) == [f"caf\udce9/{A}.wav"]
    (problem,) = scan_youtube_files(tmp_path).problems
    assert "caf\\xe9/b\\xff.wav" in problem.message

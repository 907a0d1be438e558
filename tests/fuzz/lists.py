"""Lists of clips: CSV, annotation files, folders with hostile names, and the TOML file of locations."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import soundfile
from fuzz.kind import Kind, command
from fuzz.mutators import NAMES, damage, damage_fields, pick
from make_audio import RATE, make_esc50_folder, tone
from make_files import VIDEO_IDS, audioset_root, epic_root, touch, write
from numpy.random import Generator

from reproduce.datasets import read_dataset

CSVS = {
    "plain.csv": ("path,label", "a.wav,dog", "b.wav,cat", "sub/c.wav,dog"),
    "splits.csv": ("path,label,split,start,stop,speaker", "a.wav,dog,train,,,anna", "b.wav,dog;cat,test,0.1,0.4,ben"),
    "folds.csv": ("path,label,fold", "a.wav,dog,1", "b.wav,cat,2", "sub/c.wav,cat,2"),
}


def _sounds(folder: Path) -> None:
    (folder / "sub").mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(("a.wav", "b.wav", "sub/c.wav")):
        soundfile.write(folder / name, tone(300.0 * (number + 1), 0.5), RATE)


def _audit(name: str, data: Path, case: Path) -> str:
    options = ("--format", "json", "--workers", "1", "--out", case / "audit")
    return command("data", "audit", name, "--data", f"{name}={data}", *options)


# --- CSV --------------------------------------------------------------------------------------------------------------


def _prepare_csv(seeds: Path) -> None:
    _sounds(seeds)
    for name, lines in CSVS.items():
        write(seeds / name, *lines)


def _mutate_csv(seeds: Path, case: Path, random: Generator) -> None:
    shutil.copytree(seeds, case, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.csv", "complete"))
    content = (seeds / pick(tuple(CSVS), random)).read_bytes()
    (case / "list.csv").write_bytes(damage_fields(content, random))


CSV = Kind(
    name="csv",
    prepare=_prepare_csv,
    mutate=_mutate_csv,
    run=lambda case, seeds: _audit("csv", case / "list.csv", case),
    warm_up=lambda seeds: command("data", "audit", "csv", "--data", f"csv={seeds / 'plain.csv'}", "--out", seeds / "o"),
)


# --- the annotation files of public data sets -------------------------------------------------------------------------


def _prepare_annotations(seeds: Path) -> None:
    audioset_root(touch(seeds / "audioset", *(f"{video}.wav" for video in VIDEO_IDS)))
    epic_root(touch(seeds / "epic_kitchens", "P01_01_0.wav"))
    make_esc50_folder(seeds / "esc50", per_fold=1, folds=2, seconds=0.1)
    a, b, _ = VIDEO_IDS
    write(seeds / "vggsound/vggsound.csv", f'{a},30,"dog, barking",train', f"{b},0,rain,test")


def _mutate_annotations(seeds: Path, case: Path, random: Generator) -> None:
    source = pick(sorted(path for path in seeds.iterdir() if path.is_dir()), random)
    shutil.copytree(source, case / source.name)
    path = pick(sorted((case / source.name).rglob("*.csv")), random)
    path.write_bytes(damage_fields(path.read_bytes(), random))


def _read_annotations(case: Path, seeds: Path) -> Any:
    (folder,) = case.iterdir()
    index = read_dataset(folder.name, folder)
    lines = [problem.message for problem in index.problems]
    assert all("\n" not in line for line in lines)
    return [index.targets(head) for head in index.classes]


ANNOTATIONS = Kind(name="annotations", prepare=_prepare_annotations, mutate=_mutate_annotations, run=_read_annotations)


# --- folders ----------------------------------------------------------------------------------------------------------


def _mutate_folder(seeds: Path, case: Path, random: Generator) -> None:
    root = case / "data"
    layouts = (("dog", "cat"), ("train/dog", "train/cat", "test/dog", "test/cat"), ("fold1", "fold2"), ("dog", "Dog "))
    for name in pick(layouts, random):
        (root / name).mkdir(parents=True)
        for number in range(int(random.integers(4))):
            shutil.copy(seeds / "a.wav", root / name / f"{number}.wav")
    for _ in range(int(random.integers(1, 6))):
        parent = pick(
            [root, *(path for path in sorted(root.rglob("*")) if path.is_dir() and not path.is_symlink())], random
        )
        name = os.fsencode(pick(NAMES, random).replace("/", "_").replace("\x00", "") or "x")[:200]
        at = os.fsencode(parent) + b"/" + name + pick((b"", b".wav", b".WAV", b".mp3", b".txt", b".caf"), random)
        if os.path.lexists(at):
            continue
        match int(random.integers(7)):
            case 0:
                os.mkdir(at)
            case 1:
                os.symlink(pick((".", "..", at, "nowhere", seeds, seeds / "a.wav"), random), at)
            case 2:
                os.mkfifo(at)
            case 3:
                Path(os.fsdecode(at)).write_bytes(b"")
            case 4:
                Path(os.fsdecode(at)).write_bytes(damage((seeds / "a.wav").read_bytes(), random))
            case 5:
                os.mkdir(at)
                shutil.copy(seeds / "b.wav", at + b"/in.wav")
            case _:
                shutil.copy(seeds / "a.wav", at)


FOLDER = Kind(
    name="folder",
    prepare=_sounds,
    mutate=_mutate_folder,
    run=lambda case, seeds: _audit("folder", case / "data", case),
    warm_up=lambda seeds: command("data", "audit", "folder", "--data", f"folder={seeds}", "--out", seeds.parent / "o"),
)


# --- TOML -------------------------------------------------------------------------------------------------------------


TOML_LINES = (
    *("# caf\u00e9", "", "  ", "\t# x", 'vggsound = "/nowhere"', "audioset = '/data/\\x'", '"epic_kitchens" = "~/x"'),
    *(
        'kinetics_sounds = """/a b"""',
        'folder = "\\u00e9"',
        "esc50 = 5",
        "folder = []",
        "csv = true",
        "[other]",
        "x = 1",
    ),
    *('datasets.vggsound = "y"', 'vggsound = { a = "b" }', 'folder = "\\u001b[2J"', "date = 2026-01-01"),
)
TOML_PLACES = (
    *('"plain.csv"', "'plain.csv'", '"./plain.csv"', '"sub/../plain.csv"', '"""plain.csv"""', '"pl\\u0061in.csv"'),
    *('"~/plain.csv"', '"sub"', '""', '"plain.csv\\u0000"', "1", "[]", '"/dev/zero"', '"plain.csv/x"', '"*.csv"'),
)


def _prepare_toml(seeds: Path) -> None:
    _sounds(seeds)
    write(seeds / "plain.csv", *CSVS["plain.csv"])
    write(seeds / "sets.toml", "[datasets]", 'csv = "plain.csv"', 'esc50 = "~/ESC-50"', "# a note")


def _mutate_toml(seeds: Path, case: Path, random: Generator) -> None:
    shutil.copytree(seeds, case, dirs_exist_ok=True, ignore=shutil.ignore_patterns("complete"))
    path = case / "sets.toml"
    if random.random() < 0.5:
        path.write_bytes(damage_fields(path.read_bytes(), random, separator=pick((b" ", b"=", b'"'), random)))
        return
    lines = path.read_text().splitlines()
    for _ in range(int(random.integers(1, 3))):
        lines.insert(int(random.integers(1, len(lines) + 1)), pick(TOML_LINES, random))
    if random.random() < 0.5:
        lines[lines.index('csv = "plain.csv"')] = f"csv = {pick(TOML_PLACES, random)}"
    text = pick(("\n", "\r\n", "\n\n"), random).join(lines)
    path.write_bytes(pick((b"", b"", b"\xef\xbb\xbf"), random) + text.encode())


def _run_toml(case: Path, seeds: Path) -> Any:
    options = ("--format", "json", "--workers", "1", "--out", case / "audit")
    report = command("data", "audit", "csv", "--datasets", case / "sets.toml", *options)
    listed = sum(split["listed"] for split in json.loads(report)["splits"].values())
    assert listed == len(CSVS["plain.csv"]) - 1, f"{listed} clips"
    return report


TOML = Kind(name="toml", prepare=_prepare_toml, mutate=_mutate_toml, run=_run_toml)
KINDS = (CSV, ANNOTATIONS, FOLDER, TOML)

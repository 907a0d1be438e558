"""Packed audio: HDF5 files and tar shards with their index."""

from __future__ import annotations

import hashlib
import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from fuzz.finite import check_finite
from fuzz.kind import Kind
from fuzz.mutators import damage, damage_array, damage_json, pick
from fuzz.sounds import sndfile
from make_audio import make_esc50_folder, tone
from make_files import VIDEO_IDS, audioset_root
from make_runs import SPEC
from numpy.random import Generator

from reproduce.audio.errors import AudioError
from reproduce.audio.waveforms import load_clip
from reproduce.data.shard_index import INDEX_NAME
from reproduce.data.shard_reader import open_shards
from reproduce.data.shard_writer import write_shards
from reproduce.datasets import read_dataset

PCM = (tone(300.0, 0.1, 32_000) * 32767).astype(np.int16)


# --- HDF5 -------------------------------------------------------------------------------------------------------------


def _prepare_hdf5(seeds: Path) -> None:
    names = np.array([f"Y{video}.wav".encode() for video in VIDEO_IDS], "S20")
    target = np.eye(3, dtype=bool)
    with h5py.File(seeds / "eval.h5", "w") as file:
        file["audio_name"], file["waveform"], file["target"] = names, np.stack([PCM] * 3), target
        file.attrs["sample_rate"] = 32_000
    mp3 = np.frombuffer(sndfile("MP3"), np.uint8)
    with h5py.File(seeds / "eval_segments_mp3.hdf", "w") as file:
        file["audio_name"], file["target"] = names, np.packbits(target, axis=1)
        stored = file.create_dataset("mp3", (3,), dtype=h5py.vlen_dtype(np.uint8))
        for row in range(3):
            stored[row] = mp3
    with h5py.File(seeds / "asf.hdf5", "w") as file:
        file["P01_01"] = tone(300.0, 0.5, 24_000)


def _mutate_hdf5(seeds: Path, case: Path, random: Generator) -> None:
    source = pick(sorted(path for path in seeds.iterdir() if path.name != "complete"), random)
    audioset_root(case)
    (case / "eval_segments.csv").unlink()
    path = case / source.name
    shutil.copy(source, path)
    if random.random() < 0.5:
        path.write_bytes(damage(source.read_bytes(), random))
        return
    with h5py.File(path, "a") as file:
        name = pick(sorted(file), random)
        values = file[name][()] if name != "mp3" else PCM
        del file[name]
        match int(random.integers(7)):
            case 0:
                file[name] = h5py.ExternalLink("/etc/passwd", "x")
            case 1:
                file[name] = h5py.SoftLink(pick((f"/{name}", "/nowhere", "/"), random))
            case 2:
                file.create_group(name)
            case 3:
                file.create_dataset(name, (2 ** int(random.integers(20, 50)),), np.int16, chunks=(1 << 16,))
            case 4:
                file.attrs["sample_rate"] = pick((0, -1, 2**31, 1.5, np.nan, "x", [1, 2]), random)
            case _:
                # Where there is no such conversion, the dataset is gone.
                with np.errstate(all="ignore"), suppress(ValueError, TypeError):
                    file[name] = damage_array(np.asarray(values), random)


def _run_hdf5(case: Path, seeds: Path) -> Any:
    (path,) = (path for path in case.iterdir() if path.suffix in (".h5", ".hdf", ".hdf5"))
    last: AudioError | None = None
    read = 0
    keys = ("0", "2", "-1", "9" * 30) if path.name != "asf.hdf5" else ("P01_01", "P01_01@16000", "P01_01@0", "/")
    for key in keys:
        try:
            check_finite(load_clip(f"{path}::{key}", SPEC.sample_rate).waveform)
            read += 1
        except AudioError as error:
            last = error
    targets = read_dataset("audioset", case).targets() if path.name != "asf.hdf5" else None
    if not read and last is not None:
        raise last
    return targets


HDF5 = Kind(name="hdf5", prepare=_prepare_hdf5, mutate=_mutate_hdf5, run=_run_hdf5)


# --- shards -----------------------------------------------------------------------------------------------------------


def _prepare_shards(seeds: Path) -> None:
    index = read_dataset("esc50", make_esc50_folder(seeds.parent / "clips", per_fold=1, folds=2, seconds=0.2))
    write_shards(index, seeds, clips_per_shard=2, workers=1)
    shutil.rmtree(seeds.parent / "clips")


def _mutate_shards(seeds: Path, case: Path, random: Generator) -> None:
    shutil.copytree(seeds, case, dirs_exist_ok=True, ignore=shutil.ignore_patterns("complete"))
    index = case / INDEX_NAME
    if random.random() < 0.5:
        if random.random() < 0.7:
            index.write_text(json.dumps(damage_json(json.loads(index.read_text()), random)))
        else:
            index.write_bytes(damage(index.read_bytes(), random))
        return
    shard = pick(sorted(case.rglob("*.tar")), random)
    content = shard.read_bytes()
    if random.random() < 0.4:  # within a description
        at = content.find(b'{"')
        end = content.find(b"\x00", at)
        text = json.dumps(damage_json(json.loads(content[at:end]), random)).encode()[: end - at]
        content = content[:at] + text.ljust(end - at) + content[end:]
    else:
        content = damage(content, random)
    shard.write_bytes(content)
    if random.random() < 0.8:  # with its true checksum and size
        values = json.loads(index.read_text())
        for described in values["shards"]:
            if described["file"] == shard.relative_to(case).as_posix():
                described |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        index.write_text(json.dumps(values))


def _run_shards(case: Path, seeds: Path) -> None:
    store = open_shards(case, SPEC)
    for position in range(len(store)):
        check_finite(store.waveforms[position])


SHARDS = Kind(name="shards", prepare=_prepare_shards, mutate=_mutate_shards, run=_run_shards)
KINDS = (HDF5, SHARDS)

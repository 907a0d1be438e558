"""Which clip goes into which shard. No torch here."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import numpy as np

from reproduce.data.shard_codec import CODEC, SAMPLE_RATE
from reproduce.data.shard_index import FORMAT, VERSION
from reproduce.datasets.index import ClipIndex
from reproduce.datasets.standin_marker import standin_marker

BLOCK_ROWS = 1 << 16


@dataclass(frozen=True)
class PlannedShard:
    """The name and split of a shard, and the (clips,) positions of its clips in the index."""

    file: str
    split: str
    positions: np.ndarray


def plan_shards(index: ClipIndex, clips_per_shard: int) -> list[PlannedShard]:
    """Deal the clips to shards: split by split, in the order of the SHA-256 of their ids.

    So every shard is a fair sample of its split.
    """
    planned = []
    for split in index.split_names():
        positions = index.positions_of(split)
        digests = [hashlib.sha256(index.clip_ids[i].encode(errors="surrogateescape")).digest()[:8] for i in positions]
        positions = positions[np.argsort(np.array(digests, "S8").view(">u8"), kind="stable")]
        for number, first in enumerate(range(0, len(positions), clips_per_shard)):
            # A split can have any name; percent-encoding makes it a file name.
            file = f"{index.dataset}-{quote(split, safe='')}-{number:06d}.tar"
            planned.append(PlannedShard(file, split, positions[first : first + clips_per_shard]))
    return planned


def plan_sha256(index: ClipIndex, clips_per_shard: int) -> str:
    """Identity of a plan: everything that decides the shards' bytes except the recordings."""
    settings: list[Any] = [FORMAT, VERSION, index.dataset, index.variant, SAMPLE_RATE, CODEC, clips_per_shard]
    settings.append(standin_marker(index.root))  # its seed decides the sound of the same ids
    digest = hashlib.sha256(json.dumps([settings, {h: list(c) for h, c in index.classes.items()}]).encode())
    for column in (index.clip_ids, index.splits):
        for first in range(0, len(column), BLOCK_ROWS):
            digest.update(json.dumps(column[first : first + BLOCK_ROWS].tolist()).encode())
    numbers = [index.start, index.stop]
    for _, rows in sorted(index.labels.items()):
        numbers += [rows.offsets, rows.values]
    for array in numbers:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()

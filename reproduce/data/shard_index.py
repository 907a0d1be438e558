"""The index of a folder of shards."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reproduce.datasets.index import Problem
from reproduce.errors import InputError

FORMAT, VERSION = "MAST vs AST shards", 2
INDEX_NAME, JOURNAL_NAME = "index.json", "progress.jsonl"


@dataclass(frozen=True)
class Shard:
    """One tar: `clips` it holds, their `seconds` together, its size and SHA-256, and what was wrong with its clips."""

    file: str
    split: str
    clips: int
    seconds: float
    bytes: int
    sha256: str
    problems: tuple[Problem, ...] = ()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Shard:
        return cls(**{**values, "problems": tuple(Problem(**problem) for problem in values["problems"])})


@dataclass(frozen=True)
class ShardIndex:
    """What `index.json` says.

    Args:
        plan_sha256: identity of the clips, their labels and the settings: a resumed run must have the same.
        listed, missing: split -> how many clips the annotations list; ids of those without a file.
        ids_sha256: split -> `ClipIndex.ids_sha256` of the clips in its shards.
        reading_problems: what the dataset's reader met; each shard has those of its own clips.
        standin: the `standin_marker` of the corpus, None where it is the data set itself.
    """

    dataset: str
    variant: str
    multilabel: bool
    classes: Mapping[str, tuple[str, ...]]
    sample_rate: int
    codec: str
    clips_per_shard: int
    plan_sha256: str
    listed: Mapping[str, int]
    missing: Mapping[str, tuple[str, ...]]
    ids_sha256: Mapping[str, str]
    shards: tuple[Shard, ...]
    reading_problems: tuple[Problem, ...]
    standin: Mapping[str, Any] | None

    @property
    def problems(self) -> tuple[Problem, ...]:
        """All of them; clips of fatal ones are not in the shards."""
        return (*self.reading_problems, *(problem for shard in self.shards for problem in shard.problems))

    def clips(self, *splits: str) -> int:
        """Clips in the shards of these splits, or in all where none is named."""
        return sum(shard.clips for shard in self.shards if not splits or shard.split in splits)

    def splits(self) -> tuple[str, ...]:
        return tuple(sorted({shard.split for shard in self.shards}))


def write_shard_index(path: Path, index: ShardIndex) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    values = asdict(index)
    values["protocol"] = values.pop("variant")  # the name that version 2 of the format has for it
    text = json.dumps({"format": FORMAT, "version": VERSION, **values}, indent=1, ensure_ascii=False)
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def read_shard_index(folder: str | Path) -> ShardIndex:
    """The index.json of a folder of shards.

    Raises:
        InputError: it is missing, unfinished, or not of this format.
    """
    folder = Path(folder)
    path = folder / INDEX_NAME
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if (folder / JOURNAL_NAME).exists():
            raise InputError(f"{folder}: sharding is not finished; run the same `data shard` again") from None
        raise InputError(f"{path}: no such file; give a folder that `python -m reproduce data shard` wrote") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {error}; copy it again or run `data shard` again") from None
    found = (values.pop("format", None), values.pop("version", None)) if isinstance(values, dict) else None
    if found != (FORMAT, VERSION):
        raise InputError(
            f"{path}: not an index of {FORMAT}, version {VERSION}; delete the folder and run `data shard` again"
        )
    try:
        return ShardIndex(
            **{
                **{name: value for name, value in values.items() if name != "protocol"},
                "variant": values["protocol"],
                "classes": {head: tuple(names) for head, names in values["classes"].items()},
                "missing": {split: tuple(ids) for split, ids in values["missing"].items()},
                "shards": tuple(map(Shard.from_dict, values["shards"])),
                "reading_problems": tuple(Problem(**problem) for problem in values["reading_problems"]),
            }
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: incomplete ({error}); copy it again or run `data shard` again") from None

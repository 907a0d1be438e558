"""The index.json of a folder of shards, and whether the shards are the ones it describes. No torch here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reproduce.data.shard_codec import CODEC
from reproduce.datasets.index import Problem
from reproduce.errors import InputError
from reproduce.files import write_text

FORMAT, VERSION = "MAST vs AST shards", 2
INDEX_NAME, JOURNAL_NAME, LOCK_NAME = "index.json", "progress.jsonl", ".lock"
BLOCK_BYTES = 1 << 20
AGAIN = "copy it again or run `data shard` again"


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One tar file.

    Args:
        file: its name.
        split: split of its clips.
        clips: how many clips it holds.
        seconds: their length together.
        bytes: its size.
        sha256: of the file.
        problems: of its clips; those of fatal ones are not in it.
        content: `content_sha256` of the clips that were planned for it; "" in shards written before there were digests.
    """

    file: str
    split: str
    clips: int
    seconds: float
    bytes: int
    sha256: str
    problems: tuple[Problem, ...] = ()
    content: str = ""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Shard:
        """Inverse of `dataclasses.asdict`.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: `values` is no shard.
        """
        shard = cls(**{**values, "problems": _problems(values["problems"])})
        texts, counts = (shard.file, shard.split, shard.sha256, shard.content), (shard.clips, shard.bytes)
        if not all(isinstance(text, str) for text in texts) or not all(type(count) is int for count in counts):
            raise ValueError("a shard's fields")
        if Path(shard.file).name != shard.file or type(shard.seconds) not in (int, float):
            raise ValueError(f"the shard {shard.file!r}")
        return shard


@dataclass(frozen=True, kw_only=True)
class ShardIndex:
    """The content of `index.json`.

    Args:
        dataset: registered name.
        variant: of the data set; "" where it has one only.
        multilabel: whether a clip may carry several labels.
        classes: head -> class names.
        sample_rate: of the waveforms, in Hz.
        clips_per_shard: most clips in a shard.
        plan_sha256: identity of the clips, their labels and the settings, which a resumed run must share.
        listed: split -> number of clips that the annotations list.
        missing: split -> ids of the clips that have no file.
        ids_sha256: split -> `ClipIndex.ids_sha256` of the clips in its shards.
        shards: every shard.
        reading_problems: problems of the data set's reader; each shard has those of its clips.
        standin: the `standin_marker` of a synthetic corpus, None for any other.
        unit: what a clip is cut from, see `ClipIndex.unit`; "clip" in older shards.
    """

    dataset: str
    variant: str
    multilabel: bool
    classes: Mapping[str, tuple[str, ...]]
    sample_rate: int
    clips_per_shard: int
    plan_sha256: str
    listed: Mapping[str, int]
    missing: Mapping[str, tuple[str, ...]]
    ids_sha256: Mapping[str, str]
    shards: tuple[Shard, ...]
    reading_problems: tuple[Problem, ...]
    standin: Mapping[str, Any] | None
    unit: str = "clip"

    @property
    def problems(self) -> tuple[Problem, ...]:
        """All problems; clips with fatal ones are not in the shards."""
        return (*self.reading_problems, *(problem for shard in self.shards for problem in shard.problems))

    def clips(self, *splits: str) -> int:
        """Number of clips in the shards of these splits, or in all shards where none is named."""
        return sum(shard.clips for shard in self.shards if not splits or shard.split in splits)


def write_shard_index(path: Path, index: ShardIndex) -> None:
    """Write index.json completely or not at all.

    Raises:
        InputError: it cannot be written.
    """
    values = asdict(index)
    values["protocol"] = values.pop("variant")  # version 2 of the format calls the variant so
    text = json.dumps({"format": FORMAT, "version": VERSION, "codec": CODEC, **values}, indent=1, ensure_ascii=False)
    text = text.encode(errors="backslashreplace").decode()  # names that are not UTF-8 become JSON escapes
    write_text(path, text + "\n", "the index of the shards cannot be written", "free disk space and run again")


def is_sharded(path: Path) -> bool:
    """Whether a folder holds shards, finished or not: reading unfinished ones raises an error that explains this."""
    return any((path / file).is_file() for file in (INDEX_NAME, JOURNAL_NAME))


def read_shard_index(folder: str | Path) -> ShardIndex:
    """Read the index.json of a folder of shards.

    Raises:
        InputError: it is missing, unfinished, damaged, of another format or codec.
    """
    folder = Path(folder)
    path = folder / INDEX_NAME
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if (folder / JOURNAL_NAME).exists():
            raise InputError(f"{folder}: sharding is not finished; run the same `data shard` again") from None
        raise InputError(f"{path}: no such file; give a folder that `python -m reproduce data shard` wrote") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: {error}; {AGAIN}") from None
    is_object = isinstance(values, dict)
    if not is_object or (values.pop("format", None), values.pop("version", None)) != (FORMAT, VERSION):
        raise InputError(
            f"{path}: not an index of {FORMAT}, version {VERSION}; delete the folder and run `data shard` again"
        )
    codec = values.pop("codec", CODEC)
    if codec != CODEC:
        raise InputError(
            f"{path}: shards of {codec} files are no longer read; shard the data set again, as {CODEC}, elsewhere"
        )
    try:
        return _index_from(values)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: incomplete or damaged ({error}); {AGAIN}") from None


def _index_from(values: dict[str, Any]) -> ShardIndex:
    lists = {name: {key: tuple(items) for key, items in values[name].items()} for name in ("classes", "missing")}
    index = ShardIndex(
        **{
            **{name: value for name, value in values.items() if name != "protocol"},
            **lists,
            "variant": values["protocol"],
            "shards": tuple(map(Shard.from_dict, values["shards"])),
            "reading_problems": _problems(values["reading_problems"]),
        }
    )
    texts = [index.dataset, index.variant, index.plan_sha256, *index.ids_sha256.values()]
    texts += [text for lines in (*index.classes.values(), *index.missing.values()) for text in lines]
    counts = [index.sample_rate, index.clips_per_shard, *index.listed.values()]
    if not all(isinstance(text, str) for text in texts) or not all(type(count) is int for count in counts):
        raise ValueError("wrong types")
    if type(index.multilabel) is not bool or not isinstance(index.standin, dict | None) or not index.classes:
        raise ValueError("wrong types")
    return index


def _problems(rows: Any) -> tuple[Problem, ...]:
    problems = tuple(Problem(**row) for row in rows)
    if not all(isinstance(text, str) for p in problems for text in (p.clip_id, p.reason, p.message)):
        raise ValueError("a problem")
    return problems


def shard_damage(folder: Path, shard: Shard) -> str | None:
    """What is wrong with a shard on disk, or None. Reads the whole file."""
    path = folder / shard.file
    try:
        size = path.stat().st_size
        if size != shard.bytes:
            return f"{size} bytes, {INDEX_NAME} lists {shard.bytes}"
        digest = hashlib.sha256()
        with open(path, "rb") as file:
            while block := file.read(BLOCK_BYTES):
                digest.update(block)
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None if digest.hexdigest() == shard.sha256 else f"its checksum differs from that in {INDEX_NAME}"

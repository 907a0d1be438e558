"""Files of embeddings: npz or parquet by the suffix of their name, with labels where they are known. No torch here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from reproduce.datasets import ClipIndex
from reproduce.datasets.index import DEFAULT_HEAD
from reproduce.errors import InputError, displayable
from reproduce.files import write_arrays, write_whole

SUFFIXES = (".npz", ".parquet")
CLASSES_KEY = "classes"  # of a parquet file's metadata
ROW_GROUP = 1024  # rows that are written at once, 3 MiB of the widest embeddings
_FAILURE, _REMEDY = "cannot be written", "choose another --out"


@dataclass(frozen=True, kw_only=True)
class EmbeddingRows:
    """Embeddings of n sounds, or of n windows of sounds.

    Args:
        files: (n,) paths.
        embeddings: (n, dim) float32.
        logits: head -> (n, classes) float32, raw.
        starts: (n,) seconds into the file; None where the rows are whole files.
        ends: (n,) seconds into the file; None likewise.
        labels: head -> (n,) class names, several joined by ";"; empty where they are not known.
        splits: (n,) names of splits or folds; None where they are not known.
    """

    files: Sequence[str]
    embeddings: np.ndarray
    logits: Mapping[str, np.ndarray]
    starts: np.ndarray | None = None
    ends: np.ndarray | None = None
    labels: Mapping[str, Sequence[str]]
    splits: Sequence[str] | None = None

    @classmethod
    def of_clips(
        cls,
        index: ClipIndex,
        positions: np.ndarray,
        embeddings: np.ndarray,
        logits: Mapping[str, np.ndarray],
        *,
        labelled: bool,
        stretch: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> EmbeddingRows:
        """Rows of the clips at `positions` of `index`, (n,) integers, with their labels and splits if `labelled`.

        `stretch` has the starts and ends of windows.
        """
        clips = [index.clip(int(position)) for position in positions]
        labels = {
            head: [";".join(names[i] for i in clip.labels[head]) for clip in clips]
            for head, names in index.classes.items()
        }
        return cls(
            files=[displayable(str(clip.path)) for clip in clips],
            embeddings=embeddings,
            logits=logits,
            starts=None if stretch is None else stretch[0],
            ends=None if stretch is None else stretch[1],
            labels=labels if labelled else {},
            splits=[clip.split for clip in clips] if labelled else None,
        )

    def columns(self) -> dict[str, Any]:
        """Name in a table, in the singular -> values."""
        columns: dict[str, Any] = {"file": self.files}
        if self.starts is not None:
            columns |= {"start": self.starts, "end": self.ends}
        for head, names in self.labels.items():
            columns["label" if head == DEFAULT_HEAD else f"label_{head}"] = names
        if self.splits is not None:
            columns["split"] = self.splits
        columns["embedding"] = self.embeddings
        return columns | {f"logits_{head}": values for head, values in self.logits.items()}


def check_suffix(path: Path) -> None:
    """Raise InputError for a file name that no format has."""
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: end the name of --out in {' or '.join(SUFFIXES)}")


def write_embeddings(
    path: Path, parts: Iterator[EmbeddingRows], classes: Mapping[str, Sequence[str]]
) -> tuple[int, int]:
    """Write all rows, completely or not at all; return their number and the width of an embedding.

    An npz has `files`, `starts`, `ends`, `labels`, `splits`, `embeddings`, and per head `logits_HEAD` and
    `classes_HEAD`, and is made in memory. A parquet file has the same columns in the singular and the class names in
    its metadata, and is written part by part.

    Args:
        path: ends in .npz or .parquet.
        parts: at least one row in all.
        classes: head -> class names in the order of the logits.

    Raises:
        InputError: another suffix, or the file cannot be written.
    """
    check_suffix(path)
    counted = _Counted(parts)
    if path.suffix == ".parquet":
        write_whole(path, lambda file: _write_parquet(file, counted, classes), _FAILURE, _REMEDY)
    else:
        write_arrays(path, _joined(counted, classes), _FAILURE, _REMEDY)
    return counted.rows, counted.width


class _Counted:
    """Parts that are not empty, counted as they pass."""

    def __init__(self, parts: Iterator[EmbeddingRows]) -> None:
        self.parts, self.rows, self.width = parts, 0, 0

    def __iter__(self) -> Iterator[EmbeddingRows]:
        for part in self.parts:
            if len(part.files):
                self.rows, self.width = self.rows + len(part.files), part.embeddings.shape[1]
                yield part


def _joined(parts: _Counted, classes: Mapping[str, Sequence[str]]) -> dict[str, np.ndarray]:
    columns: dict[str, list[np.ndarray]] = {}
    for part in parts:
        for name, values in part.columns().items():
            columns.setdefault(_plural(name), []).append(np.asarray(values))
    arrays = {name: np.concatenate(values) for name, values in columns.items()}
    return arrays | {f"classes_{head}": np.asarray(names) for head, names in classes.items()}


def _plural(name: str) -> str:
    first, _, head = name.partition("_")
    plural = first if first.endswith("s") else f"{first}s"
    return f"{plural}_{head}" if head else plural


def _write_parquet(file: IO[bytes], parts: _Counted, classes: Mapping[str, Sequence[str]]) -> None:
    import pyarrow
    import pyarrow.parquet

    metadata = {CLASSES_KEY: json.dumps({head: list(names) for head, names in classes.items()})}
    waiting: list[Any] = []
    writer: Any = None
    try:
        for part in parts:
            columns = {name: _arrow(values) for name, values in part.columns().items()}
            waiting.append(pyarrow.table(columns, metadata=metadata))
            writer = writer or pyarrow.parquet.ParquetWriter(file, waiting[0].schema)
            if sum(map(len, waiting)) >= ROW_GROUP:
                writer.write_table(pyarrow.concat_tables(waiting))
                waiting = []
        if waiting:
            writer.write_table(pyarrow.concat_tables(waiting))
    finally:
        if writer is not None:
            writer.close()


def _arrow(values: Any) -> Any:
    """A column; the rows of a matrix become lists of fixed size."""
    import pyarrow

    if isinstance(values, np.ndarray) and values.ndim == 2:
        return pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(values.reshape(-1)), values.shape[1])
    return pyarrow.array(values)

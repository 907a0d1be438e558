"""A compact column of strings: Arrow memory behind the indexing of a NumPy array. No torch here.

AudioSet has two million clips. A Python string takes some 60 bytes, a NumPy `U` array four bytes per character of the
longest string; Arrow keeps the UTF-8 bytes and one offset. pyarrow is imported when the first column is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

import numpy as np

BLOCK = 1 << 16
_ERRORS = "surrogateescape"  # file names need not be UTF-8: their bytes survive, as `os.fsdecode` has it


class Strings:
    """An immutable column of n strings.

    `column[i]` is a str; a slice, an integer array or a boolean mask gives another column. `column == other`
    compares with one string or with a column of the same length and gives (n,) bool.
    """

    __slots__ = ("arrow",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, arrow: Any) -> None:
        """`arrow`: a pyarrow array of large_binary, or a dictionary of it, that holds UTF-8 without nulls."""
        self.arrow = arrow

    @classmethod
    def of(cls, texts: Iterable[str]) -> Strings:
        """From Python strings."""
        parts = [text.encode(errors=_ERRORS) for text in texts]
        offsets = np.zeros(len(parts) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, parts), np.int64, len(parts)), out=offsets[1:])
        return cls(_binary(offsets, b"".join(parts)))

    @classmethod
    def repeat(cls, text: str, count: int) -> Strings:
        """`count` times the same text, at one byte each."""
        import pyarrow

        codes = pyarrow.Array.from_buffers(pyarrow.int8(), count, [None, pyarrow.py_buffer(bytes(count))])
        return cls(pyarrow.DictionaryArray.from_arrays(codes, cls.of([text]).arrow))

    @classmethod
    def from_bytes(cls, column: np.ndarray) -> Strings:
        """From a NumPy array of dtype S; without a copy where all strings have the array's full width."""
        column = np.ascontiguousarray(column)
        if not column.view(np.uint8).all():
            return cls.of(text.decode(errors=_ERRORS) for text in column.tolist())
        return cls(_binary(np.arange(len(column) + 1, dtype=np.int64) * column.itemsize, column))

    @classmethod
    def concatenate(cls, columns: Sequence[Strings]) -> Strings:
        """The strings of all columns, one column after the other."""
        import pyarrow

        arrays = [column.arrow for column in columns if len(column)]
        if not arrays:
            return cls.of([])
        if len({array.type for array in arrays}) > 1:  # dictionaries and plain columns
            arrays = [_plain(array) for array in arrays]
        return cls(pyarrow.concat_arrays(arrays))

    def __len__(self) -> int:
        return len(self.arrow)

    @overload
    def __getitem__(self, at: int | np.integer) -> str: ...
    @overload
    def __getitem__(self, at: slice | np.ndarray) -> Strings: ...
    def __getitem__(self, at: int | np.integer | slice | np.ndarray) -> str | Strings:
        if isinstance(at, slice):
            return Strings(self.arrow[at])
        if isinstance(at, np.ndarray):
            return Strings(self.arrow.take(arrow_integers(np.flatnonzero(at) if at.dtype == bool else at)))
        return self.arrow[int(at)].as_py().decode(errors=_ERRORS)

    def __iter__(self) -> Iterator[str]:
        for block in self.blocks():
            yield from (data.decode(errors=_ERRORS) for data in block)

    def __eq__(self, other: object) -> Any:
        import pyarrow
        import pyarrow.compute

        if isinstance(other, str):
            value: Any = pyarrow.scalar(other.encode(errors=_ERRORS), pyarrow.large_binary())
        elif isinstance(other, Strings):
            value = _plain(other.arrow)
        else:
            return NotImplemented
        return pyarrow.compute.equal(_plain(self.arrow), value).to_numpy(zero_copy_only=False)

    def __ne__(self, other: object) -> Any:
        equal = self == other
        return equal if equal is NotImplemented else ~equal

    def blocks(self) -> Iterator[list[bytes]]:
        """The UTF-8 bytes of all strings in order, some at a time."""
        for first in range(0, len(self), BLOCK):
            yield self.arrow[first : first + BLOCK].to_pylist()

    def tolist(self) -> list[str]:
        """All strings as Python strings."""
        return list(self)

    def order(self) -> np.ndarray:
        """(n,) positions that sort the column by code point; equal strings keep their order."""
        import pyarrow.compute

        return pyarrow.compute.sort_indices(_plain(self.arrow)).to_numpy().astype(np.int64)

    def distinct(self) -> list[str]:
        """Every string that occurs, sorted by code point."""
        import pyarrow.compute

        return sorted(data.decode(errors=_ERRORS) for data in pyarrow.compute.unique(self.arrow).to_pylist())


# `pyarrow.array` is not used: it imports pandas.


def arrow_integers(values: np.ndarray) -> Any:
    """An Arrow array of int64."""
    import pyarrow

    values = np.ascontiguousarray(values, np.int64)
    return pyarrow.Array.from_buffers(pyarrow.int64(), len(values), [None, pyarrow.py_buffer(values)])


def _binary(offsets: np.ndarray, data: bytes | np.ndarray) -> Any:
    """An Arrow array of large_binary. offsets: (n + 1,) int64 into `data`."""
    import pyarrow

    buffers = [None, pyarrow.py_buffer(offsets), pyarrow.py_buffer(data)]
    return pyarrow.Array.from_buffers(pyarrow.large_binary(), len(offsets) - 1, buffers)


def _plain(array: Any) -> Any:
    """The same column without a dictionary."""
    import pyarrow

    return array.dictionary_decode() if pyarrow.types.is_dictionary(array.type) else array

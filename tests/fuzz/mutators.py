"""Damage to bytes, to JSON values and to lines of fields. Every draw comes from the generator that is given."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np
from numpy.random import Generator

NUMBERS = (b"-1", b"0", b"1e999", b"NaN", b"-Infinity", b"9" * 5000, b"18446744073709551616", b"1e-320", b"2147483648")
NESTED = (b"[" * 50_000, b'{"a":' * 20_000, b"(" * 5000)
CONTROLS = (b"\x00", b"\x1b[2J\x1b]0;x\x07", b"\xff\xfe", b"\xed\xb2\x80", b"\r", b"\n\n", b"\xe2\x80\xae", b'"', b"\\")
TOKENS = (*NUMBERS, *NESTED, *CONTROLS)
WORDS = (b"\x00" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x80\x00\x00\x00", b"\xff" * 8)
NAMES = ("", "\x1b[31mred", "a\nb", "\udcff\udcfe", "x" * 300, "..", "/etc/passwd", "~nosuchuser/x", "a::b", "é\u202e")
VALUES = (
    *(None, True, -1, 0, 1.5, 2**31, 2**63, -(2**63), 10**30, 1e308, float("nan"), float("inf")),
    *("", "NaN", "0", "\x1b[2J", "../../x", "y" * 5000, [], {}, [[]], {"": None}, [None], ["a", 1]),
)


def pick(items: Sequence[Any], random: Generator) -> Any:
    """One of `items`, itself rather than NumPy's copy of it."""
    return items[int(random.integers(len(items)))]


def damage(content: bytes, random: Generator) -> bytes:
    """Content with one to three faults, most of them near its start or its end, where formats have their headers."""
    data = bytearray(content)
    for _ in range(int(random.integers(1, 4))):
        start, stop = _span(len(data), random)
        pick(FAULTS, random)(data, start, stop, random)
    return bytes(data)


def _span(size: int, random: Generator) -> tuple[int, int]:
    where, reach = random.random(), min(size, 600)
    if where < 0.5:
        start = int(random.integers(reach + 1))
    elif where < 0.7:
        start = size - int(random.integers(reach + 1))
    else:
        start = int(random.integers(size + 1))
    longest = 5000 if random.random() < 0.2 else 40
    return start, min(size, start + int(random.integers(1, longest)))


def _flip(data: bytearray, start: int, stop: int, random: Generator) -> None:
    if stop > start:
        for place in random.integers(start, stop, size=int(random.integers(1, 9))):
            data[place] ^= 1 << int(random.integers(8))


def _truncate(data: bytearray, start: int, stop: int, random: Generator) -> None:
    del data[start:]


def _delete(data: bytearray, start: int, stop: int, random: Generator) -> None:
    del data[start:stop]


def _insert(data: bytearray, start: int, stop: int, random: Generator) -> None:
    data[start:start] = random.bytes(stop - start)


def _insert_token(data: bytearray, start: int, stop: int, random: Generator) -> None:
    data[start:start] = pick(TOKENS, random)


def _replace_with_token(data: bytearray, start: int, stop: int, random: Generator) -> None:
    data[start:stop] = pick(TOKENS, random)


def _double(data: bytearray, start: int, stop: int, random: Generator) -> None:
    data[start:start] = data[start:stop] * int(random.integers(1, 4))


def _exchange(data: bytearray, start: int, stop: int, random: Generator) -> None:
    other, end = _span(len(data), random)
    if stop <= other:
        data[start:end] = data[other:end] + data[stop:other] + data[start:stop]


def _zero(data: bytearray, start: int, stop: int, random: Generator) -> None:
    data[start:stop] = bytes(stop - start)


def _extreme_number(data: bytearray, start: int, stop: int, random: Generator) -> None:
    word = pick(WORDS, random)
    start -= start % 2  # fields of headers are aligned
    data[start : start + len(word)] = word


FAULTS = (
    *(_flip, _truncate, _delete, _insert, _insert_token, _replace_with_token),
    *(_double, _exchange, _zero, _extreme_number),
)


def damage_json(value: Any, random: Generator) -> Any:
    """A JSON value with one to three of its parts replaced, removed, renamed or exchanged; `value` is changed."""
    for _ in range(int(random.integers(1, 4))):
        holder = _random_holder(value, random)
        if not holder:
            continue
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        key, other = pick(keys, random), pick(keys, random)
        match int(random.integers(5)):
            case 0:
                del holder[key]
            case 1:
                holder[key], holder[other] = holder[other], holder[key]
            case 2 if isinstance(holder, dict):
                holder[pick(NAMES, random)] = holder.pop(key)
            case _:
                holder[key] = deepcopy(pick(VALUES, random))  # a later damage may change it
    return value


def _random_holder(value: Any, random: Generator) -> Any:
    """A list or object within `value`, near its surface or deep in it."""
    while True:
        items = list(value.values() if isinstance(value, dict) else value)
        below = [item for item in items if isinstance(item, (dict, list)) and item]
        if not below or random.random() < 0.3:
            return value
        value = pick(below, random)


def damage_fields(content: bytes, random: Generator, separator: bytes = b",") -> bytes:
    """Text lines with fields exchanged, repeated, removed or replaced, or lines repeated; or bytes damaged."""
    if random.random() < 0.3:
        return damage(content, random)
    lines = [line.split(separator) for line in content.splitlines()]
    for _ in range(int(random.integers(1, 4))):
        line, other = pick(lines, random), pick(lines, random)
        at, to = int(random.integers(len(line))), int(random.integers(len(other)))
        match int(random.integers(6)):
            case 0:
                line[at], other[to] = other[to], line[at]
            case 1:
                line.insert(at, line[at])
            case 2 if len(line) > 1:
                del line[at]
            case 3:
                lines.append(list(line))
            case 4:
                line[at] = pick(TOKENS, random)
            case _:
                line[at] = pick(NAMES, random).encode("utf-8", "surrogateescape")
    return b"\n".join(separator.join(line) for line in lines) + b"\n"


def damage_array(values: np.ndarray, random: Generator) -> np.ndarray:
    """An array of another shape, type or length, or with values that are absurd."""
    match int(random.integers(6)):
        case 0:
            return values[: len(values) // 2] if values.ndim else values.reshape(1)
        case 1:
            return values.reshape(-1, 1)
        case 2:
            types = ("f8", "i8", "u1", "S3", "U2", "c8", "f2", "?")
            return values.astype(pick(types, random)) if values.dtype.kind in "fiub" else values[:0]
        case 3:
            return np.concatenate([values, values]) if values.ndim else values
        case 4 if values.dtype.kind == "f" and values.size:
            values = values.copy()
            values.reshape(-1)[int(random.integers(values.size))] = pick((np.nan, np.inf, 1e38, -1e38), random)
            return values
        case _:
            return np.array(pick((0, "x", [], [[np.nan]]), random))

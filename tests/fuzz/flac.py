"""Changes to FLAC files that keep their checksums right, so that decoders go on to what was changed."""

from __future__ import annotations

from fuzz.mutators import pick
from numpy.random import Generator

STREAMINFO, HEADER = 4, 42  # bytes before the block, and up to its end: "fLaC", 4 of its header, 34
PADDING, APPLICATION, COMMENT, PICTURE = 1, 2, 4, 6
TEXTS = (b"TITLE=caf\xe9", b"TITLE=\x1b[2J", b"", b"=" * 300, b"A\x00B=C")


def crc16(data: bytes) -> int:
    """The checksum that ends a frame: polynomial 0x8005, from 0."""
    value = 0
    for byte in data:
        value ^= byte << 8
        for _ in range(8):
            value = (value << 1) ^ (0x8005 if value & 0x8000 else 0)
            value &= 0xFFFF
    return value


def frames_of(data: bytes) -> list[tuple[int, int]]:
    """(start, stop) of every frame."""
    at = STREAMINFO
    while not data[at] & 0x80:  # the last block of metadata has this bit
        at += 4 + int.from_bytes(data[at + 1 : at + 4], "big")
    at += 4 + int.from_bytes(data[at + 1 : at + 4], "big")
    starts, start, spans = [at], at, []
    sync = data[at : at + 2]
    while (at := data.find(sync, at + 2)) >= 0:
        starts.append(at)
    starts.append(len(data))
    for stop in starts[1:]:
        if crc16(data[start : stop - 2]) == int.from_bytes(data[stop - 2 : stop], "big"):
            spans.append((start, stop))
            start = stop
    return spans


def same_sound(data: bytes, random: Generator) -> bytes:
    """The file with other metadata: tags, pictures, padding, or without what is not needed to decode."""
    match int(random.integers(5)):
        case 0:
            return data + bytes(int(random.integers(1, 300)))  # as some tools pad
        case 1:
            size = int(random.integers(1, 100))
            tag = bytes([size >> 21 & 127, size >> 14 & 127, size >> 7 & 127, size & 127])
            return b"ID3\x03\x00\x00" + tag + bytes(size) + data
        case 2:  # smallest and largest frame, and the MD5 sum: 0 is "not known"
            return data[: STREAMINFO + 8] + bytes(6) + data[STREAMINFO + 14 : HEADER - 16] + bytes(16) + data[HEADER:]
        case _:
            kind = pick((PADDING, APPLICATION, COMMENT, PICTURE, 100), random)
            content = _comment(random) if kind == COMMENT else random.bytes(int(random.integers(4, 200)))
            first = data[STREAMINFO] & 0x7F
            block = bytes([kind | data[STREAMINFO] & 0x80]) + len(content).to_bytes(3, "big") + content
            return data[:STREAMINFO] + bytes([first]) + data[STREAMINFO + 1 : HEADER] + block + data[HEADER:]


def _comment(random: Generator) -> bytes:
    texts = [pick(TEXTS, random) for _ in range(int(random.integers(4)))]
    counted = b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    return (4).to_bytes(4, "little") + b"fuzz" + len(texts).to_bytes(4, "little") + counted


def other_sound(data: bytes, random: Generator) -> bytes:
    """The file with frames of other content, lost or exchanged, or with one field of its header changed."""
    spans = frames_of(data)
    start, stop = pick(spans, random)
    match int(random.integers(5)):
        case 0:  # lost
            return data[:start] + data[stop:]
        case 1:  # twice
            return data[:stop] + data[start:stop] + data[stop:]
        case 2:
            field = int(random.integers(STREAMINFO + 4, HEADER))
            return data[:field] + bytes([data[field] ^ 1 << int(random.integers(8))]) + data[field + 1 :]
        case _:  # the content of a frame, behind its header
            frame = bytearray(data[start : stop - 2])
            for _ in range(int(random.integers(1, 4))):
                frame[int(random.integers(16, len(frame)))] ^= 1 << int(random.integers(8))
            return data[:start] + bytes(frame) + crc16(frame).to_bytes(2, "big") + data[stop:]

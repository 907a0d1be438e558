"""How far a FLAC really reaches: the number in its last frame header, whatever its first header counts."""

from __future__ import annotations

import re

_SYNC = re.compile(rb"\xff[\xf8\xf9]")
TAIL_BYTES = 1 << 16


def outlasts_header(stream_info: bytes, tail: bytes) -> bool:
    """Whether the last frame of a FLAC begins at or after the count of samples that its header states.

    Args:
        stream_info: the first 42 bytes of the file.
        tail: its last TAIL_BYTES.
    """
    total = int.from_bytes(stream_info[21:26], "big") & ((1 << 36) - 1)
    block = int.from_bytes(stream_info[10:12], "big")
    for match in reversed(list(_SYNC.finditer(tail))):
        number = _frame_number(tail[match.start() : match.start() + 16])
        if number is not None:
            variable = tail[match.start() + 1] & 1  # such frames count samples, the others count blocks
            return 0 < total <= (number if variable else number * block)
    return False


def _frame_number(header: bytes) -> int | None:
    """The number in a frame header, None where the bytes are not one."""
    if len(header) < 16:
        return None
    lead = header[4]
    following = 0 if lead < 0x80 else 7 - (lead ^ 0xFF).bit_length()  # as in UTF-8, up to 36 bits
    number = lead if lead < 0x80 else lead & (0x3F >> following)
    for byte in header[5 : 5 + following]:
        number = number << 6 | byte & 0x3F
    block_code, rate_code = header[2] >> 4, header[2] & 15
    end = 5 + following + {6: 1, 7: 2}.get(block_code, 0) + {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    return number if _crc8(header[:end]) == header[end] else None


def _crc8(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ (0x07 if crc & 0x80 else 0)) & 0xFF
    return crc

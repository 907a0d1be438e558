"""What the header of a sound file promises, read from its bytes, so that a cut file is recognised. No torch here."""

from __future__ import annotations

import os
import re
import stat
import struct
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from reproduce.audio.errors import OF_NO_FILE, AudioError
from reproduce.audio.flac_tail import TAIL_BYTES, outlasts_header

_HEAD_BYTES = 16
_MAX_CHUNKS = 4096  # of a file whose chunks are walked; more of them are hostile
_WAV_STREAMED_BYTES = 0x7FFF_F000  # writers to a pipe put 0x7FFFFFFF or 0xFFFFFFFF for "length unknown"
_AIFF_STREAMED_BYTES = 0x7F00_0000  # likewise: sox and others put this or more, or 0
_UNKNOWN_64 = 1 << 62  # any larger 64-bit size means "unknown"
_MP3_IN_WAV = (0x50, 0x55)
_OGG_PAGE_BYTES = 65_307  # the largest page that Ogg allows
_SCAN_BYTES, _START_BYTES = 1 << 20, 6
_FLAC_START = re.compile(rb"fLaC\x00\x00")
_OGG_FIRST_PAGE = re.compile(rb"OggS\x00[\x02\x03\x06\x07]")  # a page that begins a stream
_W64_DATA = b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0O\x8e\xdb\x8a"
_XING = re.compile(rb"Xing|Info")


@dataclass(frozen=True)
class Header:
    """What the first bytes of a file state.

    Args:
        head: the first 16 bytes.
        size: bytes of the file.
        end: byte at which the sound should end, None where the header does not state it.
        slack: bytes that may be missing, as some writers count a header or padding in.
        for_ffmpeg: whether libsndfile would refuse or misread the file.
        no_end_mark: whether the last page of an Ogg file lacks the flag that ends a stream.
    """

    head: bytes
    size: int
    end: int | None = None
    slack: int = 256
    for_ffmpeg: bool = False
    no_end_mark: bool = False


def open_regular(path: Path) -> FileIO:
    """Open a regular file for reading; never wait for a FIFO or a device.

    Raises:
        AudioError: missing, unreadable or zero-byte.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise AudioError(path, "missing") from None
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise AudioError(path, "unreadable", getattr(error, "strerror", None) or str(error)) from None
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_size:
        return os.fdopen(descriptor, "rb", buffering=0)  # unbuffered, as libsndfile moves the same descriptor
    os.close(descriptor)
    if stat.S_ISREG(status.st_mode):
        raise AudioError(path, "zero-byte")
    raise AudioError(
        path, "unreadable", "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file", OF_NO_FILE
    )


def read_header(file: FileIO) -> Header:
    """Read what a file's header states: see `Header`. Any bytes are accepted."""
    size = os.fstat(file.fileno()).st_size
    head = _read_at(file, 0, _HEAD_BYTES)
    if head[:4] in (b"RIFF", b"RF64", b"BW64"):
        return _wav(file, head, size)
    if head[:4] == b"OggS":
        return _ogg(file, head, size)
    if head[:4] == b"fLaC":
        tail = _read_at(file, max(0, size - TAIL_BYTES), TAIL_BYTES)
        longer = outlasts_header(_read_at(file, 0, 42), tail) or _count(file, _FLAC_START) > 1
        return Header(head, size, for_ffmpeg=longer)
    if head[:4] == b"FORM":
        form = int.from_bytes(head[4:8], "big")
        # Some writers count a last pad byte that they do not write.
        return Header(head, size, 8 + form if form < _AIFF_STREAMED_BYTES else None)
    if head[:4] in (b".snd", b"dns."):
        offset, data = struct.unpack_from(">II" if head[:4] == b".snd" else "<II", head.ljust(16, b"\0"), 4)
        return Header(head, size, None if data == 0xFFFF_FFFF else offset + data)
    if head[:4] == b"riff":
        return Header(head, size, _w64_end(file, size))
    if head[:4] == b"caff":
        return Header(head, size, _caf_end(file, size))
    if head[4:8] == b"ftyp":
        return Header(head, size, _mp4_end(file, size), for_ffmpeg=True)
    if head[:4] == b"\x1aE\xdf\xa3":
        return Header(head, size, _matroska_end(file), for_ffmpeg=True)
    if head[:16] == b"Creative Voice F":  # libsndfile takes the block headers of a VOC for sound
        return Header(head, size, for_ffmpeg=True)
    first = _after_id3(file)
    if first or _is_mpeg_audio(head):
        mpeg = _read_at(file, first, 256)
        return Header(head, size, _mp3_end(mpeg, first), for_ffmpeg=mpeg[:4] != b"fLaC")
    return Header(head, size)


def _read_at(file: FileIO, at: int, count: int) -> bytes:
    file.seek(at)
    return file.read(count)


def _count(file: FileIO, start: re.Pattern[bytes]) -> int:
    """How often a pattern of _START_BYTES bytes occurs in a file."""
    count, overlap = 0, b""
    file.seek(0)
    while block := file.read(_SCAN_BYTES):
        window = overlap + block
        count += len(start.findall(window))
        overlap = window[1 - _START_BYTES :]
    return count


# --- chunked formats ---


def _wav(file: FileIO, head: bytes, size: int) -> Header:
    """WAV and RF64, with chunks of any size before the samples; AVI shares the RIFF form."""
    at, codec, long_size = 12, 0, None
    if head[8:12] == b"AVI ":
        return Header(head, size, for_ffmpeg=True)
    for _ in range(_MAX_CHUNKS):
        chunk = _read_at(file, at, 24)
        if len(chunk) < 8:
            break
        name, length = struct.unpack_from("<4sI", chunk)
        if name == b"ds64" and len(chunk) == 24:
            (long_size,) = struct.unpack_from("<Q", chunk, 16)
        elif name == b"fmt " and len(chunk) >= 10:
            (codec,) = struct.unpack_from("<H", chunk, 8)
        elif name == b"data":
            if length == 0xFFFF_FFFF and long_size is not None:
                length = long_size
                streamed = not length or length > _UNKNOWN_64
            else:
                # A size of 0 before sound was never filled in; a size of 0 before another chunk is an empty file.
                streamed = length >= _WAV_STREAMED_BYTES or (not length and _sound_follows(file, at + 8, size))
            end = None if streamed else at + 8 + length
            return Header(head, size, end, for_ffmpeg=codec in _MP3_IN_WAV or (streamed and not length))
        at += 8 + length + length % 2
    return Header(head, size)


def _sound_follows(file: FileIO, at: int, size: int) -> bool:
    following = _read_at(file, at, 8)
    if len(following) < 8:
        return bool(following)
    name, length = struct.unpack("<4sI", following)
    return not (name.isascii() and name.decode().isprintable() and at + 8 + length <= size)


def _w64_end(file: FileIO, size: int) -> int | None:
    at = 40  # behind the riff GUID, the size and the wave GUID
    for _ in range(_MAX_CHUNKS):
        chunk = _read_at(file, at, 24)
        if len(chunk) < 24:
            break
        (length,) = struct.unpack_from("<Q", chunk, 16)  # counts its own 24 bytes
        if chunk[:16] == _W64_DATA:
            return at + length if 24 < length < _UNKNOWN_64 else None
        if length < 24 or at + length > size:
            break
        at += length + -length % 8
    return None


def _caf_end(file: FileIO, size: int) -> int | None:
    at = 8
    for _ in range(_MAX_CHUNKS):
        chunk = _read_at(file, at, 12)
        if len(chunk) < 12:
            break
        name, length = struct.unpack(">4sq", chunk)
        if name == b"data":
            return None if length < 0 else at + 12 + length
        if length < 0 or at + length > size:
            break
        at += 12 + length
    return None


def _mp4_end(file: FileIO, size: int) -> int | None:
    """End of the last box that an MP4 cannot do without."""
    at, end = 0, None
    for _ in range(_MAX_CHUNKS):
        box = _read_at(file, at, 16)
        if len(box) < 8:
            break
        length, name = struct.unpack_from(">I4s", box)
        if length == 1 and len(box) == 16:
            (length,) = struct.unpack_from(">Q", box, 8)
        if length < 8:  # 0: to the end of the file
            break
        at += length
        if name in (b"moov", b"mdat", b"moof"):
            end = at
        if at > size:
            break
    return end


def _matroska_end(file: FileIO) -> int | None:
    """End of the Segment, None where it was written to a pipe."""
    head = _read_at(file, 0, 128)
    length, at = _ebml_number(head, 4)
    if length is None or head[at + length : at + length + 4] != b"\x18S\x80g":
        return None
    segment, first = _ebml_number(head, at + length + 4)
    return None if segment is None else first + segment


def _ebml_number(head: bytes, at: int) -> tuple[int | None, int]:
    """A variable-length number and the byte after it; None for "unknown"."""
    if at >= len(head) or not head[at]:
        return None, at
    width = 9 - head[at].bit_length()
    value = int.from_bytes(head[at : at + width], "big") & ((1 << 7 * width) - 1)
    return None if value == (1 << 7 * width) - 1 else value, at + width


# --- mp3 ---


def _after_id3(file: FileIO) -> int:
    """First byte behind ID3v2 tags, which may hold artwork of any size; 0 without a tag."""
    at = 0
    for _ in range(_MAX_CHUNKS):
        tag = _read_at(file, at, 10)
        if len(tag) < 10 or tag[:3] != b"ID3":
            break
        length = 0
        for byte in tag[6:10]:
            length = length << 7 | byte & 0x7F
        at += 10 + length + (10 if tag[5] & 0x10 else 0)
    return at


def _is_mpeg_audio(head: bytes) -> bool:
    """Whether a file begins with the sync word of mp3 or ADTS."""
    return len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0


def _mp3_end(frame: bytes, at: int) -> int | None:
    """End by the byte count of a Xing or Info header in an mp3's first frame."""
    header = _XING.search(frame, 4, 64)
    if not _is_mpeg_audio(frame) or header is None or len(frame) < header.end() + 12:
        return None
    flags, values = struct.unpack_from(">I", frame, header.end())[0], header.end() + 4
    if not flags & 2:
        return None
    return at + int(struct.unpack_from(">I", frame, values + (4 if flags & 1 else 0))[0])


# --- Ogg ---


def _ogg(file: FileIO, head: bytes, size: int) -> Header:
    """Count the streams and look at the last page.

    libsndfile reads the first stream of a chain alone, and takes the length of Opus from the last page.
    """
    streams = _count(file, _OGG_FIRST_PAGE)
    opus = b"OpusHead" in _read_at(file, 0, 64)
    first = max(0, size - _OGG_PAGE_BYTES)
    tail = _read_at(file, first, _OGG_PAGE_BYTES)
    at = tail.rfind(b"OggS")
    if at < 0:
        return Header(head, size, for_ffmpeg=True, no_end_mark=True)
    page = tail[at:]
    lacing = page[27 : 27 + page[26]] if len(page) > 26 else b""
    whole_header = len(page) > 26 and len(lacing) == page[26]
    end = first + at + 27 + len(lacing) + sum(lacing) if whole_header else size + 1
    no_end_mark = not (whole_header and page[5] & 4)
    return Header(head, size, end, 0, for_ffmpeg=opus or streams != 1 or no_end_mark, no_end_mark=no_end_mark)

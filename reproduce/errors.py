"""The exception for errors that a user can correct, and text that is safe to print. No torch here."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

MESSAGE_LIMIT = 2000  # characters; a field of a damaged list can be 1 MB long
_BIDI_CONTROLS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_SHORT_ESCAPES = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


class InputError(Exception):
    """Bad input. The message is one line that names the file (and row) and the remedy.

    The command line prints the message without a traceback and exits with status 2.
    """

    def __str__(self) -> str:
        return displayable(super().__str__())


def first_of(names: Sequence[object], most: int) -> str:
    """Join the first `most` names by commas; "..." stands for the others."""
    return ", ".join([*map(str, names[:most]), *(["..."] if len(names) > most else [])])


def displayable(text: str, limit: int = MESSAGE_LIMIT) -> str:
    """Make text safe for a terminal, a table and a page: one line, valid Unicode, no control character.

    Escape control characters (`\\x1b`, `\\n`), bytes of a file name that are not UTF-8, and marks that reverse the
    direction of writing. Return text without any of them unchanged.

    Args:
        text: any text, with undecodable bytes as `os.fsdecode` returns them.
        limit: maximum length in characters; a longer text loses its middle.
    """
    if not text.isprintable():
        text = "".join(map(_escaped, text))
    if len(text) > limit:
        half = (limit - 5) // 2
        text = f"{text[:half]} ... {text[-half:]}"
    return text


def _escaped(character: str) -> str:
    category = unicodedata.category(character)
    if category not in ("Cc", "Cs", "Zl", "Zp") and character not in _BIDI_CONTROLS:
        return character
    if character in _SHORT_ESCAPES:
        return _SHORT_ESCAPES[character]
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # an undecodable byte, see the "surrogateescape" handler
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"

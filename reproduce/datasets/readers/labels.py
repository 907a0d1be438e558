"""Class names that a user wrote: which of them are probably the same class."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from reproduce.datasets.readers.clip_index_builder import ClipIndexBuilder


def note_similar_labels(source: str, names: Iterable[str], builder: ClipIndexBuilder) -> None:
    """Warn of class names that differ by upper and lower case, blanks or the encoding of accents alone."""
    by_key: dict[str, list[str]] = {}
    for name in names:
        key = "".join(unicodedata.normalize("NFKC", name).casefold().split())
        by_key.setdefault(key, []).append(name)
    for alike in by_key.values():
        if len(alike) > 1:
            message = (
                f"{source}: labels {' and '.join(map(repr, alike))} differ by case or blanks alone but count as "
                f"{len(alike)} classes; write them alike if they are one"
            )
            builder.problem("", "similar-labels", message, fatal=False)

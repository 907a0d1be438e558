"""Signs in file names that several clips belong together: takes of one recording, or clips of one speaker.

Such clips on both sides of a split make a test easier than new recordings are. No torch here.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

FEWEST_CLIPS = 8  # of a class, below which names show nothing
FEWEST_GROUPS = 3  # distinct values per class: fewer is a take's letter or a microphone
SHARED = 0.3  # of the clips, at least, share their value with another clip of their class
_SEPARATORS = re.compile(r"[/_\-\s.]+")


@dataclass(frozen=True, kw_only=True)
class GroupHint:
    """A part of the clips' names that looks like a recording or a speaker.

    Args:
        groups: distinct values of that part.
        clips: clips that share their value with another clip of their class.
        examples: two clips of one class that share it.
    """

    groups: int
    clips: int
    examples: tuple[str, str]


def group_hint(names: Sequence[str], labels: Sequence[int]) -> GroupHint | None:
    """The most telling part of the names, None where no part is shared by clips of one class.

    Names are cut at `/`, `_`, `-`, `.` and blanks. A part counts if several of its values occur more than once within a
    class, but not one value for the whole class, which would be the class's name.

    Args:
        names: (n,) clip ids below their class folder, without suffix.
        labels: (n,) class of each clip.
    """
    parts = [_SEPARATORS.split(name) for name in names]
    usual = Counter(map(len, parts)).most_common(1)
    if not usual or usual[0][0] < 2:
        return None
    width = usual[0][0]
    rows = [i for i, part in enumerate(parts) if len(part) == width]
    hints = [hint for place in range(width) if (hint := _hint_at(place, rows, parts, names, labels))]
    return max(hints, key=lambda hint: hint.groups, default=None)


def _hint_at(
    place: int, rows: Sequence[int], parts: Sequence[Sequence[str]], names: Sequence[str], labels: Sequence[int]
) -> GroupHint | None:
    by_class: dict[int, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for i in rows:
        by_class[labels[i]][parts[i][place]].append(i)
    large = [values for values in by_class.values() if sum(map(len, values.values())) >= FEWEST_CLIPS]
    telling = [values for values in large if FEWEST_GROUPS <= len(values) < sum(map(len, values.values()))]
    if not large or 2 * len(telling) < len(large):
        return None
    shared = [members for values in telling for members in values.values() if len(members) > 1]
    clips = sum(map(len, shared))
    if clips < SHARED * sum(len(members) for values in telling for members in values.values()):
        return None
    first, second = shared[0][:2]
    distinct = {value for values in by_class.values() for value in values}
    return GroupHint(groups=len(distinct), clips=clips, examples=(names[first], names[second]))

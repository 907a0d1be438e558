"""Which of a corpus' listed clips can be used: every clip is decoded once, and the results are counted.

    examinations = examine_clips(index, "runs/audit/vggsound/clips.jsonl")
    report = summarise(index, examinations)

The counts, per split:

- listed: clips of the annotation files, each id once. `listed_again` counts ids that a list repeats; they are left out.
- present: listed clips whose file (or pack) is on disk; missing: the others. listed = present + missing.
- unusable, one reason per clip: zero-byte, no audio track, truncated (less audio than the file promises), unreadable
  (any other reason why it does not decode: not audio, empty, damaged, samples that are no numbers or absurd,
  permissions). usable = present - these four, and is exactly what training and evaluation keep.
- short, silent, duplicate and the other WARNING_REASONS: warnings about usable clips, which stay in use.
  - short: decodes to SHORT_TOLERANCE_S or more below its length: that of the listed segment where the index cuts one
    out of a longer file, and the corpus' usual clip length otherwise. (AudioSet lists 362 eval clips below 10 s; they
    count as short, because a file that was cut does not differ from them.) `folder` and `csv` have no usual length.
  - silent: the mean over its channels never swings by one 16-bit step; where a channel does, "channels cancel".
  - duplicate: decodes to exactly the samples, channels and rate of a clip earlier in the index, under another id. So a
    wav and its flac copy are the same and tags do not matter; another lossy encoding is not recognised. Silent clips
    are excluded; otherwise each would be a duplicate of all the others.

Memory: about 40 bytes per clip over the index itself. No torch here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np

from reproduce.audio.packs import SEPARATOR, is_packed
from reproduce.data.audit_examine import COLUMNS, MISSING, Examination, examine
from reproduce.data.audit_journal import ClipVersion, open_journal
from reproduce.datasets import Clip, ClipIndex, dataset_spec, read_variant
from reproduce.errors import InputError
from reproduce.pool import ordered_map

CLIPS_PER_TASK = 8  # handing single clips to threads costs more than looking up a known examination
WIDEST_VARIANT: Mapping[str, str] = {"audioset": "full"}

Examined = tuple[Examination, ClipVersion | None, str]


def read_for_audit(
    name: str, root: str | Path, variant: str | None = None, *, follow_outside: bool = False
) -> ClipIndex:
    """Read a corpus, by default in the variant that lists most clips; `follow_outside` as in `read_variant`.

    Raises:
        InputError: an unknown data set or variant, or whatever its reader raises.
    """
    spec = dataset_spec(name)
    if variant is not None and variant not in spec.variants:
        known = ", ".join(spec.variants) or "none: it has one form only"
        raise InputError(f"--variant {variant}: not a variant of {name} ({known})")
    variant = variant or WIDEST_VARIANT.get(name)
    return read_variant(name, root, variant, follow_outside=follow_outside)


def examine_clips(
    index: ClipIndex, state: str | Path, workers: int | None = None, on_clip: Callable[[], object] = lambda: None
) -> np.ndarray:
    """Decode every clip of `index` once, except those that `state` holds already.

    Args:
        index: the n clips.
        state: JSONL file that results are appended to, made if it is absent; see `audit_journal`.
        workers: decoding threads, by default one per core; libsndfile, FFmpeg and hashing release the GIL.
        on_clip: called after every clip, for a progress bar.

    Returns:
        (n,) COLUMNS, see `Examination`.

    Raises:
        InputError: `state` is something else or cannot be written, or a clip needs a library that is not installed.
    """
    examinations = np.zeros(len(index), COLUMNS)
    file_version = lru_cache(maxsize=1024)(_file_version)  # a pack or a long video holds many clips
    with open_journal(Path(state)) as journal:

        def look_up_or_examine(clip: Clip) -> Examined:
            """The result; the version and message too where it is new."""
            on_disk = file_version(str(clip.path).rpartition(SEPARATOR)[0] if is_packed(clip.path) else str(clip.path))
            if on_disk is None:
                return Examination(MISSING), None, ""
            version = ClipVersion(clip.clip_id, str(clip.path), clip.start, clip.stop, *on_disk)
            known = journal.get(version)
            if known is not None:
                return known, None, ""
            examination, message = examine(clip)
            return examination, version, message

        def task(positions: range) -> list[Examined]:
            return [look_up_or_examine(index.clip(i)) for i in positions]

        tasks = (range(i, min(i + CLIPS_PER_TASK, len(index))) for i in range(0, len(index), CLIPS_PER_TASK))
        results = (row for rows in ordered_map(task, tasks, workers or os.cpu_count() or 1) for row in rows)
        for i, (examination, version, message) in enumerate(results):
            if version is not None:
                journal.append(version, examination, message)
            examinations[i] = examination
            on_clip()
    return examinations


def _file_version(path: str) -> tuple[int, int] | None:
    """(bytes, time stamp), or None where the file is absent."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    except OSError:  # reading it gives the reason
        return -1, -1
    return status.st_size, status.st_mtime_ns

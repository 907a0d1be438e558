"""The shards that an unfinished run has written: a line of JSON per shard, after a line that names the plan."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from reproduce.data.shard_index import INDEX_NAME, JOURNAL_NAME, LOCK_NAME, Shard, read_shard_index
from reproduce.errors import InputError
from reproduce.files import file_lock


class ShardJournal:
    """Finished shards by file name, from the journal and from an earlier index.json."""

    def __init__(self, file: IO[bytes], finished: dict[str, Shard]) -> None:
        self._file, self.finished = file, finished

    def add(self, shard: Shard) -> None:
        """Note a shard that is whole on disk."""
        _append(self._file, asdict(shard))
        self.finished[shard.file] = shard


@contextmanager
def open_journal(out: Path, plan: str) -> Iterator[ShardJournal]:
    """Lock the folder `out` and read its journal; a last line that a kill cut off is removed.

    What a killed run left half written is removed. The journal is deleted at the end unless an exception is raised.

    Raises:
        InputError: another run is at work in `out`, its shards follow another plan, or the journal is damaged.
    """
    busy = f"{out}: another run is writing shards here; wait for it or choose another OUT"
    with file_lock(out / LOCK_NAME, busy):
        for leftover in out.glob(".*.tmp"):
            leftover.unlink()
        with open(out / JOURNAL_NAME, "a+b", buffering=0) as file:
            file.seek(0)
            lines = file.readall().split(b"\n")[:-1]  # without what follows the last line end
            file.truncate(sum(len(line) + 1 for line in lines))
            finished: dict[str, Shard] = {}
            if (out / INDEX_NAME).exists():
                earlier = read_shard_index(out)
                _check_plan(out, earlier.plan_sha256, plan)
                finished = {shard.file: shard for shard in earlier.shards}
            if lines:
                finished |= _read_lines(out, lines, plan)
            else:
                _append(file, {"plan": plan})
            yield ShardJournal(file, finished)
        (out / JOURNAL_NAME).unlink()


def _read_lines(out: Path, lines: list[bytes], plan: str) -> dict[str, Shard]:
    try:
        head, *rows = map(json.loads, lines)
        written_for = head["plan"]
        finished = {row["file"]: Shard.from_dict(row) for row in rows}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{out / JOURNAL_NAME}: damaged ({error}); delete it and run again") from None
    _check_plan(out, written_for, plan)
    return finished


def _check_plan(out: Path, written_for: str, plan: str) -> None:
    if written_for != plan:
        raise InputError(
            f"{out}: holds shards of other clips, labels or settings; choose another OUT or delete this folder"
        )


def _append(file: IO[bytes], value: Any) -> None:
    file.write(json.dumps(value).encode() + b"\n")
    os.fsync(file.fileno())

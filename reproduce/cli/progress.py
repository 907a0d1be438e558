"""Print log lines and progress bars on stderr, and results on stdout. No torch here."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from reproduce.errors import displayable
from reproduce.tables.base import Table
from reproduce.tables.data_formats import to_parquet
from reproduce.tables.render import render

BAR_AFTER_S = 2.0


def is_main() -> bool:
    """Return whether this process writes and prints; with torchrun or accelerate launch only the first one does."""
    return os.environ.get("RANK", "0") == "0"


def is_distributed() -> bool:
    """Return whether torchrun or accelerate launch started several processes."""
    return os.environ.get("WORLD_SIZE", "1") != "1"


def log(line: str) -> None:
    """Print one line on stderr, above any progress bar; stdout is for results."""
    if is_main():
        tqdm.write(displayable(line), file=sys.stderr)


def log_files(paths: Iterable[Path]) -> None:
    """Log the path of every written file."""
    for path in paths:
        log(f"wrote {path}")


def print_result(text: str) -> None:
    """Print a result on stdout, above any progress bar, in the first process only."""
    if is_main():
        with tqdm.external_write_mode(file=sys.stdout):
            sys.stdout.write(text)


def print_table(table: Table, format: str) -> None:
    """Print a table on stdout in one of `render.ALL_FORMATS`."""
    if not is_main():
        return
    if format == "parquet":
        sys.stdout.buffer.write(to_parquet(table))
    else:
        sys.stdout.write(render(table, format))


def progress_bar(what: str, unit: str = "clip", total: int | None = None) -> tqdm:
    """Return a progress bar on stderr, shown after `BAR_AFTER_S`; it is off in a log file and in other processes."""
    off = None if is_main() else True
    return tqdm(total=total, desc=what, unit=unit, smoothing=0.05, file=sys.stderr, disable=off, delay=BAR_AFTER_S)


@contextmanager
def counting_bar(what: str, unit: str = "it") -> Iterator[Callable[..., None]]:
    """Show a bar for work that reports `(done, total)` or `(done, total, current step)`."""
    with progress_bar(what, unit) as bar:

        def on_progress(done: int, total: int, step: str = "") -> None:
            bar.total = total
            if step:
                bar.set_postfix_str(step, refresh=False)
            bar.update(done - bar.n)

        yield on_progress

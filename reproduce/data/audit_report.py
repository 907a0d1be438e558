"""An audit as text: terminal, Markdown and JSON, and the files that it writes. No torch here."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO

import numpy as np

from reproduce.data.audit_summary import FAULT_COLUMNS, SHORT_TOLERANCE_S, AuditReport, SplitCounts
from reproduce.files import write_text, write_whole

NOT_LISTED = "not listed here"
COUNTS = (
    "listed",
    "present",
    "missing",
    "usable",
    "zero_byte",
    "no_audio_track",
    "truncated",
    "unreadable",
    "short",
    "silent",
    "duplicate",
)


MEANING = (
    "Usable clips decode; truncated, zero-byte, unreadable ones and those without an audio track do not. "
    f"Warnings about usable clips: short (by {SHORT_TOLERANCE_S:g} s or more), silent (no swing of one 16-bit step), "
    "duplicate (decodes to the same samples as an earlier clip)."
)


Grid = list[list[str]]


def render(report: AuditReport, format: str) -> str:
    """Text of `report` as "terminal", "markdown" or "json", ending in a newline."""
    return {"terminal": to_terminal, "markdown": to_markdown, "json": to_json}[format](report)


def to_json(report: AuditReport) -> str:
    """Every count of `report`."""
    return json.dumps(asdict(report), indent=1) + "\n"


def to_markdown(report: AuditReport) -> str:
    """The whole report, every class included."""
    blocks = [f"# Audit of {_name(report)}", f"`{report.root}`", _markdown(split_grid(report)), MEANING]
    if report.paper:
        blocks += ["## Beside the paper", _markdown(paper_grid(report))]
    blocks += ["## Clip sets", _markdown(identity_grid(report))]
    notes = list(_notes(report))
    if notes:
        blocks += ["## Notes", "\n".join(f"- {note}" for note in notes)]
    return "\n\n".join([*blocks, "## Classes", _markdown(class_grid(report))]) + "\n"


def to_terminal(report: AuditReport) -> str:
    """The report without the counts per class."""
    blocks = [f"{_name(report)}\n{report.root}", _aligned(split_grid(report)), MEANING]
    if report.paper:
        blocks.append("Beside the paper\n" + _aligned(paper_grid(report)))
    blocks += [_aligned(identity_grid(report)), "\n".join([*_class_lines(report), *_notes(report)])]
    return "\n\n".join(blocks) + "\n"


def _name(report: AuditReport) -> str:
    return f"{report.title}, {report.variant}" if report.variant else report.title


def split_grid(report: AuditReport) -> Grid:
    """COUNTS per split, and over all splits where there are several."""
    header = ["split", *(name.replace("_", "-" if name == "zero_byte" else " ") for name in COUNTS)]
    rows = [[split, *(f"{getattr(counts, name):,}" for name in COUNTS)] for split, counts in report.splits.items()]
    if len(rows) > 1:
        totals = [sum(getattr(counts, name) for counts in report.splits.values()) for name in COUNTS]
        rows.append(["all", *(f"{total:,}" for total in totals)])
    return [header, *rows]


def paper_grid(report: AuditReport) -> Grid:
    """The paper's counts beside ours."""
    header = ["set", "splits", "usable here", "kept by the paper", "listed here", "listed by the paper"]
    return [
        header,
        *(
            [
                count.name,
                " + ".join(count.splits),
                _number(count.usable, NOT_LISTED),
                _number(count.paper_kept),
                _number(count.listed, NOT_LISTED),
                _number(count.paper_listed, "–"),
            ]
            for count in report.paper
        ),
    ]


def _number(value: int | None, otherwise: str = "") -> str:
    return otherwise if value is None else f"{value:,}"


def identity_grid(report: AuditReport) -> Grid:
    """Coverage, labels and the hash of the id list, listed and usable, first 16 digits."""
    header = ["split", "usable of listed", "labels listed", "hours usable", "ids listed", "ids usable"]
    return [header, *([split, *_identity(counts)] for split, counts in report.splits.items())]


def _identity(counts: SplitCounts) -> list[str]:
    labels = [f"{n:,}" if len(counts.labels) == 1 else f"{head} {n:,}" for head, n in counts.labels.items()]
    return [
        f"{counts.usable:,} of {counts.listed:,}",
        ", ".join(labels),
        f"{counts.hours:.1f}",
        counts.listed_ids_sha256[:16],
        counts.usable_ids_sha256[:16],
    ]


def class_grid(report: AuditReport) -> Grid:
    """Clips per class."""
    rows = [
        [c.split, c.head, c.name.replace("|", r"\|"), f"{c.listed:,}", f"{c.present:,}", f"{c.usable:,}"]
        for c in report.classes
    ]
    return [["split", "head", "class", "listed", "present", "usable"], *rows]


def _class_lines(report: AuditReport) -> Iterator[str]:
    """A line per split and head; the files have the counts of every class."""
    for split, head in dict.fromkeys((c.split, c.head) for c in report.classes):
        counts = np.array([(c.listed, c.usable) for c in report.classes if (c.split, c.head) == (split, head)])
        listed = counts[counts[:, 0] > 0]
        if not len(listed):
            continue
        lost = int((listed[:, 1] == 0).sum())
        yield (
            f"{split}, {head}: {len(listed)} of {len(counts)} classes listed, {listed[:, 0].min():,} to "
            f"{listed[:, 0].max():,} clips each; usable {listed[:, 1].min():,} to {listed[:, 1].max():,}, "
            f"{lost} classes without any"
        )


def _notes(report: AuditReport) -> Iterator[str]:
    yield from report.notes
    if report.listed_again:
        yield f"{report.listed_again:,} rows list a clip that is listed already; only the first of each is counted"
    across = sum(counts.duplicate_across_splits for counts in report.splits.values())
    if across:
        yield f"{across:,} duplicates repeat a clip of another split"
    if report.standin:
        yield "a synthetic stand-in: these are not the counts of the real data set"


def _aligned(grid: Grid) -> str:
    widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in grid
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _markdown(grid: Grid) -> str:
    rule = ["---", *["---:"] * (len(grid[0]) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (grid[0], rule, *grid[1:]))


# --- files ----------------------------------------------------------------------------------------------------------


def write_report(report: AuditReport, faults: Iterable[Sequence[str]], folder: Path) -> Sequence[Path]:
    """Write audit.json, audit.md and faults.csv (a row per fault) into `folder`, each completely or not at all.

    Raises:
        InputError: one of them cannot be written.
    """
    failure, remedy = "cannot be written", "free disk space, or give another --out DIR"
    paths = [folder / name for name in ("audit.json", "audit.md", "faults.csv")]
    write_text(paths[0], to_json(report), failure, remedy)
    write_text(paths[1], to_markdown(report).encode(errors="backslashreplace").decode(), failure, remedy)

    def write_faults(file: IO[bytes]) -> None:
        text = io.TextIOWrapper(file, encoding="utf-8", errors="backslashreplace", newline="")
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(FAULT_COLUMNS)
        rows.writerows(faults)
        text.detach()  # flushes, and leaves the file open

    write_whole(paths[2], write_faults, failure, remedy)
    return paths

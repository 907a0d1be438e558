"""Page 1: three sentences, one figure, and what became of the paper's claims."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from reports.conditions import days
from reports.document import Block, Bullets, Grid, Paragraph, Words, reference, words
from reports.figures import figure_blocks
from reports.findings import accuracy_finding, cost_finding, coverage_finding
from reports.source import Source
from reproduce.records.records import Records, latest
from reproduce.tables import Row
from reproduce.tables.claims import SHORT
from reproduce.tables.verdicts import CONTRADICTED, HOLDS, NOT_CONFIRMED, NOT_RUN, VERDICTS

# Kind of claim -> what the paper says, in words.
SAYINGS = {
    "accuracy_gain": "MAST is more accurate than AST on all four data sets (Tables 2 to 5).",
    "cost_ratio": "MAST needs far fewer MACs and parameters than AST (abstract).",
    "cost": "The MACs and parameters of both models (Table 5).",
    "architecture": "MAST has fewer and narrower tokens than AST (Table 1).",
    "count": "How many clips of AudioSet could not be downloaded (section 4).",
    "ablation_order": "The pooling of Table 1 gives the best accuracy (section 4).",
    "clustering": "MAST's embeddings form better clusters (Table 6).",
    "visual": "MAST's embeddings look more separable (Figure 2).",
    "statement": "How the experiments were made.",
}
MOST_SHOWN = 2  # claims of one kind that are shown with their numbers


def facts_of(records: Records) -> tuple[Words, ...]:
    """Date and commit of the measurements, a line each."""
    newest = latest(records)
    if newest is None:
        return (words("No measurement was recorded."),)
    commit = newest.environment.commit.partition("+")[0]
    measured = f"{len(records):,} measurements, {days(run.created for run in records)}"
    return (words(f"{measured}; newest at commit {commit}" if commit else measured),)


def about(source: Source) -> Words:
    """What the report compares."""
    paper = source.inputs.paper
    return words(
        f"MAST is the multiscale audio spectrogram transformer of {' and '.join(paper.authors)} ({paper.venue}), AST "
        "the audio spectrogram transformer that it is compared with: the paper's numbers beside what was measured here."
    )


def summary_blocks(source: Source) -> tuple[Block, ...]:
    """Everything on page 1 below the title."""
    findings = (cost_finding(source), accuracy_finding(source), coverage_finding(source))
    return (
        Paragraph(text=about(source)),
        Bullets(items=findings),
        *figure_blocks(source, "accuracy_cost"),
        verdict_grid(source),
    )


def verdict_grid(source: Source) -> Grid:
    """A row per kind of claim: what the paper says, what was found, and the verdicts."""
    rows = {row.key: row for row in source.table("claims").rows}
    by_kind: dict[str, list[Row]] = {}
    for claim in source.inputs.paper.claims:
        by_kind.setdefault(claim.kind, []).append(rows[claim.key])
    ordered = sorted(by_kind, key=lambda kind: list(SAYINGS).index(kind) if kind in SAYINGS else len(SAYINGS))
    return Grid(
        key="verdicts",
        caption=words(
            f"The paper's {len(rows)} checkable claims, by kind. ",
            reference("table-claims"),
            " judges each. By convention: holds by one stated rule, such as one of counting; in brackets: the number "
            "by the fuller rule.",
        ),
        header=("The paper says", "Found here", "Verdicts"),
        rows=tuple(
            (
                words(SAYINGS.get(kind, kind.replace("_", " "))),
                words(_found(by_kind[kind])),
                words(tally(by_kind[kind])),
            )
            for kind in ordered
        ),
        left=frozenset({0, 1, 2}),
    )


def tally(rows: Sequence[Row]) -> str:
    """ "3 hold, 1 contradicted": counts of the verdicts' short names."""
    counts = Counter(_verdict(row) for row in rows)
    return ", ".join(
        f"{count} {'hold' if verdict == HOLDS and count > 1 else SHORT[verdict]}"
        for verdict in VERDICTS
        if (count := counts[verdict])
    )


def _verdict(row: Row) -> str:
    return row.cells["verdict"].status


def _found(rows: Sequence[Row]) -> str:
    """The claims that do not hold, with their numbers; else the first that were measured."""
    wrong = [row for row in rows if _verdict(row) in (CONTRADICTED, NOT_CONFIRMED)]
    if wrong:
        shown = [_numbers(row) or f'"{row.label}": {SHORT[_verdict(row)]}' for row in wrong[:MOST_SHOWN]]
        more = f"; and {len(wrong) - MOST_SHOWN} more" if len(wrong) > MOST_SHOWN else ""
        return "; ".join(shown) + more
    if all(_verdict(row) == NOT_RUN for row in rows):
        return "no run at the paper's scale"
    numbers = [text for row in rows if (text := _numbers(row))]
    return "; ".join(numbers[:MOST_SHOWN]) or "read in the text, not measured"


def _numbers(row: Row) -> str:
    """ "says 5×, its tables give 4.04×, measured 4.04×"."""
    named = (("stated", "says"), ("implied", "its tables give"), ("measured", "measured"))
    texts = [(verb, row.cells[key].text or "") for key, verb in named if key in row.cells]
    return ", ".join(f"{verb} {text}" for verb, text in texts if text)

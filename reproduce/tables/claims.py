"""The target `claims`: every checkable sentence of the paper, one row each, with its verdict."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from reproduce.paper import Claim, Paper
from reproduce.tables.base import NOT_RUN as CELL_NOT_RUN
from reproduce.tables.base import (
    PAPER_ONLY,
    Cell,
    Column,
    Row,
    Table,
    TableInputs,
    measured,
    quoted,
    register_table,
    text_cell,
)
from reproduce.tables.cells import BOTH_COSTS
from reproduce.tables.test_set_size import SD_OF_MAP, chance_text
from reproduce.tables.verdicts import (
    BY_CONVENTION,
    CONTRADICTED,
    HOLDS,
    NOT_CONFIRMED,
    NOT_RUN,
    UNDECIDED,
    VERDICTS,
    VISUAL,
    Judgement,
    decimals,
    judge_claims,
)

COLUMNS = (
    Column("stated", "Paper says"),
    Column("implied", "Its tables"),
    Column("chance", "By its test set"),
    Column("measured", "Measured here"),
    Column("demo", "Demo scale"),
    Column("by_tables", "By its tables"),
    Column("verdict", "Verdict"),
)
# What the terminal shows of a verdict; JSON and CSV have the whole in `status`.
SHORT = {
    HOLDS: "holds",
    BY_CONVENTION: "by convention",
    CONTRADICTED: "contradicted",
    NOT_CONFIRMED: "not confirmed",
    UNDECIDED: "undecided",
    NOT_RUN: "not run",
    VISUAL: "visual",
}
CLUSTERING_DECIMALS, RATIO_DECIMALS = 3, 2
NOTES = (
    "by convention: holds only under a stated convention, such as a rule of counting. contradicted: by the paper's own "
    "table or reference. not confirmed: by the runs here. undecided: the runs here differ by no more than chance "
    "explains. visual: a figure that is to be judged by eye, not checked here.",
    "By its tables: the verdict of the paper's own numbers. Verdict: accuracies, ablations and clustering need "
    "paper-scale runs, costs are those of these very models. Demo scale on real recordings is shown and never decides; "
    "runs on synthetic stand-ins compare nothing and are not shown.",
    "Where a sentence only ranks two models, the number is the margin: it must be above 0.",
    "By its test set: what the paper's margin is worth by the size of its test set alone, ± half the 95 % interval of "
    "two accuracies on as many clips, taken as independent (EPIC-KITCHENS' are cut from 138 videos: its interval is "
    "wider); of a margin of mAP in brackets how many seeds each model needs to show it at 80 % power, "
    f"where training runs differ by {SD_OF_MAP:g} (standard deviation of AST's three released runs "
    "on full AudioSet). The paper has single runs.",
    "Measured costs: as the paper counts; in brackets with the products of attention, without unused weights, or with "
    "AST's two extra tokens, where that differs.",
)


@register_table(
    "claims", "every checkable sentence of the paper, with a verdict from its tables and our records", BOTH_COSTS
)
def claims(inputs: TableInputs) -> Table:
    """One row per claim, its quotation and reasons below."""
    judged = judge_claims(inputs.paper, inputs.records, inputs.scores)
    missing = f"not run: no paper-scale records of what these claims compare under {inputs.records_dir}; see below"
    counts = Counter(judgement.verdict for judgement in judged)
    tally = ", ".join(f"{counts[verdict]} {SHORT[verdict]}" for verdict in VERDICTS if counts[verdict])
    reasons = tuple(map(_reasons, judged))
    return Table(
        "claims",
        f"{len(judged)} claims of the paper: {tally}",
        COLUMNS,
        tuple(Row(j.claim.key, j.claim.sentence.removesuffix("."), _cells(inputs.paper, j, missing)) for j in judged),
        notes=NOTES,
        blocks=(Table("claims quoted", "Every claim with its quotation and the reasons", notes=reasons),),
    )


def _cells(paper: Paper, j: Judgement, missing: str) -> dict[str, Cell]:
    why = missing if j.verdict == NOT_RUN else "; ".join(j.why)
    cells = {
        "by_tables": text_cell(SHORT[j.by_tables], j.by_tables),
        "verdict": text_cell(SHORT[j.verdict], j.verdict, why),
    }
    if chance := chance_text(paper, j.claim):
        cells["chance"] = text_cell(chance, PAPER_ONLY, "computed from the paper's own numbers")
    unit = _unit(j.claim)
    if j.stated is not None:
        stated = {"number": "", "about": "about ", "over": "over "}[j.claim.stated_as] + f"{j.stated:g}{unit}"
        cells["stated"] = replace(quoted(j.stated, unit.strip(), j.claim.where), text=stated)
    if j.implied is not None and j.claim.relation != "value":
        text = _number(j, j.implied)
        cells["implied"] = replace(quoted(j.implied, unit.strip(), ", ".join(j.claim.refs)), text=text)
    if j.measured is not None:
        text = _number(j, j.measured) + (f" ({_number(j, j.plain)})" if j.plain is not None else "")
        cells["measured"] = replace(measured(j.measured, unit.strip(), j.conditions), text=text)
    elif j.verdict == NOT_RUN:
        cells["measured"] = text_cell(CELL_NOT_RUN, CELL_NOT_RUN, missing)
    if j.demo is not None:
        cells["demo"] = replace(measured(j.demo, unit.strip(), j.demo_conditions), text=_number(j, j.demo))
    return cells


def _unit(claim: Claim) -> str:
    """The unit as it is written after the number."""
    if claim.relation == "times_less":
        return "×"
    if claim.relation in ("percent_of", "percent_less"):
        return " %"
    if claim.relation == "value" and claim.kind == "cost":
        return " G" if claim.refs[0].endswith(".macs") else " M"
    return ""


def _number(j: Judgement, value: float) -> str:
    """A margin or difference with its sign, a ratio with its unit; decimals as the comparison needs."""
    claim = j.claim
    if claim.kind == "clustering":
        return f"{value:+.{CLUSTERING_DECIMALS}f}"
    if claim.kind == "architecture":
        return f"{value:,.0f}" if claim.relation == "value" else f"{value:+,.0f}"
    if claim.relation == "times_less":
        return f"{value:.{RATIO_DECIMALS}f}×"
    if claim.relation in ("difference", "exceeds", "each_exceeds"):
        return f"{value:+.1f}"
    shown = 1 if j.stated is None else decimals(j.stated) + 1
    return f"{value:.{shown}f}{_unit(claim)}"


def _reasons(j: Judgement) -> str:
    """The claim in words: its quotation, the verdict, and its reasons."""
    reasons = [f"{'; '.join(j.why)}."] if j.why else []
    note = [j.claim.note] if j.claim.note else []
    verdict = f"Verdict: {j.verdict}" + (":" if reasons else ".")
    return " ".join([f'{j.claim.sentence} ({j.claim.where}: "{j.claim.quote}") {verdict}', *reasons, *note])

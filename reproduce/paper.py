"""Numbers and claims quoted from the paper, by key. The numbers themselves are in `paper.json` and nowhere else.

    paper = load_paper()
    paper.cell("table5", "mast", "macs")        # 25.6, in the column's unit; None where the paper prints "-"
    paper.fact("epochs_kinetics_sounds").value  # 300
    claim = paper.claim("macs_times_less")
    claim.implied(paper.claim_values(claim))    # 4.04: what Table 5 gives for the "5x" of the abstract

A reference ("ref") names any number of the file: `table5.mast.macs` (table, row, column),
`table1.block_21.mast.freq` (row, model, field) or `facts.learning_rate`. Unknown keys raise KeyError and list the
known ones.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeVar, get_args

PAPER_JSON = Path(__file__).with_name("paper.json")

ClaimKind = Literal[
    "accuracy_gain",
    "cost",
    "cost_ratio",
    "count",
    "ablation_order",
    "clustering",
    "visual",
    "architecture",
    "statement",
]
StatedAs = Literal["number", "about", "over"]
LayerKind = Literal["input", "patch_embed", "block", "head"]
MODELS = ("ast", "mast")

# How a claim's number follows from the numbers it rests on, in the order of its refs (MAST, or the clips kept, first).
RELATIONS: Mapping[str, Callable[[Sequence[float]], float]] = MappingProxyType(
    {
        "difference": lambda v: v[0] - v[1],
        "percent_of": lambda v: 100 * v[0] / v[1],
        "percent_less": lambda v: 100 * (1 - v[0] / v[1]),
        "times_less": lambda v: v[1] / v[0],
        "value": lambda v: v[0],
        # The last three state no number: the result is the margin over the nearest rival, and the claim holds above 0.
        "exceeds": lambda v: v[0] - max(v[1:]),
        "each_exceeds": lambda v: min(ours - theirs for ours, theirs in zip(v[::2], v[1::2], strict=True)),
        "below": lambda v: min(v[1:]) - v[0],
    }
)

T = TypeVar("T")


@dataclass(frozen=True)
class QuotedColumn:
    """One printed quantity. `unit`: "%" (accuracy, mAP), "G" (10^9 MACs), "M" (10^6 parameters) or "" (none)."""

    key: str
    title: str
    unit: str
    decimals: int  # as printed, so that 0.72 shows as the paper's 0.720


@dataclass(frozen=True)
class QuotedRow:
    """One model's line in a table.

    Args:
        key: of the row.
        label: as printed.
        quoted_from: whose numbers these are where the paper names somebody ("MBT [28]"), "Our AS" for the authors'
            rerun of AST on the AudioSet they could download, None for the paper's own experiments.
        model: what the paper calls it, "ast" or "mast", or None for any other network.
        is_ours: whether the paper's authors ran it themselves.
        cells: column key -> number, None where "-" is printed.
        note: what a reader must know to read the numbers.
    """

    key: str
    label: str
    quoted_from: str | None
    model: str | None
    is_ours: bool
    cells: Mapping[str, float | None]
    note: str = ""

    @property
    def measured_as(self) -> str | None:
        """Model whose measurement may fill this row, or None.

        "AST [28]" of Tables 2-4 is MBT's audio branch: an AST measured here needs its own row beside it.
        """
        return self.model if self.is_ours else None


@dataclass(frozen=True)
class QuotedTable:
    """Tables 2 to 6 and the ablations. Table 6 is printed the other way round (metrics down, models across)."""

    key: str
    title: str
    caption: str
    columns: tuple[QuotedColumn, ...]
    rows: tuple[QuotedRow, ...]

    def column(self, key: str) -> QuotedColumn:
        return _find(self.columns, key, f"column of {self.key}")

    def row(self, key: str) -> QuotedRow:
        return _find(self.rows, key, f"row of {self.key}")

    def cell(self, row: str, column: str) -> float | None:
        return self.row(row).cells[self.column(column).key]


@dataclass(frozen=True)
class Layer:
    """The output of one line of Table 1 in one model.

    Args:
        kind: of the line.
        feature: as printed.
        arch: as printed.
        width: channels of the input, feature dimension of the tokens, classes of the head.
        tokens: freq * time; None for input and head.
        freq: rows of the token grid, also for blocks of which the paper prints the tokens alone; None for the head.
        time: columns of the token grid; None for the head.
    """

    kind: LayerKind
    feature: str
    arch: str
    width: int
    tokens: int | None
    freq: int | None
    time: int | None


@dataclass(frozen=True)
class ArchitectureRow:
    """One line of Table 1: the printed label, the block numbers it covers, and each model's layer (None for "-")."""

    key: str
    label: str
    blocks: tuple[int, ...]
    ast: Layer | None
    mast: Layer | None

    def layer(self, model: str) -> Layer | None:
        return _lookup({"ast": self.ast, "mast": self.mast}, model, "model")


@dataclass(frozen=True)
class ArchitectureTable:
    """Table 1."""

    key: str
    title: str
    caption: str
    rows: tuple[ArchitectureRow, ...]

    def row(self, key: str) -> ArchitectureRow:
        return _find(self.rows, key, f"row of {self.key}")

    def blocks(self, model: str) -> dict[int, Layer]:
        """Transformer blocks of "ast" (0-11) or "mast" (0-23) by number, without input, patch embedding and head."""
        layers = ((row, row.layer(model)) for row in self.rows)
        return {n: layer for row, layer in layers if layer and layer.kind == "block" for n in row.blocks}


@dataclass(frozen=True)
class Fact:
    """One number or name stated in the text, with the sentence that states it."""

    key: str
    value: int | float | str
    unit: str
    where: str
    quote: str


@dataclass(frozen=True)
class Claim:
    """One checkable sentence.

    Args:
        key: of the claim.
        sentence: the claim in short, in our words.
        quote: the paper's sentence.
        where: sections that state it.
        kind: which measurement can check it.
        relation: key of RELATIONS, None where no number can judge.
        refs: the numbers it rests on, in the order its relation takes them.
        stated: ref of the number the sentence gives, if any.
        note: where the paper's own tables disagree, or what the sentence leaves open.
        convention: the reading without which it does not hold, "" where it needs none.
        stated_as: how the sentence gives its number: the "number" itself, "about" so much, or "over" it.
    """

    key: str
    sentence: str
    quote: str
    where: str
    kind: ClaimKind
    relation: str | None
    refs: tuple[str, ...]
    stated: str | None
    note: str
    convention: str = ""
    stated_as: StatedAs = "number"

    def implied(self, values: Sequence[float]) -> float | None:
        """The claim's number from `values` (the paper's or measured, one per ref, in order); None without relation."""
        if len(values) != len(self.refs):
            raise ValueError(f"claim {self.key!r} takes one value for each of {self.refs}, got {len(values)}")
        return None if self.relation is None else RELATIONS[self.relation](values)


@dataclass(frozen=True)
class Paper:
    """Everything quoted from the paper. `architecture` is Table 1; `tables` holds the others by key."""

    title: str
    authors: tuple[str, ...]
    venue: str
    year: int
    architecture: ArchitectureTable
    tables: Mapping[str, QuotedTable]
    facts: Mapping[str, Fact]
    claims: tuple[Claim, ...]

    def table(self, key: str) -> QuotedTable:
        return _lookup(self.tables, key, "table (Table 1 is `architecture`)")

    def cell(self, table: str, row: str, column: str) -> float | None:
        """Printed number in the column's unit, None where the paper prints "-"."""
        return self.table(table).cell(row, column)

    def fact(self, key: str) -> Fact:
        return _lookup(self.facts, key, "fact")

    def claim(self, key: str) -> Claim:
        return _find(self.claims, key, "claim")

    def resolve(self, ref: str) -> int | float | str | None:
        """The value a ref names (see the module's docstring); None where the paper prints "-"."""
        table, _, key_of_fact = ref.partition(".")
        return self.fact(key_of_fact).value if table == "facts" else _resolve_cell(self.architecture, self.tables, ref)

    def claim_values(self, claim: Claim) -> tuple[float, ...]:
        """The paper's own numbers behind a claim, one per ref. Raises TypeError for a ref that is not a number."""
        return tuple(_number(ref, self.resolve(ref)) for ref in claim.refs)

    def stated(self, claim: Claim) -> float | None:
        """The number the claim's sentence gives, to set beside `claim.implied(...)`; None where it gives none."""
        return None if claim.stated is None else _number(claim.stated, self.resolve(claim.stated))


@cache
def load_paper() -> Paper:
    """Read `paper.json` once. A table whose rows do not fill exactly its columns, or an unknown field, is an error."""
    raw = json.loads(PAPER_JSON.read_text(encoding="utf-8"))
    about = raw["paper"]
    architecture = _architecture("table1", raw["tables"]["table1"])
    tables = {key: _table(key, table) for key, table in raw["tables"].items() if key != architecture.key}
    return Paper(
        title=about["title"],
        authors=tuple(about["authors"]),
        venue=about["venue"],
        year=about["year"],
        architecture=architecture,
        tables=MappingProxyType(tables),
        facts=MappingProxyType({key: _fact(key, fact, architecture, tables) for key, fact in raw["facts"].items()}),
        claims=tuple(_claim(claim) for claim in raw["claims"]),
    )


def _table(key: str, raw: Mapping[str, Any]) -> QuotedTable:
    columns = tuple(QuotedColumn(**column) for column in raw["columns"])
    expected = [column.key for column in columns]
    for row in raw["rows"]:
        if list(row["cells"]) != expected:
            raise ValueError(f"paper.json: {key}.{row['key']} has cells {list(row['cells'])}, expected {expected}")
    rows = tuple(QuotedRow(**{**row, "cells": MappingProxyType(row["cells"])}) for row in raw["rows"])
    return QuotedTable(key=key, title=raw["title"], caption=raw["caption"], columns=columns, rows=rows)


def _architecture(key: str, raw: Mapping[str, Any]) -> ArchitectureTable:
    def row(line: Mapping[str, Any]) -> ArchitectureRow:
        layers = {model: Layer(**line[model]) if line[model] else None for model in MODELS}
        return ArchitectureRow(**{**line, "blocks": tuple(line["blocks"]), **layers})

    return ArchitectureTable(key=key, title=raw["title"], caption=raw["caption"], rows=tuple(map(row, raw["rows"])))


def _fact(key: str, raw: Mapping[str, Any], architecture: ArchitectureTable, tables: Mapping[str, QuotedTable]) -> Fact:
    """A fact that repeats a table's number names its cell instead of typing the number again."""
    fields = dict(raw)
    if "cell" in fields:
        ref = fields.pop("cell")
        fields["value"] = _number(ref, _resolve_cell(architecture, tables, ref))
    return Fact(key=key, **fields)


def _claim(raw: Mapping[str, Any]) -> Claim:
    claim = Claim(**{**raw, "refs": tuple(raw["refs"])})
    _lookup(dict.fromkeys(get_args(ClaimKind)), claim.kind, "kind of claim")
    _lookup(dict.fromkeys(get_args(StatedAs)), claim.stated_as, "way to state a number")
    if claim.relation is not None:
        _lookup(RELATIONS, claim.relation, "relation")
    return claim


def _resolve_cell(
    architecture: ArchitectureTable, tables: Mapping[str, QuotedTable], ref: str
) -> int | float | str | None:
    table, *path = ref.split(".")
    if table == architecture.key and len(path) == 3:
        layer = architecture.row(path[0]).layer(path[1])
        return None if layer is None else _lookup(vars(layer), path[2], "field of table1")
    if table != architecture.key and len(path) == 2:
        return _lookup(tables, table, "table").cell(*path)
    raise KeyError(f"unknown ref {ref!r}; known: TABLE.ROW.COLUMN, table1.ROW.MODEL.FIELD, facts.KEY")


def _number(ref: str, value: int | float | str | None) -> int | float:
    if value is None or isinstance(value, str):
        raise TypeError(f"{ref} is {value!r}, not a number")
    return value


def _find(items: Iterable[T], key: str, what: str) -> T:
    return _lookup({item.key: item for item in items}, key, what)  # type: ignore[attr-defined]


def _lookup(known: Mapping[str, T], key: str, what: str) -> T:
    if key not in known:
        raise KeyError(f"unknown {what} {key!r}; known: {', '.join(known)}")
    return known[key]

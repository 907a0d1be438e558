"""Read the numbers and claims of the paper by key. Only `paper.json` contains the numbers.

    paper = load_paper()
    paper.cell("table5", "mast", "macs")        # 25.6, in the column's unit; None where the paper prints "-"
    paper.fact("epochs_kinetics_sounds").value  # 300
    claim = paper.claim("macs_times_less")
    claim.implied(paper.claim_values(claim))    # 4.04: Table 5's value of the "5x" in the abstract

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

# Formulas of a claim's number from its refs, in their order (MAST, or the usable clips, first).
RELATIONS: Mapping[str, Callable[[Sequence[float]], float]] = MappingProxyType(
    {
        "difference": lambda v: v[0] - v[1],
        "percent_of": lambda v: 100 * v[0] / v[1],
        "percent_less": lambda v: 100 * (1 - v[0] / v[1]),
        # Values of several sets: kept and listed clips in turn.
        "percent_less_in_all": lambda v: 100 * (1 - sum(v[::2]) / sum(v[1::2])),
        "times_less": lambda v: v[1] / v[0],
        "value": lambda v: v[0],
        # The last three give a margin over the nearest other value; the claim holds if it is above 0.
        "exceeds": lambda v: v[0] - max(v[1:]),
        "each_exceeds": lambda v: min(first - second for first, second in zip(v[::2], v[1::2], strict=True)),
        "below": lambda v: min(v[1:]) - v[0],
    }
)

T = TypeVar("T")


@dataclass(frozen=True)
class QuotedColumn:
    """One printed quantity.

    Args:
        key: key of the column.
        title: as printed.
        unit: "%" (accuracy, mAP), "G" (10^9 MACs), "M" (10^6 parameters) or "" (none).
        decimals: printed decimals, so that 0.72 shows as the paper's 0.720.
    """

    key: str
    title: str
    unit: str
    decimals: int


@dataclass(frozen=True)
class QuotedRow:
    """One model's line in a table.

    Args:
        key: key of the row.
        label: as printed.
        quoted_from: source that the paper names ("MBT [28]"), "Our AS" for its rerun of AST on the AudioSet clips that
            the authors could download, None for other experiments of the paper.
        model: "ast" or "mast" as the paper names it, None for any other network.
        is_ours: whether the paper's authors ran the experiment.
        cells: column key -> number, None where the paper prints "-".
        note: remark that a reader needs.
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

        "AST [28]" of Tables 2-4 is MBT's audio branch: an AST measured here needs a separate row.
        """
        return self.model if self.is_ours else None


@dataclass(frozen=True)
class QuotedTable:
    """One of Tables 2 to 6 or the ablations. The paper prints Table 6 transposed (metrics in rows).

    Args:
        key: "table2" to "table6", or "ablations".
        title: heading of the table here.
        caption: as printed.
        columns: printed quantities.
        rows: one per model.
    """

    key: str
    title: str
    caption: str
    columns: tuple[QuotedColumn, ...]
    rows: tuple[QuotedRow, ...]

    def column(self, key: str) -> QuotedColumn:
        """Return the column `key`; KeyError lists the known ones."""
        return _find(self.columns, key, f"column of {self.key}")

    def row(self, key: str) -> QuotedRow:
        """Return the row `key`; KeyError lists the known ones."""
        return _find(self.rows, key, f"row of {self.key}")

    def cell(self, row: str, column: str) -> float | None:
        """Return the printed number in the column's unit, None where the paper prints "-"."""
        return self.row(row).cells[self.column(column).key]


@dataclass(frozen=True)
class Layer:
    """The output of one line of Table 1 in one model.

    Args:
        kind: kind of layer.
        feature: as printed.
        arch: as printed.
        width: channels of the input, feature dimension of the tokens, classes of the head.
        tokens: freq * time; None for input and head.
        freq: rows of the token grid, also for blocks where the paper prints only the tokens; None for the head.
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
    """One line of Table 1.

    Args:
        key: key of the line.
        label: as printed.
        blocks: numbers of the blocks on the line.
        ast: AST's layer, None where the paper prints "-".
        mast: MAST's layer, None where the paper prints "-".
    """

    key: str
    label: str
    blocks: tuple[int, ...]
    ast: Layer | None
    mast: Layer | None

    def layer(self, model: str) -> Layer | None:
        """Return the layer of "ast" or "mast"; KeyError for other models."""
        return _lookup({"ast": self.ast, "mast": self.mast}, model, "model")


@dataclass(frozen=True)
class ArchitectureTable:
    """Table 1.

    Args:
        key: "table1".
        title: heading of the table here.
        caption: as printed.
        rows: lines of the table.
    """

    key: str
    title: str
    caption: str
    rows: tuple[ArchitectureRow, ...]

    def row(self, key: str) -> ArchitectureRow:
        """Return the line `key`; KeyError lists the known ones."""
        return _find(self.rows, key, f"row of {self.key}")

    def blocks(self, model: str) -> dict[int, Layer]:
        """Return block number -> layer of "ast" (0-11) or "mast" (0-23), without input, patch embedding and head."""
        layers = ((row, row.layer(model)) for row in self.rows)
        return {n: layer for row, layer in layers if layer and layer.kind == "block" for n in row.blocks}


@dataclass(frozen=True)
class Fact:
    """One number or name that the text states.

    Args:
        key: key of the fact.
        value: the number or name.
        unit: unit of the number, "" for none.
        where: section of the paper.
        quote: the sentence that states it.
    """

    key: str
    value: int | float | str
    unit: str
    where: str
    quote: str


@dataclass(frozen=True)
class Claim:
    """One checkable sentence of the paper.

    Args:
        key: key of the claim.
        sentence: short form of the claim.
        quote: the paper's sentence.
        where: sections that state it.
        kind: kind of measurement that can check it.
        relation: key of RELATIONS, None if no number can check the claim.
        refs: refs of the numbers behind the claim, in the order of its relation.
        stated: ref of the number that the sentence states, None if it states none.
        note: disagreement with the paper's tables, or a question that the sentence leaves open.
        convention: reading that the claim needs to hold, "" if it needs none.
        stated_as: whether the sentence states the "number" itself, "about" that number, or "over" it.
        contradicted_by: what in the paper contradicts the sentence, beside its numbers; "" if nothing does.
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
    contradicted_by: str = ""

    def pairs(self) -> tuple[tuple[str, str], ...]:
        """List the pairs of refs that an order or a difference compares, MAST's first; none for other relations."""
        if self.relation in ("difference", "exceeds"):
            return tuple((self.refs[0], rival) for rival in self.refs[1:])
        return tuple(zip(self.refs[::2], self.refs[1::2], strict=True)) if self.relation == "each_exceeds" else ()

    def implied(self, values: Sequence[float]) -> float | None:
        """Compute the claim's number; None for a claim without a relation.

        Args:
            values: one number per ref, in order: the paper's or measured ones.

        Raises:
            ValueError: not one value per ref.
        """
        if len(values) != len(self.refs):
            raise ValueError(f"claim {self.key!r} takes one value for each of {self.refs}, got {len(values)}")
        return None if self.relation is None else RELATIONS[self.relation](values)


@dataclass(frozen=True)
class Paper:
    """The quoted content of the paper.

    Args:
        title: title of the paper.
        authors: names in the printed order.
        venue: place of publication.
        year: year of publication.
        architecture: Table 1.
        tables: key -> other table.
        facts: key -> number or name that the text states.
        claims: checkable sentences.
    """

    title: str
    authors: tuple[str, ...]
    venue: str
    year: int
    architecture: ArchitectureTable
    tables: Mapping[str, QuotedTable]
    facts: Mapping[str, Fact]
    claims: tuple[Claim, ...]

    def table(self, key: str) -> QuotedTable:
        """Return the table `key`; KeyError lists the known ones."""
        return _lookup(self.tables, key, "table (Table 1 is `architecture`)")

    def cell(self, table: str, row: str, column: str) -> float | None:
        """Return the printed number in the column's unit, None where the paper prints "-"."""
        return self.table(table).cell(row, column)

    def fact(self, key: str) -> Fact:
        """Return the fact `key`; KeyError lists the known ones."""
        return _lookup(self.facts, key, "fact")

    def claim(self, key: str) -> Claim:
        """Return the claim `key`; KeyError lists the known ones."""
        return _find(self.claims, key, "claim")

    def resolve(self, ref: str) -> int | float | str | None:
        """Return the value of a ref (see the module's docstring), None where the paper prints "-".

        Raises:
            KeyError: an unknown ref.
        """
        table, _, fact_key = ref.partition(".")
        return self.fact(fact_key).value if table == "facts" else _resolve_cell(self.architecture, self.tables, ref)

    def claim_values(self, claim: Claim) -> tuple[float, ...]:
        """Return the paper's numbers behind a claim, one per ref.

        Raises:
            TypeError: a ref does not name a number.
        """
        return tuple(_number(ref, self.resolve(ref)) for ref in claim.refs)

    def stated(self, claim: Claim) -> float | None:
        """Return the number that the claim's sentence states, to compare with `claim.implied(...)`, or None."""
        return None if claim.stated is None else _number(claim.stated, self.resolve(claim.stated))


@cache
def load_paper() -> Paper:
    """Read `paper.json`; the result is cached.

    Raises:
        ValueError: the cells of a row are not exactly the columns of its table.
        TypeError: a field is unknown or missing.
        KeyError: an unknown ref, relation or kind.
    """
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
    """Build a fact. One that repeats a number of a table has the `cell` instead of a `value`."""
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

"""What a table is, and the registry that the command line and the report read. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reproduce.paper import Paper
from reproduce.records.records import Records
from reproduce.records.runs import Run
from reproduce.tables.scores import RunScores

if TYPE_CHECKING:
    import pandas

MEASURED, NOT_RUN, PAPER_ONLY = "measured", "not run", "paper only"
RATIO_KEY = "ratio"  # of the row that divides two others
POINTS, CLIPS = "points", "clips"  # units: of a difference of percentages; of a number of test clips
RATIO = "x"  # unit of a ratio
GIGA, MEGA = 1e9, 1e6
# Columns of `Table.to_frame` and of the CSV format, with their pandas types.
CELL_COLUMNS: Mapping[str, str] = {
    **dict.fromkeys(("table", "row", "column"), "string"),
    **dict.fromkeys(("paper", "measured"), "Float64"),
    **dict.fromkeys(("unit", "status"), "string"),
    **dict.fromkeys(("n", "listed"), "Int64"),
    **dict.fromkeys(("ci_low", "ci_high"), "Float64"),
    "seeds": "string",
    "sd": "Float64",
    **dict.fromkeys(("text", "conditions"), "string"),
}


@dataclass(frozen=True)
class Column:
    """One quantity.

    Args:
        key: of the cells in `Row.cells`.
        title: header, without the unit.
        unit: of the numbers; "" for none.
        decimals: shown in the rendered cell; JSON and CSV keep every digit.
    """

    key: str
    title: str
    unit: str = ""
    decimals: int = 1


@dataclass(frozen=True, kw_only=True)
class Cell:
    """The paper's number beside the measured one. `measured`, `not_run`, `quoted` and `text_cell` make the usual cells.

    Args:
        paper: as printed, None where the paper has none.
        measured: number measured here, None unless `status` is "measured".
        unit: of both.
        status: "measured", "not run" or "paper only" (a quoted result that this suite does not measure). A cell of
            words may carry a tag that the words abbreviate.
        conditions: what the number was measured under, or why it was not run.
        n: clips behind it.
        ci: 95 % interval.
        listed: clips that the data set lists for the test, of which n could be used.
        seeds: of the runs behind it; `measured` is their mean.
        sd: standard deviation over seeds, None for a single run.
        text: words to show instead of numbers, None for a cell of numbers.
    """

    paper: float | None = None
    measured: float | None = None
    unit: str = ""
    status: str = MEASURED
    conditions: str = ""
    n: int | None = None
    ci: tuple[float, float] | None = None
    listed: int | None = None
    seeds: tuple[int, ...] = ()
    sd: float | None = None
    text: str | None = None


def measured(value: float, unit: str, conditions: str, paper: float | None = None) -> Cell:
    """A cell with a number measured here, beside the paper's if it has one."""
    return Cell(paper=paper, measured=value, unit=unit, conditions=conditions)


def not_run(unit: str, why: str, paper: float | None = None) -> Cell:
    """A cell without a measurement; `why` gives the reason and, where there is one, the remedy."""
    return Cell(paper=paper, unit=unit, status=NOT_RUN, conditions=why)


def quoted(paper: float | None, unit: str, source: str) -> Cell:
    """A number that the paper prints and that this suite does not measure."""
    return Cell(paper=paper, unit=unit, status=PAPER_ONLY, conditions=source)


def text_cell(text: str, status: str, conditions: str = "") -> Cell:
    """A cell of words; JSON and CSV carry `status` and `conditions` beside them."""
    return Cell(text=text, status=status, conditions=conditions)


@dataclass(frozen=True)
class Row:
    """Cells by column key; a column without an entry is blank."""

    key: str
    label: str
    cells: Mapping[str, Cell]

    @property
    def is_ratio(self) -> bool:
        """Whether it divides the cells of two other rows: the first has the key "ratio", others "ratio NAME"."""
        return self.key.partition(" ")[0] == RATIO_KEY


@dataclass(frozen=True)
class Table:
    """What a target prints.

    Args:
        name: of the table, unique among a table and its blocks.
        title: printed above it.
        columns: in order.
        rows: in order.
        notes: sentences under the table.
        blocks: labelled tables under it, such as demo-scale or itemised ones.
        runs: measurements behind its rows, for a reader that needs their conditions as values.
        for_programs: whether only JSON, CSV, Parquet and DataFrames show it.
    """

    name: str
    title: str
    columns: tuple[Column, ...] = ()
    rows: tuple[Row, ...] = ()
    _: KW_ONLY
    notes: tuple[str, ...] = ()
    blocks: tuple[Table, ...] = ()
    runs: tuple[Run, ...] = ()
    for_programs: bool = False

    @property
    def shown_blocks(self) -> tuple[Table, ...]:
        """The blocks that readers see."""
        return tuple(block for block in self.blocks if not block.for_programs)

    def with_blocks(self) -> Iterator[Table]:
        """The table, then its blocks and theirs."""
        yield self
        for block in self.blocks:
            yield from block.with_blocks()

    def cell_dicts(self) -> Iterator[dict[str, Any]]:
        """Every cell of the table itself, blocks not included, as one flat dict."""
        for row in self.rows:
            for column in self.columns:
                cell = row.cells.get(column.key)
                if cell is not None:
                    fields = ("paper", "measured", "unit", "status", "conditions", "n")
                    values = {name: getattr(cell, name) for name in fields}
                    values["ci"] = None if cell.ci is None else list(cell.ci)
                    if cell.text is not None:
                        values["text"] = cell.text
                    if cell.listed is not None:
                        values["listed"] = cell.listed
                    if cell.seeds:
                        values |= {"seeds": list(cell.seeds), "sd": cell.sd}
                    yield {"row": row.key, "column": column.key, **values}

    def to_frame(self) -> pandas.DataFrame:
        """One row per cell, blocks included, with the typed columns of CELL_COLUMNS."""
        import pandas

        rows = []
        for part in self.with_blocks():
            for cell in part.cell_dicts():
                low, high = cell.pop("ci") or (None, None)
                seeds = " ".join(map(str, cell.pop("seeds", [])))
                rows.append({"table": part.name, **cell, "ci_low": low, "ci_high": high, "seeds": seeds})
        return pandas.DataFrame(rows, columns=list(CELL_COLUMNS)).astype(dict(CELL_COLUMNS))


@dataclass(frozen=True)
class CostRequest:
    """A cost that a table needs before it is built, of the very same models and code.

    Args:
        model: registered name.
        model_config: overrides of the model's config.
        with_libraries: whether the counting libraries are asked too.
    """

    model: str
    model_config: Mapping[str, Any] = field(default_factory=dict)
    with_libraries: bool = False


@dataclass(frozen=True)
class TableInputs:
    """All that a table may depend on. One value serves all tables of a command or a report: it caches what they share.

    Args:
        paper: the quoted numbers.
        records: the measurements.
        records_dir: folder that the measurements' files are relative to.
    """

    paper: Paper
    records: Records
    records_dir: Path
    built: dict[str, Table] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def scores(self) -> RunScores:
        """The scores of runs; every file of predictions is read and resampled once."""
        return RunScores(self.records_dir)


@dataclass(frozen=True)
class TableSpec:
    """One target.

    Args:
        name: what the command line calls it.
        help: its help line.
        build: makes the table; call the function `build`, which makes it once.
        costs: to measure before it is built.
    """

    name: str
    help: str
    build: Callable[[TableInputs], Table]
    costs: tuple[CostRequest, ...] = ()


_TABLES: dict[str, TableSpec] = {}


def register_table(
    name: str, help: str, costs: tuple[CostRequest, ...] = ()
) -> Callable[[Callable[[TableInputs], Table]], Callable[[TableInputs], Table]]:
    """Register a builder as target `name`; ValueError for a name that is registered."""

    def register(build: Callable[[TableInputs], Table]) -> Callable[[TableInputs], Table]:
        if name in _TABLES:
            raise ValueError(f"table {name!r} is registered twice")
        _TABLES[name] = TableSpec(name, help, build, costs)
        return build

    return register


def table_specs() -> dict[str, TableSpec]:
    """Targets by name, in the order of registration."""
    return dict(_TABLES)


def build(name: str, inputs: TableInputs) -> Table:
    """The registered table `name`, built once per `inputs`. KeyError for an unknown name."""
    if name not in inputs.built:
        inputs.built[name] = _TABLES[name].build(inputs)
    return inputs.built[name]


def ratio_row(label: str, first: Mapping[str, Cell], second: Mapping[str, Cell], columns: Sequence[Column]) -> Row:
    """first / second of every measured column, beside the paper's own ratio."""
    cells = {}
    for column in columns:
        a, b = first.get(column.key), second.get(column.key)
        if a and b and a.measured is not None and b.measured:  # nothing is a multiple of 0
            printed = a.paper / b.paper if a.paper is not None and b.paper is not None else None
            cells[column.key] = measured(a.measured / b.measured, RATIO, "ratio of the two rows", printed)
    return Row(RATIO_KEY, label, cells)

"""What the models cost: the rules in columns, and MACs itemised per kind, per block and per counting library."""

from __future__ import annotations

from collections.abc import Mapping

from reproduce.records import RunRecord
from reproduce.selection import cost_of
from reproduce.tables.base import (
    GIGA,
    MEGA,
    NOT_RUN,
    PAPER_MODELS,
    Cell,
    Column,
    CostRequest,
    Row,
    Table,
    TableInputs,
    config_text,
    measured,
    number,
    register_table,
)

BOTH_COSTS = (CostRequest("ast_base"), CostRequest("mast_base"))
COST_COLUMNS = (
    Column("macs", "MACs, module-only", "G", 1),
    Column("macs_full", "MACs, full", "G", 1),
    Column("params", "#Params, paper's count", "M", 1),
    Column("params_exact", "#Params, exact", "M", 6),
)
COUNTING_NOTES = (
    "MACs of one clip, batch 1, 1 x 128 x 1024 (10.24 s), front end not included; 1 MAC = one multiply-add.",
    "module-only is the paper's rule: what ptflops 0.6.9 sees in Linear, Conv, LayerNorm and pooling modules. "
    "It misses the products of attention (Q.K and A.V) and of relative positions, which full includes.",
    "The paper's parameter count of AST includes DeiT's two unused 1000-way heads (1,538,000), as AST's code does.",
)


def cost_conditions(record: RunRecord) -> str:
    """What a cost cell was measured under, in one line."""
    mels, frames = record.experiment["input_size"]
    model = record.experiment["model"] + config_text(record.experiment["model_config"])
    return f"{model}, 1 x {mels} x {frames}, {record.experiment['num_classes']} classes, closed form"


def cost_cells(record: RunRecord | None, paper_macs: float | None, paper_params: float | None) -> dict[str, Cell]:
    """Cells of COST_COLUMNS."""
    if record is None:
        missing = "not measured in this process"
        return {
            "macs": Cell(paper_macs, None, "G", NOT_RUN, missing),
            "params": Cell(paper_params, None, "M", NOT_RUN, missing),
        }
    where, metrics = cost_conditions(record), record.metrics
    return {
        "macs": measured(number(metrics["macs_module_only"]) / GIGA, "G", f"{where}, module-only rule", paper_macs),
        "macs_full": measured(number(metrics["macs_full"]) / GIGA, "G", f"{where}, full rule"),
        "params": measured(number(metrics["parameters_paper"]) / MEGA, "M", f"{where}, paper's count", paper_params),
        "params_exact": measured(number(metrics["parameters"]) / MEGA, "M", f"{where}, exact"),
    }


COUNTED_COSTS = tuple(CostRequest(preset, with_libraries=True) for preset in PAPER_MODELS.values())


@register_table(
    "costs", "parameters and MACs itemised per kind and block, beside three libraries' counts", COUNTED_COSTS
)
def costs(inputs: TableInputs) -> Table:
    """Where the MACs are, and what each counting library sees of them."""
    records = {model: cost_of(inputs.records, preset) for model, preset in PAPER_MODELS.items()}
    columns = (*(Column(model, model.upper(), "G", 3) for model in PAPER_MODELS), Column("ratio", "AST : MAST", "x", 2))
    rules = {
        "module-only (the paper's)": "macs_module_only",
        "module-only, ptflops 0.7": "macs_ptflops_0_7",
        "full": "macs_full",
    }
    totals = {
        rule: {model: number(r.metrics[key]) / GIGA for model, r in records.items() if r} for rule, key in rules.items()
    }
    kinds, blocks, libraries = _itemise(records, 1), _itemise(records, 0), _library_counts(records)
    return Table(
        "costs",
        "MACs of one clip at 1 x 128 x 1024, by rule",
        columns,
        _cost_rows(totals, records),
        notes=COUNTING_NOTES,
        blocks=(
            Table("costs by kind", "The same by kind of operation", columns, _cost_rows(kinds, records)),
            Table("costs by block", "The same by block (full rule)", columns, _cost_rows(blocks, records)),
            Table(
                "costs by library",
                "What each library counts, attention unfused and fused",
                columns,
                _cost_rows(libraries, records),
                notes=("Fused attention (sdpa) hides its products from every library: ratios then follow the tool.",),
            ),
        ),
    )


def _itemise(records: Mapping[str, RunRecord | None], field_of_item: int) -> dict[str, dict[str, float]]:
    """GMACs of the full rule by block (0) or kind (1), then by model."""
    totals: dict[str, dict[str, float]] = {}
    for model, record in records.items():
        for item in record.details["items"] if record else ():
            if item[1] == "linear bias":  # belongs to the ptflops 0.7 rule alone
                continue
            row = totals.setdefault(item[field_of_item], {})
            row[model] = row.get(model, 0.0) + item[2] / GIGA
    # AST's head must come after MAST's last block.
    return {name: totals[name] for name in sorted(totals, key=lambda name: name == "head")}


def _library_counts(records: Mapping[str, RunRecord | None]) -> dict[str, dict[str, float]]:
    counts: dict[str, dict[str, float]] = {}
    for model, record in records.items():
        for name, macs in (record.details.get("libraries", {}) if record else {}).items():
            counts.setdefault(name, {})[model] = macs / GIGA
    return counts


def _cost_rows(values: Mapping[str, Mapping[str, float]], records: Mapping[str, RunRecord | None]) -> tuple[Row, ...]:
    rows = []
    for name, by_model in values.items():
        cells = {m: measured(v, "G", cost_conditions(r)) for m, v in by_model.items() if (r := records[m])}
        if by_model.get("ast") and by_model.get("mast"):
            cells["ratio"] = measured(by_model["ast"] / by_model["mast"], "x", "ratio of the two columns")
        rows.append(Row(name, name, cells))
    return tuple(rows)

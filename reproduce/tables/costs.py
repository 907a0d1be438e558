"""The target `costs`: MACs by rule, by kind, by block, and as three libraries count them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reproduce.experiments.families import PAPER_MODELS, ShownModel, ratios_of, shown_models
from reproduce.records.measured_runs import CostRun
from reproduce.records.runs import CLOSED_FORM
from reproduce.records.selection import cost_of
from reproduce.tables.base import GIGA, Column, CostRequest, Row, Table, TableInputs, measured, register_table
from reproduce.tables.cells import COUNTING_NOTES, counter_notes
from reproduce.tables.conditions import cost_conditions

COUNTED_COSTS = tuple(CostRequest(preset, with_libraries=True) for preset in PAPER_MODELS.values())

LIBRARY_NOTES = (
    "Fused attention (sdpa) hides Q.K and A.V from every library: ratios then depend on the library.",
    "ptflops' pytorch backend counts through module hooks and misses MAST's pooling convolutions, which share one "
    "kernel among heads through a function call.",
)


@register_table(
    "costs", "parameters and MACs itemised per kind and block, beside three libraries' counts", COUNTED_COSTS
)
def costs(inputs: TableInputs) -> Table:
    """MACs by rule, kind and block, and what each counting library counts of them."""
    return cost_table(inputs, tuple(PAPER_MODELS.values()))


def cost_table(inputs: TableInputs, models: Sequence[str]) -> Table:
    """The costs of any models, each divided by those of MAST, or of the first model where none is a MAST."""
    shown = shown_models(models)
    records = {model.key: cost_of(inputs.records, model.name) for model in shown}
    ratios = ratios_of(shown)
    columns = (
        *(Column(model.key, model.label, "G", 3) for model in shown),
        *(Column(key, f"{over.label} : {under.label}", "x", 2) for key, (over, under) in ratios.items()),
    )
    rules = {
        "module-only (the paper's)": "macs_module_only",
        "module-only, ptflops 0.7": "macs_ptflops_0_7",
        "full": "macs_full",
    }
    totals = {
        rule: {
            model: r.metric(key) / GIGA
            for model, r in records.items()
            if r and (r.macs_by == CLOSED_FORM or key != "macs_ptflops_0_7")
        }
        for rule, key in rules.items()
    }
    counted = tuple(record for record in records.values() if record is not None)
    kinds, per_block, libraries = _itemise(records, "kind"), _itemise(records, "block"), _library_counts(records)

    def rows_of(values: Mapping[str, Mapping[str, float]]) -> tuple[Row, ...]:
        return _cost_rows(values, records, ratios)

    blocks = (
        Table("costs by kind", "The same by kind of operation", columns, rows_of(kinds), runs=counted),
        Table("costs by block", "The same by block (full rule)", columns, rows_of(per_block), runs=counted),
        Table(
            "costs by library",
            "What each library counts, attention unfused and fused",
            columns,
            rows_of(libraries),
            notes=LIBRARY_NOTES,
            runs=counted,
        ),
    )
    notes = (*COUNTING_NOTES, *counter_notes(counted))
    title = "MACs of one clip at 1 x 128 x 1024, by rule"
    return Table("costs", title, columns, rows_of(totals), notes=notes, blocks=blocks, runs=counted)


def _itemise(records: Mapping[str, CostRun | None], by: str) -> dict[str, dict[str, float]]:
    """GMACs of the full rule by "block" or "kind", then by model."""
    totals: dict[str, dict[str, float]] = {}
    for model, record in records.items():
        for item in record.items if record else ():
            if item.kind == "linear bias":  # counted by the ptflops 0.7 rule alone
                continue
            row = totals.setdefault(getattr(item, by), {})
            row[model] = row.get(model, 0.0) + item.macs / GIGA
    # AST's head must come after MAST's last block.
    return {name: totals[name] for name in sorted(totals, key=lambda name: name == "head")}


def _library_counts(records: Mapping[str, CostRun | None]) -> dict[str, dict[str, float]]:
    counts: dict[str, dict[str, float]] = {}
    for model, record in records.items():
        for name, macs in (record.libraries if record else {}).items():
            counts.setdefault(name, {})[model] = macs / GIGA
    # torch first, the fused path last: records keep no order.
    return {name: counts[name] for name in sorted(counts, key=lambda n: (n.endswith("sdpa"), n[:5] != "torch", n))}


def _cost_rows(
    values: Mapping[str, Mapping[str, float]],
    records: Mapping[str, CostRun | None],
    ratios: Mapping[str, tuple[ShownModel, ShownModel]],
) -> tuple[Row, ...]:
    rows = []
    for name, by_model in values.items():
        cells = {m: measured(v, "G", cost_conditions(r)) for m, v in by_model.items() if (r := records[m])}
        for key, (over, under) in ratios.items():
            if by_model.get(over.key) and by_model.get(under.key):
                cells[key] = measured(by_model[over.key] / by_model[under.key], "x", "ratio of the two columns")
        rows.append(Row(name, name, cells))
    return tuple(rows)

"""Tables that need no training."""

from __future__ import annotations

import argparse
from pathlib import Path

from reproduce.cli.session import (
    show,
)
from reproduce.efficiency.costs import measure_cost
from reproduce.paper import load_paper
from reproduce.records.record import RunRecord, of_kind
from reproduce.records.selection import latest_by_key
from reproduce.records.store import append_record, as_stored, load_records
from reproduce.tables import Table, TableInputs, TableSpec, table_specs
from reproduce.tables.render import render

# What `all` prints, in the paper's order.
ALL_TABLES = (
    "table1",
    "table2",
    "table3",
    "table4",
    "table5",
    "table6",
    "ablations",
    "figure2",
    "scaling",
    "claims",
)


STORED_COSTS = ("costs", "ablations")


def run_table(options: argparse.Namespace) -> int:
    """A table of what is stored, its costs measured live."""
    show(render(build_table(table_specs()[options.command], options), options.format))
    return 0


def build_table(spec: TableSpec, options: argparse.Namespace) -> Table:
    # Costs are measured live: a stored one, perhaps of older code, must not stand for them.
    stored = [r for r in load_records(options.records) if not (spec.costs and r.kind == "cost")]
    live = [measure_cost(r.model, r.model_config, with_libraries=r.with_libraries) for r in spec.costs]
    if spec.name in STORED_COSTS:
        _store_new(live, options.records)
    return spec.build(TableInputs(load_paper(), [*stored, *live], options.records))


def _store_new(costs: list[RunRecord], folder: Path) -> None:
    """Append the costs that are not recorded yet. A count does not change from run to run, so it is stored once.

    The report is made from records alone, so what it shows must be there. A record that also has the libraries' counts
    serves where none were asked for.
    """
    stored = latest_by_key(of_kind(load_records(folder), "cost"))
    for record in costs:
        known = stored.get(record.key)
        if known is not None and known.metrics == record.metrics:
            counted = as_stored(record).details
            if counted == known.details or counted == {**known.details, "libraries": {}}:
                continue
        append_record(folder, record)

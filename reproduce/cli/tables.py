"""Print tables of stored runs with newly measured costs, and compare two stored runs."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

from reproduce.cli.progress import print_table
from reproduce.efficiency.costs import measure_cost
from reproduce.paper import load_paper
from reproduce.records.reading import read_runs
from reproduce.records.record import RunRecord
from reproduce.records.records import Records
from reproduce.records.runs import CostRun
from reproduce.records.store import append_record, as_stored, load_records
from reproduce.tables import Table, TableInputs, build, table_specs

# Tables whose costs are stored: the report reads only records.
STORED_COSTS = ("costs", "ablations")


def run_table(options: argparse.Namespace) -> int:
    """Print a table of stored runs, with newly measured costs."""
    print_table(build_table(options.target, options.records), options.format)
    return 0


def run_compare(options: argparse.Namespace) -> int:
    """Print a paired comparison of two stored runs."""
    from reproduce.tables.compare import compare

    table = compare(options.records, options.first, options.second, options.on_intersection)
    print_table(table, options.format)
    return 0


def build_table(name: str, folder: Path) -> Table:
    """Build the registered table `name` from the records under `folder`; see `table_inputs`."""
    return build(name, table_inputs([name], folder))


def table_inputs(names: Iterable[str], folder: Path) -> TableInputs:
    """Return the shared inputs of the tables `names`: the records under `folder`, and newly measured costs.

    A stored cost may be of older code and fills no cell.

    Raises:
        InputError: the records cannot be read or written.
    """
    stored = load_records(folder)
    live: dict[str, RunRecord] = {}
    for name in names:
        costs = [
            measure_cost(r.model, r.model_config, with_libraries=r.with_libraries) for r in table_specs()[name].costs
        ]
        if name in STORED_COSTS:
            _store_new(costs, stored, folder)
        live |= {cost.key: cost for cost in costs}
    others = [run for run in stored if not (live and isinstance(run, CostRun))]
    return TableInputs(load_paper(), Records((*others, *read_runs(live.values()))), folder)


def _store_new(costs: Sequence[RunRecord], stored: Records, folder: Path) -> None:
    """Append the costs without an equal record: repeated counts are equal.

    A record with counts by the libraries also equals a cost without them.
    """
    known = {run.key: run.record for run in stored.newest(CostRun)}
    for record in costs:
        old = known.get(record.key)
        if old is not None and old.metrics == record.metrics:
            details = as_stored(record).details
            if details in (old.details, {**old.details, "libraries": {}}):
                continue
        append_record(folder, record)

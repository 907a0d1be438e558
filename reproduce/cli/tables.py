"""Print tables of stored runs with the costs of today's models, and compare two stored runs."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

from reproduce.cli.progress import log, print_table
from reproduce.efficiency.cost_identity import cost_experiment, recorded_cost
from reproduce.paper import load_paper
from reproduce.records.records import Records
from reproduce.records.runs import CostRun
from reproduce.records.store import append_record, as_stored, load_records
from reproduce.tables import CostRequest, Table, TableInputs, build, table_specs

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
    """Return the shared inputs of the tables `names`: the records under `folder`, and the costs they need.

    Records of the very same models and code give the costs. Other costs may be of older code and fill no cell: they are
    measured again.

    Raises:
        InputError: the records cannot be read or written.
    """
    stored = load_records(folder)
    costs: dict[str, CostRun] = {}
    live: list[CostRun] = []
    kept: set[str] = set()
    for name in names:
        for request in table_specs()[name].costs:
            known = Records((*stored.of_kind(CostRun), *live))
            run = recorded_cost(known, cost_experiment(request.model, request.model_config), request.with_libraries)
            if run is None:
                run = _measure(request)
                live.append(run)
            costs[run.key] = run
            if name in STORED_COSTS:
                kept.add(run.key)
    for run in live:
        if run.key in kept:
            append_record(folder, run.record)
    _log_costs(costs.values(), live)
    others = [run for run in stored if not (costs and isinstance(run, CostRun))]
    return TableInputs(load_paper(), Records((*others, *costs.values())), folder)


def _measure(request: CostRequest) -> CostRun:
    from reproduce.efficiency.costs import measure_cost  # late: it imports torch

    record = measure_cost(request.model, request.model_config, with_libraries=request.with_libraries)
    (run,) = Records.of([as_stored(record)]).of_kind(CostRun)
    return run


def _log_costs(costs: Iterable[CostRun], live: Sequence[CostRun]) -> None:
    measured = {run.key for run in live}
    recorded = [run for run in costs if run.key not in measured]
    if recorded:
        log(f"costs: {len(recorded)} recorded by these very models, {max(run.day for run in recorded)}")
    if measured:
        what = f"costs: {len(measured)} measured live, no record is of these very models"
        log(f"{what} (`costs` and `ablations` record theirs)")

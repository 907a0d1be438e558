"""Print tables of stored runs with the costs of today's models, and compare two stored runs."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

from reproduce.cli.costs import CostBook
from reproduce.cli.progress import print_table
from reproduce.efficiency.cost_identity import cost_experiment
from reproduce.paper import load_paper
from reproduce.records.measured_runs import CostRun
from reproduce.records.naming import OWN_RECORDS_DIR, matching_runs, require_folder, scored_runs
from reproduce.records.records import Records
from reproduce.records.store import default_records, load_records
from reproduce.tables import CostRequest, Table, TableInputs, build, table_specs
from reproduce.tables.costs import cost_table

# Tables whose costs are stored: the report reads only records.
STORED_COSTS = ("costs", "ablations")


def run_table(options: argparse.Namespace) -> int:
    """Print a table of stored runs, with newly measured costs."""
    if options.target not in STORED_COSTS:
        require_folder(options.records)
    print_table(build_table(options.target, options.records), options.format)
    return 0


def run_costs(options: argparse.Namespace) -> int:
    """Print the costs of the paper's models, or of those that `--models` names."""
    if options.models is None:
        return run_table(options)
    models = [str(name.with_code()) for name in options.models]
    requests = [CostRequest(model, with_libraries=True) for model in models]
    print_table(cost_table(_with_costs(requests, requests, options.records), models), options.format)
    return 0


def run_speed(options: argparse.Namespace) -> int:
    """Print the measured speeds, or with `--against` their ratios to those in another folder."""
    if options.against is None:
        return run_table(options)
    from reproduce.tables.speed_against import speed_against

    folders = options.records, options.against
    for folder in folders:
        require_folder(folder)
    print_table(speed_against(load_records(folders[0]), load_records(folders[1]), folders), options.format)
    return 0


def run_compare(options: argparse.Namespace) -> int:
    """Print a paired comparison of two stored runs."""
    from reproduce.tables.compare import compare

    folder = options.records or _folder_of(options.first, options.second)
    require_folder(folder)
    table = compare(folder, options.first, options.second, options.on_intersection)
    print_table(table, options.format)
    return 0


def _folder_of(*names: str) -> Path:
    """The folder that has more of the names: the user's own records, or the project's."""

    def known(folder: Path) -> int:
        runs = scored_runs(load_records(folder))
        return sum(bool(matching_runs(runs, name)) for name in names)

    return max((OWN_RECORDS_DIR, default_records()), key=known) if OWN_RECORDS_DIR.is_dir() else default_records()


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
    requests = {name: table_specs()[name].costs for name in names}
    kept = [request for name in STORED_COSTS for request in requests.get(name, ())]
    return _with_costs([request for needed in requests.values() for request in needed], kept, folder)


def _with_costs(requests: Iterable[CostRequest], to_keep: Sequence[CostRequest], folder: Path) -> TableInputs:
    """The records under `folder` with the costs of `requests`; of those in `to_keep` new ones are stored."""
    stored = load_records(folder)
    book = CostBook(stored)
    kept: set[str] = set()
    for request in requests:
        run = book.cost(cost_experiment(request.model, request.model_config), request.with_libraries)
        if request in to_keep:
            kept.add(run.key)
    book.record(folder, kept)
    book.log()
    others = [run for run in stored if not (book.used and isinstance(run, CostRun))]
    return TableInputs(load_paper(), Records((*others, *book.used.values())), folder)

"""Run `python -m reproduce list`: print tables, data sets and presets, or the paper's recipes. No torch here."""

from __future__ import annotations

import argparse

from reproduce.cli.commands import STUDIES
from reproduce.cli.progress import print_result, print_table
from reproduce.datasets import dataset_spec, list_datasets
from reproduce.experiments.presets import PRESETS
from reproduce.experiments.targets import DEMOS, PAPER
from reproduce.tables import table_specs
from reproduce.tables.recipes import recipes_table


def run_list(options: argparse.Namespace) -> int:
    """Print the list, or with `--recipes` the table of recipes."""
    if options.recipes:
        print_table(recipes_table(), options.format)
    else:
        print_result(listing() + "\n")
    return 0


def listing() -> str:
    """Return tables, data sets and presets as text."""
    sections = {
        "Tables (python -m reproduce NAME)": {spec.name: spec.help for spec in table_specs().values()},
        "Data sets (--data NAME=PATH)": {name: dataset_spec(name).title for name in list_datasets()},
        f"Presets of {', '.join(STUDIES)} and train (--preset NAME)": {
            name: f"{', '.join(preset.models)}: {preset.why}" for name, preset in PRESETS.items()
        },
        "Presets of the paper's tables (--preset NAME)": {
            PAPER: "mast_base and ast_base by the paper's recipes, see `list --recipes`",
            **{name: f"{', '.join(demo.models.values())}: {demo.why}" for name, demo in DEMOS.items()},
        },
    }
    width = max(len(name) for entries in sections.values() for name in entries) + 2
    lines = []
    for title, entries in sections.items():
        lines += [title, *(f"  {name:<{width}}{text}" for name, text in entries.items()), ""]
    return "\n".join(lines[:-1])

"""Cells that any table may show of a measured time or memory, and the words for where it was measured."""

from __future__ import annotations

from reproduce.records import RunRecord, number
from reproduce.tables.base import NOT_RUN, Cell, measured

MIB = 2.0**20
SPREAD_NOTE = "± is half the distance between the quartiles, in per cent of the median."
MEMORY_NOTE = "Memory is what stays (weights, and in training AdamW's moments) and what a call adds to it at its peak."


def machine(record: RunRecord) -> str:
    """Device and, of a CPU, threads."""
    environment = record.environment
    if environment["device_type"] != "cpu":
        return str(environment["device"])
    threads = environment["torch_threads"]
    return f"{environment['device']}, {threads} thread{'s' if threads != 1 else ''}"


def spread_cell(record: RunRecord, metric: str) -> Cell:
    """Half the distance between the quartiles of a metric, in per cent of its median."""
    low, high = number(record.metrics[f"{metric}_q1"]), number(record.metrics[f"{metric}_q3"])
    middle = number(record.metrics[metric])
    return measured(50.0 * (high - low) / middle, "%", f"quartiles {low:.4g} and {high:.4g} around {middle:.4g}")


def memory_cell(record: RunRecord, where: str) -> Cell:
    """Peak memory in MiB."""
    memory = record.metrics["peak_memory_bytes"]
    if memory is None:
        return Cell(None, None, "MiB", NOT_RUN, "not run: this system does not tell a process's peak memory")
    return measured(memory / MIB, "MiB", where)


def failed_cell(record: RunRecord, unit: str, where: str) -> Cell:
    """For a measurement that broke off, by name: "not run: out of memory: ast_base, ..."."""
    return Cell(None, None, unit, NOT_RUN, f"not run: {record.details['failure']}: {where}")

"""The speed table: contests as blocks, ratios beside MACs, and what is absent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reproduce.paper import load_paper
from reproduce.records.record import RunRecord
from reproduce.records.records import Records
from reproduce.records.store import as_stored
from reproduce.tables import Cell, Table, TableInputs, table_specs
from reproduce.tables.render import render

ENVIRONMENT = {
    "device": "invented CPU",
    "device_type": "cpu",
    "torch_threads": 2,
    "precision": "float32",
    "attention": "sdpa",
}


def make_speed_record(
    contender: str, contenders: tuple[str, ...], ms: float = 100.0, ratio: float = 1.0, **conditions: Any
) -> RunRecord:
    """An invented measurement of one contender; 1 GiB, quartiles 5 % around the median."""
    experiment = {
        "bench": "models",
        "contender": contender,
        "contenders": list(contenders),
        "device": "cpu",
        "precision": "float32",
        "mode": "inference",
        "preset": "base",
        "batch": 1,
        "compile": False,
        "input_size": [128, 1024],
        **conditions,
    }
    record = RunRecord(
        kind="speed",
        key=f"{contender} {experiment}",
        experiment=experiment,
        scale="paper",
        metrics={
            "latency_s": experiment["batch"] * ms / 1e3,
            "latency_s_q1": 0.95 * experiment["batch"] * ms / 1e3,
            "latency_s_q3": 1.05 * experiment["batch"] * ms / 1e3,
            "clips_per_s": 1e3 / ms,
            "peak_memory_bytes": 2**30,
            "time_ratio": ratio,
            "time_ratio_q1": ratio,
            "time_ratio_q3": ratio,
            "rounds": 5,
        },
        environment=ENVIRONMENT,
        details={"failure": None, "samples_s": []},
        created="2026-01-01T00:00:00+00:00",
    )
    return as_stored(record)  # the file sorts the conditions by name


def make_contest(ratio: float = 3.0, **conditions: Any) -> list[RunRecord]:
    """AST and MAST, with MACs of 4 : 1."""
    names = ("mast_base", "ast_base")
    mast = make_speed_record("mast_base", names, 100.0, **conditions)
    ast = make_speed_record("ast_base", names, 100.0 * ratio, ratio, **conditions)
    macs = {"macs_module_only": 25e9, "macs_full": 30e9}
    return [
        replace(mast, metrics={**mast.metrics, **macs}),
        replace(ast, metrics={**ast.metrics, **{name: 4 * value for name, value in macs.items()}}),
    ]


def build(*records: RunRecord) -> Table:
    return table_specs()["speed"].build(TableInputs(load_paper(), Records.of(records), Path("no-records")))


def row(table: Table, label: str) -> dict[str, Cell]:
    return dict(next(r.cells for r in table.rows if r.label.strip() == label))


def test_without_records_every_case_is_not_run_and_the_command_is_named() -> None:
    (block,) = build().blocks
    assert [r.label for r in block.rows][:2] == ["inference, base, batch 1", "inference, base, batch 4"]
    cells = [cell for r in block.rows for cell in r.cells.values()]
    assert {cell.status for cell in cells} == {"not run"}
    assert all(cell.conditions.startswith("not run: pytest bench/ --benchmark-only") for cell in cells)
    assert "not run: pytest bench/ --benchmark-only" in render(build(), "terminal")


def test_the_measured_ratio_is_beside_that_of_the_macs() -> None:
    (block,) = build(*make_contest(3.0)).blocks
    assert [r.label.strip() for r in block.rows[:3]] == [
        "inference, base, batch 1: ast_base",
        "inference, base, batch 1: mast_base",
        "ast_base : mast_base",
    ]
    ratio = row(block, "ast_base : mast_base")
    assert (ratio["ms"].measured, ratio["macs"].measured, ratio["macs_full"].measured) == (3.0, 4.0, 4.0)
    assert ratio["peak"].measured == 1.0
    assert "clips_per_s" not in ratio


def test_a_row_holds_time_throughput_spread_and_memory_of_a_clip() -> None:
    (block,) = build(*make_contest(3.0, batch=4)).blocks
    cells = row(block, "inference, base, batch 4: ast_base")
    assert cells["ms"].measured == pytest.approx(300.0)
    assert cells["clips_per_s"].measured == pytest.approx(1 / 0.3)
    assert cells["spread"].measured == pytest.approx(5.0)
    assert cells["peak"].measured == 1024.0
    assert "attention sdpa" in cells["ms"].conditions and "invented CPU, 2 threads" in cells["ms"].conditions


def test_what_is_recorded_is_no_longer_not_run() -> None:
    (block,) = build(*make_contest(mode="training", batch=4)).blocks
    missing = {r.label for r in block.rows if r.cells["ms"].status == "not run"}
    assert "training, base, batch 4" not in missing
    assert {"training, small, batch 2", "inference, base, batch 1"} <= missing


def test_what_is_expected_is_what_a_default_run_measures() -> None:
    from bench.conftest import BATCHES, PRESETS, SMALLER_BATCH
    from reproduce.tables.speed import EXPECTED

    *smaller, largest = PRESETS.split(",")
    default = [(mode, largest, batch) for mode, batches in BATCHES.items() for batch in batches]
    default += [(mode, preset, SMALLER_BATCH) for mode in BATCHES for preset in smaller]
    assert sorted(tuple(case.values()) for case in EXPECTED) == sorted(default)


def test_larger_models_and_smaller_batches_come_first_and_other_conditions_are_named() -> None:
    contests = [
        *make_contest(batch=4),
        *make_contest(preset="tiny"),
        *make_contest(precision="bfloat16", compile=True),
        *make_contest(),
    ]
    (block,) = build(*contests).blocks
    assert [r.label for r in block.rows if r.label.endswith(": ast_base")] == [
        "inference, base, batch 1: ast_base",
        "inference, base, batch 1, bfloat16, compiled: ast_base",
        "inference, base, batch 4: ast_base",
        "inference, tiny, batch 1: ast_base",
    ]


def test_a_machine_has_its_own_blocks_and_a_peer_its_own_ratio() -> None:
    gpu = [
        replace(record, key=record.key + "gpu", environment={**ENVIRONMENT, "device": "a GPU", "device_type": "cuda"})
        for record in make_contest(6.0)
    ]
    names = ("ast_base", "transformers AST")
    peers = [
        make_speed_record("ast_base", names, bench="peer: transformers"),
        make_speed_record("transformers AST", names, 130.0, 1.3, bench="peer: transformers"),
    ]
    table = build(*make_contest(), *gpu, *peers)
    assert [block.title.partition(":")[0] for block in table.blocks] == ["a GPU", *["invented CPU, 2 threads"] * 2]
    assert row(table.blocks[0], "ast_base : mast_base")["ms"].measured == 6.0
    assert row(table.blocks[2], "transformers AST : ast_base")["ms"].measured == 1.3


def test_a_contender_that_ran_out_of_memory_is_named_and_gives_no_ratio() -> None:
    mast, ast = make_contest()
    empty: dict[str, Any] = {name: None for name in ast.metrics if not name.startswith(("macs", "rounds"))}
    lost = replace(ast, metrics={**ast.metrics, **empty}, details={"failure": "out of memory", "samples_s": []})
    (block,) = build(mast, lost).blocks
    cell = row(block, "inference, base, batch 1: ast_base")["ms"]
    assert cell.status == "not run" and cell.conditions.startswith("not run: out of memory: ast_base")
    assert "ms" not in row(block, "ast_base : mast_base")


def test_recordings_are_shown_in_multiples_of_real_time() -> None:
    record = make_speed_record("loop", ("loop",), 10.0, bench="input pipeline", seconds=5, source="ESC-10")
    block = next(block for block in build(record).blocks if block.title.endswith("ogg files to log-mels"))
    assert block.rows[0].cells["real_time"].measured == pytest.approx(500.0)

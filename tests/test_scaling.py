"""Cost against clip length: what is measured when, what a record and the table say, and the figure's bytes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from make_meters import make_meters

from models import create_model
from models.complexity import measure_complexity
from reproduce.efficiency.interleaved import Candidate
from reproduce.efficiency.memory import OUT_OF_MEMORY
from reproduce.efficiency.scaling import DEBUG_MODELS, Sweep, frames_of, measure_scaling
from reproduce.efficiency.stopping import Budget
from reproduce.experiments.families import LENGTHS_S
from reproduce.figures.scaling import write_scaling_figure
from reproduce.paper import load_paper
from reproduce.records.measured_runs import ScalingRun
from reproduce.records.record import RunRecord
from reproduce.records.records import Records
from reproduce.records.store import load_records
from reproduce.tables import Cell, Table, TableInputs, table_specs

ENVIRONMENT = {
    "device": "invented CPU",
    "device_type": "cpu",
    "torch_threads": 2,
    "precision": "float32",
    "attention": "sdpa",
}


def sweep(*lengths: float, busy: bool = False, **changes: Any) -> Sweep:
    """Two rounds of the debug models, 0.5 s clips unless given."""
    meters = make_meters(busy=busy)
    two = Budget(least=2, most=2)
    return Sweep(device="cpu", lengths=lengths or (0.5,), models=DEBUG_MODELS, budget=two, meters=meters, **changes)


def read(records: Iterable[RunRecord]) -> list[ScalingRun]:
    return list(Records.of(records).of_kind(ScalingRun))


def make_scaling_record(
    model: str = "mast_base", seconds: float = 10.0, ms: float = 100.0, ratio: float = 1.0, mib: float | None = 512.0
) -> RunRecord:
    """An invented measurement; quartiles 10 % around the median."""
    gmacs = 10 * seconds * (4 if model.startswith("ast") else 1)
    return RunRecord(
        kind="scaling",
        key=f"{model} {seconds}",
        experiment={
            "model": model,
            "seconds": seconds,
            "input_size": [128, round(100 * seconds)],
            "batch": 1,
            "mode": "inference",
        },
        scale="paper" if model.endswith("base") else "demo",
        metrics={
            "macs_module_only": gmacs * 1e9,
            "macs_full": 1.25 * gmacs * 1e9,
            "latency_s": ms / 1e3,
            "latency_s_q1": 0.9 * ms / 1e3,
            "latency_s_q3": 1.1 * ms / 1e3,
            "peak_memory_bytes": None if mib is None else mib * 2**20,
            "time_ratio": ratio,
            "time_ratio_q1": 0.98 * ratio,
            "time_ratio_q3": 1.02 * ratio,
            "rounds": 5,
        },
        environment=ENVIRONMENT,
        details={"failure": None, "samples_s": [], "reference": f"mast_{model.partition('_')[2]}"},
        created="2026-01-01T00:00:00+00:00",
    )


def make_pair(seconds: float, ratio: float) -> list[RunRecord]:
    return [
        make_scaling_record("ast_base", seconds, 100.0 * ratio, ratio, 1024.0),
        make_scaling_record("mast_base", seconds, 100.0),
    ]


def build(*records: RunRecord) -> Table:
    return table_specs()["scaling"].build(TableInputs(load_paper(), Records.of(records), Path("no-records")))


def cell(table: Table, row: str, column: str) -> Cell:
    return next(r for r in table.rows if r.key == row).cells[column]


# --- measuring ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "frames"), [(1, 100), (10.24, 1024), (60, 6000), (0.333, 34)])
def test_frames_are_clip_lengths_at_a_hop_of_10_ms_rounded_up(seconds: float, frames: int) -> None:
    assert frames_of(seconds) == frames


def test_every_length_is_accepted_by_both_papers_models() -> None:
    with torch.device("meta"):
        for seconds in LENGTHS_S:
            for name in ("ast_base", "mast_base"):
                assert create_model(name, input_size=(128, frames_of(seconds))).config.input_size[1] >= 100 * seconds


def test_what_has_no_record_is_measured_and_nothing_else(tmp_path: Path) -> None:
    steps: list[tuple[int, int, str]] = []
    first = measure_scaling(tmp_path, sweep(0.5))
    both = measure_scaling(tmp_path, sweep(1.0, 0.5), "missing", lambda *step: steps.append(step))
    assert both[:2] == first
    assert steps == [(0, 1, "1 s clips"), (1, 1, "done")]
    assert [(r.seconds, r.model) for r in both] == [
        (seconds, model) for seconds in (0.5, 1.0) for model in DEBUG_MODELS
    ]
    assert [record.key for record in load_records(tmp_path)] == [record.key for record in both]
    assert measure_scaling(tmp_path, sweep(0.5, 1.0), "none") == both


def test_a_record_of_a_busy_machine_is_marked_and_measured_again(tmp_path: Path) -> None:
    busy = measure_scaling(tmp_path, sweep(busy=True))
    assert [record.environment.busy for record in busy] == [True, True]
    assert measure_scaling(tmp_path, sweep(), "none") == []
    again = measure_scaling(tmp_path, sweep())
    assert [record.environment.busy for record in again] == [False, False]
    assert [record.key for record in again] == [record.key for record in busy]


def test_run_all_measures_again_and_appends(tmp_path: Path) -> None:
    first, again = (measure_scaling(tmp_path, sweep(), "all") for _ in range(2))
    assert list(load_records(tmp_path)) == [*first, *again]


def test_a_record_holds_macs_quartiles_every_sample_and_the_attention_path(tmp_path: Path) -> None:
    ast, mast = measure_scaling(tmp_path, sweep())
    for record in (ast, mast):
        model = create_model(record.model, input_size=(128, 50))
        metrics = record.metrics
        assert metrics["macs_module_only"] == measure_complexity(model).macs_module_only
        assert metrics["macs_full"] == measure_complexity(model).macs_full
        assert len(record.record.details["samples_s"]) == metrics["rounds"] == 2
        assert (
            min(record.record.details["samples_s"]) <= metrics["latency_s"] <= max(record.record.details["samples_s"])
        )
        assert record.environment.attention == model.attention
        assert record.input_size == (128, 50)
    pairs = zip(ast.record.details["samples_s"], mast.record.details["samples_s"], strict=True)
    assert ast.metrics["time_ratio"] == pytest.approx(sum(a / m for a, m in pairs) / 2)  # the median of two


def test_a_length_that_does_not_fit_is_recorded_as_out_of_memory(tmp_path: Path) -> None:
    def exhausting(name: str, seconds: float, device: str) -> Candidate:
        bytes_wanted = 2**52 if name.startswith("ast") else 1
        return Candidate(name, lambda: torch.empty(bytes_wanted, dtype=torch.uint8), attention="sdpa")

    ast, mast = measure_scaling(tmp_path, sweep(make_candidate=exhausting))
    assert ast.failure == OUT_OF_MEMORY and math.isnan(ast.metrics["latency_s"])
    assert mast.failure is None
    table = build(ast.record, mast.record).blocks[0]
    assert cell(table, "0.5s", "ast_ms").status == "not run"
    assert cell(table, "0.5s", "ast_ms").conditions.startswith("not run: out of memory: ast_debug")
    assert cell(table, "0.5s", "mast_ms").status == "measured"
    assert "ratio_ms" not in table.rows[0].cells


# --- the table ------------------------------------------------------------------------------------------------------


def test_without_records_every_length_is_not_run_and_the_command_is_named() -> None:
    table = build()
    assert [row.key for row in table.rows] == ["1s", "2s", "5s", "10s", "10.24s", "20s", "30s", "60s"]
    cells = [cell for row in table.rows for cell in row.cells.values()]
    assert {(c.status, c.measured) for c in cells} == {("not run", None)}
    assert all("python -m reproduce scaling" in c.conditions for c in cells)


def test_macs_are_shown_by_both_rules_with_their_ratio() -> None:
    table = build(*make_pair(10.0, 3.0))
    assert cell(table, "10s", "ast_module_only").measured == 400.0
    assert cell(table, "10s", "mast_full").measured == 125.0
    assert cell(table, "10s", "ratio_full").measured == 4.0


def test_a_machine_has_its_own_block_with_time_spread_and_memory() -> None:
    elsewhere = [
        replace(record, key=record.key + "gpu", environment={**ENVIRONMENT, "device": "a GPU", "device_type": "cuda"})
        for record in make_pair(10.0, 6.0)
    ]
    table = build(*make_pair(10.0, 3.0), *elsewhere)
    gpu, cpu = table.blocks
    assert "a GPU, float32" in gpu.title and "invented CPU, 2 threads, float32" in cpu.title
    assert cell(gpu, "10s", "ratio_ms").measured == 6.0
    assert cell(cpu, "10s", "ast_ms").measured == pytest.approx(300.0)
    assert cell(cpu, "10s", "ast_spread").measured == pytest.approx(10.0)
    assert cell(cpu, "10s", "ratio_spread").measured == pytest.approx(2.0)
    assert (cell(cpu, "10s", "ast_mib").measured, cell(cpu, "10s", "ratio_mib").measured) == (1024.0, 2.0)


def test_memory_that_the_system_does_not_report_is_not_run() -> None:
    table = build(make_scaling_record(mib=None)).blocks[0]
    assert cell(table, "10s", "mast_mib").status == "not run"
    assert cell(table, "10s", "mast_ms").status == "measured"


@pytest.mark.parametrize(
    ("ratios", "said"),
    [
        ((2.0, 3.0, 4.0), "MAST is faster at every length, and the factor grows: 2.00 at 1 s, 4.00 at 30 s."),
        ((2.0, 4.0, 3.0), "it falls at 30 s"),
        ((0.5, 2.0, 3.0), "MAST is slower than AST at 1 s"),
    ],
)
def test_the_note_names_the_lengths_at_which_mast_is_slower_or_gains_less(ratios: tuple[float, ...], said: str) -> None:
    records = [r for seconds, ratio in zip((1.0, 10.0, 30.0), ratios, strict=True) for r in make_pair(seconds, ratio)]
    assert any(said in note for note in build(*records).blocks[0].notes)


def test_a_note_gives_the_share_of_attentions_products_in_the_macs() -> None:
    """Module-only 400 to 100, products 100 to 25 at 10 s: shares of a fifth and ratios of four in both."""
    note = next(note for note in build(*make_pair(10.0, 3.0)).notes if "products inside attention" in note)
    assert "20 % of AST's full MACs and 20 % of MAST's" in note
    assert "4.00 times in its modules, but 4.00 times in these" in note


def test_demo_models_are_labelled_and_fill_no_cell_of_the_papers() -> None:
    table = build(make_scaling_record("ast_debug"), make_scaling_record("mast_debug"))
    assert {c.status for row in table.rows for c in row.cells.values()} == {"not run"}
    assert table.blocks[0].title.startswith("demo scale: ast_debug and mast_debug")


# --- the figure -----------------------------------------------------------------------------------------------------


def test_the_same_records_give_the_same_figure_byte_for_byte(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    records = [r for seconds in (1.0, 10.0, 10.24, 30.0) for r in make_pair(seconds, 2.0 + seconds / 10)]
    first = write_scaling_figure(read(records), tmp_path / "a")
    second = write_scaling_figure(read(records), tmp_path / "b")
    assert [path.name for path in first] == ["scaling.png", "scaling.svg"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["scaling.png", "scaling.svg"]
    slower = [replace(record, metrics={**record.metrics, "latency_s": 0.5}) for record in records]
    other = write_scaling_figure(read(slower), tmp_path / "c")
    assert other[1].read_bytes() != first[1].read_bytes()


def test_a_length_without_a_latency_leaves_the_rest_of_the_figure(tmp_path: Path) -> None:
    whole, lost = make_pair(10.0, 3.0), make_scaling_record("ast_base", 60.0)
    empty = dict.fromkeys(("latency_s", "latency_s_q1", "latency_s_q3", "peak_memory_bytes", "time_ratio"))
    lost = replace(lost, metrics={**lost.metrics, **empty})
    assert len(write_scaling_figure(read([*whole, lost, make_scaling_record(seconds=60.0)]), tmp_path)) == 2
    assert write_scaling_figure(read([lost]), tmp_path / "none") == []


def test_plots_draw_what_the_records_hold() -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    from reproduce.figures.scaling import plot_scaling, plot_scaling_ratio

    records = [r for seconds in (1.0, 10.0) for r in make_pair(seconds, 3.0)]
    figure, (left, right) = pyplot.subplots(1, 2)
    assert plot_scaling(left, read(records)) is left and plot_scaling_ratio(right, read(records)) is right
    drawn = {line.get_label(): list(line.get_ydata()) for line in left.get_lines()}
    assert drawn == {"AST, time": pytest.approx([300.0, 300.0]), "MAST, time": pytest.approx([100.0, 100.0])}
    ratios = {line.get_label(): list(line.get_ydata()) for line in right.get_lines()}
    assert ratios["time, measured"] == pytest.approx([3.0, 3.0])
    assert ratios["MACs, full"] == pytest.approx([4.0, 4.0])
    assert ratios["peak memory, measured"] == pytest.approx([2.0, 2.0])
    pyplot.close(figure)

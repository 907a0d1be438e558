"""Tables from records: what fills a cell, what leaves it "not run", and what the notes say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from make_records import make_cost_record, make_paper_record, make_record

from reproduce.intervals import wilson_interval
from reproduce.paper import load_paper
from reproduce.predictions import StoredPredictions, save_predictions
from reproduce.records import RunRecord, append_record, load_records
from reproduce.render import FORMATS, reasons, render
from reproduce.tables import Cell, Table, TableInputs, measured, register_table, table_specs

BOTH_COSTS = (
    make_cost_record("ast_base", macs=100e9, parameters=80_000_000),
    make_cost_record("mast_base", macs=25e9, parameters=50_000_000),
)


def build(name: str, *records: RunRecord, folder: Path = Path("no-records")) -> Table:
    return table_specs()[name].build(TableInputs(load_paper(), records, folder))


def cell(table: Table, row: str, column: str) -> Cell:
    (found,) = (r.cells[column] for r in table.rows if r.key == row)
    return found


def note_with(table: Table, text: str) -> str:
    (found,) = (note for note in table.notes if text in note)
    return found


# --- Table 5 --------------------------------------------------------------------------------------------------------


def test_a_paper_scale_record_fills_its_cell_and_no_other() -> None:
    table = build("table5", *BOTH_COSTS, make_paper_record("mast_base", "balanced", 30.5))
    filled = cell(table, "mast", "balanced")
    assert (filled.paper, filled.measured, filled.unit, filled.status) == (31.4, 30.5, "%", "measured")
    assert "10 of 10 test clips" in filled.conditions and "invented CPU" in filled.conditions
    for row, column in (("mast", "full"), ("ast_our_as", "balanced"), ("ast_our_as", "full")):
        assert cell(table, row, column).status == "not run"


def test_the_newest_paper_scale_record_fills_the_cell() -> None:
    runs = [make_paper_record(mean_ap=ap, created=f"2026-0{month}-01") for ap, month in ((1.0, 1), (3.0, 3), (2.0, 2))]
    assert cell(build("table5", *BOTH_COSTS, *runs), "mast", "balanced").measured == 3.0


def test_a_demo_scale_record_never_fills_a_paper_cell() -> None:
    demo = replace(make_paper_record(), scale="demo")
    assert build("table5", *BOTH_COSTS, demo) == build("table5", *BOTH_COSTS)


def test_a_run_on_other_data_or_of_a_variant_never_fills_a_paper_cell() -> None:
    others = [
        replace(make_paper_record(), dataset={"name": "vggsound", "protocol": "balanced"}),
        make_paper_record(protocol="unbalanced"),
        make_paper_record(model_config={"pool_strides": [[2, 2], [2, 2], [2, 2]]}),
        make_paper_record(model="mast_tiny"),
    ]
    assert build("table5", *BOTH_COSTS, *others) == build("table5", *BOTH_COSTS)


def test_a_removed_record_leaves_the_cell_not_run_with_the_reason(tmp_path: Path) -> None:
    path = append_record(tmp_path, make_paper_record("mast_base", "full", 38.0))
    inputs = [*load_records(tmp_path), *BOTH_COSTS]
    assert cell(build("table5", *inputs, folder=tmp_path), "mast", "full").measured == 38.0
    path.unlink()
    table = build("table5", *load_records(tmp_path), *BOTH_COSTS, folder=tmp_path)
    emptied = cell(table, "mast", "full")
    assert (emptied.paper, emptied.measured, emptied.status) == (39.0, None, "not run")
    assert emptied.conditions in reasons(table)
    for part in ("mast_base", "audioset", "full", str(tmp_path)):
        assert part in emptied.conditions


def test_a_quoted_result_is_never_ours_to_measure() -> None:
    runs = [make_paper_record("ast_base", protocol) for protocol in ("balanced", "full")]
    table = build("table5", *BOTH_COSTS, *runs)
    for row in ("baseline", "panns", "psla", "ast_published", "mbt"):
        cells = next(r.cells for r in table.rows if r.key == row).values()
        assert {(c.status, c.measured) for c in cells} == {("paper only", None)}
    assert cell(table, "ast_our_as", "full").status == "measured"


def test_costs_stand_in_their_units_beside_the_papers() -> None:
    table = build("table5", *BOTH_COSTS)
    assert cell(table, "ast_our_as", "macs") == measured(
        100.0, "G", "ast_base, 1 x 128 x 1024, 527 classes, closed form, module-only rule", 103.4
    )
    assert cell(table, "ast_our_as", "macs_full").measured == 200.0
    assert (cell(table, "mast", "params").measured, cell(table, "mast", "params").paper) == (51.0, 51.3)
    assert cell(table, "mast", "params_exact").measured == 50.0


def test_the_ratio_row_divides_ours_by_ours_and_the_papers_by_the_papers() -> None:
    table = build("table5", *BOTH_COSTS)
    ratio = cell(table, "ratio", "macs")
    assert (ratio.measured, ratio.paper, ratio.unit) == (4.0, pytest.approx(103.4 / 25.6), "x")
    exact = cell(table, "ratio", "params_exact")
    assert (exact.measured, exact.paper) == (1.6, None)


def test_a_cost_that_was_not_measured_is_not_run_and_gives_no_ratio() -> None:
    table = build("table5", BOTH_COSTS[0])
    assert cell(table, "mast", "macs").status == "not run"
    assert not next(row.cells for row in table.rows if row.key == "ratio")


# --- Table 1 and the ablations --------------------------------------------------------------------------------------


def test_blocks_of_one_row_of_table_1_that_differ_are_an_error() -> None:
    uneven = [["patch embedding", 7, 1, 7, 16, 0], ["block 0", 7, 1, 7, 16, 0], ["block 1", 6, 1, 6, 16, 0]]
    with pytest.raises(ValueError, match="one row of Table 1"):
        build("table1", make_cost_record("ast_base", details={"shapes": uneven}))


def test_table_1_without_costs_is_not_run() -> None:
    cells = [cell for row in build("table1").rows for cell in row.cells.values()]
    assert {cell.status for cell in cells} == {"not run"}
    assert all(cell.paper is not None for cell in cells)


def test_an_ablation_takes_only_runs_of_its_own_pooling() -> None:
    run = make_paper_record("mast_base", "balanced", 28.5, model_config={"pool_strides": [[2, 2], [2, 2], [2, 2]]})
    table = build("ablations", run)
    assert cell(table, "2d_at_21", "map").measured == 28.5
    assert [r.key for r in table.rows if r.cells["map"].status == "measured"] == ["2d_at_21"]


def test_an_ablation_dearer_than_ast_carries_a_warning() -> None:
    dear = make_cost_record("mast_base", {"pool_strides": [[1, 1]] * 3}, macs=400e9)
    table = build("ablations", make_cost_record("ast_base", macs=100e9), dear)
    assert '"no pooling" costs 4.00 times' in note_with(table, "Warning")


# --- cross-validated comparisons ------------------------------------------------------------------------------------

CLIPS = ("a", "b", "c", "d", "e", "f")


def with_predictions(record: RunRecord, folder: Path, right: str, clips: tuple[str, ...] = CLIPS) -> RunRecord:
    """`record` with stored logits that are right on the clips named in `right`; the true class is always 1 of 4."""
    predicted = [1 if clip in right else 3 for clip in clips]
    stored = StoredPredictions(
        np.array(clips),
        {"label": np.eye(4, dtype=np.float32)[predicted]},
        {"label": np.eye(4)[[1] * len(clips)]},
        np.zeros((len(clips), 2), np.float32),
    )
    save_predictions(folder, record.key, stored)
    return replace(record, predictions=f"predictions/{record.key}.npz")


def test_both_models_of_a_comparison_stand_under_each_other_with_their_ratio() -> None:
    ours = make_record("mast_debug", correct=8)
    ours = replace(ours, metrics={**ours.metrics, "macs_full": 1_000_000_000})
    table = build("esc50", make_record("ast_debug", correct=5), ours)
    assert [row.key for row in table.rows] == ["ast_debug", "mast_debug", "ratio"]
    top1 = cell(table, "mast_debug", "top1")
    assert (top1.paper, top1.measured, top1.n, top1.ci) == (None, 80.0, 10, wilson_interval(8, 10))
    assert cell(table, "ratio", "macs_full").measured == 4.0
    assert cell(table, "ratio", "params").measured == 1.0
    assert "top1" not in next(row.cells for row in table.rows if row.key == "ratio")
    assert "Chance is 25.0 %" in note_with(table, "Wilson")
    assert note_with(table, "Tested on") == "Tested on 1, trained on 2, 3, 4, 5 without the tested one."
    assert "1 of 5 folds tested" in table.title


def test_seeds_do_not_narrow_the_interval() -> None:
    one = cell(build("esc50", make_record(correct=8)), "ast_debug", "top1")
    three = cell(build("esc50", *(make_record(correct=8, seed=s) for s in range(3))), "ast_debug", "top1")
    assert (three.ci, three.n) == (one.ci, one.n)
    assert "seeds 0,1,2" in three.conditions


def test_runs_under_different_protocols_come_in_blocks_of_their_own() -> None:
    table = build("esc50", make_record(), make_record("mast_debug", experiment={"weights": "deit"}))
    assert not table.rows
    assert [[row.key for row in block.rows] for block in table.blocks] == [["ast_debug"], ["mast_debug"]]
    assert len({block.name for block in table.blocks}) == 2


def test_nothing_recorded_says_not_run() -> None:
    table = build("esc50", make_paper_record())
    assert table.notes == ("not run: no record on esc50 under no-records",)
    assert all("not run" in render(table, format) for format in FORMATS if format != "csv")


def test_the_paired_test_counts_the_clips_on_which_just_one_model_is_right(tmp_path: Path) -> None:
    ast = with_predictions(make_record("ast_debug"), tmp_path, right="ab")
    mast = with_predictions(make_record("mast_debug"), tmp_path, right="bcdef")
    note = note_with(build("esc50", ast, mast, folder=tmp_path), "McNemar")
    assert "Paired on the same 6 test clips (seed 0)" in note
    assert "only ast_debug is right on 1, only mast_debug on 4" in note
    assert "p = 0.375" in note  # 2 * (1 + 5) / 2**5


def test_the_paired_test_leaves_out_clips_that_only_one_model_saw(tmp_path: Path) -> None:
    ast = with_predictions(make_record("ast_debug"), tmp_path, right="", clips=("a", "b", "z"))
    mast = with_predictions(make_record("mast_debug"), tmp_path, right="ab")
    note = note_with(build("esc50", ast, mast, folder=tmp_path), "McNemar")
    assert "Paired on the same 2 test clips (seed 0)" in note and "only mast_debug on 2" in note


@pytest.mark.parametrize("lost", ["the file", "the name"])
def test_without_stored_predictions_the_paired_test_is_not_run(tmp_path: Path, lost: str) -> None:
    ast = with_predictions(make_record("ast_debug"), tmp_path, right="ab")
    mast = with_predictions(make_record("mast_debug"), tmp_path, right="abc")
    if lost == "the file":
        (tmp_path / str(mast.predictions)).unlink()
    else:
        mast = replace(mast, predictions=None)
    table = build("esc50", ast, mast, folder=tmp_path)
    assert not any("McNemar" in note for note in table.notes)
    assert mast.key in note_with(table, "Paired test not run")


def test_models_without_a_common_fold_are_not_paired(tmp_path: Path) -> None:
    ast = with_predictions(make_record("ast_debug", fold="1"), tmp_path, right="ab")
    mast = with_predictions(make_record("mast_debug", fold="2"), tmp_path, right="abc")
    assert not any("Paired" in note for note in build("esc50", ast, mast, folder=tmp_path).notes)


def test_bad_clips_are_named_once_and_apart_from_warnings() -> None:
    problems = [["x", "truncated", True, "x.wav: cut"], ["y", "silent", False, "y.wav: silent"]]
    data = {"problems": problems, "test_listed": 11}
    table = build("esc50", make_record(dataset=data), make_record("mast_debug", dataset=data))
    assert note_with(table, "Not used") == "Not used, clips or rows: 1: x (truncated)."
    assert note_with(table, "Used with a warning") == "Used with a warning, clips or rows: 1: y (silent)."
    assert "10 of 11 test clips" in cell(table, "ast_debug", "top1").conditions


def test_many_bad_clips_are_counted_and_the_first_ten_named() -> None:
    problems = [[f"clip{n:02}", "missing", True, "gone"] for n in range(12)]
    note = note_with(build("esc50", make_record(dataset={"problems": problems})), "Not used")
    assert note.startswith("Not used, clips or rows: 12: clip00 (missing)")
    assert "clip09" in note and "clip10" not in note and "and 2 more" in note


def test_a_target_registered_twice_is_an_error() -> None:
    with pytest.raises(ValueError, match="registered twice"):
        register_table("table5", "again")(lambda inputs: build("table1"))

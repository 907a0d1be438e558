"""Tables from records: what fills a cell, what leaves it "not run", and what the notes say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from make_records import make_cost_record, make_paper_record, make_record, make_run, multilabel, ranked

from reports.conditions import conditions_of
from reproduce.errors import InputError
from reproduce.metrics.intervals import wilson_interval
from reproduce.paper import load_paper
from reproduce.records.predictions import StoredPredictions, save_predictions
from reproduce.records.record import RunRecord
from reproduce.records.records import Records
from reproduce.records.store import append_record, load_records
from reproduce.tables import Cell, Table, TableInputs, measured, register_table, table_specs
from reproduce.tables.base import Column, ratio_row
from reproduce.tables.render import reasons, render

BOTH_COSTS = (
    make_cost_record("ast_base", macs=100e9, parameters=80_000_000),
    make_cost_record("mast_base", macs=25e9, parameters=50_000_000),
)


def build(name: str, *records: RunRecord, folder: Path = Path("no-records")) -> Table:
    return table_specs()[name].build(TableInputs(load_paper(), Records.of(records), folder))


def cell(table: Table, row: str, column: str) -> Cell:
    (found,) = (r.cells[column] for r in table.rows if r.key == row)
    return found


def with_costs(record: RunRecord) -> RunRecord:
    costs = {"parameters": 2_000_000, "macs_module_only": 3_000_000_000, "macs_full": 4_000_000_000}
    return replace(record, metrics={**record.metrics, **costs})


def block_with(table: Table, title: str) -> Table:
    (found,) = (block for block in table.blocks if title in block.title)
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


def test_a_demo_scale_record_never_fills_a_paper_cell() -> None:
    demo = replace(make_paper_record(), scale="demo")
    assert build("table5", *BOTH_COSTS, demo) == build("table5", *BOTH_COSTS)
    by_the_demos_recipe = with_costs(replace(make_paper_record(recipe_name="demo"), scale="demo"))
    table = build("table5", *BOTH_COSTS, by_the_demos_recipe)
    assert table.rows == build("table5", *BOTH_COSTS).rows
    assert [block.title.partition(":")[0] for block in table.blocks] == ["demo scale"]


@pytest.mark.parametrize("standin", [True, False])
def test_runs_on_a_stand_in_are_listed_and_never_compared(standin: bool, tmp_path: Path) -> None:
    scores = multilabel("abcd", "bacd", positives=("ac", "b"))
    runs = [
        make_run(tmp_path, model, "audioset", scores, "demo", variant="balanced", standin=standin)
        for model in ("ast_tiny", "mast_tiny")
    ]
    (block,) = build("table5", *map(with_costs, runs), folder=tmp_path).blocks
    compared = "difference" in {row.key for row in block.rows} or any("MAST - AST" in note for note in block.notes)
    assert compared is not standin
    assert any("no comparison" in note for note in block.notes) is standin


def test_a_removed_record_leaves_the_cell_not_run_with_the_reason(tmp_path: Path) -> None:
    path = append_record(tmp_path, make_paper_record("mast_base", "full", 38.0))
    stored = [run.record for run in load_records(tmp_path)]
    assert cell(build("table5", *stored, *BOTH_COSTS, folder=tmp_path), "mast", "full").measured == 38.0
    path.unlink()
    assert not len(load_records(tmp_path))
    table = build("table5", *BOTH_COSTS, folder=tmp_path)
    emptied = cell(table, "mast", "full")
    assert (emptied.paper, emptied.measured, emptied.status) == (39.0, None, "not run")
    assert emptied.conditions in reasons(table)
    for part in ("mast_base", "audioset", "full", str(tmp_path)):
        assert part in emptied.conditions


def test_a_quoted_result_is_never_ours_to_measure() -> None:
    runs = [make_paper_record("ast_base", variant) for variant in ("balanced", "full")]
    table = build("table5", *BOTH_COSTS, *runs)
    for row in ("baseline", "panns", "psla", "ast_published", "mbt"):
        cells = next(r.cells for r in table.rows if r.key == row).values()
        assert {(c.status, c.measured) for c in cells} == {("paper only", None)}
    assert cell(table, "ast_our_as", "full").status == "measured"


def test_costs_are_in_their_units_beside_the_papers() -> None:
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


def test_nothing_is_a_multiple_of_zero() -> None:
    one, zero = {"macs": measured(1.0, "G", "")}, {"macs": measured(0.0, "G", "")}
    columns = [Column("macs", "MACs")]
    assert ratio_row("", one, zero, columns).cells == {}
    assert ratio_row("", zero, one, columns).cells["macs"].measured == 0.0


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
    assert cell(table, "2d_at_21", "map_minus_paper").measured == pytest.approx(28.5 - 29.7)
    assert "map_minus_mast" not in next(r.cells for r in table.rows if r.key == "2d_at_21")  # MAST itself has no run


def test_an_ablation_with_more_macs_than_ast_has_a_warning() -> None:
    dear = make_cost_record("mast_base", {"pool_strides": [[1, 1]] * 3}, macs=400e9)
    table = build("ablations", make_cost_record("ast_base", macs=100e9), dear)
    assert '"no pooling"' in note_with(table, "Warning") and "4.00 times" in note_with(table, "Warning")
    assert [row.key for row in table.rows if "more MACs than AST" in row.label] == ["none"]


# --- Tables 2 to 4: seeds, intervals, pairs -------------------------------------------------------------------------


def ks(folder: Path, model: str, ranks: str, clips: str = "abcdefgh", **changes: Any) -> RunRecord:
    """A run on Kinetics-Sounds; `ranks` of each clip's own class, 0 is right."""
    scores = ranked(" ".join(clips[: len(ranks)]), label=ranks)
    return make_run(folder, model, "kinetics_sounds", scores, variant="ks32", **changes)


@pytest.mark.parametrize("name", ["table2", "table3", "table4"])
def test_an_empty_table_names_the_command_that_fills_it(name: str) -> None:
    table = build(name)
    dataset = {"table2": "kinetics_sounds", "table3": "vggsound", "table4": "epic_kitchens"}[name]
    assert all(f"python -m reproduce {name} --data {dataset}=DIR" in reason for reason in reasons(table))
    assert len(reasons(table)) == 4  # MAST, AST by two recipes, and MBT
    assert f"{name} --preset demo" in note_with(table, "Demo scale")
    assert {c.status for row in table.rows for c in row.cells.values()} == {"not run", "paper only"}


def test_a_repeated_seed_replaces_the_earlier_run_of_it(tmp_path: Path) -> None:
    old = ks(tmp_path, "mast_base", "0111")
    new = replace(ks(tmp_path, "mast_base", "0001"), created="2026-05-01T00:00:00+00:00")
    found = cell(build("table2", new, old, folder=tmp_path), "mast", "top1")
    assert (found.measured, found.seeds) == (75.0, (0,))


def test_coverage_is_in_a_column_and_in_the_conditions(tmp_path: Path) -> None:
    table = build("table2", ks(tmp_path, "mast_base", "0000", listed=15446), folder=tmp_path)
    assert "4 of 15,446 test clips" in cell(table, "mast", "top1").conditions
    assert cell(table, "mast", "clips").paper == 1585
    assert "1,585 → 4 of 15,446" in render(table, "terminal")


def test_a_score_without_width_names_wilsons_interval(tmp_path: Path) -> None:
    table = build("table2", ks(tmp_path, "mast_base", "0000"), ks(tmp_path, "ast_base", "1111"), folder=tmp_path)
    for value, right in ((100.0, 4), (0.0, 0)):
        low, high = wilson_interval(right, 4)
        assert f"[{low:.1f}, {high:.1f}]" in note_with(table, f"where {'all' if value else 'none'} of 4 clips")


def epic(folder: Path, model: str, verb: str, videos: str | None) -> RunRecord:
    """A run on EPIC-KITCHENS whose nouns are right, with the video of each segment."""
    stored = ranked(" ".join(f"s{i}" for i in range(len(verb))), verb=verb, noun="0" * len(verb))
    stored = replace(stored, groups=None if videos is None else np.array(list(videos)))
    record = make_run(folder, model, "epic_kitchens", stored)
    return replace(record, dataset={**record.dataset, "unit": "video"})


def test_segments_are_resampled_by_their_videos_and_the_notes_name_them(tmp_path: Path) -> None:
    videos = "aaaaaabbbbbbcccccc"
    runs = (
        epic(tmp_path, "ast_base", "000000111111000000", videos),
        epic(tmp_path, "mast_base", "0" * 18, videos),
    )
    table = build("table4", *runs, folder=tmp_path)
    difference = cell(table, "mast_minus_ast_same_protocol", "verb")
    assert difference.ci == (0.0, 100.0)  # one video of three, none to all of a resample
    note = note_with(table, "Verb:")
    assert "18 test clips of 3 videos, paired bootstrap over videos" in note
    assert "(as if clips of one video were independent)" in note
    assert "bootstrap over the videos of the test clips" in note_with(table, "Intervals:")


def test_a_run_without_stored_videos_takes_those_of_the_other(tmp_path: Path) -> None:
    runs = (epic(tmp_path, "ast_base", "000111", None), epic(tmp_path, "mast_base", "000000", "aabbcc"))
    assert "6 test clips of 3 videos" in note_with(build("table4", *runs, folder=tmp_path), "Verb:")


def test_segments_of_one_video_have_no_interval(tmp_path: Path) -> None:
    runs = (epic(tmp_path, "ast_base", "000111", "aaaaaa"), epic(tmp_path, "mast_base", "000000", "aaaaaa"))
    table = build("table4", *runs, folder=tmp_path)
    assert cell(table, "mast", "verb").ci is None
    assert "not paired: their shared clips are all of one video" in note_with(table, "Verb:")


def test_models_with_other_targets_are_not_paired(tmp_path: Path) -> None:
    ast = ks(tmp_path, "ast_base", "000", clips="bca")  # the clips' classes follow their order
    mast = ks(tmp_path, "mast_base", "001", clips="abc")
    table = build("table2", ast, mast, folder=tmp_path)
    assert "other targets" in cell(table, "mast_minus_ast_same_protocol", "top1").conditions
    assert cell(table, "mast_minus_ast_same_protocol", "top1").ci is None


def test_without_predictions_there_is_a_score_but_no_interval_and_no_test(tmp_path: Path) -> None:
    ast, mast = ks(tmp_path, "ast_base", "0011"), ks(tmp_path, "mast_base", "0001")
    (tmp_path / str(mast.predictions)).unlink()
    table = build("table2", ast, mast, folder=tmp_path)
    assert (cell(table, "mast", "top1").measured, cell(table, "mast", "top1").ci) == (75.0, None)
    assert cell(table, "mast_minus_ast_same_protocol", "top1").measured == 25.0
    assert mast.key in cell(table, "mast_minus_ast_same_protocol", "top1").conditions


def test_predictions_of_another_run_are_an_error_that_names_the_file(tmp_path: Path) -> None:
    run = ks(tmp_path, "mast_base", "0001")
    wrong = replace(run, metrics={**run.metrics, "top1": 99.0})
    with pytest.raises(InputError, match=f"{run.predictions}: scores top1 75.00, but record .* holds 99.0"):
        build("table2", wrong, folder=tmp_path)


def test_an_overridden_recipe_or_a_variant_is_in_a_block_and_fills_no_cell(tmp_path: Path) -> None:
    others = (
        ks(tmp_path, "mast_base", "0000", recipe_name="mast, batch_size=12"),
        replace(ks(tmp_path, "mast_base", "0000", recipe_name=""), key="no recipe"),
        replace(ks(tmp_path, "mast_base", "0000", standin=True), key="on a stand-in"),
    )
    table = build("table2", *others, folder=tmp_path)
    assert table.rows == build("table2", folder=tmp_path).rows
    block = block_with(table, "Other paper-scale runs")
    labels = " | ".join(row.label for row in block.rows)
    assert "no named recipe" in labels and "STAND-IN" in labels and "batch_size" not in labels
    (overridden,) = block_with(table, "Sensitivity").rows
    assert 'recipe "mast, batch_size=12"' in overridden.label


# --- Table 5's two ASTs ---------------------------------------------------------------------------------------------


def test_the_two_recipes_of_ast_fill_separate_rows() -> None:
    runs = (
        make_paper_record("ast_base", "balanced", 33.0),
        make_paper_record("ast_base", "balanced", 30.0, recipe_name="mast"),
        make_paper_record("mast_base", "balanced", 31.0),
    )
    table = build("table5", *BOTH_COSTS, *runs)
    assert cell(table, "ast_our_as", "balanced").measured == 33.0
    assert cell(table, "ast_our_as_minus_paper", "balanced").measured == pytest.approx(1.7)
    own = cell(table, "ast_mast_protocol", "balanced")
    assert (own.paper, own.measured) == (None, 30.0)
    assert cell(table, "mast_minus_ast_our_as", "balanced").measured == -2.0
    assert cell(table, "mast_minus_ast_mast_protocol", "balanced").measured == 1.0


def test_a_run_of_mast_that_names_its_own_pooling_is_mast() -> None:
    run = make_paper_record(mean_ap=30.5, model_config={"pool_strides": [[2, 2], [2, 2], [1, 2]]})
    assert cell(build("table5", *BOTH_COSTS, run), "mast", "balanced").measured == 30.5


def test_a_score_that_was_not_a_number_is_not_run() -> None:
    run = replace(make_paper_record(), metrics={"map": None})
    assert "not a number" in cell(build("table5", *BOTH_COSTS, run), "mast", "balanced").conditions


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


def test_both_models_of_a_comparison_are_rows_with_their_ratio() -> None:
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
    assert note_with(table, "Tested on") == "Tested on fold 1, trained on folds 2, 3, 4, 5."
    assert "1 of 5 folds tested" in table.title


def at_speed(model: str, fold: str, speed: float, **settings: Any) -> RunRecord:
    run = make_record(model, fold, key=model + fold)
    metrics = {**run.metrics, "train_clips_per_s": speed}
    return replace(run, metrics=metrics, environment={**run.environment, **settings})


def test_speeds_are_compared_under_equal_settings_alone() -> None:
    eager, compiled = at_speed("ast_debug", "1", 10.0), at_speed("ast_debug", "2", 30.0, compile=True)
    ours = [at_speed("mast_debug", fold, 60.0, compile=True) for fold in "12"]
    table = build("esc50", eager, compiled, *ours)
    assert cell(table, "ast_debug", "train_clips_per_s").measured == 30.0
    assert cell(table, "ratio", "train_clips_per_s").measured == 0.5
    unlike = build("esc50", eager, ours[0])
    assert cell(unlike, "ast_debug", "train_clips_per_s").measured == 10.0
    (ratio,) = (row.cells for row in unlike.rows if row.key == "ratio")
    assert "train_clips_per_s" not in ratio and "macs_full" in ratio
    assert [conditions_of(shown.runs).count("compiled") for shown in (table, unlike)] == [1, 1]


def two_folds(folder: Path, unit: str, groups: str | None, **metrics: float) -> list[RunRecord]:
    """A run per fold on four clips of the user's own; a letter per clip names its unit."""
    records = []
    for fold in "12":
        clips = ranked(" ".join(f"{fold}{i}" for i in range(4)), label="0000")
        stored = replace(clips, groups=None if groups is None else np.array([fold + letter for letter in groups]))
        record = make_record("ast_debug", fold, correct=4, clips=4, dataset={"unit": unit})
        key = f"ast of {fold}"
        record = replace(record, key=key, predictions=save_predictions(folder, key, stored))
        records.append(replace(record, metrics={**record.metrics, **metrics}))
    return records


@pytest.mark.parametrize(
    ("unit", "groups", "caveat"),
    [
        ("speaker", "aabb", "over test clips (as if clips of one speaker were independent); they do not"),
        ("speaker", "abcd", "over test clips; they do not"),
        ("speaker", None, "over test clips; they do not"),
    ],
)
def test_wilson_intervals_name_the_unit_that_clips_share(
    tmp_path: Path, unit: str, groups: str | None, caveat: str
) -> None:
    table = build("esc50", *two_folds(tmp_path, unit, groups), folder=tmp_path)
    assert caveat in note_with(table, "Wilson")


def test_classes_that_a_fold_does_not_show_are_said_of_folds_and_of_map_only_where_it_is(tmp_path: Path) -> None:
    first, second = two_folds(tmp_path, "clip", None, classes_without_positives=2)
    second = replace(second, metrics={**second.metrics, "classes_without_positives": 0})
    note = note_with(build("esc50", first, second, folder=tmp_path), "no example")
    assert note == "In 1 of 2 folds the test clips show no example of up to 2 of the 4 classes."


def test_seeds_do_not_narrow_the_interval() -> None:
    one = cell(build("esc50", make_record(correct=8)), "ast_debug", "top1")
    three = cell(build("esc50", *(make_record(correct=8, seed=s) for s in range(3))), "ast_debug", "top1")
    assert (three.ci, three.n) == (one.ci, one.n)
    assert "seeds 0,1,2" in three.conditions


def test_runs_under_different_protocols_have_separate_blocks() -> None:
    table = build("esc50", make_record(), make_record("mast_debug", experiment={"weights": "deit"}))
    assert not table.rows
    assert [[row.key for row in block.rows] for block in table.blocks] == [["ast_debug"], ["mast_debug"]]
    assert len({block.name for block in table.blocks}) == 2


def test_without_records_the_note_is_not_run() -> None:
    table = build("esc50", make_paper_record())
    assert table.notes == ("not run: no record on esc50 under no-records",)


def test_scores_without_the_fold_that_chose_the_learning_rate_are_shown() -> None:
    runs = [
        make_record(model, fold, correct=c) for model in ("ast_debug", "mast_debug") for fold, c in (("1", 3), ("2", 9))
    ]
    search = make_record("ast_debug", "2", kind="search")
    assert not any("were chosen" in note for note in build("esc50", *runs).notes)
    note = note_with(build("esc50", *runs, search), "were chosen")
    assert "fold 2" in note and "ast_debug 30.0 %, mast_debug 30.0 %" in note


def test_where_every_tested_fold_chose_the_learning_rate_a_note_warns() -> None:
    runs = [make_record(model, "2") for model in ("ast_debug", "mast_debug")]
    assert "optimistic" in note_with(build("esc50", *runs, make_record("ast_debug", "2", kind="search")), "were chosen")


def test_a_search_of_another_model_or_rate_chose_nothing_here() -> None:
    runs = [make_record(model, "2") for model in ("ast_debug", "mast_debug")]
    recipe = {**runs[0].experiment["recipe"], "lr": 5e-5}
    others = [
        make_record("ast_tiny", "2", kind="search"),
        make_record("ast_debug", "2", kind="search", experiment={"recipe": recipe}),
    ]
    assert not any("were chosen" in note for note in build("esc50", *runs, *others).notes)


def test_searches_on_other_inputs_are_not_put_into_one_cell() -> None:
    small = make_record("ast_debug", "2", kind="search", correct=9, key="small")
    large = make_record("ast_debug", "2", kind="search", correct=2, key="large")
    large = replace(
        large, experiment={**large.experiment, "front_end": {**large.experiment["front_end"], "frames": 128}}
    )
    table = build("tune", small, large)
    assert [block.rows[0].cells["ast_debug"].measured for block in table.blocks] == [90.0, 20.0]


def test_the_paired_test_counts_the_clips_on_which_just_one_model_is_right(tmp_path: Path) -> None:
    ast = with_predictions(make_record("ast_debug"), tmp_path, right="ab")
    mast = with_predictions(make_record("mast_debug"), tmp_path, right="bcdef")
    note = note_with(build("esc50", ast, mast, folder=tmp_path), "McNemar")
    assert "Paired on the same 6 test clips (seed 0)" in note
    assert "only ast_debug is correct on 1, only mast_debug on 4" in note
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

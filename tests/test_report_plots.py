"""Figures of the report: what they draw, from which records, and what they say of each mark."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from make_records import make_cost_record, make_record
from matplotlib.figure import Figure

from reports.paired import class_differences, confusion, outcomes_of, paired_difference
from reports.plots.accuracy_cost import Point, draw_ablations, measured_points, plot_points
from reports.plots.architecture import draw_architecture, plot_macs, plot_macs_by_kind
from reports.plots.base import by_model, group_title, groups_of, tip, to_svg
from reports.plots.classes import draw_confusion, plot_confusion, plot_differences
from reports.plots.curves import draw_curves, plot_curves
from reports.plots.speed import plot_speed_ups, speed_ups
from reproduce.paper import load_paper
from reproduce.records.predictions import StoredPredictions, save_predictions
from reproduce.records.record import RunRecord
from reproduce.tables import TableInputs, table_specs

HISTORY = ({"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.0})
CLASSES = ("dog", "rain", "clock", "saw")


def axes() -> object:
    return Figure().add_subplot()


def inputs_of(*records: RunRecord, folder: Path = Path("nowhere")) -> TableInputs:
    return TableInputs(load_paper(), records, folder)


def pair_with_predictions(folder: Path, targets: list[int], first: list[int], second: list[int]) -> list[RunRecord]:
    """AST and MAST on one fold; each gives the listed classes to the clips."""
    records = []
    for model, given in (("ast_debug", first), ("mast_debug", second)):
        logits, hot = np.eye(4)[given] * 5, np.eye(4, dtype=np.uint8)[targets]
        clips = np.array([f"c{i}" for i in range(len(targets))])
        stored = StoredPredictions(clips, {"label": logits}, {"label": hot}, np.zeros((len(targets), 2)))
        name = save_predictions(folder, model, stored)
        right = sum(a == b for a, b in zip(targets, given, strict=True))
        record = make_record(model, correct=right, clips=len(targets), key=f"key of {model}", predictions=name)
        records.append(replace(record, history=HISTORY))
    return records


# --- paired differences ---------------------------------------------------------------------------------------------


def test_the_paired_interval_is_agresti_and_min_s() -> None:
    found = paired_difference("dog", gained=10, lost=4, clips=40)
    assert found.value == pytest.approx(15.0)
    # (10 - 4) / 42 = 0.142857; its error sqrt(15 - 36 / 42) / 42 = 0.089538
    assert (found.low, found.high) == pytest.approx((-3.263, 31.835), abs=0.01)


def test_the_paired_interval_turns_over_with_the_models_and_never_has_no_width() -> None:
    one, other = paired_difference("dog", 5, 2, 8), paired_difference("dog", 2, 5, 8)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
    same = paired_difference("dog", 0, 0, 8)
    assert same.low < 0 < same.high
    everything = paired_difference("dog", 8, 0, 8)
    assert everything.value == 100.0 and everything.high == 100.0 and everything.low > 0


def test_classes_are_compared_on_their_own_clips(tmp_path: Path) -> None:
    targets = [0, 0, 0, 1, 1, 2]
    records = pair_with_predictions(tmp_path, targets, [0, 1, 1, 1, 1, 2], [0, 0, 1, 0, 1, 2])
    outcomes = outcomes_of(inputs_of(*records, folder=tmp_path), records[:1], records[1:])
    assert outcomes is not None
    values = {found.name: (found.value, found.clips) for found in class_differences(outcomes)}
    assert values == {"rain": (-50.0, 2), "clock": (0.0, 1), "dog": (pytest.approx(100 / 3), 3)}
    counts = confusion(outcomes.target, outcomes.first, 4)
    assert counts.tolist() == [[1, 2, 0, 0], [0, 2, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]


def test_absent_predictions_make_no_figure(tmp_path: Path) -> None:
    records = pair_with_predictions(tmp_path, [0, 1], [0, 1], [0, 1])
    (tmp_path / "predictions/ast_debug.npz").unlink()
    assert draw_confusion(inputs_of(*records, folder=tmp_path)) is None


def test_a_hostile_class_name_is_drawn_as_text(tmp_path: Path) -> None:
    records = pair_with_predictions(tmp_path, [0, 1], [0, 1], [1, 1])
    names = ("$x_{", "<b>&amp;\\frac$", "c\n_d", "$e$")
    records = [replace(r, dataset={**r.dataset, "classes": {"label": list(names)}}) for r in records]
    drawn = draw_confusion(inputs_of(*records, folder=tmp_path))
    assert drawn is not None
    assert b"<b>" not in drawn.svg and b"&lt;b&gt;&amp;amp;" in drawn.svg


# --- plots take an Axes and return it -------------------------------------------------------------------------------


def test_curves_have_a_bold_line_a_model_and_a_thin_one_a_run() -> None:
    runs = {
        model: [make_record(model, seed=seed, key=f"{model}{seed}", history=HISTORY) for seed in (0, 1)]
        for model in ("ast_debug", "mast_debug")
    }
    drawn_on = axes()
    assert plot_curves(drawn_on, runs) is drawn_on  # type: ignore[arg-type]
    lines = drawn_on.get_lines()  # type: ignore[attr-defined]
    assert sorted(line.get_linewidth() for line in lines) == [0.6] * 4 + [2] * 2
    assert {tuple(line.get_ydata()) for line in lines} == {(2.0, 1.0)}


def test_an_epoch_whose_loss_was_no_number_is_left_out_of_the_mean() -> None:
    history = ({"epoch": 1, "loss": None}, {"epoch": 2, "loss": 1.0})
    drawn_on = plot_curves(axes(), {"ast_debug": [make_record(history=history)]})  # type: ignore[arg-type]
    assert list(drawn_on.get_lines()[-1].get_xdata()) == [2]


def test_points_have_their_interval_and_the_record_behind_them() -> None:
    point = Point("mast_tiny", "mast_tiny", 0.2, 60.0, (50.0, 70.0), "seed 0, invented CPU")
    drawn_on = plot_points(axes(), [point, replace(point, macs=0.7)], "Top-1")  # type: ignore[arg-type]
    svg = to_svg(drawn_on.figure).decode()  # type: ignore[arg-type]
    assert re.search(r"<title>mast_tiny · 60.0 % at 0.2 G · seed 0, invented CPU</title>", svg)
    (bars,) = drawn_on.containers[0].lines[2]
    assert [tuple(end[1] for end in bar) for bar in bars.get_segments()] == [(50.0, 70.0)]


def test_macs_show_what_each_rule_sees() -> None:
    costs = {"ast": make_cost_record("ast_base", macs=100e9), "mast": make_cost_record("mast_base", macs=25e9)}
    drawn_on = plot_macs(axes(), costs)  # type: ignore[arg-type]
    assert [bar.get_width() for bar in drawn_on.patches] == pytest.approx([100, 100, 25, 25])


def test_kinds_that_one_model_lacks_are_said_to_be_none() -> None:
    items = {"ast": [["b", "linear", 3e9]], "mast": [["b", "linear", 1e9], ["b", "pool", 1e6]]}
    costs = {m: make_cost_record(f"{m}_base", details={"items": items[m], "shapes": []}) for m in items}
    drawn_on = plot_macs_by_kind(axes(), costs)  # type: ignore[arg-type]
    assert sorted(text.get_text() for text in drawn_on.texts) == ["0.001", "1", "3", "none"]


def test_matrices_and_differences_return_their_axes() -> None:
    drawn_on = axes()
    assert plot_confusion(drawn_on, np.eye(4, dtype=int), CLASSES) is drawn_on  # type: ignore[arg-type]
    drawn_on = axes()
    found = [paired_difference(name, 1, 0, 4) for name in CLASSES]
    assert plot_differences(drawn_on, found, ("ast_debug", "mast_debug")) is drawn_on  # type: ignore[arg-type]


# --- which records a figure shows -----------------------------------------------------------------------------------


def test_figures_without_their_records_are_left_out() -> None:
    nothing = inputs_of()
    for draw in (draw_architecture, draw_ablations, draw_curves, draw_confusion):
        assert draw(nothing) is None
    assert draw_architecture(inputs_of(make_cost_record("ast_base"))) is None


def test_runs_that_only_one_model_has_are_left_out_of_a_comparison() -> None:
    records = [
        make_record(m, fold, key=m + fold) for m, fold in (("ast_debug", "1"), ("ast_debug", "2"), ("mast_debug", "1"))
    ]
    (group,) = groups_of(records)
    runs = by_model(group)
    assert {model: [r.experiment["test_splits"] for r in kept] for model, kept in runs.items()} == {
        "ast_debug": [["1"]],
        "mast_debug": [["1"]],
    }


def test_a_stand_in_is_named_as_one() -> None:
    record = make_record(dataset={"standin": {"seed": 1}})
    assert "STAND-IN" in group_title([record]) and "STAND-IN" not in group_title([make_record()])


def test_only_rows_with_a_score_and_a_cost_become_points() -> None:
    records = [make_record("ast_debug", key="a"), make_record("mast_debug", key="m")]
    column, points = measured_points(table_specs()["esc50"].build(inputs_of(*records)))
    assert column is not None and column.key == "top1"
    assert [(p.model, p.macs, p.score) for p in points] == [("ast_debug", 3.0, 50.0), ("mast_debug", 3.0, 50.0)]
    assert measured_points(table_specs()["table1"].build(inputs_of())) == (None, [])


def test_a_tip_is_the_title_of_its_mark_whatever_it_holds() -> None:
    figure = Figure()
    (line,) = figure.add_subplot().plot([0, 1])
    tip(line, 'a "b"', "<c> & d")
    svg = to_svg(figure).decode()
    (title,) = re.findall(r'<g class="tip" tabindex="0"><title>(.*?)</title>', svg)
    import html

    assert html.unescape(title) == 'a "b" · <c> & d'


# --- speed ----------------------------------------------------------------------------------------------------------


def timed(contender: str, contenders: tuple[str, str], ratio: float, macs: float, **metrics: float | None) -> RunRecord:
    record = make_record(contender)
    conditions = {"bench": "models", "contender": contender, "contenders": list(contenders), "batch": 4}
    found = {
        **{"latency_s": 1.0, "macs_full": macs, "macs_module_only": macs / 2},
        **{"time_ratio": ratio, "time_ratio_q1": ratio / 2, "time_ratio_q3": ratio * 2},
    }
    return replace(record, kind="speed", key=contender, experiment=conditions, metrics={**found, **metrics})


@pytest.mark.parametrize("contenders", [("mast_tiny", "ast_tiny"), ("ast_tiny", "mast_tiny")])
def test_the_speed_up_is_ast_over_mast_whichever_was_the_reference(contenders: tuple[str, str]) -> None:
    ratios = {contenders[0]: 1.0, contenders[1]: 2.0 if contenders[1] == "ast_tiny" else 0.5}
    records = [timed(c, contenders, ratios[c], 8e9 if c == "ast_tiny" else 2e9) for c in contenders]
    (found,) = speed_ups(records)
    assert found.times == (1.0, 2.0, 4.0)
    assert found.macs == {"macs_full": 4.0, "macs_module_only": 4.0}
    drawn_on = axes()
    assert plot_speed_ups(drawn_on, [found]) is drawn_on  # type: ignore[arg-type]


def test_a_model_that_failed_to_run_has_no_speed_up() -> None:
    both = ("mast_tiny", "ast_tiny")
    records = [timed("mast_tiny", both, 1.0, 2e9), timed("ast_tiny", both, 2.0, 8e9, latency_s=None)]
    assert speed_ups(records) == []

"""Figures of the report: what they are drawn from, what their marks say, and what they leave out. Numbers invented."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from make_records import make_cost_record, make_record
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from reports.errors import mistakes_of
from reports.paired import class_difference, class_differences, outcomes_of
from reports.plots import PLOTS
from reports.plots.architecture import plot_blocks, plot_macs
from reports.plots.base import by_model, colour_of, dashes_of, group_title, groups_of, marker_of, tip, to_svg
from reports.plots.budget import budget_points, plot_budgets
from reports.plots.classes import draw_confusion, plot_confusion, plot_differences
from reports.plots.comparisons import comparison_of
from reports.plots.curves import plot_curves
from reports.plots.speed import conditions_label, plot_speed_ups, speed_ups
from reports.plots.variants import Variant, plot_variants
from reproduce.paper import load_paper
from reproduce.records.measured_runs import CostRun, SpeedRun
from reproduce.records.pairs import width
from reproduce.records.predictions import StoredPredictions, save_predictions
from reproduce.records.record import RunRecord
from reproduce.records.records import Records
from reproduce.records.runs import TrainedRun
from reproduce.tables import TableInputs
from reproduce.tables.studies import training_macs

HISTORY = ({"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.0})
CLASSES = ("dog", "rain", "clock", "saw")
MODELS = ("ast_debug", "mast_debug")


def axes() -> Axes:
    return Figure().add_subplot()


def inputs_of(*records: RunRecord, folder: Path = Path("nowhere")) -> TableInputs:
    return TableInputs(load_paper(), Records.of(records), folder)


def trained(*records: RunRecord) -> tuple[TrainedRun, ...]:
    return Records.of(records).of_kind(TrainedRun)


def pair_with_predictions(folder: Path, targets: list[int], first: list[int], second: list[int]) -> list[RunRecord]:
    """AST and MAST on one fold; each predicts the listed classes."""
    records = []
    for model, predicted in zip(MODELS, (first, second), strict=True):
        logits, hot = np.eye(4)[predicted] * 5, np.eye(4, dtype=np.uint8)[targets]
        clips = np.array([f"c{i}" for i in range(len(targets))])
        stored = StoredPredictions(clips, {"label": logits}, {"label": hot}, np.zeros((len(targets), 2)))
        name = save_predictions(folder, model, stored)
        right = sum(a == b for a, b in zip(targets, predicted, strict=True))
        record = make_record(model, correct=right, clips=len(targets), key=f"key of {model}", predictions=name)
        records.append(replace(record, history=HISTORY))
    return records


# --- paired differences and mistakes --------------------------------------------------------------------------------


def test_the_paired_interval_is_agresti_and_min_s() -> None:
    found = class_difference("dog", gained=10, lost=4, clips=40)
    assert found.value == pytest.approx(15.0)
    # (10 - 4) / 42 = 0.142857; its error sqrt(15 - 36 / 42) / 42 = 0.089538
    assert (found.low, found.high) == pytest.approx((-3.263, 31.835), abs=0.01)


def test_the_paired_interval_turns_over_with_the_models() -> None:
    one, other = class_difference("dog", 5, 2, 8), class_difference("dog", 2, 5, 8)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))


@pytest.mark.parametrize(("gained", "value"), [(0, 0.0), (8, 100.0)])
def test_the_paired_interval_always_has_a_width(gained: int, value: float) -> None:
    found = class_difference("dog", gained, 0, 8)
    assert found.value == value and found.low < found.high <= 100.0


def test_classes_are_compared_on_their_own_clips(tmp_path: Path) -> None:
    records = pair_with_predictions(tmp_path, [0, 0, 0, 1, 1, 2], [0, 1, 1, 1, 1, 2], [0, 0, 1, 0, 1, 2])
    runs = trained(*records)
    outcomes = outcomes_of(inputs_of(*records, folder=tmp_path), runs[:1], runs[1:])
    assert outcomes is not None
    values = {found.name: (found.value, found.clips) for found in class_differences(outcomes)}
    assert values == {"rain": (-50.0, 2), "clock": (0.0, 1), "dog": (pytest.approx(100 / 3), 3)}


def test_mistakes_come_by_confidence_and_each_clip_once(tmp_path: Path) -> None:
    logits = np.array([[9.0, 0, 0, 0], [0, 5, 0, 0], [3, 0, 0, 0], [0, 0, 0, 7]])
    stored = StoredPredictions(
        np.array(["right", "sure", "unsure", "fine"]),
        {"label": logits},
        {"label": np.eye(4, dtype=np.uint8)[[0, 2, 3, 3]]},
        np.zeros((4, 2)),
    )
    records = [make_record(seed=seed, predictions=save_predictions(tmp_path, str(seed), stored)) for seed in (0, 1)]
    found = mistakes_of(inputs_of(*records, folder=tmp_path), trained(*records))
    assert [(m.clip, m.label, m.predicted) for m in found] == [("sure", "clock", "rain"), ("unsure", "saw", "dog")]
    assert found[0].confidence == pytest.approx(100 * np.exp(5) / (np.exp(5) + 3))


def test_absent_predictions_make_no_figure(tmp_path: Path) -> None:
    records = pair_with_predictions(tmp_path, [0, 1], [0, 1], [0, 1])
    (tmp_path / "predictions/ast_debug.npz").unlink()
    assert draw_confusion(inputs_of(*records, folder=tmp_path)) is None


def test_a_hostile_class_name_is_drawn_as_text(tmp_path: Path) -> None:
    records = pair_with_predictions(tmp_path, [0, 1], [0, 1], [1, 1])
    names = ("$x_{", "<b>&amp;\\frac$", "c\n_d\x1b", "$e$")
    records = [replace(r, dataset={**r.dataset, "classes": {"label": list(names)}}) for r in records]
    drawn = draw_confusion(inputs_of(*records, folder=tmp_path))
    assert drawn is not None
    assert b"<b>" not in drawn.svg and b"&lt;b&gt;&amp;amp;" in drawn.svg and b"\x1b" not in drawn.svg


# --- plots take an Axes and return it -------------------------------------------------------------------------------


def test_curves_have_a_bold_line_per_model_and_a_thin_one_per_run() -> None:
    runs = {
        model: trained(*(make_record(model, seed=seed, key=f"{model}{seed}", history=HISTORY) for seed in (0, 1)))
        for model in MODELS
    }
    drawn_on = axes()
    assert plot_curves(drawn_on, runs) is drawn_on
    lines = drawn_on.get_lines()
    assert sorted(line.get_linewidth() for line in lines) == [0.6] * 4 + [1.8] * 2
    assert {tuple(line.get_ydata()) for line in lines} == {(2.0, 1.0)}  # type: ignore[arg-type]


def test_an_epoch_whose_loss_was_no_number_is_left_out_of_the_mean() -> None:
    history = ({"epoch": 1, "loss": None}, {"epoch": 2, "loss": 1.0})
    drawn_on = plot_curves(axes(), {"ast_debug": trained(make_record(history=history))})
    assert list(drawn_on.get_lines()[-1].get_xdata()) == [2]  # type: ignore[arg-type]


def test_training_macs_count_both_passes_and_every_clip_seen() -> None:
    (run,) = trained(make_record(dataset={"train_kept": 50}))
    assert training_macs([replace(run, recipe=replace(run.recipe, epochs=10))]) == pytest.approx(
        3 * 4e9 * 50 * 10 / 1e12
    )


def test_budgets_have_a_point_per_model_and_length_with_its_interval() -> None:
    records = [make_record(model, key=model, dataset={"train_kept": 50}, wall_time_s=60.0) for model in MODELS]
    points = budget_points(trained(*records))
    assert [(p.model, p.epochs, p.minutes, p.score.value) for p in points] == [(m, 1, 1.0, 50.0) for m in MODELS]
    drawn_on = plot_budgets(axes(), points, "macs")
    heights = [tuple(end[1] for end in bar) for bars in drawn_on.containers for bar in bars.lines[2][0].get_segments()]
    assert heights == [pytest.approx(points[0].score.interval)] * 2


def test_variants_are_hollow_where_they_are_quoted_and_say_what_is_behind_them() -> None:
    quoted = Variant(
        family="mast", label="no pooling", macs=4.0, value=28.0, interval=None, measured=False, conditions="quoted"
    )
    measured = replace(quoted, measured=True, value=29.0, interval=(28.0, 30.0), conditions="record x")
    drawn_on = plot_variants(axes(), [quoted, measured])
    faces = [to_hex(container.lines[0].get_markerfacecolor()) for container in drawn_on.containers]
    assert faces == ["#ffffff", to_hex(colour_of("mast"))]
    assert "<title>no pooling · 29.0 % · 4 G · record x</title>" in to_svg(drawn_on.figure).decode()  # type: ignore[arg-type]


def test_macs_show_what_each_rule_counts() -> None:
    records = {"ast": make_cost_record("ast_base", macs=100e9), "mast": make_cost_record("mast_base", macs=25e9)}
    costs = {model: Records.of([record]).of_kind(CostRun)[0] for model, record in records.items()}
    drawn_on = plot_macs(axes(), costs)
    assert [bar.get_width() for bar in drawn_on.patches] == pytest.approx([100, 100, 25, 25])  # type: ignore[attr-defined]


def test_blocks_are_as_wide_as_their_features_and_as_high_as_their_tokens() -> None:
    shapes = [["patch embedding", 9, 3, 3, 8, 0], ["block 0", 9, 3, 3, 8, 0], ["block 1", 4, 2, 2, 16, 0]]
    (run,) = Records.of([make_cost_record("mast_base", details={"shapes": shapes, "items": []})]).of_kind(CostRun)
    drawn_on = plot_blocks(axes(), run, 9)
    sizes = [(block.get_width(), block.get_height()) for block in drawn_on.patches]  # type: ignore[attr-defined]
    assert sizes == [(8, 9), (16, 4)]
    assert [text.get_text() for text in drawn_on.texts] == ["9 × 8", "4 × 16"]


def test_matrices_and_differences_return_their_axes() -> None:
    drawn_on = axes()
    assert plot_confusion(drawn_on, np.eye(4, dtype=int), CLASSES) is drawn_on
    drawn_on = axes()
    assert plot_differences(drawn_on, [class_difference(name, 1, 0, 4) for name in CLASSES], MODELS) is drawn_on


def test_models_of_other_families_have_colour_mark_and_dashes() -> None:
    looks = {(colour_of(m), marker_of(m), str(dashes_of(m))) for m in (*MODELS, "timm:resnet18")}
    assert len(looks) == 3


# --- which records a figure shows -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PLOTS)
def test_a_figure_without_its_records_is_left_out(name: str) -> None:
    assert PLOTS[name].draw(inputs_of()) is None
    assert PLOTS[name].draw(inputs_of(make_cost_record("ast_base"))) is None


def test_runs_that_only_one_model_has_are_left_out_of_a_comparison() -> None:
    records = [make_record(m, fold, key=m + fold) for m, fold in zip((*MODELS, "ast_debug"), "112", strict=True)]
    (group,) = groups_of(Records.of(records))
    assert {model: [run.fold for run in kept] for model, kept in by_model(group).items()} == {
        model: ["1"] for model in MODELS
    }


def runs_on(**folds: str) -> list[RunRecord]:
    """A record per model and fold; the name of a model with its seed behind a 1."""
    return [
        make_record(model.rstrip("1").replace("__", ":"), fold, seed=int(model.endswith("1")), key=model + fold)
        for model, tested in folds.items()
        for fold in tested
    ]


@pytest.mark.parametrize(
    ("folds", "pair", "others"),
    [
        ({"timm__a": "12"}, None, None),
        ({"timm__a": "12", "timm__b": "12", "timm__c": "12"}, None, None),
        ({"ast_tiny": "12", "mast_tiny": "3"}, None, None),
        ({"ast_tiny": "12", "timm__a": "23"}, {"ast_tiny": "2", "timm:a": "2"}, {}),
        (
            {"ast_tiny": "123", "mast_tiny": "23", "timm__a": "123"},
            {"ast_tiny": "23", "mast_tiny": "23"},
            {"timm:a": "23"},
        ),
        ({"ast_tiny": "12", "mast_tiny": "12", "timm__a": "2"}, {"ast_tiny": "12", "mast_tiny": "12"}, {}),
        (
            {
                "ast_tiny": "12",
                "ast_tiny1": "12",
                "mast_tiny": "12",
                "mast_tiny1": "12",
                "timm__a": "12",
                "timm__a1": "1",
            },
            {"ast_tiny": "1212", "mast_tiny": "1212"},
            {"timm:a": "12"},
        ),
        (
            {"ast_tiny": "123", "ast_tiny1": "12", "mast_tiny": "123", "mast_tiny1": "12", "timm__a": "12"},
            {"ast_tiny": "123", "mast_tiny": "123"},
            {},
        ),
        (
            {"ast_tiny": "1", "mast_small": "1", "mast_tiny": "1"},
            {"ast_tiny": "1", "mast_tiny": "1"},
            {"mast_small": "1"},
        ),
    ],
)
def test_ast_and_mast_are_compared_and_other_models_named_where_they_ran_alike(
    folds: dict[str, str], pair: dict[str, str] | None, others: dict[str, str] | None
) -> None:
    group = trained(*runs_on(**folds))
    comparison = comparison_of(group)
    if comparison is None:
        assert pair is None
        return
    assert {model: "".join(run.fold for run in runs) for model, runs in comparison.pair.items()} == pair
    assert {model: "".join(run.fold for run in runs) for model, runs in comparison.others.items()} == others


def test_the_widest_group_has_the_most_clips_that_two_models_share() -> None:
    wide, many, alone = (
        trained(*runs_on(**folds))
        for folds in (
            {"ast_tiny": "123", "mast_tiny": "12"},
            {"ast_tiny": "1", "ast_tiny1": "1", "mast_tiny": "1", "mast_tiny1": "1", "timm__a": "1", "timm__a1": "1"},
            {"ast_tiny": "12345"},
        )
    )
    assert sorted([alone, many, wide], key=width, reverse=True) == [wide, many, alone]


def test_a_stand_in_is_named_as_one() -> None:
    assert "STAND-IN" in group_title(trained(make_record(dataset={"standin": {"seed": 1}})))
    assert "STAND-IN" not in group_title(trained(make_record()))


def test_a_tip_is_the_title_of_its_mark_whatever_it_holds() -> None:
    figure = Figure()
    (line,) = figure.add_subplot().plot([0, 1])
    tip(line, 'a "b"', "<c> & d\x07")
    (title,) = re.findall(r'<g class="tip" tabindex="0"><title>(.*?)</title>', to_svg(figure).decode())
    assert html.unescape(title) == 'a "b" · <c> & d\ufffd'


# --- speed ----------------------------------------------------------------------------------------------------------


def timed(candidate: str, both: tuple[str, str], ratio: float, **metrics: float | None) -> RunRecord:
    conditions = {"bench": "models", "contender": candidate, "contenders": list(both), "batch": 4, "mode": "training"}
    macs = 8e9 if candidate.startswith("ast") else 2e9
    found = {
        **{"latency_s": 1.0, "macs_full": macs, "macs_module_only": macs / 2},
        **{"time_ratio": ratio, "time_ratio_q1": ratio / 2, "time_ratio_q3": ratio * 2},
    }
    return replace(
        make_record(candidate), kind="speed", key=candidate, experiment=conditions, metrics={**found, **metrics}
    )


@pytest.mark.parametrize("both", [("mast_tiny", "ast_tiny"), ("ast_tiny", "mast_tiny")])
def test_the_speed_up_is_ast_over_mast_whichever_was_the_baseline(both: tuple[str, str]) -> None:
    ratios = {both[0]: 1.0, both[1]: 2.0 if both[1] == "ast_tiny" else 0.5}
    (found,) = speed_ups(Records.of([timed(name, both, ratios[name]) for name in both]).of_kind(SpeedRun))
    assert found.times == (1.0, 2.0, 4.0)
    assert found.macs == {"macs_full": 4.0, "macs_module_only": 4.0}


def test_the_speed_figure_shows_every_machine_and_precision_and_names_the_pair() -> None:
    names = [f"{name}, {precision}" for precision in ("bfloat16", "float32") for name in ("mast_tiny", "ast_tiny")]
    records = []
    for number, model in enumerate((1, 17)):
        for name in names:
            made = timed(name, (names[0], names[1]), 9.0 if name.startswith("ast") and number else 1.0)
            samples = {"failure": None, "samples_s": [9.0 if name.startswith("ast") and number else 1.0]}
            experiment = {**made.experiment, "bench": "side by side", "contenders": names, "precision": "mixed"}
            processor = f"AMD EPYC (AuthenticAMD, cpu family 25, model {model}, stepping 1)"
            environment = {**made.environment, "precision": name.rpartition(", ")[2], "processor": processor}
            environment["device_type"] = "cpu"
            records.append(replace(made, experiment=experiment, environment=environment, details=samples))
    figure = plot_speed_ups(speed_ups(Records.of(records).of_kind(SpeedRun)))
    assert [panel.get_title(loc="left") for panel in figure.axes] == ["float32", "bfloat16"]
    for panel in figure.axes:
        assert panel.get_xlim()[0] == 0 and panel.get_xlim()[1] > 9
        tips = [line.get_gid() for line in panel.lines if str(line.get_gid()).startswith("tip: AMD")]
        assert len(tips) == 2 and all("time, AST (tiny) : MAST (tiny): " in text for text in tips)
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["training, batch 4"]
    assert len(figure.legends[0].texts) == 2


def test_two_machines_have_a_speed_up_each() -> None:
    both = ("mast_tiny", "ast_tiny")
    here = [timed("mast_tiny", both, 1.0), timed("ast_tiny", both, 2.0)]
    there = [
        replace(run, key=f"{run.key} there", environment={**run.environment, "device": "another CPU"})
        for run in (here[0], timed("ast_tiny", both, 3.0))
    ]
    found = speed_ups(Records.of([*here, *there]).of_kind(SpeedRun))
    assert {one.run.environment.machine.partition(",")[0]: one.times[1] for one in found} == {
        "invented CPU": 2.0,
        "another CPU": 3.0,
    }


@pytest.mark.parametrize("newer_first", [True, False])
def test_of_equal_conditions_in_two_benches_the_newest_counts(newer_first: bool) -> None:
    both = ("mast_tiny", "ast_tiny")
    old, new = (
        [
            replace(run, key=f"{run.key} {bench}", created=created, experiment={**run.experiment, "bench": bench})
            for run in (timed("mast_tiny", both, 1.0), timed("ast_tiny", both, ratio))
        ]
        for bench, created, ratio in (
            ("models", "2026-01-01T00:00:00", 2.0),
            ("side by side", "2026-01-02T00:00:00", 3.0),
        )
    )
    (found,) = speed_ups(Records.of([*new, *old] if newer_first else [*old, *new]).of_kind(SpeedRun))
    assert found.times[1] == 3.0


def test_a_model_that_failed_to_run_has_no_speed_up() -> None:
    both = ("mast_tiny", "ast_tiny")
    failed = replace(timed("ast_tiny", both, 2.0, latency_s=None), details={"failure": "out of memory"})
    assert speed_ups(Records.of([timed("mast_tiny", both, 1.0), failed]).of_kind(SpeedRun)) == []


def test_conditions_of_a_speed_up_are_words_without_raw_values() -> None:
    record = timed(MODELS[0], MODELS, 1.0)
    conditions = {**record.experiment, "input_size": [128, 1024], "precision": "bfloat16", "preset": "base"}
    (run,) = Records.of([replace(record, experiment=conditions)]).of_kind(SpeedRun)
    assert conditions_label(run) == "training, base, batch 4, bfloat16"

"""From AST to MAST one component at a time: the table, its steps, its figure, and the command from sounds on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from make_audio import make_esc50_folder
from make_studies import column, inputs_of, make_predictions, make_stored_run

from reports.document import plain_text
from reports.findings import components_finding
from reports.plots.components import draw_components, path_points
from reports.source import Source
from reproduce.__main__ import main
from reproduce.experiments.components import COMPONENTS, mast_without, path_to_mast
from reproduce.records.record import RunRecord
from reproduce.records.records import Records
from reproduce.records.selection import comparisons, component_groups, equal_macs_groups
from reproduce.records.store import load_records
from reproduce.tables import Table, build

RIGHT = ("1100", "1110", "1100", "1111")  # of the first rows of the path: 50, 75, 50 and 100 %


def variant_runs(folder: Path, label: str, right: str, folds: str = "12", seed: int = 0) -> list[RunRecord]:
    """Folds of a row of the path, each clip right as the digits say."""
    variants = {v.label: v for v in (*path_to_mast("debug"), *mast_without("debug"))}
    variant = variants[label]
    on = {"recipe_name": COMPONENTS, "model_config": json.loads(json.dumps(dict(variant.config)))}
    return [
        make_stored_run(
            folder,
            variant.model,
            make_predictions(right * 4, fold),
            fold,
            seed,
            key=f"{label} {seed} {fold}",
            experiment=on,
        )
        for fold in folds
    ]


@pytest.fixture
def records(tmp_path: Path) -> list[RunRecord]:
    labels = [variant.label for variant in path_to_mast("debug")]
    return [run for label, right in zip(labels, RIGHT, strict=False) for run in variant_runs(tmp_path, label, right)]


def components(folder: Path, records: list[RunRecord]) -> Table:
    return build("components", inputs_of(folder, records))


def test_each_row_is_compared_with_the_row_above(tmp_path: Path, records: list[RunRecord]) -> None:
    table = components(tmp_path, records)
    labels = [variant.label for variant in path_to_mast("debug")][:4]
    assert [row.label for row in table.rows] == labels
    assert column(table, "top1") == dict(zip(labels, (50, 75, 50, 100), strict=True))
    assert column(table, "step") == dict(zip(labels[1:], (25, -25, 50), strict=True))
    gain = table.rows[1].cells["step"]
    assert gain.ci is not None and gain.ci[0] <= 25 <= gain.ci[1]
    assert "16 recordings" in gain.conditions


def test_gains_are_those_of_the_scores_that_the_table_shows(tmp_path: Path, records: list[RunRecord]) -> None:
    first, second = (variant.label for variant in path_to_mast("debug")[:2])
    more = [*variant_runs(tmp_path, first, "1111", "3"), *variant_runs(tmp_path, second, "0000", "3")]
    shown, table = components(tmp_path, records), components(tmp_path, [*records, *more])
    assert [column(table, name) for name in ("top1", "step")] == [column(shown, name) for name in ("top1", "step")]
    assert any("Left out" in note and "2 runs" in note for note in table.notes)


def test_a_seed_that_one_row_lacks_counts_in_the_others(tmp_path: Path, records: list[RunRecord]) -> None:
    labels = [variant.label for variant in path_to_mast("debug")][:4]
    more = [
        variant_runs(tmp_path, label, right, seed=1)
        for label, right in zip(labels[:3], ("1000", "1110", "1110"), strict=True)
    ]
    half = variant_runs(tmp_path, labels[3], "0000", "1", seed=1)
    table = components(tmp_path, [*records, *(run for runs in more for run in runs), *half])
    assert column(table, "top1") == dict(zip(labels, (37.5, 75, 62.5, 100), strict=True))
    # Over the seeds that both rows have: two, two, and the first alone.
    assert column(table, "step") == dict(zip(labels[1:], (37.5, -12.5, 50), strict=True))
    assert any("rows have different ones" in note for note in table.notes)
    (beyond,) = (note for note in table.notes if "Beyond the spread" in note)
    assert f"{labels[3]} (+50.0 points, 1 seed)" in beyond and f"{labels[1]} (+37.5 points)" in beyond
    (paragraph,) = components_finding(Source(inputs_of(tmp_path, [*records, *(run for runs in more for run in runs)])))
    assert f"{labels[3].removeprefix('+ ')} (+50.0 points, 1 seed)" in plain_text(paragraph.text)
    assert any("Left out" in note and "1 run" in note for note in table.notes)


def test_a_row_whose_row_above_was_not_run_has_no_gain(tmp_path: Path, records: list[RunRecord]) -> None:
    labels = [variant.label for variant in path_to_mast("debug")]
    gap = [run for run in records if not run.key.startswith(labels[1])]
    assert list(column(components(tmp_path, gap), "step")) == [labels[3]]


def test_mast_without_a_component_stands_in_a_block_against_mast(tmp_path: Path, records: list[RunRecord]) -> None:
    assert components(tmp_path, records).blocks == ()
    end = path_to_mast("debug")[-1].label
    more = [*variant_runs(tmp_path, end, "1110"), *variant_runs(tmp_path, "MAST without pooled queries", "1100")]
    (block,) = components(tmp_path, [*records, *more]).blocks
    assert column(block, "step") == {"MAST without pooled queries": -25}
    assert "MAST" in column(block, "top1")


def test_the_runs_are_in_no_other_comparison(records: list[RunRecord]) -> None:
    every = Records.of(records)
    assert comparisons(every, "esc50") == equal_macs_groups(every, "esc50") == []
    assert len(component_groups(every, "esc50")[0]) == len(records)


def test_the_figure_numbers_the_path_and_says_what_it_shows(tmp_path: Path, records: list[RunRecord]) -> None:
    inputs = inputs_of(tmp_path, records)
    points = path_points(component_groups(inputs.records, "esc50")[0])
    assert [(point.number, point.score.value) for point in points] == [(1, 50), (2, 75), (3, 50), (4, 100)]
    drawn = draw_components(inputs)
    assert drawn is not None
    assert "+25.0 points" in drawn.svg.decode()
    assert "AST 50.0 %" in drawn.alt
    assert draw_components(inputs_of(tmp_path, [])) is None


def test_the_report_names_the_components_that_change_the_score(tmp_path: Path, records: list[RunRecord]) -> None:
    """Both folds of every row are alike, so no spread over runs hides a difference."""
    second, third, fourth = (variant.label.removeprefix("+ ") for variant in path_to_mast("debug")[1:4])
    (paragraph,) = components_finding(Source(inputs_of(tmp_path, records)))
    assert plain_text(paragraph.text) == (
        f"Beyond the spread over 2 folds × 1 seed the score changes with: {second} (+25.0 points), {third} (-25.0 "
        f"points) and {fourth} (+50.0 points). Of 3 tests 0.2 are expected to show a change by chance."
    )
    assert components_finding(Source(inputs_of(tmp_path, [run for run in records if run.key.endswith("1")]))) == ()
    labels = [variant.label for variant in path_to_mast("debug")[:4]]
    apart = [
        run
        for label, right, folds in zip(labels, RIGHT, ("12", "12", "34", "34"), strict=True)
        for run in variant_runs(tmp_path, label, right, folds)
    ]
    (told,) = components_finding(Source(inputs_of(tmp_path, apart)))
    assert plain_text(told.text).startswith("Beyond the spread over folds and seeds the score changes with: ")


def test_from_sounds_to_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_esc50_folder(tmp_path / "esc50", per_fold=2, folds=2)
    where = ["--data", f"esc50={folder}", "--records", str(tmp_path / "records"), "--runs", str(tmp_path / "runs")]
    command = ["components", "--preset", "debug", "--folds", "1", "--format", "json", *where]
    assert main(command) == 0
    first = json.loads(capsys.readouterr().out)
    rows = [variant.label for variant in path_to_mast("debug")]
    cells = {(cell["row"], cell["column"]): cell["measured"] for cell in first["rows"]}
    for metric in ("top1", "params", "macs_full", "train_clips_per_s", "predict_clips_per_s", "activations"):
        assert all(cells[row, metric] >= 0 for row in rows), metric
    assert main([*command, "--without", "--run", "none"]) == 0
    assert "not run: mast_debug" in capsys.readouterr().err
    assert main([*command, "--run", "none"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == first["rows"]
    assert len(load_records(tmp_path / "records")) == len(rows)

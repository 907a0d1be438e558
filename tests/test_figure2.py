"""Figure 2: which clips its panels show, what is written, and that a paper's figure is never a demo's."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from make_embeddings import add_run, blobs
from matplotlib.figure import Figure

from reproduce.errors import InputError
from reproduce.evaluation.clustering import fill_projections, silhouette
from reproduce.figures.figure2 import class_style, draw_figure2, plot_projection, write_figure2
from reproduce.paper import load_paper
from reproduce.records.clusterings import missing_projections, projection_of
from reproduce.records.projections import Projection, load_projection
from reproduce.records.runs import ClusteringRun, TrainedRun
from reproduce.records.store import load_records
from reproduce.tables import Table, TableInputs, table_specs

NAMES = [f"sound {i:02d}" for i in reversed(range(33))]  # not in sorted order, and three more than are shown


def add_both(folder: Path, scale: str) -> None:
    size = {"paper": "base", "demo": "tiny"}[scale]
    for model in ("ast", "mast"):
        add_run(folder, f"{model}_{size}", *blobs(33, 3), scale=scale, names=NAMES)


def draw(folder: Path, out: Path) -> list[str]:
    return [path.name for path in write_figure2(load_records(folder), folder, out)]


def table(folder: Path) -> Table:
    return table_specs()["figure2"].build(TableInputs(load_paper(), load_records(folder), folder))


def test_a_panel_shows_the_first_thirty_classes_by_sorted_label(tmp_path: Path, planes: list[int]) -> None:
    add_both(tmp_path, "demo")
    assert fill_projections(tmp_path) == []
    records = load_records(tmp_path)
    run = records.of_kind(TrainedRun)[0]
    record = projection_of(records, run)
    assert record is not None and record.scale == "demo"
    projection = load_projection(tmp_path, record)
    assert projection is not None
    assert sorted(set(projection.names)) == sorted(NAMES)[:30]
    assert (record.metrics["clips"], record.metrics["classes"]) == (len(projection), 30) == (90, 30)
    assert record.metrics["silhouette"] == pytest.approx(silhouette(projection.points, projection.names))
    # The class of every clip is its own: sound 00 is the last of NAMES, the label 32.
    assert {clip for clip, name in zip(projection.clip_ids, projection.names, strict=True) if name == "sound 00"} == {
        f"clip{i:04d}_000030" for i in (32, 65, 98)
    }


def test_fewer_classes_are_all_shown(tmp_path: Path, planes: list[int]) -> None:
    for model in ("ast_tiny", "mast_tiny"):
        add_run(tmp_path, model, *blobs(4, 10))
    fill_projections(tmp_path)
    assert {r.metrics["classes"] for r in load_records(tmp_path).of_kind(ClusteringRun)} == {4}


def test_a_panel_is_measured_once_and_again_only_when_its_file_is_gone(tmp_path: Path, planes: list[int]) -> None:
    add_both(tmp_path, "demo")
    fill_projections(tmp_path)
    assert len(planes) == 2 and missing_projections(load_records(tmp_path), tmp_path) == []
    fill_projections(tmp_path)
    assert len(planes) == 2
    next((tmp_path / "embeddings").glob("*.npz")).unlink()
    fill_projections(tmp_path)
    assert len(planes) == 3 and missing_projections(load_records(tmp_path), tmp_path) == []


def test_the_figure_and_its_coordinates_are_written_alike_every_time(tmp_path: Path, planes: list[int]) -> None:
    add_both(tmp_path, "demo")
    fill_projections(tmp_path)
    names = draw(tmp_path, tmp_path / "first")
    assert names == ["figure2_demo.png", "figure2_demo.svg", "figure2_demo.csv"]
    assert draw(tmp_path, tmp_path / "second") == names
    for name in names:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    assert (tmp_path / "first/figure2_demo.png").read_bytes().startswith(b"\x89PNG")
    rows = list(csv.DictReader((tmp_path / "first/figure2_demo.csv").open(encoding="utf-8")))
    assert len(rows) == 180 and {row["model"] for row in rows} == {"ast_tiny", "mast_tiny"}


def test_a_paper_figure_and_a_demo_figure_share_no_file(tmp_path: Path, planes: list[int]) -> None:
    add_both(tmp_path, "paper")
    fill_projections(tmp_path)
    assert draw(tmp_path, tmp_path / "out") == ["figure2.png", "figure2.svg", "figure2.csv"]
    add_both(tmp_path, "demo")
    fill_projections(tmp_path)
    names = draw(tmp_path, tmp_path / "out")
    assert len(set(names)) == 6
    rows = list(csv.DictReader((tmp_path / "out/figure2.csv").open(encoding="utf-8")))
    assert {row["model"] for row in rows} == {"ast_base", "mast_base"}
    title = drawn(tmp_path, "paper").get_suptitle()
    assert "VGGSound" in title and "DEMO" not in title and "STAND-IN" not in title


def drawn(folder: Path, scale: str) -> Figure:
    figure = draw_figure2(load_records(folder), folder, scale)
    assert figure is not None
    return figure


def test_ast_is_left_and_mast_right_with_numbers_below_and_one_legend(tmp_path: Path, planes: list[int]) -> None:
    add_both(tmp_path, "demo")
    fill_projections(tmp_path)
    figure = drawn(tmp_path, "demo")
    left, right = figure.axes
    assert left.get_title() == "AST (ast_tiny)" and right.get_title() == "MAST (mast_tiny)"
    record = projection_of(load_records(tmp_path), load_records(tmp_path).of_kind(TrainedRun)[0])
    assert record is not None
    for part in ("90 clips", f"{record.metrics['silhouette']:.3f}", "100.0 %"):
        assert part in left.get_xlabel()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        f"{i} {name}" for i, name in enumerate(sorted(NAMES)[:30], start=1)
    ]
    assert left.get_legend() is None and right.get_legend() is None
    assert "STAND-IN" in figure.get_suptitle() and "DEMO" in figure.get_suptitle()


def test_models_trained_on_real_recordings_have_a_figure_of_their_own(tmp_path: Path, planes: list[int]) -> None:
    for model, folds in (("ast_tiny", "23"), ("mast_tiny", "34")):
        for fold in folds:
            of_fold = {"train_sha256": f"but {fold}", "test_sha256": fold, "standin": None}
            add_run(tmp_path, model, *blobs(33, 3), names=NAMES, dataset=of_fold, fold=fold)
    assert fill_projections(tmp_path) == []
    assert draw(tmp_path, tmp_path / "out") == ["figure2_real.png", "figure2_real.svg", "figure2_real.csv"]
    assert len(planes) == 2  # the one fold that both models tested
    title = drawn(tmp_path, "real").get_suptitle()
    assert "ESC-50 layout, fold 3, test clips of the first 30 of 33 classes" in title and "STAND-IN" not in title
    (real,) = table(tmp_path).blocks
    assert "ESC-50 layout, fold 3" in real.title and real.rows[0].cells["clips"].measured == 90


def test_thirty_classes_look_different() -> None:
    assert len({tuple(class_style(place).items()) for place in range(30)}) == 30


def test_a_class_has_one_look_in_both_panels_and_its_number_once() -> None:
    names = ["a", "b", "c"]
    points = np.arange(40.0).reshape(20, 2)
    projection = Projection(np.arange(20).astype(str), points, np.array(["a", "c"] * 10))
    axes = plot_projection(Figure().add_subplot(), projection, names)
    assert len(axes.collections) == 3
    assert axes.collections[2].get_facecolor()[0][:3] == pytest.approx((0x00, 0x9E / 255, 0x73 / 255))
    assert [text.get_text() for text in axes.texts] == ["1", "3"]
    few = plot_projection(
        Figure().add_subplot(), Projection(np.arange(4).astype(str), points[:4], np.array(["a", "c"] * 2)), names
    )
    assert [text.get_text() for text in few.texts] == ["1", "1", "3", "3"]


def test_one_model_alone_is_no_figure(tmp_path: Path, planes: list[int]) -> None:
    add_run(tmp_path, "ast_tiny", *blobs(4, 10))
    fill_projections(tmp_path)
    assert draw(tmp_path, tmp_path / "out") == [] and not (tmp_path / "out").exists()
    assert draw_figure2(load_records(tmp_path), tmp_path, "demo") is None


def test_damaged_coordinates_are_one_line_with_the_remedy(tmp_path: Path, planes: list[int]) -> None:
    add_both(tmp_path, "demo")
    fill_projections(tmp_path)
    path = next((tmp_path / "embeddings").glob("ast*.npz"))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match="figure2") as caught:
        draw(tmp_path, tmp_path / "out")
    assert path.name in str(caught.value) and "\n" not in str(caught.value)


def test_the_table_gives_the_numbers_and_the_files_of_coordinates(tmp_path: Path, planes: list[int]) -> None:
    empty = table(tmp_path)
    assert {cell.status for row in empty.rows for cell in row.cells.values()} == {"not run"}
    add_both(tmp_path, "demo")
    fill_projections(tmp_path)
    built = table(tmp_path)
    assert built.rows == empty.rows  # a demo is no figure of the paper's
    (demo,) = built.blocks
    assert "STAND-IN" in demo.title and [row.label for row in demo.rows] == ["ast_tiny", "mast_tiny"]
    cells = demo.rows[0].cells
    assert (cells["clips"].measured, cells["classes"].measured, cells["top1"].measured) == (90, 30, 100.0)
    assert cells["silhouette"].status == cells["silhouette_features"].status == "measured"
    for path in (tmp_path / "embeddings").glob("*.npz"):
        assert any(str(path) in note for note in demo.notes)

"""`python -m reports`: the files it writes, what it needs, and that no number enters a cell it does not belong to."""

from __future__ import annotations

import html
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from make_records import make_run, ranked

from reports.__main__ import main
from reports.body import body_grid, body_sections
from reports.commands import command_of
from reports.document import Grid, Paragraph, plain_text
from reports.findings import accuracy_finding, cost_finding, coverage_finding, real_audio_findings
from reports.pdf import MISSING
from reports.plots import PLOTS
from reports.plots.comparisons import comparisons_of
from reports.source import Source
from reports.summary import verdict_grid
from reproduce.paper import load_paper
from reproduce.records.predictions import StoredPredictions
from reproduce.records.record import RunRecord
from reproduce.records.records import Records
from reproduce.records.store import append_record, load_records
from reproduce.tables import TableInputs, table_specs

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "tests/golden/records"
FILES = ("report.md", "report.html", "report.pdf")
BODY_PAGES = 10
# An interpreter without torch: any import of it is an error.
NO_TORCH = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "timm", "models"):
            raise ImportError(name)
sys.meta_path.insert(0, Absent())
"""


def golden_records() -> list[RunRecord]:
    """The golden records; their costs, which hold no items, get two invented ones."""
    items = [["block 0", "linear", 20_000_000_000], ["block 0", "attention", 5_000_000_000]]
    stored = (run.record for run in load_records(GOLDEN))
    return [
        replace(r, details={**r.details, "items": items, "libraries": {}}) if r.kind == "cost" else r for r in stored
    ]


@pytest.fixture(scope="module")
def records_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("records")
    shutil.copytree(GOLDEN / "predictions", folder / "predictions")
    for record in golden_records():
        append_record(folder, record)
    return folder


@pytest.fixture(scope="module")
def built(records_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the report of the golden records."""
    out = tmp_path_factory.mktemp("report")
    assert main(["--records", str(records_dir), "--out", str(out)]) == 0
    return out


def source_of(records: Sequence[RunRecord], folder: Path = GOLDEN) -> Source:
    return Source(TableInputs(load_paper(), Records.of(records), folder))


def row_of(source: Source, table: str, label: str) -> list[str]:
    """The cells of the row `label` of a table in the body."""
    grid = body_grid(source, table)
    assert isinstance(grid, Grid)
    return next([plain_text(cell) for cell in row[1:]] for row in grid.rows if plain_text(row[0]) == label)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- what is written, and from what ---------------------------------------------------------------------------------


def test_the_same_records_give_the_same_bytes_without_torch(built: Path, records_dir: Path, tmp_path: Path) -> None:
    script = f"{NO_TORCH}\nfrom reports.__main__ import main\nsys.exit(main(sys.argv[1:]))"
    run = subprocess.run(
        [sys.executable, "-c", script, "--records", str(records_dir), "--out", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    again, before = contents(tmp_path), contents(built)
    assert set(FILES) < set(again) == set(before)
    assert [name for name in again if again[name] != before[name]] == []


def test_every_registered_table_is_in_the_report(records_dir: Path) -> None:
    # In a fresh interpreter: other tests register tables of their own.
    script = (
        "import sys; from pathlib import Path; from reports.build import whole_report; from reports.source import *\n"
        "from reports.plots import use_style; from reproduce.records.store import load_records; use_style()\n"
        "from reproduce.paper import load_paper; from reproduce.tables import table_specs\n"
        "folder = Path(sys.argv[1]); inputs = TableInputs(load_paper(), load_records(folder), folder)\n"
        "whole_report(Source(inputs), [])\n"
        "print(*(set(table_specs()) - set(inputs.built)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, str(records_dir)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == []


def test_figures_that_the_text_shows_are_beside_it(built: Path) -> None:
    shown = re.findall(r"\]\((figures/[a-z0-9_]+\.svg)\)", (built / "report.md").read_text())
    assert "figures/architecture.svg" in shown
    assert all(b"<svg" in (built / name).read_bytes() for name in shown)


def test_the_commands_of_the_report_are_ones_that_the_command_line_takes() -> None:
    from reproduce.cli.parser import build_parser

    commands = {command_of(name) for name in table_specs()} | {plot.command for plot in PLOTS.values()}
    for command in sorted(commands):
        if command.startswith("pytest "):
            assert (ROOT / shlex.split(command)[1]).is_dir()
            continue
        python, minus_m, package, *arguments = shlex.split(command)
        assert (python, minus_m, package) == ("python", "-m", "reproduce")
        assert build_parser().parse_args(arguments)


def test_an_out_folder_that_cannot_be_made_is_one_line_and_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "none").mkdir()
    assert main(["--records", str(tmp_path / "none"), "--out", str(tmp_path / "file/report")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and "--out" in line


def test_a_records_folder_that_is_absent_is_one_line_and_no_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--records", str(tmp_path / "nosuch"), "--out", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: --records {tmp_path / 'nosuch'}: no such folder")
    assert not (tmp_path / "out").exists()


def test_without_typst_the_other_files_are_written_and_no_old_pdf_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without records, too: a slip in --records would otherwise look like a suite that measured nothing."""
    monkeypatch.setitem(sys.modules, "typst", None)
    (tmp_path / "report.pdf").write_bytes(b"of an earlier day")
    (tmp_path / "none").mkdir()
    assert main(["--records", str(tmp_path / "none"), "--out", str(tmp_path)]) == 0
    absent, missing = capsys.readouterr().err.splitlines()
    assert absent.startswith(str(tmp_path / "none")) and "--records" in absent and missing == MISSING
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {"report.md", "report.html"}


# --- what the cells hold --------------------------------------------------------------------------------------------


def test_without_a_record_every_number_of_the_paper_is_not_run_with_its_command() -> None:
    source = source_of([], Path("nowhere"))
    assert row_of(source, "table2", "MAST (Ours)")[0] == "74.8 → not run"
    for target in ("table2", "table3", "table4", "table5", "table6", "ablations"):
        grid = body_grid(source, target)
        assert isinstance(grid, Grid) and grid.command == command_of(target)
    told = [plain_text(finding(source)) for finding in (cost_finding, accuracy_finding, coverage_finding)]
    assert ["not run" in text or "none is measured here" in text for text in told] == [True] * 3
    paragraphs = (b for section in body_sections(source) for b in section.blocks if isinstance(b, Paragraph))
    text = "\n".join(plain_text(paragraph.text) for paragraph in paragraphs)
    assert all(PLOTS[name].command in text for name in ("architecture", "speed", "scaling", "training_curves"))


def test_every_claim_is_counted_once_on_page_1() -> None:
    source = source_of(golden_records())
    counts = [int(n) for row in verdict_grid(source).rows for n in re.findall(r"\d+", plain_text(row[2]))]
    assert sum(counts) == len(load_paper().claims)


# --- sentences ------------------------------------------------------------------------------------------------------


def pair_of_runs(folder: Path, second_right: int, seed: int = 0, **further: int) -> list[RunRecord]:
    """AST right on 20 of 40 clips of ESC-50's layout, MAST on `second_right` and `further` models on theirs."""
    clips = " ".join(f"1-{i}-A-0" for i in range(40))
    records = []
    for model, right in {"ast_tiny": 20, "mast_tiny": second_right, **further}.items():
        stored: StoredPredictions = ranked(clips, label="0" * right + "1" * (40 - right))
        run = make_run(folder, model, "kinetics_sounds", stored, recipe_name="", seed=seed)
        names = [f"c{i}" for i in range(6)]
        dataset = {**run.dataset, "name": "esc50", "classes": {"label": names}}
        metrics = {**run.metrics, "clips": 40, "correct": right, "train_clips_per_s": 1.0, "predict_clips_per_s": 1.0}
        records.append(replace(run, scale="demo", dataset=dataset, metrics=metrics))
    return records


@pytest.mark.parametrize(("right", "verdict"), [(20, "no difference is shown"), (36, "MAST (tiny) is ahead")])
def test_a_winner_is_named_only_beyond_the_spread_over_runs(tmp_path: Path, right: int, verdict: str) -> None:
    records = [record for seed in (0, 1) for record in pair_of_runs(tmp_path, right, seed)]
    text = plain_text(accuracy_finding(source_of(records, tmp_path)))
    assert text.endswith(f": {verdict}.") and ", 2 seeds: top-1 of AST (tiny) 50.0 % and MAST (tiny) " in text


@pytest.mark.parametrize(
    ("right", "verdict"),
    [(20, "a tie"), (22, "no difference is shown"), (36, "a difference of these two trained models")],
)
def test_one_run_of_each_names_no_winner(tmp_path: Path, right: int, verdict: str) -> None:
    source = source_of(pair_of_runs(tmp_path, right), tmp_path)
    assert plain_text(accuracy_finding(source)).endswith("over the 40 recordings, one run of each.")
    (text,) = map(plain_text, real_audio_findings(source, comparisons_of(source.inputs.records)))
    assert f"over the 40 recordings: {verdict}; one run of each says nothing" in text


def test_a_third_model_stands_beside_the_comparison_of_ast_and_mast(tmp_path: Path) -> None:
    both, three = (
        source_of(pair_of_runs(tmp_path, 22, **further), tmp_path) for further in ({}, {"timm:resnet18": 30})
    )
    assert "55.0 % and timm:resnet18 75.0 %" in plain_text(accuracy_finding(three))
    told = [plain_text(*real_audio_findings(s, comparisons_of(s.inputs.records))) for s in (both, three)]
    third = "On the same clips, timm:resnet18 reaches 75.0 %, trained the same way."
    assert third in told[1] and told[1].replace(f" {third}", "") == told[0]
    drawn = [PLOTS["class_differences"].draw(source.inputs) for source in (both, three)]
    assert drawn[0] and drawn[1] and drawn[0].caption == drawn[1].caption


def test_a_third_model_with_one_seed_leaves_the_others_both(tmp_path: Path) -> None:
    records = [*pair_of_runs(tmp_path, 36, 0, **{"timm:resnet18": 30}), *pair_of_runs(tmp_path, 38, 1)]
    source = source_of(records, tmp_path)
    told = plain_text(accuracy_finding(source))
    assert ", 2 seeds: top-1 of AST (tiny) 50.0 %, MAST (tiny) 92.5 % and timm:resnet18 75.0 % (1 seed)" in told
    table = source.table("esc50")
    scores = {row.key: row.cells["top1"].measured for row in table.rows if "top1" in row.cells}
    assert scores == {"ast_tiny": 50, "mast_tiny": 92.5, "timm:resnet18": 75}
    assert any(note.endswith("ast_tiny 0, 1; mast_tiny 0, 1; timm:resnet18 0.") for note in table.notes)
    alike = source_of([*pair_of_runs(tmp_path, 36, 0), *pair_of_runs(tmp_path, 38, 1)], tmp_path).table("esc50")
    assert not any("of which rows have different ones" in note for note in alike.notes)


# --- the PDF --------------------------------------------------------------------------------------------------------


def test_text_extraction_of_the_pdf_finds_every_number_of_every_table(built: Path) -> None:
    pypdf = pytest.importorskip("pypdf")
    pages = pypdf.PdfReader(built / "report.pdf").pages
    found = re.findall(r"\d[\d,.]*\d|\d", "\n".join(page.extract_text() for page in pages))
    lines = (built / "report.md").read_text().splitlines()
    cells = [line for line in lines if line.startswith("| ") and not line.startswith(("| :--", "| `"))]
    wanted = re.findall(r"\d[\d,.]*\d|\d", "\n".join(cells))
    assert len(wanted) > 500
    assert sorted(set(wanted) - set(found)) == []


def test_the_body_of_the_pdf_fits_on_ten_pages(built: Path) -> None:
    pypdf = pytest.importorskip("pypdf")
    reader = pypdf.PdfReader(built / "report.pdf")
    titles = {str(entry.title): reader.get_destination_page_number(entry) for entry in _flat(reader.outline)}
    first = next(page for title, page in titles.items() if title.startswith("Appendix A"))
    assert first is not None and first <= BODY_PAGES  # pages count from 0


def _flat(outline: list) -> list:  # type: ignore[type-arg]
    return [entry for part in outline for entry in (_flat(part) if isinstance(part, list) else [part])]


def test_the_fonts_of_the_pdf_are_embedded_and_its_date_is_the_newest_record_s(built: Path) -> None:
    pypdf = pytest.importorskip("pypdf")
    reader = pypdf.PdfReader(io.BytesIO((built / "report.pdf").read_bytes()))
    fonts = {}
    for page in reader.pages:
        for font in page["/Resources"].get("/Font", {}).values():
            (descendant,) = font.get_object()["/DescendantFonts"]
            fonts[font.get_object()["/BaseFont"]] = descendant.get_object()["/FontDescriptor"].get_object()
    assert len(fonts) >= 3
    assert all({"/FontFile2", "/FontFile3"} & set(descriptor) for descriptor in fonts.values())
    newest = max(record.created for record in golden_records())
    assert reader.metadata.creation_date.isoformat()[:10] == newest[:10]


# --- the page -------------------------------------------------------------------------------------------------------


def test_the_page_is_one_file_and_its_figures_carry_the_records_behind_them(built: Path) -> None:
    page = (built / "report.html").read_text()
    assert not re.search(r"""(?:src|href|url)\s*[=(]\s*["']?(?:https?:|//|figures/)""", page)
    names = re.findall(r'\bid="([^"]+)"', page)
    assert len(names) == len(set(names))
    targets = re.findall(r'href="#([^"]+)"', page) + re.findall(r"url\(#([^)]+)\)", page)
    assert set(targets) <= set(names)
    costs = [record.key for record in golden_records() if record.kind == "cost"]
    titles = [html.unescape(title) for title in re.findall(r"<title>(.*?)</title>", page)]
    assert any(key in title for title in titles for key in costs)


def test_the_page_has_the_semantics_that_a_screen_reader_needs(built: Path) -> None:
    page = (built / "report.html").read_text()
    assert page.count("<table>") == page.count("<caption") == page.count("<thead>") > 20
    assert page.count("<figure") == page.count('<svg role="img" aria-label="') == page.count("<figcaption>") > 2
    heads = re.findall(r"<th\b[^>]*>", page)
    assert all("scope=" in head for head in heads)
    assert re.search(r'<nav aria-label="Contents">', page) and 'href="#summary">Skip' in page


# --- own runs -------------------------------------------------------------------------------------------------------


def test_own_runs_get_a_report_of_their_own_without_a_word_on_the_paper(tmp_path: Path) -> None:
    records = pair_of_runs(tmp_path / "records", 30)
    for record in records:
        dataset = {**record.dataset, "name": "folder"}
        experiment = {**record.experiment, "dataset": "folder"}
        append_record(tmp_path / "records", replace(record, dataset=dataset, experiment=experiment))
    assert main(["--records", str(tmp_path / "records"), "--out", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out/report.md").read_text()
    assert "50.0" in text and "75.0" in text and "Mistakes worth listening to" in text
    assert not re.search(r"not run|paper|AudioSet", text)
    assert not (tmp_path / "out/sounds").exists()


def test_own_runs_of_one_model_are_shown_alone(tmp_path: Path) -> None:
    (record, _) = pair_of_runs(tmp_path / "records", 30)
    dataset, experiment = (
        {**part, key: "csv"} for part, key in ((record.dataset, "name"), (record.experiment, "dataset"))
    )
    append_record(tmp_path / "records", replace(record, dataset=dataset, experiment=experiment))
    assert main(["--records", str(tmp_path / "records"), "--out", str(tmp_path / "out")]) == 0
    assert re.search(
        r"Own CSV, 6 classes, \d+ epochs?: Top-1 \S+ \(\w+\) [\d.]+ %\.", (tmp_path / "out/report.md").read_text()
    )

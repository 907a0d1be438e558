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
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from reports.__main__ import main
from reports.commands import command_of
from reports.pdf import MISSING
from reports.plots import PLOTS
from reports.sections import TABLES, report_text
from reproduce.paper import load_paper
from reproduce.records.record import RunRecord
from reproduce.records.store import append_record, load_records
from reproduce.tables import TableInputs

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "tests/golden/records"
FILES = ("report.md", "report.html", "report.pdf")
# What an interpreter does that must not have torch: any import of it is an error.
NO_TORCH = """
import sys
sys.modules.update(dict.fromkeys(("torch", "timm", "models")))
"""


def golden_records() -> list[RunRecord]:
    """The golden records; their costs, which hold no items, get two invented ones."""
    items = [["block 0", "linear", 20_000_000_000], ["block 0", "attention", 5_000_000_000]]
    return [
        replace(r, details={**r.details, "items": items, "libraries": {}}) if r.kind == "cost" else r
        for r in load_records(GOLDEN)
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


def inputs_of(records: list[RunRecord], folder: Path = GOLDEN) -> TableInputs:
    return TableInputs(load_paper(), records, folder)


def row_of(text: str, heading: str, label: str) -> str:
    """The line of the table under `heading` (its start) that begins with `label`."""
    section = text[text.index(heading) :]
    return next(line for line in section.splitlines() if line.startswith(f"| {label} |"))


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


def test_every_registered_table_is_in_the_report() -> None:
    # In a fresh interpreter: other tests register tables of their own.
    script = "from reports.sections import TABLES; from reproduce.tables import table_specs\nprint(*table_specs())"
    names = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(names.stdout.split()) == set(TABLES)


def test_figures_that_the_text_shows_are_there_as_png_and_svg(built: Path) -> None:
    shown = re.findall(r"\]\((figures/[a-z0-9_]+)\.png\)", (built / "report.md").read_text())
    assert "figures/architecture" in shown
    for name in shown:
        assert (built / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert b"<svg" in (built / f"{name}.svg").read_bytes()


def test_the_commands_of_the_report_are_ones_that_the_command_line_takes() -> None:
    from reproduce.__main__ import build_parser

    commands = {command_of(name) for name in TABLES} | {plot.command for plot in PLOTS.values()}
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
    assert main(["--records", str(tmp_path / "none"), "--out", str(tmp_path / "file/report")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and "--out" in line


def test_a_damaged_record_is_one_line_and_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "train.jsonl").write_text("{half a rec")
    assert main(["--records", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "train.jsonl:1" in line


def test_a_folder_without_records_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A slip in --records would otherwise look like a suite that measured nothing."""
    assert main(["--records", str(tmp_path / "none"), "--out", str(tmp_path / "out")]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(str(tmp_path / "none")) and "--records" in line


def test_without_typst_markdown_and_html_are_written_and_no_old_pdf_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "typst", None)
    (tmp_path / "report.pdf").write_bytes(b"of an earlier day")
    assert main(["--records", str(tmp_path / "none"), "--out", str(tmp_path)]) == 0
    assert MISSING in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {"report.md", "report.html"}


# --- what stands in the cells ---------------------------------------------------------------------------------------


def test_without_a_record_every_number_of_the_paper_is_not_run_with_its_command() -> None:
    text = report_text(inputs_of([], Path("nowhere")), {}, "")
    assert "74.8 → not run" in row_of(text, "### Table 2", r"MAST \(Ours\)".replace("\\", ""))
    for target in ("table2", "table3", "table4", "table5", "table6", "ablations"):
        assert f"`{command_of(target)}`" in text
    for plot in PLOTS.values():
        assert f"`{plot.command}`" in text
    assert "![" not in text


def of_table_2(record: RunRecord) -> bool:
    return record.scale == "paper" and record.dataset.get("name") == "kinetics_sounds"


def test_a_removed_record_turns_its_cells_into_not_run() -> None:
    records = golden_records()
    with_it = report_text(inputs_of(records), {}, "")
    without = report_text(inputs_of([record for record in records if not of_table_2(record)]), {}, "")
    assert "74.8 → **75.0" in row_of(with_it, "### Table 2", "MAST (Ours)")
    assert "74.8 → not run" in row_of(without, "### Table 2", "MAST (Ours)")
    assert row_of(with_it, "### Table 5", "MAST (Ours)") == row_of(without, "### Table 5", "MAST (Ours)")


STRANGERS: dict[str, Callable[[RunRecord], RunRecord]] = {
    "a stand-in": lambda r: replace(r, dataset={**r.dataset, "standin": {"seed": 0}}),
    "another data set": lambda r: replace(r, dataset={**r.dataset, "name": "vggsound"}),
    "another variant of the data": lambda r: replace(r, dataset={**r.dataset, "protocol": "ks31"}),
    "demo scale": lambda r: replace(r, scale="demo", experiment={**r.experiment, "scale": "demo"}),
    "another recipe": lambda r: replace(r, experiment={**r.experiment, "recipe_name": "mast, epochs=3"}),
    "a search": lambda r: replace(r, kind="search"),
}


@pytest.mark.parametrize("stranger", STRANGERS)
def test_a_record_of_anything_else_never_enters_a_paper_cell(stranger: str) -> None:
    records = [STRANGERS[stranger](record) if of_table_2(record) else record for record in golden_records()]
    text = report_text(inputs_of(records), {}, "")
    row = row_of(text, "### Table 2", "MAST (Ours)")
    assert row.count("not run") == 2 and "75.0" not in row


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

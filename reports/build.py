"""Records in, files out: the figures, then report.md, report.html and report.pdf. Same records, same bytes."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from reports.document import Report, numbered
from reports.own import is_own, own_report
from reports.pdf import MISSING, to_pdf, typst_or_none
from reports.plots import PLOTS, use_style
from reports.sounds import class_sounds, path_of
from reports.source import Source
from reports.to_html import to_html
from reports.to_markdown import FIGURES, SOUNDS, to_markdown
from reports.to_typst import to_typst
from reproduce.files import write_whole
from reproduce.paper import load_paper
from reproduce.records.records import Records
from reproduce.records.store import load_records
from reproduce.tables import TableInputs

REMEDY = "choose another --out folder"
NO_RECORDS = "no records, so nothing in the report is measured: measure something, or choose another --records folder"


def build_report(records_dir: Path, out: Path) -> tuple[list[Path], list[str]]:
    """Write the report under `out`.

    Returns:
        The files and folders written, and a line for everything that could not be made.

    Raises:
        InputError: records that cannot be read, or a folder that cannot be written.
    """
    inputs = TableInputs(load_paper(), load_records(records_dir), records_dir)
    lacking = [] if len(inputs.records) else [f"{records_dir}: {NO_RECORDS}"]
    use_style()
    source = Source(inputs)
    if is_own(inputs.records):
        report, sounds = own_report(source), {}
    else:
        sounds = {path_of(label): (label, flac) for label, flac in class_sounds().items()}
        report = whole_report(source, [(label, path) for path, (label, _) in sounds.items()])
    written, without = _write(numbered(report), {path: flac for path, (_, flac) in sounds.items()}, inputs.records, out)
    return written, lacking + without


def whole_report(source: Source, sounds: list[tuple[str, str]]) -> Report:
    """The report on the paper.

    Args:
        source: tables and figures.
        sounds: label and path of the sounds of a stand-in.
    """
    from reports.appendices import appendices
    from reports.body import body_sections
    from reports.summary import facts_of, summary_blocks

    return Report(
        title="MAST vs AST: report",
        facts=facts_of(source.inputs.records),
        summary=summary_blocks(source),
        body=body_sections(source),
        appendices=appendices(source, sounds),
    )


def _write(report: Report, sounds: dict[str, bytes], records: Records, out: Path) -> tuple[list[Path], list[str]]:
    """Figures, sounds and the report in its three formats; figures of an earlier report are removed."""
    for figure in report.figures:
        _file(out / FIGURES / f"{figure.key}.svg", figure.svg)
    for path, flac in sounds.items():
        _file(out / path, flac)
    written = [
        *(out / folder for folder, files in ((FIGURES, report.figures), (SOUNDS, sounds)) if files),
        _file(out / "report.md", to_markdown(report).encode()),
        _file(out / "report.html", to_html(report, sounds).encode()),
    ]
    for name in set(PLOTS) - {figure.key for figure in report.figures}:
        (out / FIGURES / f"{name}.svg").unlink(missing_ok=True)
    pdf = out / "report.pdf"
    if typst_or_none() is None:
        pdf.unlink(missing_ok=True)
        return written, [MISSING]
    written.append(_file(pdf, to_pdf(to_typst(report), out, _newest(records))))
    return written, []


def _newest(records: Records) -> datetime:
    """When the newest record was written: a date of building would change the bytes from run to run."""
    dates = [datetime.fromisoformat(run.created) for run in records if run.created]
    return max(
        (date if date.tzinfo else date.replace(tzinfo=UTC) for date in dates), default=datetime(1970, 1, 1, tzinfo=UTC)
    )


def _file(path: Path, data: bytes) -> Path:
    write_whole(path, lambda file: file.write(data), "cannot be written", REMEDY)
    return path

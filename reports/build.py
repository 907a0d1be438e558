"""Records in, files out: the figures, then report.md, report.html and report.pdf. Same records, same bytes."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from reports.pdf import MISSING, to_pdf, typst_or_none
from reports.plots import PLOTS, use_style
from reports.sections import FIGURES, report_text
from reports.sounds import FOLDER as SOUNDS
from reports.sounds import class_sounds, path_of, sounds_text
from reports.to_html import to_html
from reproduce.errors import InputError
from reproduce.files import write_whole
from reproduce.paper import load_paper
from reproduce.records.store import load_records
from reproduce.tables import TableInputs

REMEDY = "choose another --out folder"
NO_RECORDS = 'no records, so what they fill says "not run": measure something, or choose another --records folder'


def build_report(records_dir: Path, out: Path) -> tuple[list[Path], list[str]]:
    """Write the report under `out`.

    Returns:
        The files written, and what could not be made, a line each.

    Raises:
        InputError: records that cannot be read, or a folder that cannot be written.
    """
    inputs = TableInputs(load_paper(), load_records(records_dir), records_dir)
    lacking = [] if inputs.records else [f"{records_dir}: {NO_RECORDS}"]
    try:
        (out / FIGURES).mkdir(parents=True, exist_ok=True)
        written, without = _write_all(inputs, out)
        return written, lacking + without
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror}): {REMEDY}") from None


def _write_all(inputs: TableInputs, out: Path) -> tuple[list[Path], list[str]]:
    captions, drawings, written = {}, {}, []
    use_style()
    for plot in PLOTS.values():
        files = {suffix: out / FIGURES / f"{plot.name}.{suffix}" for suffix in ("svg", "png")}
        drawn = plot.draw(inputs)
        if drawn is None:
            for path in files.values():  # of an earlier report: it must not look like this one's
                path.unlink(missing_ok=True)
            continue
        captions[plot.name] = drawn.caption
        drawings[f"{FIGURES}/{plot.name}"] = drawn.svg
        written += [_write(files["svg"], drawn.svg), _write(files["png"], drawn.png)]
    sounds = class_sounds()
    (out / SOUNDS).mkdir(exist_ok=True)
    for label, data in sounds.items():
        _write(out / path_of(label), data)
    written.append(out / SOUNDS)
    text = report_text(inputs, captions, sounds_text(list(sounds)))
    written.append(_write(out / "report.md", text.encode()))
    playable = {path_of(label): data for label, data in sounds.items()}
    written.append(_write(out / "report.html", to_html(text, drawings, playable).encode()))
    pdf = out / "report.pdf"
    if typst_or_none() is None:
        pdf.unlink(missing_ok=True)
        return written, [MISSING]
    return [*written, _write(pdf, to_pdf(text, out, _newest(inputs)))], []


def _newest(inputs: TableInputs) -> datetime:
    """When the newest record was written: a date of building would change the bytes from run to run."""
    dates = [datetime.fromisoformat(record.created) for record in inputs.records if record.created]
    return max(
        (date if date.tzinfo else date.replace(tzinfo=UTC) for date in dates), default=datetime(1970, 1, 1, tzinfo=UTC)
    )


def _write(path: Path, data: bytes) -> Path:
    write_whole(path, lambda file: file.write(data), "cannot be written", REMEDY)
    return path

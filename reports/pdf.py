"""The report as PDF, by the typst wheel: no system package, no network, no font but typst's own."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

MISSING = "report.pdf not written: typst is not installed; `pip install -e '.[report]'` brings it"


def typst_or_none() -> Any:
    """The typst module, or None where the extra `report` is not installed."""
    try:
        import typst
    except ModuleNotFoundError:
        return None
    return typst


def to_pdf(markup: str, folder: Path, created: datetime) -> bytes:
    """PDF of Typst markup, dated `created`, whose images are SVG files relative to `folder`. Same text, same bytes."""
    pdf: bytes = typst_or_none().compile(
        markup.encode(), root=folder.resolve(), format="pdf", ignore_system_fonts=True, timestamp=created
    )
    return pdf

"""The report as PDF, by the typst wheel: no system package, no network, no font but typst's own."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from reports.to_typst import to_typst

MISSING = "report.pdf not written: typst is not installed; `pip install 'mast-vs-ast[report]'` brings it"


def typst_or_none() -> Any:
    """The typst module, or None where the extra `report` is not installed."""
    try:
        import typst
    except ModuleNotFoundError:
        return None
    return typst


def to_pdf(markdown: str, folder: Path, created: datetime) -> bytes:
    """PDF of `markdown`, dated `created`, whose images are SVG files relative to `folder`. Same text, same bytes."""
    return _compile(markdown, folder, "pdf", timestamp=created)


def to_pages(markdown: str, folder: Path, ppi: float = 80.0) -> list[bytes]:
    """Every page as PNG, to be looked at."""
    pages = _compile(markdown, folder, "png", ppi=ppi)
    return pages if isinstance(pages, list) else [pages]


def _compile(markdown: str, folder: Path, format: str, **options: Any) -> Any:
    return typst_or_none().compile(
        to_typst(markdown).encode(),
        root=folder.resolve(),
        format=format,
        ignore_system_fonts=True,
        **options,
    )

"""Stored records in, hand-checked tables out. After a change that is meant: `python tests/regenerate_golden.py`."""

from __future__ import annotations

import json

import pytest
from regenerate_golden import GOLDEN, ROOT, TABLES, TERMINAL, golden_texts

SUPERSEDED, DEMO_SCALE = 11.11, 99.9  # scores of stored runs that no table of the paper may show
NAMES = [*(f"{table}.json" for table in TABLES), f"{TERMINAL}.txt"]


@pytest.fixture(scope="module")
def rendered() -> dict[str, str]:
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(ROOT)
        return {path.name: text for path, text in golden_texts()}


@pytest.mark.parametrize("name", NAMES)
def test_tables_of_stored_records_read_as_checked_by_hand(rendered: dict[str, str], name: str) -> None:
    assert rendered[name] == (ROOT / GOLDEN / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [name for name in TABLES if name != "esc50"])
def test_no_paper_cell_shows_a_superseded_or_demo_scale_score(rendered: dict[str, str], name: str) -> None:
    shown = {cell["measured"] for cell in json.loads(rendered[f"{name}.json"])["rows"]}
    assert not shown & {SUPERSEDED, DEMO_SCALE}

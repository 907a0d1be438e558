"""Stored records in, hand-checked tables out. After a change that is meant: `python tests/regenerate_golden.py`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from regenerate_golden import GOLDEN, RECORDS, ROOT, SUFFIXES, TABLES, TRAINED, golden_texts, trained_records

from reproduce.records.predictions import load_predictions
from reproduce.records.store import to_line
from reproduce.tables.render import FORMATS

NAMES = [f"{table}.{suffix}" for table in TABLES for suffix in SUFFIXES.values()]


@pytest.fixture(scope="module")
def rendered() -> dict[str, str]:
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(ROOT)
        return {path.name: text for path, text in golden_texts()}


@pytest.mark.parametrize("name", NAMES)
def test_tables_of_stored_records_read_as_checked_by_hand(rendered: dict[str, str], name: str) -> None:
    assert rendered[name] == (ROOT / GOLDEN / name).read_text(encoding="utf-8")


def test_the_stored_records_and_predictions_are_those_of_the_generator(tmp_path: Path) -> None:
    records = trained_records(tmp_path)
    assert "".join(to_line(r) + "\n" for r in records) == (ROOT / RECORDS / TRAINED).read_text(encoding="utf-8")
    for record in records:
        ours, stored = (load_predictions(folder, record) for folder in (tmp_path, ROOT / RECORDS))
        assert (ours is None) == (stored is None)
        if ours is not None and stored is not None:
            assert ours.clip_ids.tolist() == stored.clip_ids.tolist()
            for head, logits in ours.logits.items():
                assert np.array_equal(logits, stored.logits[head])


def test_every_format_has_its_golden_file() -> None:
    assert set(SUFFIXES) == set(FORMATS)
    stored = {path.name for path in (ROOT / GOLDEN).iterdir() if path.is_file()}
    assert stored == set(NAMES)


def test_demo_scale_and_superseded_numbers_stand_in_no_paper_table(rendered: dict[str, str]) -> None:
    for name in NAMES:
        if not name.startswith("esc50"):
            assert "99.9" not in rendered[name]
            assert "11.1" not in rendered[name]

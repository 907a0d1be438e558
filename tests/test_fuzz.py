"""Damaged inputs of every kind end with one line or are read; and the fuzzer finds the faults that it looks for."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz.command import KINDS, counts_of
from fuzz.outcomes import CLEAR, READ, WRONG, Outcome, count_table
from fuzz.runner import Limits, Session, try_inputs

INPUTS = 320  # over all kinds
PLANTED = {"traceback": "traceback: KeyError", "hang": "hang", "crash": "crash: SIGSEGV", "memory": "memory: "}
PLANTED |= {"nan": "NaN: nan", "nan-json": "NaN: JSON with NaN", "silent": "message: ''"}


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_inputs_are_read_or_refused_with_one_line(kind: str, tmp_path: Path) -> None:
    session = Session(seed=0, work=tmp_path / "work", wrong=tmp_path / "wrong")
    count = counts_of(list(KINDS), INPUTS)[kind]
    outcomes = list(try_inputs(KINDS[kind][0], kind, 0, count, session))
    assert [outcome for outcome in outcomes if outcome.what == WRONG] == []
    assert len(outcomes) == count
    assert any(outcome.what == CLEAR for outcome in outcomes)


@pytest.mark.parametrize("name", PLANTED)
def test_the_fuzzer_finds_a_planted_fault_and_goes_on(name: str, tmp_path: Path) -> None:
    session = Session(seed=0, work=tmp_path / "work", wrong=tmp_path / "wrong", limits=Limits(seconds=1, memory_mib=40))
    target = f"fuzz.planted:{name.upper().replace('-', '_')}"
    outcomes = list(try_inputs(target, name, 0, 6, session))
    assert [outcome.number for outcome in outcomes] == list(range(6))
    wrong = [outcome for outcome in outcomes if outcome.what == WRONG]
    assert {READ, CLEAR} <= {outcome.what for outcome in outcomes}
    assert wrong and all(outcome.detail.startswith(PLANTED[name]) for outcome in wrong)
    for outcome in wrong:
        saved = session.wrong / f"{name}-0-{outcome.number:06d}"
        assert (saved / "input/number").read_text() == "0"
        assert f"--kind {name} --seed 0 --only {outcome.number}" in (saved / "command.txt").read_text()


def test_the_same_seed_gives_the_same_inputs(tmp_path: Path) -> None:
    kind = KINDS["csv"][0]
    sessions = [Session(seed=5, work=tmp_path / name, wrong=tmp_path / "wrong") for name in ("once", "again")]
    whole, part = (list(try_inputs(kind, "csv", first, 6, s)) for first, s in zip((0, 4), sessions, strict=True))
    texts = [(tmp_path / name / "csv/case/list.csv").read_bytes() for name in ("once", "again")]
    assert texts[0] == texts[1]
    assert [outcome.what for outcome in whole[4:]] == [outcome.what for outcome in part]


def test_the_table_counts_outcomes_by_kind() -> None:
    what = (CLEAR, CLEAR, READ, WRONG)
    outcomes = [Outcome(kind="csv", number=number, what=of) for number, of in enumerate(what)]
    assert count_table(outcomes, ["csv"]).splitlines()[1].split() == ["csv", "4", "2", "1", "1"]

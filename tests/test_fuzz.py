"""Damaged inputs of every kind end with one line or are read; and the fuzzer finds the faults that it looks for."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz.command import KINDS, parts_of
from fuzz.job import Part
from fuzz.killed_commands import Killed, files
from fuzz.kills import kill_commands
from fuzz.outcomes import CLEAR, READ, WRONG, Outcome, count_table
from fuzz.runner import Limits, Session, try_inputs, try_saved

INPUTS = 320  # over all kinds
PLANTED = {"traceback": "traceback: KeyError", "hang": "hang", "crash": "crash: SIGSEGV", "memory": "memory: "}
PLANTED |= {"nan": "NaN: nan", "nan-json": "NaN: JSON with NaN", "silent": "message: ''"}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[Outcome]:
    """Of damaged inputs of every kind."""
    folder = tmp_path_factory.mktemp("fuzz")
    return list(try_inputs(parts_of(list(KINDS), INPUTS), Session(seed=0, work=folder, wrong=folder / "wrong")))


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_inputs_are_read_or_refused_with_one_line(kind: str, outcomes: list[Outcome]) -> None:
    of_kind = [outcome for outcome in outcomes if outcome.kind == kind]
    assert [outcome for outcome in of_kind if outcome.what == WRONG] == []
    assert any(outcome.what == CLEAR for outcome in of_kind)


def test_every_input_is_tried(outcomes: list[Outcome]) -> None:
    expected = {(part.name, number) for part in parts_of(list(KINDS), INPUTS) for number in range(part.stop)}
    assert {(outcome.kind, outcome.number) for outcome in outcomes} == expected
    assert len(outcomes) == len(expected) > 300


@pytest.mark.parametrize("name", PLANTED)
def test_the_fuzzer_finds_a_planted_fault_and_goes_on(name: str, tmp_path: Path) -> None:
    limits = Limits(seconds=1, memory_mib=40)
    session = Session(seed=0, work=tmp_path / "work", wrong=tmp_path / "wrong", limits=limits)
    part = Part(target=f"fuzz.planted:{name.upper().replace('-', '_')}", name=name, first=0, stop=12)
    outcomes = list(try_inputs([part], session))
    assert [outcome.number for outcome in outcomes] == list(range(12))
    wrong = [outcome for outcome in outcomes if outcome.what == WRONG]
    assert {READ, CLEAR} & {outcome.what for outcome in outcomes}
    assert wrong and all(outcome.detail.startswith(PLANTED[name]) for outcome in wrong)
    for outcome in wrong:
        saved = session.wrong / f"{name}-0-{outcome.number:06d}"
        assert (saved / "input/number").read_text() == "0"
        assert f"--kind {name} --seed 0 --only {outcome.number}" in (saved / "command.txt").read_text()


def test_a_saved_input_gives_its_outcome_again(tmp_path: Path) -> None:
    session = Session(seed=0, work=tmp_path / "work", wrong=tmp_path / "wrong")
    part = Part(target="fuzz.planted:TRACEBACK", name="traceback", first=0, stop=12)
    wrong = [outcome for outcome in try_inputs([part], session) if outcome.what == WRONG]
    folder = session.wrong / f"traceback-0-{wrong[0].number:06d}/input"
    assert try_saved(part, folder, session).detail == wrong[0].detail


def test_the_same_seed_gives_the_same_inputs(tmp_path: Path) -> None:
    texts = []
    for name, first in (("whole", 0), ("last alone", 5)):
        session = Session(seed=5, work=tmp_path / name, wrong=tmp_path / "wrong")
        list(try_inputs([Part(target=KINDS["csv"][0], name="csv", first=first, stop=6)], session))
        texts.append((tmp_path / name / "csv/case/list.csv").read_bytes())
    assert texts[0] == texts[1]


def test_a_killed_command_goes_on_and_gives_the_undisturbed_result(tmp_path: Path) -> None:
    session = Session(seed=0, work=tmp_path / "work", wrong=tmp_path / "wrong")
    outcomes = list(kill_commands(9, session, ["shard", "audit", "append"]))
    assert [outcome.what for outcome in outcomes if outcome.what != READ] == []
    assert {outcome.kind for outcome in outcomes} == {"kill shard", "kill audit", "kill append"}


def test_the_kills_find_a_file_that_is_half_written(tmp_path: Path) -> None:
    planted = Killed(
        name="halves",
        function="fuzz.planted:write_in_halves",
        arguments=lambda places: [str(places.out)],
        result=files,
        needs_training=False,
    )
    session = Session(seed=0, work=tmp_path / "work", wrong=tmp_path / "wrong")
    outcomes = list(kill_commands(8, session, commands=(planted,)))
    wrong = [outcome for outcome in outcomes if outcome.what == WRONG]
    assert wrong and all("half written" in outcome.detail for outcome in wrong)
    assert len(list(session.wrong.iterdir())) == len(wrong)


def test_the_table_counts_outcomes_by_kind() -> None:
    what = (CLEAR, CLEAR, READ, WRONG)
    outcomes = [Outcome(kind="csv", number=number, what=of) for number, of in enumerate(what)]
    assert count_table(outcomes, ["csv"]).splitlines()[1].split() == ["csv", "4", "2", "1", "1"]

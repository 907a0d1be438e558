"""Equal MACs and the pooling ablations on real folds: what is trained, and which runs stand side by side."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from make_audio import make_esc50_folder
from make_records import make_record

from reproduce.__main__ import main
from reproduce.experiments.comparisons import (
    EQUAL_MACS,
    POOLING,
    POOLING_ABLATIONS,
    at_equal_macs,
    cross_validation,
    pooling_variants,
)
from reproduce.experiments.presets import PRESETS
from reproduce.paper import load_paper
from reproduce.records.record import RunRecord
from reproduce.records.records import Records
from reproduce.records.runs import TrainedRun
from reproduce.records.selection import comparisons, equal_macs_groups, pooling_groups
from reproduce.records.store import load_records
from reproduce.tables import TableInputs, table_specs

BOTH = cross_validation(PRESETS["demo"], "esc50", ("1", "2", "3"), ("1", "2"), seeds=(0,))


def test_both_models_train_longer_until_the_cheaper_has_cost_as_much() -> None:
    longer = at_equal_macs(BOTH, {"ast_tiny": 3.0e8, "mast_tiny": 1.0e8})
    assert [(e.model, e.test_splits) for e in longer] == [(e.model, e.test_splits) for e in BOTH]
    assert {e.recipe.epochs for e in longer} == {3 * BOTH[0].recipe.epochs}
    # A plain comparison of this length is the same runs.
    assert longer == [replace(e, recipe=replace(e.recipe, epochs=3 * e.recipe.epochs)) for e in BOTH]


def test_of_several_models_each_cheaper_one_has_its_own_length_and_the_dearest_all() -> None:
    third = [replace(e, model="third") for e in BOTH if e.model == "mast_tiny"]
    longer = at_equal_macs([*BOTH, *third], {"ast_tiny": 4e8, "mast_tiny": 2e8, "third": 1e8})
    epochs = {(e.model, e.recipe.epochs // BOTH[0].recipe.epochs) for e in longer}
    assert epochs == {("ast_tiny", 2), ("ast_tiny", 4), ("mast_tiny", 2), ("third", 4)}


def test_models_of_equal_cost_train_no_longer() -> None:
    assert at_equal_macs(BOTH, {"ast_tiny": 1e8, "mast_tiny": 1e8}) == []


def test_every_pooling_of_the_paper_is_trained_on_every_fold_and_ast_once() -> None:
    variants = pooling_variants(BOTH)
    assert len(variants) == 2 * (1 + len(POOLING_ABLATIONS))
    assert [v.model_config for v in variants if v.model == "ast_tiny"] == [{}, {}]
    strides = [v.model_config.get("pool_strides", POOLING_ABLATIONS["mast"]) for v in variants[1:6]]
    assert sorted(strides) == sorted(POOLING_ABLATIONS.values())
    assert {v.recipe_name for v in variants} == {POOLING}


def costing(record: RunRecord, macs: float) -> RunRecord:
    return replace(record, metrics={**record.metrics, "macs_full": macs})


def trained(model: str, macs: float, epochs: int, name: str = "", **changes: Any) -> RunRecord:
    recipe = {**make_record().experiment["recipe"], "epochs": epochs}
    experiment = {"recipe": recipe, **({"recipe_name": name} if name else {})}
    return costing(make_record(model, experiment=experiment, key=f"{model} {epochs} {name} {changes}", **changes), macs)


def test_the_runs_of_a_study_are_in_its_own_table_alone() -> None:
    plain = [trained("ast_debug", 3e8, 2), trained("mast_debug", 1e8, 2)]
    longer = trained("mast_debug", 1e8, 6, EQUAL_MACS)
    pools = {"recipe_name": POOLING, "model_config": {"pool_strides": [[1, 1]] * 3}}
    pooled = make_record("mast_debug", experiment=pools, key="pooled")
    records = Records.of([*plain, longer, pooled])
    assert comparisons(records, "esc50") == [list(records)[:2]]
    assert pooling_groups(records, "esc50") == [list(records)[3:]]
    (group,) = equal_macs_groups(records, "esc50")
    assert [record.key for record in group] == [record.key for record in (*plain, longer)]


def test_runs_of_an_earlier_length_stay_out_of_todays_table() -> None:
    old = [trained("ast_debug", 3e8, 4), trained("mast_debug", 1e8, 4)]
    today = [trained("ast_debug", 3e8, 2), trained("mast_debug", 1e8, 2), trained("mast_debug", 1e8, 6, EQUAL_MACS)]
    (group,) = equal_macs_groups(Records.of([*old, *today]), "esc50")
    assert [record.key for record in group] == [record.key for record in today]


def test_plain_comparisons_of_both_lengths_are_the_table_of_equal_macs() -> None:
    kept = {"train_kept": 50}
    models = (("ast_debug", 3e8), ("mast_debug", 1e8))
    runs = [trained(model, macs, epochs, dataset=kept) for epochs in (2, 6) for model, macs in models]
    records = Records.of(runs)
    (group,) = equal_macs_groups(records, "esc50")
    assert {(run.model, run.epochs) for run in group} == {(m, e) for m in ("ast_debug", "mast_debug") for e in (2, 6)}
    table = table_specs()["equal_macs"].build(TableInputs(load_paper(), records, Path("nowhere")))
    assert sum(note.startswith("At equal epochs, ") for note in table.notes) == 2
    assert sum(note.startswith("At equal MACs, ") for note in table.notes) == 1
    assert cells({"rows": list(table.cell_dicts())}, "training_macs")["mast_debug, 6 epochs"] == pytest.approx(
        cells({"rows": list(table.cell_dicts())}, "training_macs")["ast_debug, 2 epochs"]
    )


def of_corpus(classes: list[str], *epochs: int, correct: int = 5) -> list[RunRecord]:
    """Both models on a corpus of these classes, trained for each number of epochs; larger corpora have more clips."""
    sizes = {"classes": {"label": classes}, "train_kept": 50}
    return [
        trained(model, macs, length, correct=correct + length, clips=10 * len(classes), dataset=sizes)
        for model, macs in (("ast_debug", 3e8), ("mast_debug", 1e8))
        for length in epochs
    ]


def test_the_report_tells_and_draws_longer_training_where_the_first_figure_does_not() -> None:
    from reports.document import plain_text
    from reports.findings import real_audio_findings
    from reports.plots import PLOTS
    from reports.plots.comparisons import by_width
    from reports.source import Source

    small, wide = of_corpus(["a", "b"], 2, 6), [*of_corpus(list("abc"), 2), *of_corpus(list("abcd"), 2)]
    told = []
    for records in ([*small, *wide], wide, small):
        inputs = TableInputs(load_paper(), Records.of(records), Path("nowhere"))
        findings = real_audio_findings(Source(inputs), by_width(inputs.records)[0])
        text = " ".join(map(plain_text, findings))
        told.append((PLOTS["longer_training"].draw(inputs) is not None, "After 6 epochs (1 fold × 1 seed) AST" in text))
    assert told == [(True, True), (False, False), (False, True)]


def test_folds_that_not_every_row_has_run_are_neither_scored_nor_claimed() -> None:
    pools = {"recipe_name": POOLING, "model_config": {"pool_strides": [[1, 1]] * 3}}
    paper = {"recipe_name": POOLING}
    records = [make_record("mast_debug", fold, experiment=paper, key=f"paper {fold}") for fold in "123"]
    records.append(make_record("mast_debug", "2", experiment=pools, key="none 2"))
    table = table_specs()["pooling"].build(TableInputs(load_paper(), Records.of(records), Path("nowhere")))
    assert "1 of 5 folds tested" in table.title
    assert any(note.startswith("Tested on fold 2, ") for note in table.notes)
    assert any(note.startswith("Left out") and "2 runs" in note for note in table.notes)


def test_without_a_longer_run_there_is_no_table_of_equal_macs() -> None:
    assert equal_macs_groups(Records.of([make_record("ast_debug"), make_record("mast_debug")]), "esc50") == []


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_esc50_folder(tmp_path_factory.mktemp("studies") / "esc50", per_fold=2, folds=3)


def run(command: str, seeds: int, folder: Path, work: Path, capsys: pytest.CaptureFixture[str]) -> dict:
    capsys.readouterr()
    where = ["--data", f"esc50={folder}", "--records", str(work / "records"), "--runs", str(work / "runs")]
    assert main([command, "--preset", "debug", "--folds", "1", "--seeds", str(seeds), "--format", "json", *where]) == 0
    printed = capsys.readouterr()
    return {**json.loads(printed.out), "stderr": printed.err}


def cells(table: dict, column: str) -> dict[str, float]:
    return {cell["row"]: cell["measured"] for cell in table["rows"] if cell["column"] == column}


def test_equal_macs_from_audio_to_table(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = run("equal_macs", 2, folder, tmp_path, capsys)
    epochs, macs = cells(table, "epochs"), cells(table, "training_macs")
    longer, longest = sorted((row for row in epochs if epochs[row] > 1), key=lambda row: macs[row])
    cheap, dear = sorted((row for row in epochs if epochs[row] == 1), key=lambda row: macs[row])
    assert [row.partition(",")[0] for row in (longer, longest)] == [row.partition(",")[0] for row in (cheap, dear)]
    assert epochs[longer] == epochs[longest]
    assert all(minutes > 0 for minutes in cells(table, "training_minutes").values())
    assert macs[longer] == pytest.approx(epochs[longer] * macs[cheap])
    # Whole epochs: the budgets agree within half an epoch of the cheaper model.
    assert abs(macs[longer] - macs[dear]) <= macs[cheap] / 2
    assert any("Mean over 2 seeds" in note for note in table["notes"])
    again = run("equal_macs", 2, folder, tmp_path, capsys)
    assert again["rows"] == table["rows"]
    assert len(load_records(tmp_path / "records").of_kind(TrainedRun)) == 2 * 4
    where = ["--data", f"esc50={folder}", "--records", str(tmp_path / "records"), "--runs", str(tmp_path / "runs")]
    assert main(["equal_macs", "--preset", "debug", "--seeds", "2", "--dry-run", *where]) == 0  # of 3 folds
    planned = capsys.readouterr().out
    assert f"1 or {epochs[longer]:.0f} epochs, batch {PRESETS['debug'].recipe.batch_size}, 24 runs" in planned
    assert "for 16 runs, one after another; 8 of 24 runs recorded" in planned
    assert all(f"{model}, {count}: 4 x " in planned for model in ("ast_debug", "mast_debug") for count in ("1 epoch",))
    assert planned.count(f", {epochs[longer]:.0f} epochs: 4 x ") == 2
    # Without the clips, the same table comes from the records; and what needs the clips says so.
    records = ["--records", str(tmp_path / "records")]
    assert main(["equal_macs", *records, "--format", "json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["rows"] == table["rows"]
    assert "no folder of esc50" in printed.err
    for needs_clips in (["--run", "all"], ["--dry-run"]):
        assert main(["equal_macs", *records, *needs_clips]) == 2
        assert "esc50 needs its data: add --data esc50=DIR" in capsys.readouterr().err


def test_without_clips_and_without_records_a_study_asks_for_the_clips(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["esc50", "--records", str(tmp_path)]) == 2
    assert f"{tmp_path} has no run on esc50" in capsys.readouterr().err


def test_pooling_from_audio_to_table(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = run("pooling", 1, folder, tmp_path, capsys)
    macs = cells(table, "macs_full")
    assert len(macs) == 1 + len(POOLING_ABLATIONS)
    larger = sum(cost > macs["ast_debug"] for cost in macs.values())
    assert table["stderr"].count("times the MACs of") == larger > 0
    assert len(set(macs.values())) == len(macs)
    tests = [note for note in table["notes"] if "McNemar" in note]
    assert len(tests) == len(POOLING_ABLATIONS)  # the four other variants and AST, each against the paper's MAST


def test_the_fold_that_chose_the_rates_is_trained_on_and_never_tested(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(PRESETS, "debug", replace(PRESETS["debug"], validation_fold="1", search_epochs=2))
    where = ["--preset", "debug", "--data", f"esc50={folder}", "--records", str(tmp_path), "--runs", str(tmp_path)]
    assert main(["tune", *where]) == 0
    searches = load_records(tmp_path)
    assert {(r.train_splits, r.test_splits, r.recipe.epochs) for r in searches} == {(("2", "3"), ("1",), 2)}
    capsys.readouterr()
    assert main(["esc50", *where]) == 0
    trained = [r for r in load_records(tmp_path) if r.kind == "train"]
    assert {r.test_splits for r in trained} == {("2",), ("3",)}
    assert all("1" in r.train_splits for r in trained)
    printed = " ".join(capsys.readouterr().out.split())  # notes are wrapped
    assert "2 of 3 folds tested" in printed
    assert "chosen on the clips of fold 1" in printed and "no score here is of these clips" in printed
    assert main(["esc50", "--folds", "3", *where]) == 2
    assert "2 folds can be tested" in capsys.readouterr().err

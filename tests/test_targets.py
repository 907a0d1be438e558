"""Which runs each target asks for: every one once, at the paper's scale and at a demo's; and a demo from end to end."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from reproduce.__main__ import main
from reproduce.datasets.standin.write import write_standin
from reproduce.errors import InputError
from reproduce.experiments.comparisons import POOLING_ABLATIONS
from reproduce.experiments.experiment import Experiment
from reproduce.experiments.paper_studies import trained_targets
from reproduce.experiments.targets import DEMOS, PAPER, experiments_of
from reproduce.records.store import load_records

# (recipe name, model) -> runs at the paper's scale: three seeds, one where a run takes days.
BOTH = (("mast", "ast_base"), ("mast", "mast_base"), ("ast", "ast_base"))
EACH = (*BOTH, ("mbt", "ast_mbt"))
PAPER_RUNS: dict[str, dict[tuple[str, str], int]] = {
    "table2": dict.fromkeys(EACH, 3),
    "table3": dict.fromkeys(EACH, 1),
    "table4": dict.fromkeys(EACH, 3),
    "table5": dict.fromkeys(EACH, 4),  # balanced 3, full 1
    "table6": dict.fromkeys(BOTH, 1),
    "figure2": dict.fromkeys(BOTH, 1),
    "ablations": {("mast", "mast_base"): 3 * len(POOLING_ABLATIONS)},
    "claims": {},
    "scaling": {},
}


def counts(experiments: list[Experiment]) -> dict[tuple[str, str], int]:
    return dict(Counter((e.recipe_name, e.model) for e in experiments))


def identity(experiment: Experiment) -> str:
    return experiment.key("train", "test")


@pytest.mark.parametrize("target", PAPER_RUNS)
def test_a_target_asks_for_its_recipes_own_seeds(target: str) -> None:
    experiments = experiments_of(target, PAPER)
    assert counts(experiments) == PAPER_RUNS[target]
    assert len({identity(e) for e in experiments}) == len(experiments)
    assert all(e.scale == "paper" and e.weights.startswith("imagenet") for e in experiments)


@pytest.mark.parametrize("target", trained_targets())
@pytest.mark.parametrize("preset", [PAPER, *DEMOS])
def test_all_is_each_targets_runs_once(target: str, preset: str) -> None:
    everything = [identity(e) for e in experiments_of("all", preset)]
    assert len(set(everything)) == len(everything)
    assert {identity(e) for e in experiments_of(target, preset)} <= set(everything)
    apart = {identity(e) for name in trained_targets() for e in experiments_of(name, preset)}
    assert apart == set(everything)


@pytest.mark.parametrize("preset", [PAPER, *DEMOS])
def test_tables_3_and_6_and_figure_2_share_their_runs(preset: str) -> None:
    runs = [experiments_of(name, preset) for name in ("table3", "table6", "figure2")]
    ours = [e for e in runs[0] if e.recipe_name != "mbt"]  # Table 6 quotes no row of MBT
    assert ours == runs[1] == runs[2]


@pytest.mark.parametrize("preset", [PAPER, *DEMOS])
def test_the_ablations_are_every_pooling_and_masts_own_is_table_5s_run(preset: str) -> None:
    experiments = experiments_of("ablations", preset, seeds=1)
    strides = [e.model_config.get("pool_strides") for e in experiments]
    assert strides == [None, *(value for name, value in POOLING_ABLATIONS.items() if name != "mast")]
    shared = {identity(e) for e in experiments} & {identity(e) for e in experiments_of("table5", preset, seeds=1)}
    assert shared == {identity(experiments[0])}


@pytest.mark.parametrize("preset", [PAPER, *DEMOS])
@pytest.mark.parametrize("target", trained_targets())
def test_seeds_are_counted_from_0_and_change_nothing_else(target: str, preset: str) -> None:
    by_seed: dict[int, set[str]] = {}
    for experiment in experiments_of(target, preset, seeds=5):
        by_seed.setdefault(experiment.seed, set()).add(identity(replace(experiment, seed=0)))
    assert sorted(by_seed) == [0, 1, 2, 3, 4]
    assert len(set(map(frozenset, by_seed.values()))) == 1


def test_the_models_of_a_seed_stand_side_by_side() -> None:
    assert [e.seed for e in experiments_of("table2", PAPER)] == [0] * 4 + [1] * 4 + [2] * 4


@pytest.mark.parametrize("preset", DEMOS)
def test_a_demo_trains_both_models_alike_at_its_own_scale(preset: str) -> None:
    for target in ("table2", "table3", "table4"):
        ast, mast = experiments_of(target, preset)
        assert (ast.model, mast.model) == tuple(DEMOS[preset].models.values())
        own_rate = replace(ast.recipe, lr=DEMOS[preset].rate_of(mast.model))  # of the same search; all else is equal
        assert replace(ast, model=mast.model, recipe=own_rate) == mast
        assert (ast.scale, ast.recipe_name, ast.weights) == ("demo", "demo", "scratch")
    found = experiments_of("table5", preset)
    assert Counter(e.variant for e in found) == {"balanced": 2, "full": 2}
    assert {e.recipe.sampler for e in found if e.variant == "full"} == {"balanced"}
    assert all(e.recipe.report_best and e.recipe.average_from for e in found)


def test_a_changed_field_is_in_the_name_and_the_key() -> None:
    plain = experiments_of("table2", PAPER, seeds=1)
    changed = experiments_of("table2", PAPER, seeds=1, overrides={"batch_size": "12", "weights": "scratch"})
    assert {e.recipe_name for e in changed} == {
        "mast, batch_size=12, weights=scratch",
        "ast, weights=scratch",  # its batch is 12 anyway
        "mbt, batch_size=12, weights=scratch",
    }
    assert {(e.recipe.batch_size, e.weights) for e in changed} == {(12, "scratch")}
    assert not {identity(e) for e in plain} & {identity(e) for e in changed}


@pytest.mark.parametrize(
    ("preset", "overrides", "message"),
    [
        (PAPER, {"batchsize": "12"}, "no field 'batchsize'"),
        (PAPER, {"epochs": "none"}, "epochs=none: must be a whole number"),
        ("debug", {"epochs": "1"}, "--set changes the paper's recipes"),
        ("huge", {}, "no preset 'huge': choose one of paper, demo, debug"),
    ],
)
def test_what_cannot_be_asked_for_is_one_line(preset: str, overrides: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        experiments_of("table2", preset, overrides=overrides)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("target", "dataset", "clips", "runs"), [("table4", "epic_kitchens", 32, 2), ("ablations", "audioset", 24, 5)]
)
def test_a_demo_fills_a_block_of_its_own_and_a_second_call_trains_nothing(
    target: str, dataset: str, clips: int, runs: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_standin(dataset, tmp_path / dataset, clips=clips)
    options = ["--preset", "debug", "--data", f"{dataset}={data}", "--device", "cpu", "--format", "json"]
    command = [target, *options, "--records", str(tmp_path / "records"), "--runs", str(tmp_path / "runs")]
    assert main(command) == 0
    first = capsys.readouterr()
    assert f"{runs} runs: 0 recorded, {runs} to train" in first.err
    records = [record for record in load_records(tmp_path / "records") if record.kind == "train"]
    assert [run.recipe_name for run in records] == ["demo"] * runs
    table = json.loads(first.out)
    assert any(cell["status"] == "measured" for block in table["blocks"] for cell in block["rows"])
    # No score of the paper's own table is filled by a demo; costs are counted, not trained.
    scores = [cell for cell in table["rows"] if cell["unit"] == "%"]
    assert scores and all(cell["measured"] is None for cell in scores)

    assert main(command) == 0
    again = capsys.readouterr()
    assert f"{runs} runs: {runs} recorded, 0 to train" in again.err
    assert again.out == first.out

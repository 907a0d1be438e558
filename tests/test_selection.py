"""Which record stands for a cell: the newest of exactly the right kind, or none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from make_records import make_cost_record, make_paper_record, make_record

from reproduce.experiments.comparisons import POOLING_ABLATIONS
from reproduce.records.pooled import common_runs, pooled
from reproduce.records.record import RunRecord
from reproduce.records.selection import (
    canonical_config,
    comparisons,
    cost_of,
    demo_groups,
    latest,
    latest_by_key,
    other_paper_scale_runs,
    paper_run,
    paper_runs,
)

POOLED = {"pool_strides": ((2, 2), (2, 2), (2, 2))}


# --- the newest -----------------------------------------------------------------------------------------------------


def test_the_newest_record_wins_wherever_it_stands() -> None:
    old, new = make_record(created="2026-01-01"), make_record(created="2026-02-01")
    assert latest([old, new]) is new
    assert latest([new, old]) is new
    assert latest_by_key([new, old]) == {new.key: new}


def test_of_two_records_of_one_second_the_later_line_wins() -> None:
    first, second = make_record(correct=1), make_record(correct=2)
    assert latest([first, second]) is second
    assert latest_by_key([first, second])[first.key] is second


def test_nothing_recorded_gives_nothing() -> None:
    assert latest([]) is None
    assert latest_by_key([]) == {}
    assert cost_of([], "ast_base") is None
    assert paper_run([], "ast_base", "audioset", "full") is None
    assert comparisons([], "esc50") == []


def test_records_of_different_keys_do_not_replace_each_other() -> None:
    records = [make_record(fold="1"), make_record(fold="2"), make_record(fold="1", seed=1)]
    assert list(latest_by_key(records).values()) == records


# --- costs ----------------------------------------------------------------------------------------------------------


def test_a_cost_is_taken_for_exactly_the_model_and_config_asked_for() -> None:
    plain, pooled = make_cost_record("mast_base"), make_cost_record("mast_base", {"pool_strides": [[2, 2]] * 3})
    records = [plain, pooled, make_cost_record("ast_base"), make_record("mast_base")]
    assert cost_of(records, "mast_base") is plain
    assert cost_of(records, "mast_base", POOLED) is pooled  # tuples of the code equal lists of JSON
    assert cost_of(records, "mast_base", {"pool_strides": ((1, 1),) * 3}) is None


def test_a_cost_at_another_input_or_of_other_classes_stands_for_no_paper_cost() -> None:
    paper = make_cost_record()
    short = replace(paper, experiment={**paper.experiment, "input_size": [64, 256]})
    fewer = replace(paper, experiment={**paper.experiment, "num_classes": 10})
    assert cost_of([short, fewer], "ast_base") is None
    assert cost_of([short, fewer], "ast_base", input_size=(64, 256)) is short
    assert cost_of([short, paper, fewer], "ast_base") is paper


# --- paper cells ----------------------------------------------------------------------------------------------------


def test_a_paper_cell_takes_the_newest_run_of_its_model_dataset_and_protocol() -> None:
    old, new = make_paper_record(created="2026-01-01"), make_paper_record(created="2026-03-01")
    assert paper_run([new, old], "mast_base", "audioset", "balanced") is new


NOT_THIS_CELL = {
    "demo scale": replace(make_paper_record(), scale="demo"),
    "another model": make_paper_record(model="ast_base"),
    "another protocol": make_paper_record(variant="full"),
    "another dataset": replace(make_paper_record(), dataset={"name": "vggsound", "protocol": "balanced"}),
    "another config": make_paper_record(model_config={"pool_strides": [[2, 2], [2, 2], [2, 2]]}),
    "another kind": replace(make_paper_record(), kind="cost"),
    "a stand-in": replace(
        make_paper_record(), dataset={"name": "audioset", "protocol": "balanced", "standin": {"standin": True}}
    ),
    "no named recipe": make_paper_record(recipe_name=""),
    "AST's own recipe": make_paper_record(recipe_name="ast"),
    "an overridden field": make_paper_record(recipe_name="mast, batch_size=12"),
}


@pytest.mark.parametrize("record", NOT_THIS_CELL.values(), ids=NOT_THIS_CELL.keys())
def test_a_run_under_other_conditions_never_enters_a_paper_cell(record: RunRecord) -> None:
    assert paper_run([record], "mast_base", "audioset", "balanced") is None


def test_ast_by_its_own_recipe_is_asked_for_by_name() -> None:
    own, shared = make_paper_record("ast_base"), make_paper_record("ast_base", recipe_name="mast")
    assert paper_run([own, shared], "ast_base", "audioset", "balanced", recipe_name="ast") is own
    assert paper_run([own, shared], "ast_base", "audioset", "balanced") is shared


def seeded(seed: int, created: str = "2026-01-01", **on: Any) -> RunRecord:
    return replace(make_paper_record(created=created, **on), seed=seed, key=f"{seed} {created} {on}")


def test_runs_that_differ_in_the_seed_alone_fill_a_cell_together() -> None:
    second, first = seeded(1, "2026-01-02"), seeded(0)
    assert paper_runs([second, first], "mast_base", "audioset", "balanced") == [first, second]


def test_runs_on_other_clips_or_of_older_settings_are_left_to_the_newest() -> None:
    newest, older = seeded(0, "2026-03-01"), seeded(1, weights="others")
    clips = seeded(2)
    clips = replace(clips, dataset={**clips.dataset, "test_sha256": "one clip fewer"})
    assert paper_runs([newest, older, clips], "mast_base", "audioset", "balanced") == [newest]
    assert other_paper_scale_runs([newest, older, clips], "audioset", [newest]) == [[older], [clips]]


def test_the_pooling_of_mast_itself_is_no_variant() -> None:
    assert canonical_config("mast_base", {"pool_strides": POOLING_ABLATIONS["mast"]}) == {}
    assert canonical_config("mast_base", {"pool_strides": POOLING_ABLATIONS["none"], "cls": True}) == {
        "pool_strides": [[1, 1], [1, 1], [1, 1]],
        "cls": True,
    }


def test_demo_groups_hold_families_variants_and_seeds_of_one_size_on_the_same_data() -> None:
    def demo(model: str, standin: bool = True, **on: Any) -> RunRecord:
        record = make_paper_record(model, **{"recipe_name": "demo", **on})
        data = {**record.dataset, "standin": {"standin": True} if standin else None}
        return replace(record, scale="demo", dataset=data, key=f"{record.key} {standin}")

    together = [
        demo("ast_tiny"),
        demo("mast_tiny"),
        demo("mast_tiny", model_config=POOLED),
        demo("ast_tiny", seed=1),
    ]
    apart = [demo("ast_small"), demo("ast_tiny", standin=False), demo("ast_tiny", weights="imagenet")]
    assert demo_groups([*together, *apart], "audioset") == [together, *([record] for record in apart)]
    assert demo_groups([demo("ast_tiny", recipe_name="")], "audioset") == []


# --- cross-validation -----------------------------------------------------------------------------------------------


def test_folds_and_seeds_are_pooled_over_clips() -> None:
    records = [
        make_record(fold="1", seed=0, correct=6, clips=10, top5=80.0),
        make_record(fold="2", seed=0, correct=10, clips=20, top5=50.0),
        make_record(fold="1", seed=1, correct=8, clips=10, top5=100.0),
        make_record(fold="2", seed=1, correct=12, clips=20, top5=60.0),
    ]
    result = pooled(records)
    assert result.value == pytest.approx(100 * 36 / 60)
    assert pooled(records, "top5").value == pytest.approx((80 * 10 + 50 * 20 + 100 * 10 + 60 * 20) / 60)
    assert (result.clips, result.correct) == (30, 18)  # two seeds do not make 60 clips
    assert (result.folds, result.seeds) == (("1", "2"), (0, 1))
    assert result.fold_sd == pytest.approx(15 / math.sqrt(2))  # of the folds' means over seeds, 70 and 55
    assert result.records == tuple(records)


def test_one_fold_has_no_deviation_over_folds() -> None:
    result = pooled([make_record(correct=3, clips=4)])
    assert (result.value, result.clips, result.correct) == (75.0, 4, 3)
    assert math.isnan(result.fold_sd)


def test_seeds_that_ran_different_folds_are_not_pooled() -> None:
    records = [make_record(fold="1", seed=0), make_record(fold="2", seed=0), make_record(fold="1", seed=1)]
    with pytest.raises(ValueError, match="different folds"):
        pooled(records)


# --- side by side ---------------------------------------------------------------------------------------------------


def test_runs_that_differ_in_model_fold_and_seed_stand_side_by_side() -> None:
    records = [
        make_record(model, fold, seed) for model in ("ast_debug", "mast_debug") for fold in "12" for seed in (0, 1)
    ]
    assert comparisons(records, "esc50") == [records]


@pytest.mark.parametrize(
    "experiment",
    [
        {"recipe": {"epochs": 2}},
        {"front_end": {"mels": 64}},
        {"weights": "deit"},
        {"scale": "paper"},
        {"model_config": {"pool_strides": [[1, 1], [1, 1], [1, 1]]}},
        {"train_splits": ["2", "3"]},
    ],
    ids=lambda experiment: next(iter(experiment)),
)
def test_runs_under_other_conditions_stand_apart(experiment: Mapping[str, Any]) -> None:
    ours, other = make_record(), make_record("mast_debug", experiment=experiment)
    assert comparisons([ours, other], "esc50") == [[ours], [other]]


def test_runs_on_other_classes_stand_apart() -> None:
    ours, other = make_record(), make_record("mast_debug", dataset={"classes": {"label": ["cat", "dog"]}})
    assert comparisons([ours, other], "esc50") == [[ours], [other]]


def test_a_comparison_takes_neither_another_dataset_nor_a_superseded_run() -> None:
    old, new = make_record(created="2026-01-01"), make_record(created="2026-02-01")
    elsewhere = make_record("mast_debug", dataset={"name": "folder"})
    assert comparisons([old, elsewhere, new], "esc50") == [[new]]


def test_a_model_has_the_learning_rate_of_most_folds_and_its_other_runs_stand_below() -> None:
    def at(rate: float, model: str, fold: str, created: str) -> RunRecord:
        recipe = {**make_record().experiment["recipe"], "lr": rate}
        return make_record(model, fold, experiment={"recipe": recipe}, created=created, key=f"{rate} {model} {fold}")

    ast = [at(1e-3, "ast_debug", fold, "2026-01-01") for fold in "123"]
    mast = [at(1e-4, "mast_debug", fold, "2026-01-01") for fold in "123"]
    tried = at(5e-4, "mast_debug", "1", "2026-02-01")  # the newest, on one fold
    assert comparisons([*ast, *mast, tried], "esc50") == [[*ast, *mast], [tried]]


def test_two_models_are_paired_on_the_folds_and_seeds_that_both_ran() -> None:
    first = [make_record("ast_debug", fold, seed) for fold, seed in (("2", 0), ("1", 0), ("1", 1))]
    second = [make_record("mast_debug", fold, seed) for fold, seed in (("1", 0), ("3", 0), ("2", 0))]
    ours, theirs = common_runs(first, second)
    assert ours == [first[1], first[0]]
    assert theirs == [second[0], second[2]]

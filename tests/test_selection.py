"""Which record stands for a cell: the newest of exactly the right kind, or none."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from make_records import make_cost_record, make_paper_record, make_record

from reproduce.experiments.comparisons import POOLING_ABLATIONS
from reproduce.records import selection
from reproduce.records.measured_runs import CostRun
from reproduce.records.pooled import Pooled, common_runs, runs_side_by_side
from reproduce.records.pooled import pooled as pool
from reproduce.records.reading import read_runs
from reproduce.records.record import RunRecord
from reproduce.records.records import Records, latest
from reproduce.records.runs import Run, TrainedRun, canonical_config

POOLED = {"pool_strides": ((2, 2), (2, 2), (2, 2))}


# Policies choose among typed runs; the tests below name stored records.


def trained(*records: RunRecord) -> list[TrainedRun]:
    return [run for run in read_runs(records) if isinstance(run, TrainedRun)]


def stored(run: Run | None) -> RunRecord | None:
    return None if run is None else run.record


def comparisons(records: Iterable[RunRecord], dataset: str) -> list[list[RunRecord]]:
    return [[run.record for run in group] for group in selection.comparisons(Records.of(records), dataset)]


def demo_groups(records: Iterable[RunRecord], dataset: str) -> list[list[RunRecord]]:
    return [[run.record for run in group] for group in selection.demo_groups(Records.of(records), dataset)]


def paper_runs(records: Iterable[RunRecord], model: str, dataset: str, variant: str, **on: Any) -> list[RunRecord]:
    runs = selection.paper_runs(Records.of(records), model, dataset, variant=variant, **on)
    return [run.record for run in runs]


def cost_of(records: Iterable[RunRecord], model: str, *config: Mapping[str, Any], **on: Any) -> RunRecord | None:
    return stored(selection.cost_of(Records.of(records), model, *config, **on))


def pooled(records: Iterable[RunRecord], *metric: str) -> Pooled:
    return pool(trained(*records), *metric)


# --- the newest -----------------------------------------------------------------------------------------------------


def test_the_newest_record_wins_wherever_it_stands() -> None:
    old, new = make_record(created="2026-01-01"), make_record(created="2026-02-01")
    assert stored(latest(trained(old, new))) is new
    assert stored(latest(trained(new, old))) is new
    assert [run.record for run in Records.of([new, old]).newest(TrainedRun)] == [new]


def test_of_two_records_of_one_second_the_later_line_wins() -> None:
    first, second = make_record(correct=1), make_record(correct=2)
    assert stored(latest(trained(first, second))) is second
    assert [run.record for run in Records.of([first, second]).newest(TrainedRun)] == [second]


def with_content(sound: str, **changes: Any) -> RunRecord:
    """A record whose key covers the sound."""
    content = {"train_content_sha256": sound, "test_content_sha256": sound, "key_version": 2}
    identity = {"train_sha256": "train", "test_sha256": "test"}
    return make_record(dataset={**identity, **content}, **{"key": sound, **changes})


def test_a_record_with_its_sound_replaces_the_earlier_one_without() -> None:
    old, new, later = make_record(), with_content("a", created="2026-02-01"), make_record(created="2026-03-01")
    assert [run.record for run in Records.of([old, new]).newest(TrainedRun)] == [new]
    assert [run.record for run in Records.of([old, new, later]).newest(TrainedRun)] == [later, new]


def test_runs_on_other_sound_are_no_replicates() -> None:
    unknown = make_record(dataset={"train_sha256": "train", "test_sha256": "test"})
    a, b = with_content("a", seed=1), with_content("b", seed=2)
    seeds = [[run.seed for run in group] for group in selection.by_seed(trained(unknown, a, b))]
    assert seeds == [[0], [1], [2]]
    assert [[run.seed for run in group] for group in selection.by_seed(trained(unknown, a))] == [[0, 1]]


def test_nothing_recorded_gives_nothing() -> None:
    assert latest([]) is None
    assert Records().newest(CostRun) == ()
    assert cost_of([], "ast_base") is None
    assert paper_runs([], "ast_base", "audioset", "full") == []
    assert comparisons([], "esc50") == []


def test_records_of_different_keys_do_not_replace_each_other() -> None:
    records = [make_record(fold="1"), make_record(fold="2"), make_record(fold="1", seed=1)]
    assert [run.record for run in Records.of(records).newest(TrainedRun)] == records


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
    assert paper_runs([new, old], "mast_base", "audioset", "balanced") == [new]


def on_data(**changes: Any) -> RunRecord:
    record = make_paper_record()
    return replace(record, dataset={**record.dataset, **changes})


NOT_THIS_CELL = {
    "demo scale": replace(make_paper_record(), scale="demo"),
    "another model": make_paper_record(model="ast_base"),
    "another protocol": make_paper_record(variant="full"),
    "another dataset": on_data(name="vggsound"),
    "another config": make_paper_record(model_config={"pool_strides": [[2, 2], [2, 2], [2, 2]]}),
    "another kind": replace(make_paper_record(), kind="search"),
    "a stand-in": on_data(standin={"standin": True}),
    "no named recipe": make_paper_record(recipe_name=""),
    "AST's own recipe": make_paper_record(recipe_name="ast"),
    "an overridden field": make_paper_record(recipe_name="mast, batch_size=12"),
}


@pytest.mark.parametrize("record", NOT_THIS_CELL.values(), ids=NOT_THIS_CELL.keys())
def test_a_run_under_other_conditions_never_enters_a_paper_cell(record: RunRecord) -> None:
    assert paper_runs([record], "mast_base", "audioset", "balanced") == []


def test_ast_by_its_own_recipe_is_asked_for_by_name() -> None:
    own, shared = make_paper_record("ast_base"), make_paper_record("ast_base", recipe_name="mast")
    assert paper_runs([own, shared], "ast_base", "audioset", "balanced", recipe_name="ast") == [own]
    assert paper_runs([own, shared], "ast_base", "audioset", "balanced") == [shared]


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
    others = selection.other_paper_scale_runs(Records.of([newest, older, clips]), "audioset", trained(newest))
    assert [[run.record for run in group] for group in others] == [[older], [clips]]


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
        return replace(record, scale="demo", dataset=data, key=f"{record.key} {standin}", seed=on.get("seed", 0))

    together = [
        demo("ast_tiny"),
        demo("mast_tiny"),
        demo("mast_tiny", model_config=POOLED),
        demo("ast_tiny", seed=1),
    ]
    apart = [demo("ast_small"), demo("ast_tiny", standin=False), demo("ast_tiny", weights="imagenet")]
    assert demo_groups([*together, *apart], "audioset") == [together, *([record] for record in apart)]
    assert demo_groups([demo("ast_tiny", recipe_name="")], "audioset") == []


def test_the_models_of_a_demo_may_have_their_own_learning_rates_and_the_newest_counts() -> None:
    def demo(model: str, lr: float, day: int) -> RunRecord:
        record = make_paper_record(model, recipe_name="demo", created=f"2026-01-{day:02}T00:00:00+00:00")
        recipe = {**record.experiment["recipe"], "lr": lr}
        experiment = {**record.experiment, "recipe": recipe}
        return replace(record, scale="demo", experiment=experiment, key=f"{model} {lr}")

    old = [demo("ast_tiny", 5e-4, 1), demo("mast_tiny", 5e-4, 2)]
    new = [demo("ast_tiny", 2.5e-4, 3), demo("mast_tiny", 1.25e-4, 4)]
    assert demo_groups([*old, *new], "audioset") == [new, old]


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
    assert [run.record for run in result.runs] == records


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
        {"recipe": {**make_record().experiment["recipe"], "epochs": 2}},
        {"front_end": {**make_record().experiment["front_end"], "mels": 64}},
        {"weights": "deit"},
        {"scale": "paper"},
        {"model_config": {"pool_strides": [[1, 1], [1, 1], [1, 1]]}},
        {"train_splits": ["2", "3"]},
    ],
    ids=lambda experiment: next(iter(experiment)),
)
def test_runs_under_other_conditions_stand_apart(experiment: Mapping[str, Any]) -> None:
    scale = experiment.get("scale", "demo")
    ours, other = make_record(), make_record("mast_debug", experiment=experiment, scale=scale)
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


@pytest.mark.parametrize(
    ("tested", "kept"),
    [
        # A third model has one seed, or a seed that is half run: the others keep their second.
        ({"a": ("12", "12"), "b": ("12", "12"), "c": ("12", "")}, {"a": "1212", "b": "1212", "c": "12"}),
        ({"a": ("12", "12"), "b": ("12", "12"), "c": ("12", "1")}, {"a": "1212", "b": "1212", "c": "12"}),
        # A seed that is half run takes no fold away; a fold that one model lacks is taken from all.
        ({"a": ("123", "12"), "b": ("123", "123")}, {"a": "123", "b": "123"}),
        ({"a": ("123", "123"), "b": ("12", "12")}, {"a": "1212", "b": "1212"}),
        # A seed of one model alone stands beside nothing; without others it is shown.
        ({"a": ("12", "12"), "b": ("12", "")}, {"a": "12", "b": "12"}),
        ({"a": ("12", "12")}, {"a": "1212"}),
        ({"a": ("12", ""), "b": ("", "12")}, {"a": "", "b": ""}),
        ({"a": ("1", ""), "b": ("2", "")}, {"a": "", "b": ""}),
    ],
)
def test_models_stand_side_by_side_on_the_same_folds_with_the_seeds_that_they_have(
    tested: dict[str, tuple[str, str]], kept: dict[str, str]
) -> None:
    runs = {
        model: trained(*(make_record(model, fold, seed) for seed, folds in enumerate(of_seed) for fold in folds))
        for model, of_seed in tested.items()
    }
    found = runs_side_by_side(runs)
    assert {model: "".join(run.fold for run in own) for model, own in found.items()} == kept


def test_two_models_are_paired_on_the_folds_and_seeds_that_both_ran() -> None:
    first = [make_record("ast_debug", fold, seed) for fold, seed in (("2", 0), ("1", 0), ("1", 1))]
    second = [make_record("mast_debug", fold, seed) for fold, seed in (("1", 0), ("3", 0), ("2", 0))]
    ours, theirs = common_runs(trained(*first), trained(*second))
    assert [run.record for run in ours] == [first[1], first[0]]
    assert [run.record for run in theirs] == [second[0], second[2]]

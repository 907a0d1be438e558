"""Which runs fill a cell: named, pure policies over a table of trained runs. No torch here; pandas is imported late.

Every policy looks at `_table(runs)`: one row per run, with its values and with hashable stand-ins for what is compound
(recipe, front end, classes). Choosing the newest, filtering and grouping are operations on that table.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from reproduce.experiments.comparisons import EQUAL_MACS, POOLING
from reproduce.records.records import Records, latest
from reproduce.records.runs import CostRun, SearchRun, TrainedRun, canonical_config

if TYPE_CHECKING:
    import pandas

Trained = TypeVar("Trained", bound=TrainedRun)
Groups = list[list[Trained]]

PAPER_INPUT, PAPER_CLASSES = (128, 1024), 527  # what the paper's costs are counted for: AudioSet

# Columns of `_table` that runs share when they differ in the seed alone.
BUT_SEED = (
    "model", "config", "dataset", "variant", "train_splits", "test_splits", "front_end", "recipe", "scale", "weights",
    "recipe_name", "data",
)  # fmt: skip
# Columns that runs share when they may be compared: all but fold, seed and learning rate. `splits` is the set of all
# folds: with the classes it tells a subset such as ESC-10 from ESC-50.
SIDE_BY_SIDE = (
    "model", "config", "dataset", "variant", "front_end", "recipe_but_lr", "scale", "weights", "recipe_name", "splits",
    "classes",
)  # fmt: skip


def cost_of(
    records: Records,
    model: str,
    model_config: Mapping[str, Any] | None = None,
    input_size: tuple[int, int] = PAPER_INPUT,
    num_classes: int = PAPER_CLASSES,
) -> CostRun | None:
    """The newest cost of exactly this model, config, input size and number of classes."""
    config = json.dumps(canonical_config(model, model_config or {}), sort_keys=True)
    wanted = (model, config, input_size, num_classes)
    return latest(
        run
        for run in records.of_kind(CostRun)
        if (run.model, run.config_key, run.input_size, run.num_classes) == wanted
    )


def paper_runs(
    records: Records,
    model: str,
    dataset: str,
    *,
    variant: str = "",
    model_config: Mapping[str, Any] | None = None,
    recipe_name: str = "mast",
) -> list[TrainedRun]:
    """Runs that may fill a paper cell: the newest such run and those that differ from it in the seed alone, by seed.

    They are of paper scale, on this very corpus (no stand-in) and variant, and by exactly this recipe: a recipe with an
    overridden field ("mast, batch_size=12") has another name.
    """
    table = _trained(records)
    if table.empty:
        return []
    matching = table[
        (table.scale == "paper")
        & (table.model == model)
        & (table.config == json.dumps(canonical_config(model, model_config or {}), sort_keys=True))
        & (table.recipe_name == recipe_name)
        & (table.dataset == dataset)
        & (table.variant == variant)
        & ~table.standin
    ]
    if matching.empty:
        return []
    groups = list(matching.groupby(list(BUT_SEED), sort=False))
    _, newest = max(enumerate(groups), key=lambda item: (item[1][1].created.max(), item[1][1].index.max()))
    return _one_per_seed(newest[1])


def by_seed(runs: Iterable[Trained]) -> Groups[Trained]:
    """Groups of runs that differ in the seed alone, each by seed; groups in the order of their first run."""
    return [_one_per_seed(group) for _, group in _grouped(_table(runs), BUT_SEED)]


def demo_groups(records: Records, dataset: str) -> Groups[TrainedRun]:
    """Demo-scale runs on `dataset` by the recipe "demo", in groups that may be compared.

    Within a group only the model's family, its pooling and the seed differ: the data (stand-in or real), front end,
    recipe and size of the models are the same.
    """
    table = _trained(records)
    demo = table[(table.scale == "demo") & (table.recipe_name == "demo") & (table.dataset == dataset)]
    shared = [name for name in BUT_SEED if name not in ("model", "config")] + ["size", "standin"]
    return [_runs(group) for _, group in _grouped(demo, shared)]


def other_paper_scale_runs(records: Records, dataset: str, used: Iterable[TrainedRun]) -> Groups[TrainedRun]:
    """Paper-scale runs on `dataset` beside those that fill cells (`used`), in groups that differ in the seed alone."""
    filled = {run.key for run in used}
    return by_seed(
        run
        for run in records.newest(TrainedRun)
        if run.scale == "paper" and run.dataset == dataset and run.key not in filled
    )


def comparisons(records: Records, dataset: str) -> Groups[TrainedRun]:
    """Groups of runs on `dataset` that may be compared: only model, learning rate, fold and seed differ.

    A model has one learning rate in a group, the one with the most folds and seeds; its runs at other rates are in a
    later group.
    """
    return _side_by_side(_on(records, dataset, without=(EQUAL_MACS, POOLING)), ("model",))


def equal_macs_groups(records: Records, dataset: str) -> Groups[TrainedRun]:
    """Groups of `comparisons`, each with the longer EQUAL_MACS runs whose epochs make up for their fewer MACs."""
    table = _on(records, dataset, without=(POOLING,))
    longer = table[table.recipe_name == EQUAL_MACS]
    differ = ("model", "recipe_name", "recipe_but_lr")
    groups = []
    for group in comparisons(records, dataset):
        highest = max(run.metric("macs_full") for run in group)
        first = _table(group[:1]).iloc[0]
        same = longer
        for name in (*(name for name in SIDE_BY_SIDE if name not in differ), "recipe_but_lr_epochs"):
            same = same[same[name].map(lambda value, wanted=first[name]: value == wanted).astype(bool)]
        budget = group[0].epochs * highest
        equal = [run.epochs == round(budget / run.metric("macs_full")) for run in same.run]
        groups += [group + further for further in _side_by_side(same.loc[equal], ("model",))]
    return groups


def pooling_groups(records: Records, dataset: str) -> Groups[TrainedRun]:
    """Groups of POOLING runs on `dataset`: only model, pooling, learning rate, fold and seed differ."""
    table = _on(records, dataset, without=())
    return _side_by_side(table[table.recipe_name == POOLING], ("model", "config"))


def searches(records: Records, dataset: str) -> list[SearchRun]:
    """Runs that chose a learning rate, the newest of each key, by learning rate and model."""
    runs = (run for run in records.newest(SearchRun) if run.dataset == dataset)
    return sorted(runs, key=lambda run: (run.lr, run.model))


def search_groups(records: Records, dataset: str) -> Groups[SearchRun]:
    """Searches that differ in model and learning rate alone: the validation fold is the same."""
    shared = [name for name in SIDE_BY_SIDE if name != "model"] + ["test_splits"]
    return [_runs(group) for _, group in _grouped(_table(searches(records, dataset)), shared)]


@lru_cache(maxsize=4)
def _trained(records: Records) -> pandas.DataFrame:
    """The newest trained run of each key; callers must not change it."""
    return _table(records.newest(TrainedRun))


def _table(runs: Iterable[TrainedRun]) -> pandas.DataFrame:
    """One row per run; `run` holds it."""
    import pandas

    columns = (
        "run", "key", "created", "size", "standin", "seed", "lr", "fold", "recipe_but_lr_epochs", *BUT_SEED,
        *(name for name in SIDE_BY_SIDE if name not in BUT_SEED),
    )  # fmt: skip
    return pandas.DataFrame([_row(run) for run in runs], columns=list(columns)).astype({"standin": bool})


def _row(run: TrainedRun) -> dict[str, Any]:
    names = ("key", "created", "size", "seed", "lr", "fold", "model", "dataset", "variant", "scale", "weights")
    recipe_but_lr = replace(run.recipe, lr=0.0)
    return {
        **{name: getattr(run, name) for name in names},
        "run": run,
        "standin": run.standin is not None,
        "config": run.config_key,
        "train_splits": run.train_splits,
        "test_splits": run.test_splits,
        "splits": tuple(sorted(run.train_splits + run.test_splits)),
        "front_end": run.front_end,
        "recipe": run.recipe,
        "recipe_but_lr": recipe_but_lr,
        "recipe_but_lr_epochs": replace(recipe_but_lr, epochs=0),
        "recipe_name": run.recipe_name,
        "classes": run.classes_key,
        "data": run.data_key,
    }


def _grouped(table: pandas.DataFrame, columns: Sequence[str]) -> Iterable[tuple[Any, pandas.DataFrame]]:
    return table.groupby(list(columns), sort=False)


def _runs(table: pandas.DataFrame) -> list[Any]:
    return list(table.run)


def _newest_of(table: pandas.DataFrame, columns: Sequence[str]) -> pandas.DataFrame:
    """The newest row for each value of `columns`, in the order of the table."""
    return table.sort_values("created", kind="stable").drop_duplicates(list(columns), keep="last").sort_index()


def _one_per_seed(table: pandas.DataFrame) -> list[Any]:
    return _runs(_newest_of(table, ("seed",)).sort_values("seed", kind="stable"))


def _on(records: Records, dataset: str, without: tuple[str, ...]) -> pandas.DataFrame:
    table = _trained(records)
    return table[(table.dataset == dataset) & ~table.recipe_name.isin(without)]


def _side_by_side(table: pandas.DataFrame, differing: tuple[str, ...]) -> Groups[TrainedRun]:
    """Groups, largest first, whose runs differ in fold, seed, learning rate and the columns `differing` alone.

    `differing` distinguishes the rows of a group. The first group has each row at the learning rate with the most folds
    and seeds, the newest of equals; its other rates follow in groups of their own. Of a fold and seed at one rate the
    newest run counts: a mended copy of the data gives another run, but not other clips.
    """
    shared = [name for name in SIDE_BY_SIDE if name not in differing]
    groups = []
    for _, group in _grouped(table, shared):
        left = group
        while len(left):
            newest = _newest_of(left, (*differing, "lr", "fold", "seed"))
            rates = newest.groupby([*differing, "lr"], sort=False).agg(runs=("key", "size"), newest=("created", "max"))
            best = rates.sort_values(["runs", "newest"], kind="stable").reset_index()
            best = best.drop_duplicates(list(differing), keep="last")
            chosen = newest.reset_index().merge(best[[*differing, "lr"]], on=[*differing, "lr"]).set_index("index")
            groups.append(_runs(chosen.sort_index()))
            at_best = left.reset_index().merge(best[[*differing, "lr"]], on=[*differing, "lr"])
            left = left[~left.index.isin(at_best["index"])]
    return sorted(groups, key=len, reverse=True)

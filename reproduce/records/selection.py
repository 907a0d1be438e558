"""Select the runs that fill a cell of a table: named, pure functions. No torch and no pandas here.

Every function filters and groups `_table(runs)`: one row per run, with hashable values for recipe, front end and
classes. pandas would take a third of the time of the command that prints the table, for its import alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from operator import itemgetter
from typing import Any, TypeVar

from reproduce.experiments.comparisons import EQUAL_MACS, POOLING, equal_macs_lengths
from reproduce.experiments.components import COMPONENTS
from reproduce.experiments.data_efficiency import DATA_EFFICIENCY
from reproduce.records.measured_runs import CostRun
from reproduce.records.pairs import width
from reproduce.records.records import Records, latest
from reproduce.records.runs import SearchRun, TrainedRun, canonical_config

Trained = TypeVar("Trained", bound=TrainedRun)
Groups = list[list[Trained]]
Table = list[dict[str, Any]]

STUDIES = (EQUAL_MACS, POOLING, COMPONENTS, DATA_EFFICIENCY)  # recipe names that are in no plain comparison
PAPER_INPUT, PAPER_CLASSES = (128, 1024), 527  # input and classes of the paper's costs: AudioSet

# Columns of `_table` that runs share when they differ only in the seed.
BUT_SEED = (
    "model", "config", "dataset", "variant", "train_splits", "test_splits", "front_end", "recipe", "scale", "weights",
    "recipe_name", "data",
)  # fmt: skip
# Columns that runs share when they may be compared: all but fold, seed and learning rate. `splits` is the set of all
# folds: together with the classes it distinguishes a subset such as ESC-10 from ESC-50. `input` is the front end,
# without mean and deviation where these are measured on the training clips of each fold.
SIDE_BY_SIDE = (
    "model", "config", "dataset", "corpus", "variant", "input", "normalise", "recipe_but_lr", "scale", "weights",
    "recipe_name", "splits", "classes",
)  # fmt: skip


def cost_of(
    records: Records,
    model: str,
    model_config: Mapping[str, Any] | None = None,
    input_size: tuple[int, int] = PAPER_INPUT,
    num_classes: int = PAPER_CLASSES,
) -> CostRun | None:
    """Return the newest cost of exactly this model, None if there is none.

    Args:
        records: all runs.
        model: registered name.
        model_config: overrides of the model's config.
        input_size: (mels, frames).
        num_classes: classes of the head.
    """
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
    """Return the runs that may fill a paper cell: the newest one and those that differ from it only in the seed.

    Only paper-scale runs on the real corpus (no stand-in) by exactly this recipe qualify: a recipe with an overridden
    field ("mast, batch_size=12") has another name.

    Args:
        records: all runs.
        model: registered name.
        dataset: registered name.
        variant: variant of the data set; "" for a data set with only one.
        model_config: overrides of the model's config.
        recipe_name: see `Experiment.recipe_name`.

    Returns:
        One run per seed, by seed.
    """
    matching = _where(
        _trained(records),
        scale="paper",
        model=model,
        config=json.dumps(canonical_config(model, model_config or {}), sort_keys=True),
        recipe_name=recipe_name,
        dataset=dataset,
        variant=variant,
        standin=False,
    )
    if not matching:
        return []
    newest = max(_grouped(matching, BUT_SEED), key=lambda group: max((row["created"], row["at"]) for row in group))
    return _one_per_seed(newest)


def by_seed(runs: Iterable[Trained]) -> Groups[Trained]:
    """Group runs that differ only in the seed: one run per seed, by seed; groups in the order of their first run."""
    return [_one_per_seed(group) for group in _grouped(_table(runs), BUT_SEED)]


@lru_cache(maxsize=32)
def demo_groups(records: Records, dataset: str) -> Groups[TrainedRun]:
    """Group the demo-scale runs on `dataset` by the recipe "demo" that belong in one table; cached, not to be changed.

    The runs of a group differ only in the model's family, its pooling, its learning rate and the seed. They share the
    data (stand-in or real), front end, size of the models and the rest of the recipe. A group has one learning rate
    per model and pooling, the one with the most seeds (the newest of equals); a later group has the runs at other
    rates.
    """
    demo = _where(_trained(records), scale="demo", recipe_name="demo", dataset=dataset)
    shared = [name for name in BUT_SEED if name not in ("model", "config", "recipe")]
    groups = _grouped(demo, [*shared, "recipe_but_lr", "size", "standin"])
    return [chosen for group in groups for chosen in _one_rate_each(group, ("model", "config"), ("seed",))]


def other_paper_scale_runs(records: Records, dataset: str, used: Iterable[TrainedRun]) -> Groups[TrainedRun]:
    """Group the paper-scale runs on `dataset` that differ only in the seed, except `used`, which fill cells."""
    filled = {run.key for run in used}
    return by_seed(
        run
        for run in records.newest(TrainedRun)
        if run.scale == "paper" and run.dataset == dataset and run.key not in filled
    )


def comparisons(records: Records, dataset: str) -> Groups[TrainedRun]:
    """Group the runs on `dataset` that may be compared: only model, learning rate, fold and seed differ.

    A group has one learning rate per model, the one with the most folds and seeds; later groups have the runs at other
    rates.
    """
    return _side_by_side(_on(records, dataset, without=STUDIES), ("model",))


def equal_macs_groups(records: Records, dataset: str) -> Groups[TrainedRun]:
    """Return the groups of `comparisons` that have longer runs of equal total MACs, each with the runs of that length.

    These are runs of every model: plain ones, or EQUAL_MACS as earlier versions named those of the cheaper model.
    """
    table = _on(records, dataset, without=())
    longer = [{**row, "recipe_name": ""} for row in table if row["recipe_name"] in (EQUAL_MACS, "")]
    differ = ("model", "recipe_name", "recipe_but_lr")
    columns = [*(name for name in SIDE_BY_SIDE if name not in differ), "recipe_but_lr_epochs"]
    groups = []
    for group in comparisons(records, dataset):
        lengths = equal_macs_lengths(group[0].epochs, [run.metric("macs_full") for run in group])
        (first,) = _table(group[:1])
        equal = [row for row in longer if _values(row, columns) == _values(first, columns)]
        equal = [row for row in equal if row["run"].epochs in lengths]
        groups += [group + further for further in _side_by_side(equal, ("model", "recipe_but_lr"))]
    return groups


def pooling_groups(records: Records, dataset: str) -> Groups[TrainedRun]:
    """Group the POOLING runs on `dataset`: only model, pooling, learning rate, fold and seed differ."""
    table = _where(_on(records, dataset, without=()), recipe_name=POOLING)
    return _side_by_side(table, ("model", "config"))


def component_groups(records: Records, dataset: str) -> Groups[TrainedRun]:
    """Group the COMPONENTS runs on `dataset`: only model, config, learning rate, fold and seed differ."""
    table = _where(_on(records, dataset, without=()), recipe_name=COMPONENTS)
    return _side_by_side(table, ("model", "config"))


def data_efficiency_groups(records: Records, dataset: str) -> Groups[TrainedRun]:
    """Group the DATA_EFFICIENCY runs on `dataset`: only model, part, epochs, learning rate, fold and seed differ."""
    table = _where(_on(records, dataset, without=()), recipe_name=DATA_EFFICIENCY)
    groups = [
        group
        for part in _grouped(table, ("recipe_but_lr_epochs",))
        for group in _side_by_side(part, ("model", "recipe_but_lr", "train_fraction"))
    ]
    return sorted(groups, key=width, reverse=True)


def searches(records: Records, dataset: str) -> list[SearchRun]:
    """Return the newest search run of each key on `dataset`, sorted by learning rate and model."""
    runs = (run for run in records.newest(SearchRun) if run.dataset == dataset)
    return sorted(runs, key=lambda run: (run.lr, run.model))


def search_groups(records: Records, dataset: str) -> Groups[SearchRun]:
    """Group the search runs that differ only in model and learning rate: they share the validation fold."""
    shared = [name for name in SIDE_BY_SIDE if name != "model"] + ["test_splits"]
    return [_runs(group) for group in _grouped(_table(searches(records, dataset)), shared)]


@lru_cache(maxsize=4)
def _trained(records: Records) -> Table:
    """The newest trained run of each key. The table is cached: callers must not change it."""
    return _table(records.newest(TrainedRun))


def _table(runs: Iterable[TrainedRun]) -> Table:
    """One row per run; `run` is the run, and `at` the number of the row.

    Runs on other sound under the same names have other `data`. A run without recorded sound gets the sound of the
    other runs on the same clips, if these have only one.
    """
    runs = list(runs)
    contents: dict[Any, set[tuple[str, ...]]] = {}
    for run in runs:
        contents.setdefault(run.data_key, set()).update([run.content] if run.content else [])
    only = {key: next(iter(known)) if len(known) == 1 else () for key, known in contents.items()}
    return [
        {**_row(run), "at": at, "data": (run.data_key, run.content or only[run.data_key])}
        for at, run in enumerate(runs)
    ]


def _row(run: TrainedRun) -> dict[str, Any]:
    names = (
        "key", "created", "size", "seed", "lr", "fold", "model", "dataset", "corpus", "variant", "scale", "weights",
        "normalise",
    )  # fmt: skip
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
        "input": replace(run.front_end, mean=0.0, std=1.0) if run.normalise else run.front_end,
        "recipe": run.recipe,
        "recipe_but_lr": recipe_but_lr,
        "train_fraction": run.train_fraction,
        "recipe_but_lr_epochs": replace(recipe_but_lr, epochs=0),
        "recipe_name": run.recipe_name,
        "classes": run.classes_key,
    }


def _values(row: Mapping[str, Any], columns: Sequence[str]) -> tuple[Any, ...]:
    return tuple(row[name] for name in columns)


def _where(table: Table, **values: Any) -> Table:
    """The rows that have all of `values`."""
    return [row for row in table if all(row[name] == value for name, value in values.items())]


def _grouped(table: Table, columns: Sequence[str]) -> list[Table]:
    """Rows with equal values of `columns`; groups in the order of their first row."""
    groups: dict[tuple[Any, ...], Table] = {}
    for row in table:
        groups.setdefault(_values(row, columns), []).append(row)
    return list(groups.values())


def _runs(table: Table) -> list[Any]:
    return [row["run"] for row in table]


def _newest_of(table: Table, columns: Sequence[str]) -> Table:
    """The newest row for each value of `columns`, in the order of the table."""
    newest = {_values(row, columns): row for row in sorted(table, key=itemgetter("created"))}
    return sorted(newest.values(), key=itemgetter("at"))


def _one_per_seed(table: Table) -> list[Any]:
    return _runs(sorted(_newest_of(table, ("seed",)), key=itemgetter("seed")))


def _on(records: Records, dataset: str, without: tuple[str, ...]) -> Table:
    return [row for row in _trained(records) if row["dataset"] == dataset and row["recipe_name"] not in without]


def _side_by_side(table: Table, differing: tuple[str, ...]) -> Groups[TrainedRun]:
    """Group runs that differ only in fold, seed, learning rate and the columns `differing`; widest group first.

    The values of `differing` are the table rows of a group. The first group has each row at the learning rate with the
    most folds and seeds, the newest of equals; later groups have the other rates. If several runs share fold, seed and
    rate, the newest counts: a repaired copy of the data gives another run on the same clips.
    """
    shared = [name for name in SIDE_BY_SIDE if name not in differing]
    groups = (_one_rate_each(group, differing, ("fold", "seed")) for group in _grouped(table, shared))
    return sorted((chosen for of_group in groups for chosen in of_group), key=width, reverse=True)


def _one_rate_each(remaining: Table, differing: tuple[str, ...], repeats: tuple[str, ...]) -> Groups[TrainedRun]:
    """Split runs so that each value of `differing` has one learning rate in a group: the best first, then the others.

    Args:
        remaining: rows of `_table`.
        differing: columns whose values are the rows of a printed table.
        repeats: columns of which a rate should have many values; of several runs of one value the newest counts.
    """
    groups = []
    while remaining:
        newest = _newest_of(remaining, (*differing, "lr", *repeats))
        rates = _grouped(newest, (*differing, "lr"))
        rates.sort(key=lambda rows: (len(rows), max(row["created"] for row in rows)))
        best = {_values(rows[0], differing): rows[0]["lr"] for rows in rates}  # the last of a model's rates stays
        groups.append(_runs([row for row in newest if row["lr"] == best[_values(row, differing)]]))
        remaining = [row for row in remaining if row["lr"] != best[_values(row, differing)]]
    return groups

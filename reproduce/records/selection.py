"""Which record stands for a cell. Every policy is a named, pure function of records."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from reproduce.experiments.comparisons import EQUAL_MACS, POOLING, POOLING_ABLATIONS
from reproduce.records.pooled import fold_of
from reproduce.records.record import RunRecord, number, of_kind

PAPER_INPUT, PAPER_CLASSES = (128, 1024), 527  # what the paper's costs are counted for: AudioSet
EQUAL_MACS_DIFFER = ("model", "recipe_name")  # fields of the experiment, beside its epochs
DATA_IDENTITY = ("train_sha256", "test_sha256", "classes")  # of a record's `dataset`


def latest(records: Iterable[RunRecord]) -> RunRecord | None:
    """The newest record; of two written in the same second, the later in the file."""
    newest = None
    for record in records:
        if newest is None or record.created >= newest.created:
            newest = record
    return newest


def latest_by_key(records: Iterable[RunRecord]) -> dict[str, RunRecord]:
    """One record a key, the newest: a repeated run replaces the earlier one in tables, never on disk."""
    newest: dict[str, RunRecord] = {}
    for record in records:
        if record.key not in newest or record.created >= newest[record.key].created:
            newest[record.key] = record
    return newest


def cost_of(
    records: Iterable[RunRecord],
    model: str,
    model_config: Mapping[str, Any] | None = None,
    input_size: tuple[int, int] = PAPER_INPUT,
    num_classes: int = PAPER_CLASSES,
) -> RunRecord | None:
    """The newest cost record of exactly this model, config, input size and number of classes."""
    wanted = json.loads(json.dumps(dict(model_config or {})))
    matching = (
        record
        for record in of_kind(records, "cost")
        if record.experiment["model"] == model
        and record.experiment["model_config"] == wanted
        and tuple(record.experiment["input_size"]) == input_size
        and record.experiment["num_classes"] == num_classes
    )
    return latest(matching)


def paper_runs(
    records: Iterable[RunRecord],
    model: str,
    dataset: str,
    variant: str = "",
    model_config: Mapping[str, Any] | None = None,
    recipe_name: str = "mast",
) -> list[RunRecord]:
    """Runs that may fill a paper cell: the newest such run and those that differ from it in the seed alone, by seed.

    They are of paper scale, on this very corpus (no stand-in) and protocol, and by exactly this recipe: one with an
    overridden field ("mast, batch_size=12") has another name.
    """
    wanted = canonical_config(model, model_config or {})
    matching = [
        record
        for record in latest_by_key(of_kind(records, "train")).values()
        if record.scale == "paper"
        and record.experiment["model"] == model
        and canonical_config(model, record.experiment["model_config"]) == wanted
        and record.experiment.get("recipe_name", "") == recipe_name
        and record.dataset["name"] == dataset
        and record.dataset["protocol"] == variant
        and not record.dataset.get("standin")
    ]
    newest = latest(matching)
    return [] if newest is None else _one_a_seed(r for r in matching if same_but_seed(r) == same_but_seed(newest))


def paper_run(
    records: Iterable[RunRecord],
    model: str,
    dataset: str,
    variant: str = "",
    model_config: Mapping[str, Any] | None = None,
    recipe_name: str = "mast",
) -> RunRecord | None:
    """The newest of `paper_runs`."""
    return latest(paper_runs(records, model, dataset, variant, model_config, recipe_name))


def canonical_config(model: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """A model's overrides as JSON reads them, without those that state what the model is anyway."""
    plain = json.loads(json.dumps(dict(config)))
    if model.startswith("mast") and plain.get("pool_strides") == json.loads(json.dumps(POOLING_ABLATIONS["mast"])):
        del plain["pool_strides"]
    return plain


def is_pooling_ablation(record: RunRecord) -> bool:
    """Whether the model's pooling was changed: such a run belongs to the ablations, not to Table 5."""
    return "pool_strides" in canonical_config(record.experiment["model"], record.experiment["model_config"])


def same_but_seed(record: RunRecord) -> str:
    """What runs share that differ in the seed alone: the experiment, and the clips by identity."""
    shared = {name: value for name, value in record.experiment.items() if name != "seed"}
    shared["model_config"] = canonical_config(record.experiment["model"], record.experiment["model_config"])
    return json.dumps([shared, *(record.dataset.get(name) for name in DATA_IDENTITY)], sort_keys=True)


def by_seed(records: Iterable[RunRecord]) -> list[list[RunRecord]]:
    """Groups that differ in the seed alone, each by seed; groups in the order of their first record."""
    groups: dict[str, list[RunRecord]] = {}
    for record in records:
        groups.setdefault(same_but_seed(record), []).append(record)
    return [_one_a_seed(group) for group in groups.values()]


def _one_a_seed(records: Iterable[RunRecord]) -> list[RunRecord]:
    """The newest run of each seed, by seed."""
    newest: dict[int, RunRecord] = {}
    for record in records:
        seed = record.seed or 0
        if seed not in newest or record.created >= newest[seed].created:
            newest[seed] = record
    return [newest[seed] for seed in sorted(newest)]


def demo_groups(records: Iterable[RunRecord], dataset: str) -> list[list[RunRecord]]:
    """Demo-scale runs on `dataset` by the recipe "demo", grouped so that they may stand side by side.

    In a group model family, pooling and seed differ alone: the data (stand-in or real), front end, recipe and size of
    the models are the same.
    """
    groups: dict[str, list[RunRecord]] = {}
    for record in latest_by_key(of_kind(records, "train")).values():
        experiment, data = record.experiment, record.dataset
        if (record.scale, experiment.get("recipe_name", ""), data["name"]) != ("demo", "demo", dataset):
            continue
        shared = {name: v for name, v in experiment.items() if name not in ("model", "model_config", "seed")}
        size = experiment["model"].partition("_")[2]
        identity = [data.get(name) for name in DATA_IDENTITY]
        key = json.dumps([shared, size, *identity, data["protocol"], bool(data.get("standin"))], sort_keys=True)
        groups.setdefault(key, []).append(record)
    return list(groups.values())


def other_paper_scale_runs(
    records: Iterable[RunRecord], dataset: str, used: Iterable[RunRecord]
) -> list[list[RunRecord]]:
    """Paper-scale runs on `dataset` beside those that fill cells (`used`), grouped by what differs but the seed."""
    taken = {record.key for record in used}
    others = [
        record
        for record in latest_by_key(of_kind(records, "train")).values()
        if record.scale == "paper" and record.dataset["name"] == dataset and record.key not in taken
    ]
    return by_seed(others)


def comparisons(records: Iterable[RunRecord], dataset: str) -> list[list[RunRecord]]:
    """Groups of runs on `dataset` that may stand side by side: model, its learning rate, fold and seed differ alone.

    A model has one rate in a group, that with the most folds and seeds; its runs at others are in a later group.
    """
    return _side_by_side(_runs_on(records, dataset, without=(EQUAL_MACS, POOLING)), ("model",))


def equal_macs_groups(records: Iterable[RunRecord], dataset: str) -> list[list[RunRecord]]:
    """Groups of `comparisons` with those longer runs of EQUAL_MACS whose epochs make up for their fewer MACs."""
    records = list(records)
    longer = [
        r for r in _runs_on(records, dataset, without=(POOLING,)) if r.experiment.get("recipe_name") == EQUAL_MACS
    ]
    found = []
    for group in comparisons(records, dataset):
        dearest = max(number(record.metrics["macs_full"]) for record in group)
        epochs = group[0].experiment["recipe"]["epochs"]
        theirs = [
            run
            for run in longer
            if run.experiment["recipe"]["epochs"] == round(epochs * dearest / number(run.metrics["macs_full"]))
            and _shared(run, EQUAL_MACS_DIFFER, ("epochs",)) == _shared(group[0], EQUAL_MACS_DIFFER, ("epochs",))
        ]
        for further in _side_by_side(theirs, ("model",)):
            found.append(group + further)
    return found


def pooling_groups(records: Iterable[RunRecord], dataset: str) -> list[list[RunRecord]]:
    """Groups of POOLING's runs on `dataset` that differ in model, pooling, learning rate, fold and seed alone."""
    runs = [r for r in _runs_on(records, dataset, without=()) if r.experiment.get("recipe_name") == POOLING]
    return _side_by_side(runs, ("model", "model_config"))


def _runs_on(records: Iterable[RunRecord], dataset: str, without: tuple[str, ...]) -> list[RunRecord]:
    return [
        record
        for record in latest_by_key(of_kind(records, "train")).values()
        if record.dataset["name"] == dataset and record.experiment.get("recipe_name", "") not in without
    ]


def _shared(record: RunRecord, differing: tuple[str, ...], recipe_fields: tuple[str, ...] = ()) -> str:
    """What runs side by side have in common: all but fold, seed, learning rate and the given fields."""
    shared = {
        name: value
        for name, value in record.experiment.items()
        if name not in (*differing, "seed", "train_splits", "test_splits")
    }
    recipe = record.experiment["recipe"]
    shared["recipe"] = {name: value for name, value in recipe.items() if name not in ("lr", *recipe_fields)}
    # The set of folds tells a subset such as ESC-10 from ESC-50, together with the classes.
    shared["splits"] = sorted(record.experiment["train_splits"] + record.experiment["test_splits"])
    shared["classes"] = record.dataset["classes"]
    return json.dumps(shared, sort_keys=True)


def _side_by_side(records: Iterable[RunRecord], differing: tuple[str, ...]) -> list[list[RunRecord]]:
    """Groups, largest first, that differ in fold, seed, learning rate and the fields `differing` alone.

    A row of a group is what `differing` tells apart. Of its learning rates that with the most folds and seeds is in the
    first group, the newest of equals; the others follow in groups of their own.
    """
    groups: dict[str, list[RunRecord]] = {}
    for record in records:
        groups.setdefault(_shared(record, differing), []).append(record)
    found = []
    for group in groups.values():
        rest = group
        while rest:
            rows: dict[str, list[RunRecord]] = {}
            for record in rest:
                row = [record.experiment.get(name, "") for name in differing]
                rows.setdefault(json.dumps(row, sort_keys=True), []).append(record)
            chosen: list[RunRecord] = []
            rest = []
            for runs in rows.values():
                best = _of_one_rate(runs)
                chosen += best
                rest += [record for record in runs if _rate(record) != _rate(best[0])]
            found.append(chosen)
    return sorted(found, key=len, reverse=True)


def _rate(record: RunRecord) -> Any:
    return record.experiment["recipe"].get("lr")


def _of_one_rate(runs: Sequence[RunRecord]) -> list[RunRecord]:
    """The newest of every fold and seed, at the rate that has the most of them: a mended copy of the data is another
    run, but not other clips."""
    by_rate: dict[Any, dict[tuple[tuple[str, ...], int | None], RunRecord]] = {}
    for record in runs:
        places = by_rate.setdefault(_rate(record), {})
        place = (fold_of(record), record.seed)
        if place not in places or record.created >= places[place].created:
            places[place] = record
    best = max(by_rate.values(), key=lambda places: (len(places), max(r.created for r in places.values())))
    return list(best.values())


def searches(records: Iterable[RunRecord], dataset: str) -> list[RunRecord]:
    """Runs that chose a hyper-parameter, the newest of each key, by learning rate and model."""
    found = [r for r in latest_by_key(of_kind(records, "search")).values() if r.dataset["name"] == dataset]
    return sorted(found, key=lambda r: (r.experiment["recipe"]["lr"], r.experiment["model"]))


def search_groups(records: Iterable[RunRecord], dataset: str) -> list[list[RunRecord]]:
    """Searches that differ in model and learning rate alone, fold and all."""
    groups: dict[str, list[RunRecord]] = {}
    for record in searches(records, dataset):
        key = json.dumps([_shared(record, ("model",)), record.experiment["test_splits"]])
        groups.setdefault(key, []).append(record)
    return list(groups.values())

"""The path from AST to MAST, one component at a time, and MAST without one component each. No torch here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from reproduce.errors import InputError
from reproduce.experiments.experiment import Experiment
from reproduce.experiments.families import family, size
from reproduce.experiments.presets import ComparisonPreset

COMPONENTS = "components"  # recipe name of the runs
AST, MAST = "AST", "MAST"  # labels of the ends
WITHOUT = "MAST without "


@dataclass(frozen=True, kw_only=True)
class AstShape:
    """AST's size in the terms of MAST's config.

    Args:
        embed_dim: width of every block.
        num_heads: heads of every block.
        depths: its blocks in MAST's four stages; the debug models are too small for AST's own number.
    """

    embed_dim: int
    num_heads: int
    depths: tuple[int, ...]


# AST's 12 blocks are staged like MViTv2's T (1, 2, 5, 2) and S (1, 2, 11, 2).
AST_SHAPES = {
    "base": AstShape(embed_dim=768, num_heads=12, depths=(1, 2, 7, 2)),
    "small": AstShape(embed_dim=384, num_heads=6, depths=(1, 2, 7, 2)),
    "tiny": AstShape(embed_dim=192, num_heads=3, depths=(1, 2, 7, 2)),
    "debug": AstShape(embed_dim=32, num_heads=2, depths=(1, 1, 1, 1)),
}
# Component -> its name, in the order of the path. Widening comes before the stem: at AST's constant width the ten times
# as many tokens of MAST's stem would cost twice what any model of this path costs.
LABELS = {
    "readout": "mean over tokens",
    "positions": "relative positions",
    "widening": "widening",
    "depth": "24 blocks",
    "stem": "stem 7x7 / 4",
    "queries": "pooled queries",
    "keys": "pooled keys and values",
    "residual": "residual pooling",
}
MEANINGS = (
    "Mean over tokens: of all patches, instead of AST's class and distillation token with their LayerNorm.",
    "Relative positions: tables in every block, instead of an embedding that is added to the patches.",
    "Widening: width and heads double at three blocks up to AST's width, instead of AST's width and heads everywhere.",
    "24 blocks instead of 12. Stem: patches of 7x7 at stride 4, instead of 16x16 at stride 10.",
    "Pooled queries, pooled keys and values: by a strided 3x3 convolution and a LayerNorm in every block.",
)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One model of the path.

    Args:
        label: name of its row; "+ ..." names the component that it adds to the row before.
        model: registered name.
        config: overrides of the model's config.
    """

    label: str
    model: str
    config: Mapping[str, Any]


def ast_values(model_size: str) -> dict[str, dict[str, Any]]:
    """Component -> the overrides of MAST's config that replace it by AST's."""
    shape = AST_SHAPES[model_size]
    values: dict[str, dict[str, Any]] = {
        "readout": {"readout": "tokens"},
        "positions": {"positions": "absolute"},
        "widening": {"widen": False, "embed_dim": shape.embed_dim, "num_heads": shape.num_heads},
        "depth": {"depths": shape.depths},
        "stem": {"patch_size": 16, "patch_stride": 10, "patch_padding": 0},
        "queries": {"pool_queries": False},
        "keys": {"pool_keys": False},
        "residual": {"residual_pooling": False},
    }
    if model_size == "debug":
        del values["depth"]  # both ends have four blocks
    return values


def path_to_mast(model_size: str) -> list[Variant]:
    """AST, then MAST's components one after the other, down to MAST itself: each row adds one to the row before."""
    values = ast_values(model_size)
    rows = [Variant(label=AST, model=f"ast_{model_size}", config={})]
    names = list(values)
    for number, name in enumerate(names, start=1):
        missing = {field: value for other in names[number:] for field, value in values[other].items()}
        end = "" if missing else f" = {MAST}"
        rows.append(Variant(label=f"+ {LABELS[name]}{end}", model=f"mast_{model_size}", config=missing))
    return rows


def mast_without(model_size: str) -> list[Variant]:
    """MAST without one component each."""
    return [
        Variant(label=f"{WITHOUT}{LABELS[name]}", model=f"mast_{model_size}", config=config)
        for name, config in ast_values(model_size).items()
    ]


def common_rate(preset: ComparisonPreset) -> float:
    """One learning rate for every row: the geometric mean of the models' own.

    Each row differs from its neighbours by one component, so the rate must not change on the way.
    """
    rates = [preset.recipe_of(model).lr for model in preset.models if family(model) in ("ast", "mast")]
    return float(f"{math.exp(math.fsum(map(math.log, rates)) / len(rates)):.3g}")


def component_variants(
    experiments: Iterable[Experiment], preset: ComparisonPreset, without: bool = False
) -> list[Experiment]:
    """Return an experiment per variant for each MAST run of a comparison, at one learning rate.

    Args:
        experiments: runs of the plain comparison; those of other models are left out.
        preset: of the comparison.
        without: also MAST without one component each.

    Raises:
        InputError: no MAST among the models.
    """
    experiments = [experiment for experiment in experiments if family(experiment.model) == "mast"]
    if not experiments:
        raise InputError("components leads from AST to MAST: name a MAST of ours in --models, or omit --models")
    rate = common_rate(preset)
    unique: dict[str, Experiment] = {}
    for experiment in experiments:
        for variant in variants_of(size(experiment.model), without):
            run = replace(
                experiment,
                model=variant.model,
                model_config=variant.config,
                recipe=replace(experiment.recipe, lr=rate),
                recipe_name=COMPONENTS,
            )
            unique.setdefault(repr(sorted(run.to_dict().items())), run)
    return list(unique.values())


def variants_of(model_size: str, without: bool) -> Sequence[Variant]:
    """The path, then with `without` MAST without one component each; one of these is a row of the path too."""
    return [*path_to_mast(model_size), *(mast_without(model_size) if without else ())]

"""The paper's recipes as a table: a row per field, a column per data set, the sources under it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from reproduce.experiments.deviations import DEVIATIONS
from reproduce.experiments.overrides import value_text
from reproduce.experiments.paper_recipes import AST, MAST, MBT, PaperRecipe, paper_recipes
from reproduce.experiments.paper_studies import BCE, CROSS_ENTROPY, TWO_HEADS, study_name
from reproduce.experiments.provenance import Provenance
from reproduce.tables.base import Cell, Column, Row, Table, text_cell

UNUSED = "–"
SHORT = {BCE: "BCE", CROSS_ENTROPY: "soft CE", TWO_HEADS: "mean of 2 soft CE"}
BLOCKS = {
    MAST: 'Recipe "mast": the paper\'s protocol (sec. 4), for AST and MAST alike',
    AST: 'Recipe "ast": AST by its authors\' own recipe, for the row "AST [1] (Our AS)" of Table 5 and as a baseline '
    "elsewhere",
    MBT: 'Recipe "mbt": MBT\'s audio branch, which the paper quotes as "AST [28]"',
}


def recipes_table(recipes: Sequence[PaperRecipe] | None = None) -> Table:
    """Every field of every recipe with its tag, the sources below, then every deviation with its reason.

    A cell's status is its tag and its conditions the source, so that JSON and CSV carry both.
    """
    chosen = paper_recipes() if recipes is None else recipes
    names = list(dict.fromkeys(recipe.name for recipe in chosen))
    blocks = [_block(name, [recipe for recipe in chosen if recipe.name == name]) for name in names]
    return Table(
        "recipes",
        "Training recipes",
        notes=(
            "S: STATED by the paper. I: INHERITED from the public code it builds on. O: OPEN, not stated anywhere, "
            "chosen by this suite. S/I, S/O: stated for MAST; for AST inherited, or chosen "
            "so that both are trained alike.",
        ),
        blocks=(*blocks, _deviations()),
    )


def _block(name: str, recipes: Sequence[PaperRecipe]) -> Table:
    studies = list(dict.fromkeys((recipe.dataset, recipe.variant) for recipe in recipes))
    columns = tuple(Column(study_name(*study), study_name(*study)) for study in studies)
    rows = []
    for field in recipes[0].values():
        cells = {
            study_name(*study): _cell(field, [r for r in recipes if (r.dataset, r.variant) == study])
            for study in studies
        }
        rows.append(Row(field, field, cells))
    return Table(f"recipes {name}", BLOCKS.get(name, f'Recipe "{name}"'), columns, tuple(rows), notes=_sources(recipes))


def _cell(field: str, recipes: Sequence[PaperRecipe]) -> Cell:
    """A field's value for one data set; the models of a protocol differ in tags alone."""
    values = {recipe.values()[field] for recipe in recipes}
    if len(values) != 1:
        raise ValueError(f"the models of one protocol differ in {field}: {values}")
    value = values.pop()
    text = SHORT.get(value, value_text(value)) if isinstance(value, str) else value_text(value)
    if field.startswith("decay") and recipes[0].recipe.schedule == "cosine":
        text = UNUSED
    # MAST's tag first: the paper speaks of MAST.
    by_model = {r.model: r.provenance[field] for r in sorted(recipes, key=lambda r: r.model, reverse=True)}
    tags = "/".join(dict.fromkeys(provenance.tag[0] for provenance in by_model.values()))
    sources = dict.fromkeys(map(_source, by_model.values()))
    return text_cell(f"{text} {tags}", "/".join(dict.fromkeys(p.tag for p in by_model.values())), " | ".join(sources))


def _source(provenance: Provenance) -> str:
    return provenance.source + (f" ({provenance.note})" if provenance.note else "")


def _sources(recipes: Sequence[PaperRecipe]) -> tuple[str, ...]:
    """One line for all fields of one provenance, in the order of the rows."""
    fields_of: dict[tuple[tuple[str, Provenance], ...], list[str]] = {}
    for field in recipes[0].values():
        by_provenance: dict[Provenance, list[PaperRecipe]] = {}
        for recipe in recipes:
            by_provenance.setdefault(recipe.provenance[field], []).append(recipe)
        sources = tuple((_whose(some, recipes), provenance) for provenance, some in by_provenance.items())
        fields_of.setdefault(sources, []).append(field)
    return tuple(
        f"{', '.join(named)}: " + "; ".join(f"{whose}{p.tag}, {_source(p)}" for whose, p in sources) + "."
        for sources, named in fields_of.items()
    )


def _whose(some: Iterable[PaperRecipe], every: Sequence[PaperRecipe]) -> str:
    """ "audioset full: " where a provenance is not that of every recipe of the block."""
    chosen = list(some)
    models, all_models = ({r.model for r in part} for part in (chosen, every))
    studies, all_studies = (
        list(dict.fromkeys(study_name(r.dataset, r.variant) for r in part)) for part in (chosen, every)
    )
    parts = [*(sorted(models) if models != all_models else []), *(studies if studies != all_studies else [])]
    return f"{', '.join(parts)}: " if parts else ""


def _deviations() -> Table:
    notes = tuple(f"{d.what}: {d.theirs}. Here: {d.ours}. Why: {d.why}." for d in DEVIATIONS)
    return Table("deviations", "Where this suite departs from the paper or from the public code", notes=notes)

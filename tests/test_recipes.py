"""The paper's recipes: complete, sourced, equal to paper.json where stated, and overridable by name."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from reproduce.audio.spec import AudioSpec
from reproduce.errors import InputError
from reproduce.experiments.overrides import override
from reproduce.experiments.paper_recipes import PaperRecipe, paper_recipe, paper_recipes, to_experiment
from reproduce.experiments.paper_studies import BCE
from reproduce.experiments.provenance import FRONT_END, INHERITED, OPEN, STATED
from reproduce.experiments.recipe import Recipe
from reproduce.experiments.schedule import learning_rate
from reproduce.paper import load_paper
from reproduce.tables.recipes import recipes_table

paper = load_paper()
RECIPES = {f"{r.name}-{r.model}-{r.dataset}-{r.variant}": r for r in paper_recipes()}
every_recipe = pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)

EPOCHS = {
    ("kinetics_sounds", "ks32"): "epochs_kinetics_sounds",
    ("epic_kitchens", ""): "epochs_epic_kitchens_100",
    ("vggsound", ""): "epochs_vggsound",
    ("audioset", "balanced"): "epochs_audioset_balanced",
    ("audioset", "full"): "epochs_audioset_full",
}
BASELINES = {"ast": "ast_base", "mbt": "ast_mbt"}  # recipe -> its model
# What a stated field must hold, as the sentences of paper.json give it.
SAID = {
    "lr": lambda recipe: paper.fact("learning_rate").value,
    "epochs": lambda recipe: paper.fact(EPOCHS[recipe.dataset, recipe.variant]).value,
    "optimizer": lambda recipe: str(paper.fact("optimizer").value).lower(),
    "schedule": lambda recipe: str(paper.fact("schedule").value).split()[0],
    "weights": lambda recipe: str(paper.fact("pretraining").value).split("-")[0].lower(),
    "loss": lambda recipe: paper.fact("loss_audioset").value,
    "front_end.mels": lambda recipe: paper.fact("mel_bins").value,
    "front_end.frames": lambda recipe: paper.fact("frames").value,
}


def test_every_model_and_data_set_of_the_paper_has_a_recipe() -> None:
    found = [(r.name, r.model, r.dataset, r.variant) for r in paper_recipes()]
    by_mast = [("mast", model, *study) for study in EPOCHS for model in ("ast_base", "mast_base")]
    by_ast, by_mbt = ([(name, model, *study) for study in EPOCHS] for name, model in BASELINES.items())
    assert found == [*by_mast, *by_ast, *by_mbt]


@every_recipe
def test_every_field_has_a_provenance_and_nothing_else_has(recipe: PaperRecipe) -> None:
    wanted = {f.name for f in fields(Recipe)} | {FRONT_END + f.name for f in fields(AudioSpec)}
    assert set(recipe.provenance) == set(recipe.values()) == wanted | {"weights", "loss", "seeds"}


@every_recipe
def test_every_provenance_names_a_source(recipe: PaperRecipe) -> None:
    for name, provenance in recipe.provenance.items():
        assert provenance.tag in (STATED, INHERITED, OPEN), name
        assert provenance.source, name
        if provenance.tag == OPEN:
            assert provenance.note, f"{name} is open, but nothing says why it is what it is"


@every_recipe
def test_stated_fields_equal_the_paper(recipe: PaperRecipe) -> None:
    stated = [name for name, provenance in recipe.provenance.items() if provenance.tag == STATED]
    assert ({"front_end.mels", "front_end.frames"} <= set(stated)) is (recipe.name != "mbt")
    for name in stated:
        assert recipe.values()[name] == SAID[name](recipe), name


def test_the_paper_states_epochs_rate_optimizer_and_schedule_of_mast_alone() -> None:
    for recipe in paper_recipes():
        stated = {name for name, provenance in recipe.provenance.items() if provenance.tag == STATED}
        by_mast = {"epochs", "lr", "optimizer", "schedule"}
        assert (by_mast <= stated) if recipe.model == "mast_base" else not (by_mast & stated)


def test_both_models_are_trained_alike() -> None:
    for ast, mast in zip(paper_recipes()[:10:2], paper_recipes()[1:10:2], strict=True):
        assert (ast.model, mast.model) == ("ast_base", "mast_base")
        assert ast.values() == mast.values()


def test_the_open_batch_is_asts_on_audioset_and_mbts_where_its_rows_are_quoted() -> None:
    for recipe in paper_recipes():
        on_audioset = recipe.dataset == "audioset"
        assert recipe.recipe.batch_size == {"mast": 12 if on_audioset else 64, "ast": 12, "mbt": 64}[recipe.name]
        if recipe.name == "mast":
            batch = recipe.provenance["batch_size"]
            assert batch.tag == OPEN and ("reran AST's official code" if on_audioset else "quotes") in batch.note


@every_recipe
def test_loss_and_smoothing_are_those_of_the_labels(recipe: PaperRecipe) -> None:
    multilabel = recipe.dataset == "audioset"
    assert (recipe.loss == BCE) is multilabel
    smoothing = {"mast": 0.0 if multilabel else 0.1, "ast": 0.0, "mbt": 0.3}
    assert recipe.recipe.label_smoothing == smoothing[recipe.name]


def test_clips_longer_than_the_input_are_cropped_on_epic_alone_and_by_mbt_everywhere() -> None:
    cropped = {(r.name, r.dataset) for r in paper_recipes() if r.recipe.crop == "random" or r.recipe.test_crops > 1}
    by_mbt = {("mbt", dataset) for dataset, _ in EPOCHS}
    assert cropped == {("mast", "epic_kitchens"), ("ast", "epic_kitchens"), *by_mbt}


def test_asts_recipe_elsewhere_is_that_of_the_balanced_set_and_says_that_none_is_published() -> None:
    balanced = paper_recipe("ast", "ast_base", "audioset", "balanced").recipe
    for dataset in ("kinetics_sounds", "vggsound", "epic_kitchens"):
        recipe = paper_recipe("ast", "ast_base", dataset)
        assert replace(recipe.recipe, crop="first", test_crops=1) == balanced
        for field in ("epochs", "lr", "batch_size"):
            assert recipe.provenance[field].tag == OPEN and "published none" in recipe.provenance[field].note


def test_mbts_recipe_is_that_of_its_one_published_configuration() -> None:
    recipe = paper_recipe("mbt", "ast_mbt", "audioset", "balanced")
    assert (recipe.recipe.epochs, recipe.recipe.lr, recipe.recipe.batch_size) == (50, 0.5, 64)
    assert (recipe.recipe.optimizer, recipe.recipe.betas[0], recipe.recipe.weight_decay) == ("sgd", 0.9, 0.0)
    assert (recipe.recipe.drop_path_rate, recipe.recipe.clip_norm, recipe.recipe.bce) == (0.3, 1.0, "sum")
    assert recipe.recipe.warmup_steps == round(2.5 * 17_823 / 64)
    assert (recipe.front_end.mels, recipe.front_end.frames, recipe.weights) == (128, 800, "imagenet21k")
    assert recipe.provenance["lr"].tag == INHERITED
    assert paper_recipe("mbt", "ast_mbt", "vggsound").provenance["lr"].tag == OPEN


def test_asts_own_recipe_is_that_of_its_run_script() -> None:
    balanced, full = (paper_recipe("ast", "ast_base", "audioset", p).recipe for p in ("balanced", "full"))
    assert (balanced.epochs, balanced.lr, balanced.average_from, balanced.sampler) == (25, 5e-5, 6, "shuffle")
    assert (full.epochs, full.lr, full.average_from, full.sampler) == (5, 1e-5, 1, "balanced")
    assert (balanced.decay_start, balanced.decay_every) == (10, 5)
    assert (full.decay_start, full.decay_every) == (2, 1)
    for recipe in (balanced, full):
        assert (recipe.optimizer, recipe.betas, recipe.weight_decay) == ("adam", (0.95, 0.999), 5e-7)
        assert (recipe.schedule, recipe.decay, recipe.batch_size) == ("steps", 0.5, 12)
        assert (recipe.warmup_steps, recipe.warmup_every) == (1000, 50)
        assert (recipe.mixup, recipe.freq_mask, recipe.time_mask) == (0.5, 48, 192)
        assert (recipe.clip_norm, recipe.label_smoothing, recipe.drop_path_rate) == (0, 0, 0)


@every_recipe
def test_averaging_and_masks_fit_the_run(recipe: PaperRecipe) -> None:
    assert 1 <= recipe.recipe.average_from <= recipe.recipe.epochs
    assert recipe.recipe.freq_mask <= recipe.front_end.mels
    assert recipe.recipe.time_mask <= recipe.front_end.frames


# --- experiments ---


@every_recipe
def test_an_experiment_of_a_recipe_may_fill_a_paper_cell(recipe: PaperRecipe) -> None:
    experiment = to_experiment(recipe, seed=1, model_config={"pool_strides": ((1, 1),)})
    weights = "imagenet21k" if recipe.name == "mbt" else "imagenet"
    assert (experiment.scale, experiment.recipe_name, experiment.weights) == ("paper", recipe.name, weights)
    assert (experiment.recipe, experiment.front_end) == (recipe.recipe, recipe.front_end)
    assert (experiment.seed, experiment.model_config) == (1, {"pool_strides": ((1, 1),)})
    assert experiment.to_dict()["recipe_name"] == recipe.name


def test_the_balanced_set_is_trained_on_alone_and_the_full_set_is_the_union() -> None:
    balanced, full = (to_experiment(paper_recipe("mast", "mast", "audioset", p), seed=0) for p in ("balanced", "full"))
    assert balanced.train_splits == ("balanced_train",)
    assert {"balanced_train", "unbalanced_train"} < set(full.train_splits)
    assert balanced.test_splits == full.test_splits == ("eval",)
    assert "eval" not in full.train_splits


def test_models_of_one_protocol_have_keys_of_their_own() -> None:
    keys = [to_experiment(r, seed).key("train", "test") for r in paper_recipes() for seed in r.seeds]
    assert len(set(keys)) == len(keys)


def test_a_short_model_name_and_the_first_protocol_will_do() -> None:
    assert paper_recipe("mast", "ast", "kinetics_sounds") is paper_recipe("mast", "ast_base", "kinetics_sounds", "ks32")


@pytest.mark.parametrize(
    "wanted",
    [
        ("mast", "mast_base", "esc50", ""),
        ("mbt", "ast_base", "vggsound", ""),
        ("ast", "mast_base", "audioset", "full"),
        ("mast", "mast_base", "kinetics_sounds", "ks34"),
        ("demo", "mast_base", "vggsound", ""),
    ],
)
def test_a_recipe_that_the_paper_has_not_is_an_error_that_lists_those_it_has(wanted: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match=r"mast: mast_base on audioset full; ast: ast_base on kinetics_sounds ks32"):
        paper_recipe(*wanted)


# --- overriding ---


def mast_on_vggsound() -> PaperRecipe:
    return paper_recipe("mast", "mast_base", "vggsound")


@pytest.mark.parametrize(
    ("changes", "name", "value"),
    [
        ({"batch_size": 12}, "mast, batch_size=12", 12),
        ({"batch_size": "12"}, "mast, batch_size=12", 12),
        ({"lr": "2e-5"}, "mast, lr=2e-05", 2e-5),
        ({"betas": "0.95,0.999"}, "mast, betas=0.95,0.999", (0.95, 0.999)),
        ({"report_best": "False"}, "mast, report_best=false", False),
        ({"weights": "scratch"}, "mast, weights=scratch", "scratch"),
        ({"sampler": "balanced"}, "mast, sampler=balanced", "balanced"),
    ],
)
def test_an_overridden_field_changes_value_and_name(changes: dict[str, Any], name: str, value: Any) -> None:
    changed = override(mast_on_vggsound(), changes)
    (field,) = changes
    assert (changed.name, changed.values()[field]) == (name, value)
    assert changed.provenance[field].source == "overridden"
    assert to_experiment(changed, seed=0).recipe_name == name
    others = {k: v for k, v in changed.values().items() if k != field}
    assert others == {k: v for k, v in mast_on_vggsound().values().items() if k != field}


def test_the_name_does_not_depend_on_the_order_of_overrides() -> None:
    first = override(mast_on_vggsound(), {"lr": 1e-4, "batch_size": 12})
    second = override(mast_on_vggsound(), {"batch_size": 12, "lr": 1e-4})
    assert first.name == second.name == "mast, batch_size=12, lr=0.0001"


def test_overriding_by_the_recipes_own_value_leaves_it_a_recipe_of_the_paper() -> None:
    assert override(mast_on_vggsound(), {"batch_size": "64", "front_end.pad": "zero"}) == mast_on_vggsound()


@pytest.mark.parametrize("name", ["batch", "loss", "seeds", "front_end", "pad", "epoch"])
def test_overriding_an_unknown_field_lists_the_fields(name: str) -> None:
    with pytest.raises(
        InputError,
        match=rf"no field '{name}' .* epochs, batch_size, .*front_end\.pad, front_end\.implementation, weights",
    ):
        override(mast_on_vggsound(), {name: 1})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("batch_size", 0),
        ("batch_size", "many"),
        ("batch_size", 1.5),
        ("batch_size", True),
        ("lr", 0),
        ("lr", "nan"),
        ("lr", "inf"),
        ("mixup", 1.5),
        ("weight_decay", -1),
        ("optimizer", "lion"),
        ("schedule", "steps"),  # needs decay_start and decay_every as well
        ("betas", "0.9"),
        ("betas", (0.9, 2)),
        ("report_best", "yes"),
        ("front_end.pad", "repeat"),
        ("roll", 5),
        ("front_end.mels", 0),
        ("weights", ""),
    ],
)
def test_a_value_that_a_field_cannot_take_is_one_line_that_names_it(field: str, value: Any) -> None:
    with pytest.raises(InputError, match=field.removeprefix("front_end.")) as error:
        override(mast_on_vggsound(), {field: value})
    assert "\n" not in str(error.value)


# --- the table ---


def test_the_table_has_every_field_with_tag_and_source() -> None:
    blocks = {block.name: block for block in recipes_table().blocks}
    for recipe in paper_recipes():
        block = blocks[f"recipes {recipe.name}"]
        rows = {row.key: row for row in block.rows}
        assert list(rows) == list(recipe.values())
        for field, provenance in recipe.provenance.items():
            cell = rows[field].cells[f"{recipe.dataset} {recipe.variant}".rstrip()]
            assert provenance.tag in cell.status
            assert provenance.source in cell.conditions
            assert any(field in note.split(": ")[0].split(", ") for note in block.notes), field


def test_the_table_of_an_overridden_recipe_names_it() -> None:
    table = recipes_table([override(mast_on_vggsound(), {"batch_size": 12})])
    assert table.blocks[0].title == 'Recipe "mast, batch_size=12"'
    assert "64" in table.blocks[0].rows[1].cells["vggsound"].conditions


def test_the_cosine_after_the_warm_up_is_timms() -> None:
    scheduler = pytest.importorskip("timm.scheduler", reason="the reference is timm's")
    torch = pytest.importorskip("torch")
    recipe, total = Recipe(epochs=1, batch_size=1, lr=2e-3, warmup_steps=10), 60
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=recipe.lr)
    theirs = scheduler.CosineLRScheduler(
        optimizer, t_initial=total - 10, warmup_t=10, warmup_prefix=True, t_in_epochs=False
    )
    for step in range(10, total):
        theirs.step_update(step)
        assert learning_rate(recipe, step, total) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)

"""The paper's training recipes as values: one for every (model, data set), each field with its source. No torch here.

    recipe = paper_recipe("mast", "ast_base", "audioset", "balanced")  # AST under MAST's own protocol
    to_experiment(override(recipe, {"batch_size": 12}), seed=0)

"mast" is the protocol of the MAST paper (sec. 4), which AST is given too, so that both models of a comparison are
trained alike. "ast" is the recipe of AST's authors (YuanGongND/ast `egs/audioset/run.sh`): the row "AST [1] (Our AS)"
of Table 5. What the paper states is read from `paper.json`; what it leaves out is inherited from the code that it says
it follows, or chosen here and marked OPEN.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from types import MappingProxyType
from typing import Any, Literal, get_args

from reproduce.audio_spec import AudioSpec
from reproduce.datasets import dataset_spec
from reproduce.datasets.audioset import PROTOCOLS as AUDIOSET_PROTOCOLS
from reproduce.datasets.audioset import WHOLE_TRAIN
from reproduce.errors import InputError
from reproduce.experiments import CHOICES, Experiment, Recipe
from reproduce.paper import Fact, load_paper

Tag = Literal["STATED", "INHERITED", "OPEN"]
STATED, INHERITED, OPEN = TAGS = get_args(Tag)

MAST, AST = "mast", "ast"
MODELS = {"ast": "ast_base", "mast": "mast_base"}
WEIGHTS = "imagenet"
BCE, CROSS_ENTROPY = "binary cross-entropy", "soft-target cross-entropy"
TWO_HEADS = "mean of verb's and noun's soft-target cross-entropy"
FRONT_END = "front_end."  # prefix of the front end's fields among a recipe's
THREE_SEEDS, ONE_SEED = (0, 1, 2), (0,)

# Sources, named once. Paths are of the public repositories.
AST_RUN = "YuanGongND/ast egs/audioset/run.sh"
AST_TRAIN = "YuanGongND/ast src/traintest.py"
AST_DATA = "YuanGongND/ast src/dataloader.py"
MBT = "google-research/scenic MBT"
MVIT = "facebookresearch/mvit configs/MVITv2_B.yaml"
OURS = "this suite"


@dataclass(frozen=True)
class Provenance:
    """Where a value comes from.

    Args:
        tag: STATED by the paper; INHERITED from the code it builds on; OPEN, chosen here because the texts are silent.
        source: the sentence's place, the public file, or for OPEN whose habit was taken.
        note: why, or what else was possible.
    """

    tag: Tag
    source: str
    note: str = ""


@dataclass(frozen=True)
class PaperRecipe:
    """One model trained on one data set as the paper, or AST's authors, would.

    Args:
        name: "mast" or "ast", followed by what was overridden: "mast, batch_size=12". See `Experiment.recipe_name`.
        model, dataset, protocol: registered names.
        recipe, front_end: see there.
        weights: what training starts from.
        loss: what the labels of the data set lead to; told, not chosen: the engine reads it off the data.
        seeds: of the runs that a table averages.
        provenance: every field's, by name; the front end's are "front_end.mels" and so on.
    """

    name: str
    model: str
    dataset: str
    protocol: str
    recipe: Recipe
    front_end: AudioSpec
    weights: str
    loss: str
    seeds: tuple[int, ...]
    provenance: Mapping[str, Provenance]

    def values(self) -> dict[str, Any]:
        """Every field that has a provenance, by name: the recipe's, the front end's, then weights, loss and seeds."""
        return {
            **{f.name: getattr(self.recipe, f.name) for f in fields(Recipe)},
            **{FRONT_END + f.name: getattr(self.front_end, f.name) for f in fields(AudioSpec)},
            "weights": self.weights,
            "loss": self.loss,
            "seeds": self.seeds,
        }


@dataclass(frozen=True)
class _Study:
    """What differs between the paper's data sets. `epochs_fact`: key of the paper's number of epochs."""

    dataset: str
    protocol: str
    epochs_fact: str
    loss: str
    seeds: tuple[int, ...]
    sampler: str = "shuffle"
    crop: str = "first"
    test_crops: int = 1


STUDIES = (
    _Study("kinetics_sounds", "ks32", "epochs_kinetics_sounds", CROSS_ENTROPY, THREE_SEEDS),
    _Study("epic_kitchens", "", "epochs_epic_kitchens_100", TWO_HEADS, THREE_SEEDS, crop="random", test_crops=4),
    _Study("vggsound", "", "epochs_vggsound", CROSS_ENTROPY, ONE_SEED),
    _Study("audioset", "balanced", "epochs_audioset_balanced", BCE, THREE_SEEDS),
    _Study("audioset", "full", "epochs_audioset_full", BCE, ONE_SEED, sampler="balanced"),
)

# What AST's run.sh sets by the size of the training set.
AST_BY_PROTOCOL: Mapping[str, Mapping[str, Any]] = {
    "balanced": {"epochs": 25, "lr": 5e-5, "decay_start": 10, "decay_every": 5, "average_from": 6},
    "full": {
        "epochs": 5, "lr": 1e-5, "decay_start": 2, "decay_every": 1, "average_from": 1, "sampler": "balanced",
    },
}  # fmt: skip


@cache
def paper_recipes() -> tuple[PaperRecipe, ...]:
    """All of them: each study by MAST's protocol for both models, then AudioSet by AST's own recipe."""
    by_mast = [_mast_recipe(study, model) for study in STUDIES for model in MODELS]
    return (*by_mast, *(_ast_recipe(study) for study in STUDIES if study.dataset == "audioset"))


def paper_recipe(name: str, model: str, dataset: str, protocol: str = "") -> PaperRecipe:
    """The recipe `name` ("mast" or "ast") of a model ("mast_base", or "mast" for short) on a data set.

    An empty protocol is the data set's first one.

    Raises:
        InputError: the paper has no such recipe; the message lists those it has.
    """
    preset = MODELS.get(model, model)
    protocol = protocol or next((s.protocol for s in STUDIES if s.dataset == dataset), "")
    for recipe in paper_recipes():
        if (recipe.name, recipe.model, recipe.dataset, recipe.protocol) == (name, preset, dataset, protocol):
            return recipe
    known = dict.fromkeys(f"{r.name}: {r.model} on {study_name(r.dataset, r.protocol)}" for r in paper_recipes())
    raise InputError(
        f"no recipe {name!r} of {preset} on {study_name(dataset, protocol)}: choose one of {'; '.join(known)}"
    )


def study_name(dataset: str, protocol: str) -> str:
    """ "audioset balanced", or "vggsound" where there is one variant only."""
    return f"{dataset} {protocol}".rstrip()


def to_experiment(recipe: PaperRecipe, seed: int, model_config: Mapping[str, Any] | None = None) -> Experiment:
    """One run at the paper's scale. `model_config` overrides the model's config, such as the ablations' pool_strides.

    The full AudioSet is its two official train splits, or the one list that AST's authors made of both; a split that
    the data do not have is empty.
    """
    spec = dataset_spec(recipe.dataset)
    return Experiment(
        model=recipe.model,
        dataset=recipe.dataset,
        train_splits=train_splits_of(recipe.dataset, recipe.protocol),
        test_splits=spec.test_splits,
        front_end=recipe.front_end,
        recipe=recipe.recipe,
        scale="paper",
        weights=recipe.weights,
        protocol=recipe.protocol,
        model_config=dict(model_config or {}),
        seed=seed,
        recipe_name=recipe.name,
    )


def train_splits_of(dataset: str, protocol: str) -> tuple[str, ...]:
    """Splits that a protocol trains on, where the data have them; the full AudioSet comes as two lists, or as one."""
    splits = dataset_spec(dataset).train_splits
    if dataset != "audioset":
        return splits
    wanted = {*AUDIOSET_PROTOCOLS[protocol], *([WHOLE_TRAIN] if protocol == "full" else [])}
    return tuple(split for split in splits if split in wanted)


# --- the recipes ---


def _mast_recipe(study: _Study, model: str) -> PaperRecipe:
    """The protocol of sec. 4 for either model."""
    paper = load_paper()
    epochs = int(_fact_number(paper.fact(study.epochs_fact)))
    recipe = Recipe(
        epochs=epochs,
        batch_size=64,
        lr=_fact_number(paper.fact("learning_rate")),
        warmup_steps=1000,
        weight_decay=0.05,
        betas=(0.9, 0.999),
        clip_norm=1.0,
        drop_path_rate=0.3,
        label_smoothing=0.0 if study.loss == BCE else 0.1,
        mixup=0.5,
        freq_mask=48,
        time_mask=192,
        optimizer="adamw",
        schedule="cosine",
        sampler=study.sampler,
        average_from=epochs // 2 + 1,
        report_best=True,
        crop=study.crop,
        test_crops=study.test_crops,
    )
    return PaperRecipe(
        name=MAST,
        model=MODELS[model],
        dataset=study.dataset,
        protocol=study.protocol,
        recipe=recipe,
        front_end=_front_end(study.dataset),
        weights=WEIGHTS,
        loss=study.loss,
        seeds=study.seeds,
        provenance=MappingProxyType(
            {**_mast_provenance(study, model), **_front_end_provenance(study.dataset, inherited=False)}
        ),
    )


def _ast_recipe(study: _Study) -> PaperRecipe:
    """AudioSet as AST's authors train on it: the row "AST [1] (Our AS)" of Table 5."""
    recipe = Recipe(
        **AST_BY_PROTOCOL[study.protocol],
        batch_size=12,
        warmup_steps=1000,
        warmup_every=50,
        weight_decay=5e-7,
        betas=(0.95, 0.999),
        clip_norm=0.0,
        mixup=0.5,
        freq_mask=48,
        time_mask=192,
        optimizer="adam",
        schedule="steps",
        decay=0.5,
        primary="averaged",
        report_best=True,
    )
    return PaperRecipe(
        name=AST,
        model=MODELS["ast"],
        dataset=study.dataset,
        protocol=study.protocol,
        recipe=recipe,
        front_end=_front_end(study.dataset),
        weights=WEIGHTS,
        loss=BCE,
        seeds=study.seeds,
        provenance=MappingProxyType(
            {**_ast_provenance(study.protocol), **_front_end_provenance(study.dataset, inherited=True)}
        ),
    )


def _front_end(dataset: str) -> AudioSpec:
    paper, spec = load_paper(), dataset_spec(dataset)
    return AudioSpec(
        mels=int(_fact_number(paper.fact("mel_bins"))),
        frames=int(_fact_number(paper.fact("frames"))),
        mean=spec.mean,
        std=spec.std,
    )


def _fact_number(fact: Fact) -> float:
    if isinstance(fact.value, str):
        raise TypeError(f"facts.{fact.key} is {fact.value!r}, not a number")
    return fact.value


# --- where every value comes from ---


def _stated(fact: str, note: str = "") -> Provenance:
    return Provenance(STATED, f"paper, {load_paper().fact(fact).where}", note)


def _stated_of_mast(model: str, fact: str, note: str = "") -> Provenance:
    """What the paper states of MAST alone: giving it to AST as well is this suite's choice."""
    stated = _stated(fact, note)
    if model == "mast":
        return stated
    return Provenance(OPEN, stated.source, "; ".join(n for n in ("stated of MAST; AST is trained alike", note) if n))


def _mast_provenance(study: _Study, model: str) -> dict[str, Provenance]:
    """Of every field of Recipe, and of weights, loss and seeds. A field added to Recipe must be added here."""
    follows = "the paper follows MViTv2-B"
    unused = Provenance(OPEN, OURS, "the cosine schedule has no steps")
    full, several = study.protocol == "full", len(study.seeds) > 1
    long_clips = study.dataset == "epic_kitchens"
    moot = "clips of 10 s give 998 of 1024 frames: there is nothing to crop"
    return {
        "epochs": _stated_of_mast(model, study.epochs_fact),
        "lr": _stated_of_mast(model, "learning_rate", "never rescaled with the batch"),
        "optimizer": _stated_of_mast(model, "optimizer"),
        "schedule": _stated_of_mast(model, "schedule", "one cycle per step, from the end of the warm-up down to 0"),
        "batch_size": Provenance(OPEN, f"{MBT}: 64", "AST 12, MViTv2 256; runs with other sizes have another name"),
        "warmup_steps": Provenance(OPEN, f"{AST_TRAIN}: 1000 steps", "MBT 2.5 epochs; MViTv2 70 of 300 epochs"),
        "warmup_every": Provenance(OPEN, OURS, "the usual linear warm-up, per step; AST updates every 50"),
        "weight_decay": Provenance(OPEN, MVIT, f"{follows}; none on biases, norms and position embeddings of AST"),
        "betas": Provenance(OPEN, MVIT, follows),
        "clip_norm": Provenance(OPEN, MVIT, follows),
        "drop_path_rate": Provenance(OPEN, MVIT, f"{follows}; AST's own recipe has none"),
        "label_smoothing": Provenance(OPEN, MVIT, "for cross-entropy; BCE takes none"),
        "mixup": Provenance(OPEN, AST_RUN, "on waveforms; MViTv2's cutmix and RandAugment are for images"),
        "freq_mask": Provenance(OPEN, AST_RUN, "AST's for AudioSet, on all four data sets"),
        "time_mask": Provenance(OPEN, AST_RUN, "AST's for AudioSet, on all four data sets"),
        "roll": Provenance(OPEN, AST_DATA, "AST rolls Speech Commands alone"),
        "decay_start": unused,
        "decay_every": unused,
        "decay": unused,
        "sampler": Provenance(OPEN, AST_RUN, "AST does, there" if full else "AST weights the full set alone"),
        "average_from": Provenance(
            OPEN, OURS, "the second half, the rate below half its peak; AST averages epochs 6-25 of 25, 1-5 of 5"
        ),
        "primary": Provenance(OPEN, OURS, "no choice is made on the test clips; the paper does not say"),
        "report_best": Provenance(OPEN, OURS, "the last epoch is the result; best and average beside it, labelled"),
        "crop": Provenance(OPEN, f"{MBT}: random crops", "of 10.24 s") if long_clips else Provenance(OPEN, OURS, moot),
        "test_crops": Provenance(OPEN, f"{MBT}: 4 evenly spaced", "6.9 % of the segments are longer than 10.24 s")
        if long_clips
        else Provenance(OPEN, OURS, moot),
        "weights": _stated("pretraining") if model == "mast" else _ast_weights(),
        "loss": _loss_provenance(study, model),
        "seeds": Provenance(OPEN, OURS, "the paper reports single runs" + ("" if several else "; one takes days")),
    }


def _ast_weights() -> Provenance:
    return Provenance(INHERITED, "YuanGongND/ast src/models/ast_models.py", "DeiT-B distilled, ImageNet-1K")


def _loss_provenance(study: _Study, model: str) -> Provenance:
    if study.loss == BCE:
        return _stated_of_mast(model, "loss_audioset")
    if study.loss == TWO_HEADS:
        note = "two heads are stated, their weights are not; a plain sum doubles the rate"
        return Provenance(OPEN, "ekazakos/auditory-slow-fast tools/train_net.py: 0.5 (verb + noun)", note)
    return Provenance(OPEN, MVIT, "one label a clip; soft targets because of mixup")


def _ast_provenance(protocol: str) -> dict[str, Provenance]:
    """Of every field of Recipe, and of weights, loss and seeds. A field added to Recipe must be added here."""
    run, train = Provenance(INHERITED, AST_RUN), Provenance(INHERITED, AST_TRAIN)
    absent = Provenance(INHERITED, AST_TRAIN, "AST's code has none")
    last = AST_BY_PROTOCOL[protocol]["epochs"]
    return {
        "epochs": run,
        "lr": run,
        "batch_size": run,
        "mixup": run,
        "freq_mask": run,
        "time_mask": run,
        "sampler": Provenance(INHERITED, "YuanGongND/ast src/run.py", "weights of YuanGongND/psla gen_weight_file.py"),
        "decay_start": run,
        "decay_every": run,
        "decay": run,
        "average_from": Provenance(INHERITED, AST_RUN, f"to epoch {last}"),
        "primary": Provenance(INHERITED, AST_RUN, "its authors report the average; the last epoch stands beside"),
        "optimizer": train,
        "betas": train,
        "weight_decay": Provenance(INHERITED, AST_TRAIN, "L2 on every weight"),
        "schedule": train,
        "warmup_steps": train,
        "warmup_every": train,
        "clip_norm": absent,
        "label_smoothing": absent,
        "drop_path_rate": Provenance(INHERITED, "YuanGongND/ast src/models/ast_models.py", "timm's default: none"),
        "roll": Provenance(INHERITED, AST_DATA, "Speech Commands alone"),
        "report_best": Provenance(
            INHERITED, AST_TRAIN, "AST picks its best epoch on the test clips; here it stands beside the last, labelled"
        ),
        "crop": Provenance(INHERITED, AST_DATA, "the first 1024 frames"),
        "test_crops": Provenance(INHERITED, AST_DATA),
        "weights": _ast_weights(),
        "loss": train,
        "seeds": Provenance(OPEN, OURS, "AST's code seeds nothing; three for the balanced set, one for the full set"),
    }


def _front_end_provenance(dataset: str, inherited: bool) -> dict[str, Provenance]:
    """`inherited`: for AST's own recipe, whose statistics are its own; for MAST's protocol they are a choice."""
    call = Provenance(INHERITED, AST_DATA, "kaldi.fbank, hanning")
    kaldi = Provenance(INHERITED, AST_DATA, "torchaudio's default, which AST relies on")
    statistics = Provenance(
        INHERITED if inherited else OPEN,
        dataset_spec(dataset).stats_source,
        "" if inherited else "AST's of AudioSet for every data set: the paper gives none",
    )
    by_field = {
        "sample_rate": Provenance(INHERITED, "YuanGongND/ast README", "16 kHz for every data set"),
        "mels": _stated("mel_bins"),
        "frames": _stated("frames"),
        "frame_length_ms": kaldi,
        "frame_shift_ms": call,
        "low_hz": kaldi,
        "high_hz": Provenance(INHERITED, AST_DATA, "torchaudio's default: 0 means Nyquist"),
        "preemphasis": kaldi,
        "mean": statistics,
        "std": statistics,
        "pad": Provenance(
            INHERITED if inherited else OPEN,
            AST_DATA,
            "zeros behind the log-mel"
            if inherited
            else "AST's zeros; MBT repeats the clip: override front_end.pad=repeat",
        ),
    }
    return {FRONT_END + name: provenance for name, provenance in by_field.items()}


# --- overriding ---

_AT_LEAST_ONE = {"epochs", "batch_size", "warmup_every", "test_crops"}
_SHARES = {"mixup", "label_smoothing", "drop_path_rate", "decay"}  # of 0 to 1
_TRUTH = {"true": True, "false": False}
_NOT_FREE = {"loss", "seeds"}  # the data decide the one; the other has a CLI option of its own


def override(recipe: PaperRecipe, changes: Mapping[str, Any]) -> PaperRecipe:
    """The recipe with some fields changed and told in its name: "mast, batch_size=12", which fills no paper cell.

    Values may be text, as the command line gives them; "front_end.pad" and the like change the front end. A value that
    is the recipe's own changes nothing, the name included.

    Raises:
        InputError: no such field (the message lists them), or a value that the field cannot take.
    """
    free = {name: value for name, value in recipe.values().items() if name not in _NOT_FREE}
    for name in changes:
        if name not in free:
            raise InputError(f"a recipe has no field {name!r} to override: choose from {', '.join(free)}")
    parsed = {name: _parse(name, changes[name], free[name]) for name in free if name in changes}
    changed = {name: value for name, value in parsed.items() if value != free[name]}
    own = {name: value for name, value in changed.items() if name in {f.name for f in fields(Recipe)}}
    audio = {n.removeprefix(FRONT_END): v for n, v in changed.items() if n.startswith(FRONT_END)}
    try:
        new_recipe, new_front_end = replace(recipe.recipe, **own), replace(recipe.front_end, **audio)
    except ValueError as error:
        raise InputError(str(error)) from None
    if new_recipe.freq_mask > new_front_end.mels or new_recipe.time_mask > new_front_end.frames:
        raise InputError(
            f"masks of up to {new_recipe.freq_mask} mels and {new_recipe.time_mask} frames do not fit an input of "
            f"{new_front_end.mels} x {new_front_end.frames}: override freq_mask and time_mask too"
        )
    mine = {
        name: Provenance(OPEN, "overridden", f"the recipe's own value is {value_text(free[name])}") for name in changed
    }
    return replace(
        recipe,
        name=", ".join([recipe.name, *(f"{name}={value_text(value)}" for name, value in changed.items())]),
        recipe=new_recipe,
        front_end=new_front_end,
        weights=changed.get("weights", recipe.weights),
        provenance=MappingProxyType({**recipe.provenance, **mine}),
    )


def _parse(name: str, value: Any, current: Any) -> Any:
    """`value`, or what its text says, in the type of the field's current value."""
    refused = InputError(f"{name}={value}: {_wanted(name, current)}, like {value_text(current)}")
    try:
        parsed = _converted(value, current)
    except (TypeError, ValueError):
        raise refused from None
    numbers = parsed if isinstance(parsed, tuple) else (parsed,)
    if isinstance(current, (int, float, tuple)) and not name.startswith(FRONT_END):
        lowest = 1 if name in _AT_LEAST_ONE else 0
        highest = 1 if name in _SHARES or name == "betas" else float("inf")
        if any(not lowest <= number <= highest or number == float("inf") for number in numbers):
            raise refused
        if name == "lr" and not parsed:
            raise refused
    return parsed


def _converted(value: Any, current: Any) -> Any:
    if isinstance(current, bool):
        if str(value).lower() not in _TRUTH:
            raise ValueError(value)
        return _TRUTH[str(value).lower()]
    if isinstance(value, bool):
        raise ValueError(value)
    if isinstance(current, int):
        if isinstance(value, float) and not value.is_integer():
            raise ValueError(value)
        return int(value)
    if isinstance(current, float):
        return float(value)
    if isinstance(current, tuple):
        parts = tuple(float(part) for part in (value.split(",") if isinstance(value, str) else value))
        if len(parts) != len(current):
            raise ValueError(value)
        return parts
    if not isinstance(value, str) or not value:
        raise ValueError(value)
    return value


def _wanted(name: str, current: Any) -> str:
    if name in CHOICES:
        return f"must be one of {', '.join(CHOICES[name])}"
    if isinstance(current, bool):
        return "must be true or false"
    if isinstance(current, tuple):
        return f"must be {len(current)} numbers of 0 to 1, separated by commas"
    if isinstance(current, str):
        return "must be a name"
    if name in _SHARES:
        return "must be a number of 0 to 1"
    kind = "a whole number" if isinstance(current, int) else "a number"
    return f"must be {kind}" + (" of at least 1" if name in _AT_LEAST_ONE else "" if name == "lr" else " of at least 0")


def value_text(value: Any) -> str:
    """A value as names, tables and messages write it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(map(value_text, value))
    return f"{value:g}" if isinstance(value, float) and f"{value:g}" == f"{value:.12g}" else f"{value}"


# --- where the suite departs from the paper, or from the code it builds on ---


@dataclass(frozen=True)
class Deviation:
    """One departure: what the paper or the public code does, what is done here, and why."""

    what: str
    theirs: str
    ours: str
    why: str


DEVIATIONS = (
    Deviation(
        "the AST of Tables 2-4",
        "the quoted rows are MBT's audio branch [28], called AST",
        "AST itself, trained here by MAST's protocol, in a row of its own; the quoted row stays as printed",
        "MBT differs in weights, patches, crops and schedule: the two numbers are of different networks",
    ),
    Deviation(
        "AST's labels on balanced AudioSet",
        "AST's 34.7 uses enhanced labels (PSLA type1_2_mean)",
        "the original labels; weights averaged, the last epoch beside it",
        "the enhanced labels are not AudioSet's, and the paper does not say that (Our AS) used them",
    ),
    Deviation(
        "which epoch counts",
        "AST's code picks the best epoch on the test clips; the paper is silent",
        "the last epoch; best and averaged weights beside it, labelled",
        "choosing on the test clips reports a maximum of noise",
    ),
    Deviation(
        "scale of the relative positions",
        "eq. (2) divides (QK + E) by the root of d",
        "softmax(QK / root of d + E), E unscaled, as MViTv2's code has it",
        "the ImageNet weights were trained so",
    ),
    Deviation(
        "skip path where the width changes",
        "eq. (1): P(A)",
        "P(proj(LN(A))), as MViTv2's code has it",
        "the ImageNet weights were trained so; the widths would not match otherwise",
    ),
    Deviation(
        "classification tokens",
        "features are taken from \"classification tokens\"",
        "the mean over tokens after the last LayerNorm",
        "the ImageNet-1K MViTv2-B has no class token, and Table 1 counts none",
    ),
    Deviation(
        "rectangular positions",
        "MViTv2's code asserts square grids, and its loader drops every table of another size",
        "tables per axis, resized linearly",
        "128 x 1024 is no square; dropping 48 tables in silence is no transfer",
    ),
    Deviation(
        "evaluation outputs of MViTv2",
        "its head returns a softmax in evaluation",
        "raw logits always",
        "a loss and a sigmoid need logits",
    ),
    Deviation(
        "mixed labels under cross-entropy",
        "AST's code takes argmax(labels.long()): every mixed clip becomes class 0",
        "soft targets",
        "a bug, not a recipe",
    ),
    Deviation(
        "AST's parameter count",
        "88.1 M counts DeiT's two unused 1000-way heads",
        "both counts, 88.1 and 86.6 M",
        "the heads play no part, and MAST's count has none of the kind",
    ),
    Deviation(
        "multiply-accumulates",
        "module hooks of ptflops miss the products of attention",
        "both counts, module-only and full",
        "the missing products are 27 G of AST and 9 G of MAST",
    ),
    Deviation(
        "the cost of the ablations",
        "not mentioned",
        "printed beside the accuracy, with a warning",
        "with the first pooling only, or none, MAST needs more MACs than AST",
    ),
    Deviation(
        "EPIC-KITCHENS-100's split",
        "not named; quoted rows look like the test server's",
        "the validation split",
        "the test labels are not public",
    ),
    Deviation(
        "the full AudioSet",
        "\"full\" is compared with the 2 M unbalanced clips",
        "balanced and unbalanced clips together",
        "AST's list of the full set is that union",
    ),
    Deviation(
        "precision",
        "AST: AMP in float16; the paper is silent",
        "bfloat16 on GPUs that have it, float32 elsewhere; the record says which",
        "no loss scaling is needed, so there is none to go wrong",
    ),
)  # fmt: skip

"""State the source of every value in the recipes of the baselines: AST by its authors, and MBT's audio branch."""

from __future__ import annotations

from reproduce.experiments.paper_studies import BCE, TWO_HEADS, PaperStudy
from reproduce.experiments.provenance import (
    AST_DATA,
    AST_RUN,
    AST_TRAIN,
    FRONT_END,
    INHERITED,
    MBT,
    OPEN,
    OURS,
    Provenance,
    ast_weights,
    front_end_provenance,
)

AST_RUN_PY = "YuanGongND/ast src/run.py"
MBT_CONFIG = "google-research/scenic mbt/configs/audioset/balanced_audioset_base.py"
MBT_MODEL = "google-research/scenic mbt/model.py"
MBT_DATA = "google-research/scenic mbt/datasets"
MBT_LOSS = "google-research/scenic model_lib/base_models/model_utils.py"
TWO_HEADS_SOURCE = "ekazakos/auditory-slow-fast tools/train_net.py: 0.5 (verb + noun)"


def ast_provenance(study: PaperStudy, epochs: int) -> dict[str, Provenance]:
    """Return the source of every field of Recipe, and of weights, loss and seeds, for the recipe of AST's authors.

    Args:
        study: data set; its authors published a recipe for AudioSet alone.
        epochs: number of epochs.
    """
    run, train = Provenance(INHERITED, AST_RUN), Provenance(INHERITED, AST_TRAIN)
    absent = Provenance(INHERITED, AST_TRAIN, "AST's code has none")
    best = "AST picks its best epoch on the test clips; here it is reported beside the last, labelled"
    published = {
        "epochs": run,
        "lr": run,
        "batch_size": run,
        "mixup": run,
        "freq_mask": run,
        "time_mask": run,
        "sampler": Provenance(INHERITED, AST_RUN_PY, "weights of YuanGongND/psla gen_weight_file.py"),
        "decay_start": run,
        "decay_every": run,
        "decay": run,
        "average_from": Provenance(INHERITED, AST_RUN, f"to epoch {epochs}"),
        "primary": Provenance(
            INHERITED, AST_RUN, "its authors report the average; the last epoch is reported beside it"
        ),
        "optimizer": train,
        "betas": train,
        "weight_decay": Provenance(INHERITED, AST_TRAIN, "L2 on every weight"),
        "schedule": train,
        "warmup_steps": train,
        "warmup_every": train,
        "clip_norm": absent,
        "label_smoothing": absent,
        "drop_path_rate": Provenance(INHERITED, "YuanGongND/ast src/models/ast_models.py", "timm's default: none"),
        "report_best": Provenance(INHERITED, AST_TRAIN, best),
        "crop": Provenance(INHERITED, AST_DATA, "the first 1024 frames"),
        "test_crops": Provenance(INHERITED, AST_DATA),
        "bce": train,
        "weights": ast_weights(),
        "loss": train,
        "seeds": Provenance(OPEN, OURS, "AST's code seeds nothing; three for the balanced set, one for the full set"),
    }
    return published if study.dataset == "audioset" else published | _nearest_of_ast(study, epochs)


def _nearest_of_ast(study: PaperStudy, epochs: int) -> dict[str, Provenance]:
    """What is chosen where AST's authors published no recipe: that of the balanced AudioSet, the nearest."""
    nearest = Provenance(
        OPEN,
        f"{AST_RUN}, balanced set",
        "AST's authors published none for this data set; nearest in clips, their length and their source. Its full set "
        "takes 5 epochs of 2 M clips, ESC-50 and Speech Commands have clips of 5 s and 1 s",
    )
    by_size = ("epochs", "lr", "batch_size", "mixup", "freq_mask", "time_mask", "decay_start", "decay_every", "decay")
    chosen = dict.fromkeys((*by_size, "sampler", "average_from", "primary"), nearest)
    crops = f"{MBT}: random crops in training, 4 at test"
    if study.crop == "random":
        alike = Provenance(OPEN, crops, "as for MAST; AST's code takes the first 1024 frames")
        chosen |= {"crop": alike, "test_crops": alike}
    if study.loss == TWO_HEADS:
        chosen["loss"] = Provenance(OPEN, TWO_HEADS_SOURCE, "as for MAST")
    else:
        soft = "AST takes it on ESC-50; its code turns every mixed label into class 0, here targets are soft"
        chosen["loss"] = Provenance(OPEN, AST_TRAIN, soft)
    few = "three" if len(study.seeds) > 1 else "one"
    chosen["seeds"] = Provenance(OPEN, OURS, f"AST's code seeds nothing; {few}, as for MAST")
    return chosen


def mbt_provenance(study: PaperStudy) -> dict[str, Provenance]:
    """Return the source of every field of Recipe, and of weights, loss and seeds, for MBT's audio branch.

    Its authors published one configuration, of both modalities on the balanced AudioSet: it serves every data set.
    """
    config = Provenance(INHERITED, MBT_CONFIG, "of both modalities; the audio branch has no configuration of its own")
    if (study.dataset, study.variant) != ("audioset", "balanced"):
        config = Provenance(OPEN, MBT_CONFIG, "of the balanced AudioSet: none is published for this data set")
    unused = Provenance(OPEN, OURS, "the cosine schedule has no steps")
    return {
        **dict.fromkeys(("epochs", "batch_size", "lr", "warmup_steps", "clip_norm", "label_smoothing"), config),
        **dict.fromkeys(("drop_path_rate", "optimizer", "schedule", "weight_decay", "test_crops"), config),
        "betas": Provenance(INHERITED, MBT_CONFIG, "momentum 0.9, scenic's default; SGD has no second"),
        "warmup_every": Provenance(INHERITED, MBT_CONFIG, "per step"),
        "mixup": Provenance(
            OPEN, MBT_CONFIG, "MBT mixes log-mels of every batch, with Beta(0.5, 0.5); here AST's mixup of waveforms"
        ),
        "freq_mask": config,
        "time_mask": Provenance(OPEN, MBT_CONFIG, "MBT masks 4 times up to 48 frames; here once up to 192"),
        **dict.fromkeys(("decay_start", "decay_every", "decay"), unused),
        "sampler": Provenance(OPEN, OURS, "as for MAST; MBT took AS-500K in place of the full AudioSet"),
        "average_from": Provenance(OPEN, OURS, "MBT averages nothing: reported beside the last epoch, as for MAST"),
        "primary": Provenance(OPEN, OURS, "the last epoch, as for MAST"),
        "report_best": Provenance(OPEN, OURS, "reported beside the last epoch, labelled"),
        "crop": Provenance(INHERITED, MBT_DATA, "a random 8 s"),
        "bce": Provenance(INHERITED, MBT_LOSS, "summed over classes")
        if study.loss == BCE
        else Provenance(OPEN, OURS, "this data set takes cross-entropy"),
        "weights": Provenance(INHERITED, MBT_CONFIG, "ViT-B/16, ImageNet-21k"),
        "loss": Provenance(OPEN, TWO_HEADS_SOURCE, "as for MAST; MBT's multi-head model takes the mean too")
        if study.loss == TWO_HEADS
        else Provenance(INHERITED, MBT_MODEL, "soft targets because of mixup"),
        "seeds": Provenance(OPEN, OURS, "the paper quotes single runs"),
    }


def mbt_front_end_provenance(dataset: str) -> dict[str, Provenance]:
    """Return the source of every field of the front end of MBT's audio branch."""
    fields = front_end_provenance(dataset, inherited=False)
    features = "MBT's own features are not published as code: AST's log-mels, Hann window, AudioSet's statistics"
    changed = {
        "mels": Provenance(INHERITED, MBT_CONFIG, "128 mels"),
        "frames": Provenance(INHERITED, MBT_CONFIG, "8 s of 100 frames"),
        "frame_length_ms": Provenance(OPEN, AST_DATA, features),
        "mean": Provenance(OPEN, AST_DATA, features),
        "std": Provenance(OPEN, AST_DATA, features),
        "pad": Provenance(OPEN, AST_DATA, "zeros, as for AST and MAST; MBT repeats short clips"),
    }
    return fields | {FRONT_END + name: provenance for name, provenance in changed.items()}

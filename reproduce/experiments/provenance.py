"""State the source of every value in the paper's recipes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from reproduce.datasets import dataset_spec
from reproduce.experiments.paper_studies import BCE, TWO_HEADS, PaperStudy
from reproduce.paper import load_paper

Tag = Literal["STATED", "INHERITED", "OPEN"]
STATED, INHERITED, OPEN = get_args(Tag)
FRONT_END = "front_end."  # prefix of the front end's fields among a recipe's
# Sources: files of public repositories.
AST_RUN = "YuanGongND/ast egs/audioset/run.sh"
AST_TRAIN = "YuanGongND/ast src/traintest.py"
AST_DATA = "YuanGongND/ast src/dataloader.py"
MBT = "google-research/scenic MBT"
MVIT = "facebookresearch/mvit configs/MVITv2_B.yaml"
OURS = "this suite"


@dataclass(frozen=True)
class Provenance:
    """The source of a value.

    Args:
        tag: STATED by the paper; INHERITED from code that it builds on; OPEN: chosen here, because no text gives it.
        source: section of the paper, or public file; for OPEN, the practice that the choice follows.
        note: reason, or alternatives.
    """

    tag: Tag
    source: str
    note: str = ""


def _stated(fact: str, note: str = "") -> Provenance:
    return Provenance(STATED, f"paper, {load_paper().fact(fact).where}", note)


def _stated_of_mast(model: str, fact: str, note: str = "") -> Provenance:
    """A value that the paper states for MAST only: its use for AST is a choice of this suite."""
    stated = _stated(fact, note)
    if model == "mast":
        return stated
    return Provenance(OPEN, stated.source, "; ".join(n for n in ("stated for MAST; AST is trained alike", note) if n))


def mast_provenance(study: PaperStudy, model: str) -> dict[str, Provenance]:
    """Return the source of every field of Recipe, and of weights, loss and seeds, for MAST's protocol.

    Every field of Recipe needs an entry here; a test compares the two.
    """
    follows = "the paper follows MViTv2-B"
    unused = Provenance(OPEN, OURS, "the cosine schedule has no steps")
    full, several = study.variant == "full", len(study.seeds) > 1
    long_clips = study.dataset == "epic_kitchens"
    moot = "clips of 10 s give 998 of 1024 frames: there is nothing to crop"
    return {
        "epochs": _stated_of_mast(model, study.epochs_fact),
        "lr": _stated_of_mast(model, "learning_rate", "never rescaled with the batch"),
        "optimizer": _stated_of_mast(model, "optimizer"),
        "schedule": _stated_of_mast(model, "schedule", "one cycle per step, from the end of the warm-up down to 0"),
        "batch_size": _batch_provenance(study),
        "warmup_steps": Provenance(OPEN, f"{AST_TRAIN}: 1000 steps", "MBT 2.5 epochs; MViTv2 70 of 300 epochs"),
        "warmup_every": Provenance(OPEN, OURS, "the usual linear warm-up, per step; AST updates every 50"),
        "weight_decay": Provenance(OPEN, MVIT, f"{follows}; none on biases, norms and position embeddings of AST"),
        "betas": Provenance(OPEN, MVIT, follows),
        "clip_norm": Provenance(OPEN, MVIT, follows),
        "drop_path_rate": Provenance(OPEN, MVIT, f"{follows}; AST's recipe has none"),
        "label_smoothing": Provenance(OPEN, MVIT, "for cross-entropy; BCE takes none"),
        "mixup": Provenance(OPEN, AST_RUN, "on waveforms; MViTv2's cutmix and RandAugment are for images"),
        "freq_mask": Provenance(OPEN, AST_RUN, "AST's for AudioSet, on all four data sets"),
        "time_mask": Provenance(OPEN, AST_RUN, "AST's for AudioSet, on all four data sets"),
        "decay_start": unused,
        "decay_every": unused,
        "decay": unused,
        "sampler": Provenance(OPEN, AST_RUN, "as AST for the full set" if full else "AST weights only the full set"),
        "average_from": Provenance(
            OPEN, OURS, "the second half, the rate below half its peak; AST averages epochs 6-25 of 25, 1-5 of 5"
        ),
        "primary": Provenance(OPEN, OURS, "no choice on the test clips; the paper does not state it"),
        "report_best": Provenance(
            OPEN, OURS, "the last epoch is the result; best and average are reported beside it, labelled"
        ),
        "crop": Provenance(OPEN, f"{MBT}: random crops", "of 10.24 s") if long_clips else Provenance(OPEN, OURS, moot),
        "test_crops": Provenance(OPEN, f"{MBT}: 4 evenly spaced", "6.9 % of the segments are longer than 10.24 s")
        if long_clips
        else Provenance(OPEN, OURS, moot),
        "bce": Provenance(OPEN, OURS, "the mean over classes, as in AST's code"),
        "weights": _stated("pretraining") if model == "mast" else ast_weights(),
        "loss": _loss_provenance(study, model),
        "seeds": Provenance(OPEN, OURS, "the paper reports single runs" + ("" if several else "; one takes days")),
    }


def _batch_provenance(study: PaperStudy) -> Provenance:
    """The paper gives no batch. At its rate of 1e-5 the batch decides how far the weights can move."""
    other = "runs with other sizes have another name"
    if study.dataset != "audioset":
        quoted = "MBT's are the AST rows that the paper quotes"
        return Provenance(OPEN, f"{MBT}: {study.batch_size}", f"{quoted}; AST 12, MViTv2 256; {other}")
    reran = "the paper reran AST's official code on AudioSet"
    reason = "64 gives a fifteenth of its summed learning rate on the balanced set, a third on the full set"
    return Provenance(OPEN, f"{AST_RUN}: {study.batch_size}", f"{reran}; {reason}; MBT 64, MViTv2 256; {other}")


def ast_weights() -> Provenance:
    return Provenance(INHERITED, "YuanGongND/ast src/models/ast_models.py", "DeiT-B distilled, ImageNet-1K")


def _loss_provenance(study: PaperStudy, model: str) -> Provenance:
    if study.loss == BCE:
        return _stated_of_mast(model, "loss_audioset")
    if study.loss == TWO_HEADS:
        note = "two heads are stated, their weights are not; a plain sum doubles the rate"
        return Provenance(OPEN, "ekazakos/auditory-slow-fast tools/train_net.py: 0.5 (verb + noun)", note)
    return Provenance(OPEN, MVIT, "one label per clip; soft targets because of mixup")


def front_end_provenance(dataset: str, inherited: bool) -> dict[str, Provenance]:
    """Return the source of every field of the front end.

    Args:
        dataset: registered name.
        inherited: whether the recipe is that of AST's authors, who published the statistics; their use in MAST's
            protocol is a choice.
    """
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
            "zeros behind the log-mel" if inherited else "AST's zeros; MBT repeats the clip",
        ),
        "implementation": Provenance(OPEN, OURS, "equal to torchaudio's within 1e-4, and faster on a batch"),
    }
    return {FRONT_END + name: provenance for name, provenance in by_field.items()}

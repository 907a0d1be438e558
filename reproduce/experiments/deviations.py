"""List the deviations of this suite from the paper, and from the code that it builds on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Deviation:
    """One deviation.

    Args:
        what: subject of the deviation.
        theirs: what the paper or the public code does.
        ours: what this suite does.
        why: the reason.
    """

    what: str
    theirs: str
    ours: str
    why: str


DEVIATIONS = (
    Deviation(
        "the AST of Tables 2-4",
        "the quoted rows are MBT's audio branch [28], called AST",
        "AST by MAST's protocol and by its authors' recipe, in rows of their own; and that network trained anew",
        "MBT differs in weights, patches, crops and schedule: the two numbers are of different networks",
    ),
    Deviation(
        "AST's recipe outside AudioSet",
        "its authors published none for Kinetics-Sounds, VGGSound and EPIC-KITCHENS-100",
        "that of the balanced AudioSet, every field OPEN; claims compare MAST with the stronger of both AST",
        "MAST's protocol alone, with MViTv2's drop path of 0.3, may be a weak baseline",
    ),
    Deviation(
        "features of the retrained MBT",
        "its own log-mels, four time masks, mixup of spectrograms, short clips repeated, SGD on TPUs",
        "AST's log-mels with AudioSet's statistics, one mask of the same total, mixup of waveforms, zero padding",
        "its features are not published as code; the data path is the same for every model here",
    ),
    Deviation(
        "AST's head initialisation",
        "torch's default for a Linear: weights and biases uniform within 1/sqrt(768) = 0.036 of 0",
        "weights from a truncated normal of deviation 0.02, biases 0, as in DeiT and for MAST's head",
        "one rule for every head; the deviations are nearly the same (0.021 and 0.020)",
    ),
    Deviation(
        "AST's labels on balanced AudioSet",
        "AST's 34.7 uses enhanced labels (PSLA type1_2_mean)",
        "the original labels; weights averaged, the last epoch beside it",
        "the enhanced labels are not AudioSet's, and the paper does not state that (Our AS) used them",
    ),
    Deviation(
        "which epoch counts",
        "AST's code picks the best epoch on the test clips; the paper does not state it",
        "the last epoch; best and averaged weights beside it, labelled",
        "choosing on the test clips reports a maximum of noise",
    ),
    Deviation(
        "scale of the relative positions",
        "eq. (2) divides (QK + E) by the root of d",
        "softmax(QK / root of d + E), E unscaled, as MViTv2's code has it",
        "the ImageNet weights were trained this way",
    ),
    Deviation(
        "skip path where the width changes",
        "eq. (1): P(A)",
        "P(proj(LN(A))), as MViTv2's code has it",
        "the ImageNet weights were trained this way; the widths would not match otherwise",
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
        "128 x 1024 is not square; a loader that drops 48 tables does not transfer them",
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
        "the heads are not used, and MAST's count has no such heads",
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
        "AST: AMP in float16; the paper does not state it",
        "bfloat16 on GPUs that have it, float32 elsewhere; the record states which",
        "bfloat16 needs no loss scaling",
    ),
)  # fmt: skip

"""Training losses."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor


def per_clip_losses(
    logits: Mapping[str, Tensor],
    targets: Mapping[str, Tensor],
    multilabel: bool,
    label_smoothing: float = 0.0,
    bce: str = "mean",
) -> Tensor:
    """(batch,) mean over heads of BCE (multi-label) or soft-target cross-entropy; both take raw logits.

    AST's own code turns a mixed label into class 0 on the cross-entropy path (`argmax(labels.long())`); soft targets
    do not. A head's mean is AudioSlowFast's 0.5 * (verb + noun) where there are two. `bce` is the "mean" over classes,
    or scenic's "sum"; smoothed labels are (1 - s) * target + s / classes for either loss, as scenic has them.
    """
    losses = []
    for head, target in targets.items():
        values = logits[head].float()
        if multilabel:
            smoothed = target * (1 - label_smoothing) + label_smoothing / target.shape[1] if label_smoothing else target
            by_class = F.binary_cross_entropy_with_logits(values, smoothed, reduction="none")
            losses.append(by_class.sum(dim=1) if bce == "sum" else by_class.mean(dim=1))
        else:
            losses.append(F.cross_entropy(values, target, label_smoothing=label_smoothing, reduction="none"))
    return torch.stack(losses).mean(dim=0)

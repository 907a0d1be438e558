"""What the harness needs of a model, ours or anyone's: training, prediction, checkpoints, counting and memory.

Our transformers (`models/base.py`) and the adapters of other models (`models/foreign.py`) are subclasses. A class and
no `typing.Protocol`, because every one is an `nn.Module` too, which no Protocol can state.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from models.cost_items import BlockShape, CostItem, SavedActivations
from models.layers import ClassifierHead, autocast_dtype
from models.weight_formats import Action, Grid, PublishedWeights, WeightFormat, WeightSource

CLOSED_FORM = "closed form"


class ModelError(ValueError):
    """A model that cannot be had. The message is one line that names the model and the remedy."""


class SpectrogramClassifier(nn.Module):
    """Maps (B, in_chans, mels, frames) to raw logits (B, classes), or to {head: (B, classes)}.

    A subclass builds `config` and `head`, and defines `embedding_dim`, `forward_features`, `pool`, `no_weight_decay`,
    `cost_items` and `saved_activations`. The other methods have defaults.

    Attributes:
        config_class: frozen dataclass with at least num_classes, input_size and in_chans.
        attention_paths: names that `set_attention` accepts.
        pretrained_formats: published formats by name; "ours" is a state dict of this model.
        published: published weights by the name that `load_by_name` takes.
        retired_fields: fields that configs of old checkpoints have, with the one value that is still understood.
        cost_counter: where `cost_items` come from.
        remarks: lines that a user should read: what was asked of this model and cannot be done.
        head: the classifier.
    """

    config_class: ClassVar[type[Any]]
    attention_paths: ClassVar[tuple[str, ...]] = ()
    pretrained_formats: ClassVar[Mapping[str, WeightFormat]] = {}
    published: ClassVar[Mapping[str, PublishedWeights]] = {}
    retired_fields: ClassVar[Mapping[str, Any]] = {}
    cost_counter: ClassVar[str] = CLOSED_FORM
    remarks: tuple[str, ...] = ()
    config: Any
    head: ClassifierHead

    # --- Forward pass

    @property
    def embedding_dim(self) -> int:
        """Width of the pooled embedding."""
        raise NotImplementedError

    def forward_features(self, x: Tensor) -> Tensor:
        """(B, in_chans, mels, frames) to what `pool` takes: our transformers give tokens (B, N, C).

        Raises:
            ValueError: `x` does not have the size that the model was built for.
        """
        raise NotImplementedError

    def pool(self, features: Tensor) -> Tensor:
        """What `forward_features` gives, to the embedding (B, C), at least in float32."""
        raise NotImplementedError

    def classify(self, embedding: Tensor) -> Tensor | dict[str, Tensor]:
        """Embedding (B, C) to logits, in the weights' precision under any autocast.

        Rounding logits to bfloat16 makes ties, which cost 0.12 to 0.15 mAP on AudioSet (simulated, 15,818 x 527).
        """
        if isinstance(self.head.fc, nn.Identity):
            return embedding
        device_type = embedding.device.type
        embedding = embedding.to(next(self.head.parameters()).dtype)
        if autocast_dtype(device_type) is None:
            return self.head_logits(embedding)
        with torch.autocast(device_type, enabled=False):
            return self.head_logits(embedding)

    def head_logits(self, embedding: Tensor) -> Tensor | dict[str, Tensor]:
        """Embedding (B, C) in the weights' precision to logits."""
        return self.head(embedding)

    def forward(self, x: Tensor) -> Tensor | dict[str, Tensor]:
        return self.classify(self.pool(self.forward_features(x)))

    # --- How it is computed

    @property
    def attention(self) -> str:
        """The paths by which attention is computed on the model's device, such as "chunked, sdpa"."""
        return "none"

    def attention_by(self, path: str) -> AbstractContextManager[None]:
        """Compute attention by `path`, one of `attention_paths`, inside the block; ignored by a model without any."""
        return nullcontext()

    def set_grad_checkpointing(self, enable: bool = True) -> Self:
        """Recompute activations in the backward pass instead of saving them. Returns self."""
        raise NotImplementedError

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that the reference does not decay, besides biases and norms."""
        raise NotImplementedError

    # --- Cost of one clip

    @property
    def paper_only_parameters(self) -> int:
        """Parameters that the paper counts and this model does not have."""
        return 0

    def cost_items(self) -> Iterator[CostItem]:
        """MACs of one clip, by block and kind."""
        raise NotImplementedError

    def block_shapes(self) -> Iterator[BlockShape]:
        """Tokens that leave the patch embedding and each block, in order; none of a model whose blocks are unknown."""
        return iter(())

    def saved_activations(
        self, batch: int, device: torch.device, dtype: torch.dtype = torch.float32
    ) -> Iterator[SavedActivations]:
        """Activations that autograd saves of one clip of `batch` on `device`: per block, in order, and of the head.

        Args:
            batch: clips on the device at a time.
            device: whose attention paths and recomputation thresholds are taken.
            dtype: of the products, by which a path may be chosen; sizes are in elements.
        """
        raise NotImplementedError

    def relative_position_terms(self, x: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Mean term that relative positions add to the scores of x (B, in_chans, mels, frames).

        Returns:
            Per block, along frequency (queries, keys) and along time (queries, keys); empty if the model has none.
        """
        return []

    # --- Weights of other sources

    def rename_key(self, key: str) -> str:
        """A key of published weights before the rules of its format, for what no pattern can express."""
        return key

    @classmethod
    def grid_of_config(cls, config: Any) -> Grid | None:
        """The (frequency, time) grid of the position embedding by a config; None if the model needs no grid."""
        return None

    def grid_of_file(self, path: Path) -> Grid | None:
        """The (frequency, time) grid of the position embedding in a file of published weights, None if unknown."""
        return None

    def adapt(self, key: str, tensor: Tensor, target: Tensor, source: WeightSource) -> tuple[Tensor, Action]:
        """Bring a source tensor to the shape of `target` where a rule allows it; otherwise return it as it is.

        Args:
            key: our name.
            tensor: of the source.
            target: of the model.
            source: the weights that are being loaded.

        Raises:
            CheckpointError: a rule applies, but the source lacks the information for it.
        """
        return tensor, "matched"

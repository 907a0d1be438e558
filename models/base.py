"""What AST and MAST have in common from the outside: the interface that the harness, the counters and tests rely on."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.layers import ClassifierHead


class SpectrogramTransformer(nn.Module):
    """Maps (B, in_chans, mels, frames) to raw logits (B, classes), or to {head: (B, classes)}.

    Subclasses build `blocks`, set `config` (a frozen dataclass with num_classes, input_size, in_chans, attention) and
    say how a spectrogram becomes tokens and tokens an embedding. Raw logits in training and evaluation alike.
    """

    attention_paths: ClassVar[tuple[str, ...]]
    config: Any
    blocks: Any  # nn.ModuleList of the subclass's own Block
    head: ClassifierHead

    def __init__(self) -> None:
        super().__init__()
        self.grad_checkpointing = False

    @property
    def embedding_dim(self) -> int:
        """Width of the pooled embedding."""
        raise NotImplementedError

    @property
    def attention(self) -> str:
        """The path by which attention is computed, one of `attention_paths`."""
        return str(self.blocks[0].attn.path)

    def set_attention(self, path: str) -> SpectrogramTransformer:
        """Choose how attention is computed, one of `attention_paths`; outputs agree. Returns self."""
        if path not in self.attention_paths:
            raise ValueError(f"attention must be one of {self.attention_paths}, got {path!r}")
        for block in self.blocks:
            block.attn.path = path
        return self

    def set_grad_checkpointing(self, enable: bool = True) -> SpectrogramTransformer:
        """Recompute each block in the backward pass instead of keeping its activations. Returns self."""
        self.grad_checkpointing = enable
        return self

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that the reference leaves undecayed, besides biases and norms."""
        raise NotImplementedError

    def run_blocks(self, x: Tensor) -> Tensor:
        """Tokens (B, N, C) through every block."""
        for block in self.blocks:
            if self.grad_checkpointing and self.training and torch.is_grad_enabled():
                x = checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x)
        return x

    def forward_features(self, x: Tensor) -> Tensor:
        """(B, in_chans, mels, frames) to tokens (B, N, C) after the last LayerNorm."""
        raise NotImplementedError

    def pool(self, tokens: Tensor) -> Tensor:
        """Tokens (B, N, C) to the embedding (B, C)."""
        raise NotImplementedError

    def classify(self, embedding: Tensor) -> Tensor | dict[str, Tensor]:
        """Embedding (B, C) to logits."""
        return self.head(embedding)

    def forward_head(self, tokens: Tensor, pre_logits: bool = False) -> Tensor | dict[str, Tensor]:
        """Tokens to logits, or with `pre_logits` to the pooled embedding (B, C)."""
        embedding = self.pool(tokens)
        return embedding if pre_logits else self.classify(embedding)

    def forward(self, x: Tensor) -> Tensor | dict[str, Tensor]:
        return self.forward_head(self.forward_features(x))

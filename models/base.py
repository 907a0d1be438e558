"""What our transformers have in common from the outside: blocks over tokens, attention paths and timm's interface."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.classifier import SpectrogramClassifier
from models.layers import ClassifierHead, check_heads, check_input, init_linear_weights, layer_norm
from models.pool_layouts import POOL_LAYOUTS
from models.weight_formats import Action, WeightSource


class SpectrogramTransformer(SpectrogramClassifier):
    """Maps (B, in_chans, mels, frames) to raw logits (B, classes), or to {head: (B, classes)}.

    A subclass builds `config`, `blocks`, `norm` and `head`, and defines `embedding_dim`, `no_weight_decay`, `embed`,
    `pool`, `cost_items`, `block_shapes` and `saved_activations`. The other methods have defaults. Its presets are
    registered by `register_presets`.

    Attributes:
        blocks: Transformer blocks. Those with attention have an `attn` with `path` and `path_on`.
    """

    blocks: Any  # nn.ModuleList of the subclass's blocks
    norm: nn.Module

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.grad_checkpointing = False
        self.unpooled = False

    # --- Forward pass

    def embed(self, x: Tensor) -> Tensor:
        """(B, in_chans, mels, frames) to the tokens (B, N, C) that enter the first block."""
        raise NotImplementedError

    def run_blocks(self, x: Tensor) -> Tensor:
        """Tokens (B, N, C) through every block."""
        for block in self.blocks:
            x = self._run_block(block, x)
        return x

    def _run_block(self, block: nn.Module, x: Tensor) -> Tensor:
        if self.grad_checkpointing and self.training and torch.is_grad_enabled():
            result: Tensor = checkpoint(block, x, use_reentrant=False)
            return result
        return block(x)

    def forward_features(self, x: Tensor) -> Tensor:
        """(B, in_chans, mels, frames) to tokens (B, N, C) after the last LayerNorm.

        Raises:
            ValueError: `x` does not have the size that the model was built for.
        """
        check_input(x, self.config.in_chans, self.config.input_size)
        return layer_norm(self.norm, self.run_blocks(self.embed(x)))

    def forward_two_layers(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The tokens of `forward_features` and those that leave the second-last block, (B, N', C'), before any norm."""
        check_input(x, self.config.in_chans, self.config.input_size)
        x = self.embed(x)
        for block in self.blocks[:-1]:
            x = self._run_block(block, x)
        return layer_norm(self.norm, self._run_block(self.blocks[-1], x)), x

    def forward_head(self, tokens: Tensor, pre_logits: bool = False) -> Tensor | dict[str, Tensor]:
        """Tokens to logits, or with `pre_logits` to the pooled embedding (B, C)."""
        if self.unpooled:
            return tokens
        embedding = self.pool(tokens)
        return embedding if pre_logits else self.classify(embedding)

    def forward(self, x: Tensor) -> Tensor | dict[str, Tensor]:
        return self.forward_head(self.forward_features(x))

    # --- How it is computed

    @property
    def attention(self) -> str:
        """The paths by which the blocks compute attention on the model's device, such as "chunked, sdpa", under
        autocast and with or without gradients as now.
        """
        device = next(self.parameters()).device
        paths = dict.fromkeys(block.attn.path_on(device) for block in self.blocks if hasattr(block, "attn"))
        return ", ".join(paths) or "none"

    def set_attention(self, path: str) -> SpectrogramTransformer:
        """Choose how attention is computed, one of `attention_paths`; outputs agree. Returns self."""
        if path not in self.attention_paths:
            raise ValueError(f"attention must be one of {self.attention_paths}, got {path!r}")
        for block in self.blocks:
            block.attn.path = path
        return self

    @contextmanager
    def attention_by(self, path: str) -> Iterator[None]:
        """Compute attention by `path`, one of `attention_paths`, inside the block; ignored by a model without any."""
        blocks = list(self.blocks) if self.attention_paths else []
        before = [block.attn.path for block in blocks]
        try:
            if self.attention_paths:
                self.set_attention(path)
            yield
        finally:
            for block, own in zip(blocks, before, strict=True):
                block.attn.path = own

    def set_grad_checkpointing(self, enable: bool = True) -> SpectrogramTransformer:
        """Recompute each block in the backward pass instead of saving its activations. Returns self."""
        self.grad_checkpointing = enable
        return self

    def set_recompute(self, elements: int | None) -> SpectrogramTransformer:
        """Recompute LayerNorms, GELUs and poolings of at least `elements` elements in the backward pass.

        0 saves most memory; None takes the default for the device. Returns self.
        """
        module: Any
        for module in self.modules():
            if hasattr(module, "recompute_from"):
                module.recompute_from = elements
        return self

    def set_pool_layout(self, layout: str) -> SpectrogramTransformer:
        """Choose the memory layout of the depthwise convolutions, one of POOL_LAYOUTS; outputs agree. Returns self.

        Raises:
            ValueError: an unknown layout.
        """
        if layout not in POOL_LAYOUTS:
            raise ValueError(f"layout must be one of {POOL_LAYOUTS}, got {layout!r}")
        module: Any
        for module in self.modules():
            if hasattr(module, "pool_layout"):
                module.pool_layout = layout
        return self

    # --- Weights of other sources

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
        if key == "patch_embed.proj.weight" and tensor.ndim == 4 and tensor.shape[1] == 3 and target.shape[1] == 1:
            return tensor.to(target.dtype).sum(dim=1, keepdim=True), "summed channels"
        return tensor, "matched"

    # --- What timm expects of a model

    @property
    def num_classes(self) -> int | Mapping[str, int]:
        """Classes of the one head, or of every head by name; 0 after `reset_classifier(0)`."""
        return 0 if isinstance(self.head.fc, nn.Identity) else self.config.num_classes

    @property
    def num_features(self) -> int:
        """timm's name of `embedding_dim`."""
        return self.embedding_dim

    head_hidden_size = num_features

    def get_classifier(self) -> nn.Module:
        """The Linear of the one head, or a ModuleDict of them."""
        return self.head.fc

    def reset_classifier(self, num_classes: int | Mapping[str, int], global_pool: str | None = None) -> None:
        """Replace the classifier by a new one; with 0 classes `forward` returns the embedding.

        Args:
            num_classes: of the new classifier.
            global_pool: "" without classes makes `forward` return the tokens (B, N, C).

        Raises:
            ValueError: another `global_pool`, which the models fix, or a number of classes that cannot be built.
        """
        if global_pool is not None and (global_pool, num_classes) != ("", 0):
            raise ValueError(f"global_pool is fixed by the model, got {global_pool!r}: leave it out")
        self.unpooled = global_pool is not None
        if num_classes != 0:
            check_heads(num_classes)
            self.config = self.config_class(**{**vars(self.config), "num_classes": num_classes})
        reference = next(self.parameters())
        self.head = ClassifierHead(self.embedding_dim, num_classes).to(reference.device, reference.dtype)
        self.head.apply(init_linear_weights)

    @property
    def feature_info(self) -> list[dict[str, Any]]:
        """Width and reduction of the grid that leaves every block; the reduction is that of time."""
        frames = self.config.input_size[1]
        return [
            {"num_chs": shape.width, "reduction": round(frames / shape.grid[1]), "module": f"blocks.{number}"}
            for number, shape in enumerate(list(self.block_shapes())[1:])
        ]

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        return_prefix_tokens: bool = False,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> Any:
        """Token grids after chosen blocks, as timm's models give them.

        Args:
            x: (B, in_chans, mels, frames).
            indices: the last n blocks, or block numbers; None for all.
            return_prefix_tokens: give (grid, prefix tokens (B, n, C)) for every block.
            norm: apply the last LayerNorm to the last block's tokens.
            stop_early: leave out the blocks after the last chosen one, whose output is not needed then.
            output_fmt: "NCHW" for (B, C, frequency, time), "NLC" for (B, frequency * time, C).
            intermediates_only: leave the tokens of `forward_features` out.

        Returns:
            The list of grids without prefix tokens, or (tokens (B, N, C), the list); the tokens are not those of the
            last block where `stop_early` left it out.
        """
        if output_fmt not in ("NCHW", "NLC"):
            raise ValueError(f"output_fmt must be NCHW or NLC, got {output_fmt!r}")
        depth = len(self.blocks)
        numbers = range(depth) if indices is None else range(depth)[-indices:] if isinstance(indices, int) else indices
        wanted = {range(depth)[number] for number in numbers}
        check_input(x, self.config.in_chans, self.config.input_size)
        shapes = list(self.block_shapes())[1:]
        grids: list[Any] = []
        x = self.embed(x)
        for number, (block, shape) in enumerate(zip(self.blocks, shapes, strict=True)):
            x = self._run_block(block, x)
            if number in wanted:
                tokens = layer_norm(self.norm, x) if norm and number == depth - 1 else x
                prefix, tokens = tokens[:, : shape.prefix_tokens], tokens[:, shape.prefix_tokens :]
                grid = tokens if output_fmt == "NLC" else tokens.transpose(1, 2).unflatten(2, shape.grid)
                grids.append((grid, prefix) if return_prefix_tokens else grid)
            if stop_early and number == max(wanted):
                break
        tokens = layer_norm(self.norm, x) if number == depth - 1 else x  # the norm has the last block's width
        return grids if intermediates_only else (tokens, grids)

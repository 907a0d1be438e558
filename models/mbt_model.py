"""The audio branch of MBT (Nagrani 2021): the network behind the rows that the MAST paper quotes as "AST [28]".

A ViT-B/16 on non-overlapping patches of the spectrogram, classified from the mean over patches. After google-research/
scenic `scenic/projects/mbt/model.py` with one modality and classifier "gap". Shapes as in `ast_model`.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isqrt, prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.ast_model import AST, BASE_FIELDS, ASTConfig, Block, PatchEmbed
from models.cost_items import CostItem
from models.layers import ClassifierHead, at_least_float32, drop_path_rates, init_linear_weights
from models.registry import register_presets
from models.weight_files import CheckpointError
from models.weight_formats import Action, Grid, PublishedWeights, WeightFormat, WeightSource

OF_OTHERS = r"dist_token|head_norm\.weight|.*\.rel_pos_\w+"  # tensors that AST or MAST have, and this model has not

PRETRAINED_FORMATS = {
    "ours": WeightFormat(marker=r"head\.fc(\.\w+)?\.weight", absent=rf"cls_token|{OF_OTHERS}"),
    "vit": WeightFormat(marker="cls_token", absent=OF_OTHERS, dropped=r"cls_token|(head|pre_logits)\..*"),
}
PUBLISHED = {
    "imagenet21k": PublishedWeights(
        repo_id="timm/vit_base_patch16_224.orig_in21k",
        url="https://huggingface.co/timm/vit_base_patch16_224.orig_in21k/resolve/main/model.safetensors",
        preset="ast_mbt",
        fields=BASE_FIELDS,
    )
}


class MBT(AST):
    """The model. `forward`: (B, in_chans, mels, frames) to (B, classes), or to {head: (B, classes)}.

    Unlike AST it has no class or distillation token: the embedding is the mean over patches after the last LayerNorm,
    and the head is one Linear, which starts at zero.
    """

    pretrained_formats = PRETRAINED_FORMATS
    published = PUBLISHED
    prefix_tokens = 0

    def __init__(self, config: ASTConfig) -> None:
        super(AST, self).__init__(config)  # without AST's prefix tokens and the LayerNorm of its head
        dim = config.embed_dim
        self.patch_embed = PatchEmbed(config)
        self.pos_embed = nn.Parameter(torch.zeros(1, prod(config.grid), dim))
        rates = drop_path_rates(config.drop_path_rate, config.depth)
        self.blocks = nn.ModuleList(Block(config, rate, self.tokens) for rate in rates)
        self.norm = nn.LayerNorm(dim, eps=config.norm_eps)
        self.head = ClassifierHead(dim, config.num_classes)
        self.apply(init_linear_weights)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        for parameter in self.head.parameters():
            nn.init.zeros_(parameter)

    def no_weight_decay(self) -> set[str]:
        """The position embedding, as in ViT's recipes."""
        return {"pos_embed"}

    def embed(self, x: Tensor) -> Tensor:
        """(B, in_chans, mels, frames) to tokens (B, patches, C) with their positions."""
        return self.patch_embed(x) + self.pos_embed

    def pool(self, tokens: Tensor) -> Tensor:
        """Mean over patches, (B, C)."""
        return at_least_float32(tokens).mean(dim=1)

    def head_logits(self, embedding: Tensor) -> Tensor | dict[str, Tensor]:
        """Embedding (B, C) to logits."""
        return self.head(embedding)

    @property
    def paper_only_parameters(self) -> int:
        """None: the paper counts no parameters of this network, but copies AST's."""
        return 0

    def cost_items(self) -> Iterator[CostItem]:
        tokens = self.tokens
        for item in super().cost_items():
            if (item.block, item.kind) == ("head", "norm"):  # the last LayerNorm alone
                item = CostItem("head", "norm", item.macs * tokens // (tokens + 1))
            yield item

    def adapt(self, key: str, tensor: Tensor, target: Tensor, source: WeightSource) -> tuple[Tensor, Action]:
        """Bring an image model's patch kernel and position embedding to a spectrogram.

        MBT lays the spectrogram out as an image whose rows are frames: rows and columns are swapped here, where rows
        are frequencies. MBT tiles one channel to three, which equals a kernel summed over channels.
        """
        if source.format == "ours" and tensor.shape == target.shape:
            return tensor, "matched"
        if key == "patch_embed.proj.weight" and tensor.ndim == 4:
            kernel, action = super(AST, self).adapt(key, tensor, target, source)
            return kernel.transpose(2, 3), action
        if key == "pos_embed" and source.format == "vit":
            return resize_image_positions(tensor.to(target.dtype), self.config.grid, source.name), "resized"
        return tensor, "matched"


def resize_image_positions(pos_embed: Tensor, grid: Grid, name: str) -> Tensor:
    """A square image's position embedding on a spectrogram's patches, interpolated linearly along both axes.

    Args:
        pos_embed: (1, 1 + side * side, C); the first position is the class token's, which is left out.
        grid: patches along (frequency, time) of the result.
        name: of the file, for messages.

    Returns:
        (1, rows * columns of grid, C).

    Raises:
        CheckpointError: the patches are not those of a square image.
    """
    patches = pos_embed.shape[1] - 1 if pos_embed.ndim == 3 else 0
    side = isqrt(max(patches, 0))
    if not side or side * side != patches:
        shape = tuple(pos_embed.shape)
        raise CheckpointError(f"{name}: 'pos_embed' is {shape}, not (1, 1 + side * side, width): give a ViT's weights")
    image = pos_embed[:, 1:].transpose(1, 2).unflatten(2, (side, side)).transpose(2, 3)
    resized = F.interpolate(image, size=grid, mode="bilinear", align_corners=False)
    return resized.flatten(2).transpose(1, 2)


# ast_mbt is MBT's audio branch: at its input of 128 x 800, 400 patches, 86.0 M parameters with 527 classes.
register_presets(
    MBT,
    {
        "ast_mbt": {"patch_stride": 16},
        "ast_mbt_debug": {"patch_stride": 16, "embed_dim": 32, "num_heads": 2, "depth": 2},
    },
)

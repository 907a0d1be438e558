"""MBT's audio branch: equal to a ViT with the same weights, its size, and ViT weights that become its own."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from make_weights import deit, randomised

from models import AST, MBT, create_model
from models.complexity import measure_complexity
from models.pretrained import load_by_name, load_pretrained
from models.weight_files import CheckpointError

SIZE = (128, 800)  # MBT's 8 s


def vit(**options: Any) -> Any:
    """timm's ViT of the debug model's width, 14 x 14 patches."""
    return timm.create_model(
        "vit_base_patch16_224", embed_dim=32, depth=2, num_heads=2, **{"num_classes": 21, **options}
    )


def test_its_logits_are_those_of_a_vit_without_class_token() -> None:
    ours = randomised(create_model("ast_mbt_debug", num_classes=7, input_size=SIZE)).eval()
    theirs = vit(num_classes=7, img_size=SIZE, in_chans=1, class_token=False, global_pool="avg", fc_norm=False).eval()
    renamed = {key.replace("head.fc.", "head."): value for key, value in ours.state_dict().items()}
    theirs.load_state_dict(renamed)
    x = torch.randn(2, 1, *SIZE)
    with torch.no_grad():
        assert (ours(x) - theirs(x)).abs().max() < 1e-5


def test_its_size_is_a_vits_on_400_patches() -> None:
    with torch.device("meta"):
        model = create_model("ast_mbt", input_size=SIZE)
    cost = measure_complexity(model)
    blocks = 12 * (4 * 768 * 768 + 2 * 768 * 3072 + 9 * 768 + 3072)
    patches = 16 * 16 * 768 + 768 + 400 * 768
    assert cost.parameters == blocks + patches + 2 * 768 + 527 * 769
    # A third of the 103.4 G that the paper prints in its row.
    assert cost.macs_module_only == pytest.approx(34e9, rel=0.01)
    assert sum(item.macs for item in cost.items if item.kind == "attention") == 12 * 2 * 400**2 * 768


def test_image_weights_become_a_spectrograms_by_mbts_layout() -> None:
    source = randomised(vit())
    model = create_model("ast_mbt_debug", num_classes=7, input_size=(224, 224))
    report = load_pretrained(model, source.state_dict())
    assert (report.format, isinstance(model, AST)) == ("vit", True)
    state = source.state_dict()
    kernel = state["patch_embed.proj.weight"]
    # One channel tiled to three, rows are frames.
    assert torch.equal(model.patch_embed.proj.weight, kernel.sum(dim=1, keepdim=True).transpose(2, 3))
    square = state["pos_embed"][:, 1:].unflatten(1, (14, 14)).transpose(1, 2).flatten(1, 2)
    assert torch.allclose(model.pos_embed, square)
    assert {entry.key for entry in report.having("initialised")} == {"head.fc.weight", "head.fc.bias"}
    assert not model.head.fc.weight.any()  # MBT starts the classifier at zero


def test_our_own_weights_are_told_from_an_asts() -> None:
    model = randomised(create_model("ast_mbt_debug", num_classes=7, input_size=(32, 64)))
    again: Any = create_model("ast_mbt_debug", num_classes=7, input_size=(32, 64))
    load_pretrained(again, model.state_dict())
    assert torch.equal(again.pos_embed, model.pos_embed) and torch.equal(again.head.fc.weight, model.head.fc.weight)
    with pytest.raises(CheckpointError, match="nothing for 'cls_token'"):
        load_pretrained(create_model("ast_debug", num_classes=7, input_size=(32, 64)), model.state_dict())
    with pytest.raises(CheckpointError, match="deit weights fit AST, not MBT"):
        load_pretrained(again, deit().state_dict())
    with pytest.raises(CheckpointError, match="1 \\+ side"):
        load_pretrained(again, {**vit().state_dict(), "pos_embed": torch.zeros(1, 190, 32)})
    with pytest.raises(CheckpointError, match="imagenet21k"):
        load_by_name(again, "imagenet")


def test_two_heads_and_mixed_precision_keep_logits_in_float32() -> None:
    model = create_model("ast_mbt_debug", num_classes={"verb": 3, "noun": 4}, input_size=(32, 64))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(torch.randn(2, 1, 32, 64))
    assert isinstance(logits, dict)
    assert {head: (tuple(x.shape), x.dtype) for head, x in logits.items()} == {
        "verb": ((2, 3), torch.float32),
        "noun": ((2, 4), torch.float32),
    }
    assert isinstance(model, MBT)

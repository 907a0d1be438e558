"""AST to and from the folders that transformers reads and writes: config.json and model.safetensors.

Our names become those that transformers 4 wrote to disk, which every version reads. `models.ast_model` has the rules of
the other direction, which `load_pretrained` follows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.ast_model import AST, ASTConfig
from models.pretrained import load_pretrained
from models.weight_files import DAMAGE, CheckpointError, first_line, listed

ARCHITECTURE, MODEL_TYPE = "ASTForAudioClassification", "audio-spectrogram-transformer"
CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
MULTILABEL = "multi_label_classification"
AUDIOSET_CLASSES = 527  # several labels per clip, though the published config does not say so
_PREFIX = "audio_spectrogram_transformer."
_RULES = (
    (r"^(cls_token)$", rf"{_PREFIX}embeddings.\1"),
    (r"^dist_token$", f"{_PREFIX}embeddings.distillation_token"),
    (r"^pos_embed$", f"{_PREFIX}embeddings.position_embeddings"),
    (r"^patch_embed\.proj\.", f"{_PREFIX}embeddings.patch_embeddings.projection."),
    (r"^blocks\.(\d+)\.norm1\.", rf"{_PREFIX}encoder.layer.\1.layernorm_before."),
    (r"^blocks\.(\d+)\.norm2\.", rf"{_PREFIX}encoder.layer.\1.layernorm_after."),
    (r"^blocks\.(\d+)\.attn\.(query|key|value)\.", rf"{_PREFIX}encoder.layer.\1.attention.attention.\2."),
    (r"^blocks\.(\d+)\.attn\.proj\.", rf"{_PREFIX}encoder.layer.\1.attention.output.dense."),
    (r"^blocks\.(\d+)\.mlp\.fc1\.", rf"{_PREFIX}encoder.layer.\1.intermediate.dense."),
    (r"^blocks\.(\d+)\.mlp\.fc2\.", rf"{_PREFIX}encoder.layer.\1.output.dense."),
    (r"^norm\.", f"{_PREFIX}layernorm."),
    (r"^head_norm\.", "classifier.layernorm."),
    (r"^head\.fc\.", "classifier.dense."),
)


@dataclass(frozen=True)
class TransformersAST:
    """An AST from a folder of transformers.

    Args:
        model: ours, in evaluation mode, on the CPU.
        labels: class names in the order of the logits.
        multilabel: sigmoid per class (True) or softmax over classes.
    """

    model: AST
    labels: tuple[str, ...]
    multilabel: bool


def is_transformers_ast(folder: Path) -> bool:
    """Whether a folder has a config.json of an AST by transformers."""
    try:
        return _read_config(folder).get("model_type") == MODEL_TYPE
    except CheckpointError:
        return False


def from_transformers(folder: Path) -> TransformersAST:
    """Build our AST with the sizes, weights and class names of a folder that transformers wrote.

    Raises:
        CheckpointError: no AST, sizes that ours does not have, or weights that do not fit.
    """
    fields = _read_config(folder)
    if fields.get("model_type") != MODEL_TYPE:
        raise CheckpointError(f"{folder / CONFIG_FILE}: not an AST ({fields.get('model_type')!r}): give one's folder")
    try:
        names = {int(number): str(name) for number, name in fields["id2label"].items()}
        labels = tuple(names[i] for i in range(len(names)))
        model = AST(_our_config(fields, len(labels)))
    except DAMAGE as error:
        raise CheckpointError(f"{folder / CONFIG_FILE}: {first_line(error)}: not an AST that can be built") from error
    report = load_pretrained(model, folder / WEIGHTS_FILE)
    if initialised := report.having("initialised"):
        keys = listed(str(entry.key) for entry in initialised)
        raise CheckpointError(f"{folder / WEIGHTS_FILE}: nothing for {keys}: give the weights of a classifier")
    multilabel = fields.get("problem_type") == MULTILABEL or len(labels) == AUDIOSET_CLASSES
    return TransformersAST(model.eval(), labels, multilabel)


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG_FILE
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read ({first_line(error)}): copy or download it again") from error
    if not isinstance(fields, dict):
        raise CheckpointError(f"{path}: not a config: copy or download it again")
    return fields


def _our_config(fields: Mapping[str, Any], classes: int) -> ASTConfig:
    """The config of ours for one of transformers, whose defaults are those of its published AST.

    Raises:
        ValueError: an AST that ours cannot express.
    """
    width = int(fields.get("hidden_size", 768))
    strides = {int(fields.get(name, 10)) for name in ("frequency_stride", "time_stride")}
    if len(strides) > 1 or not fields.get("qkv_bias", True) or fields.get("hidden_act", "gelu") != "gelu":
        raise ValueError("one stride on both axes, biases and GELU are needed")
    eps = float(fields.get("layer_norm_eps", 1e-12))
    return ASTConfig(
        num_classes=classes,
        input_size=(int(fields.get("num_mel_bins", 128)), int(fields.get("max_length", 1024))),
        embed_dim=width,
        depth=int(fields.get("num_hidden_layers", 12)),
        num_heads=int(fields.get("num_attention_heads", 12)),
        mlp_ratio=int(fields.get("intermediate_size", 3072)) / width,
        patch_size=int(fields.get("patch_size", 16)),
        patch_stride=strides.pop(),
        norm_eps=eps,
        head_norm_eps=eps,
    )


def transformers_config(model: AST, labels: Sequence[str], multilabel: bool) -> dict[str, Any]:
    """The config.json of an AST for transformers.

    Transformers has one epsilon for all LayerNorms, ours another for the head's (1e-5, not 1e-6): on embeddings of
    variance 1 that moves logits by 5e-6 of their size.

    Raises:
        CheckpointError: several heads or input channels, which transformers does not have, or too few labels.
    """
    config = model.config
    if not isinstance(config.num_classes, int) or config.in_chans != 1:
        raise CheckpointError("transformers' AST has one head and one input channel: this model has more")
    if len(labels) != config.num_classes:
        raise CheckpointError(f"{config.num_classes} classes and {len(labels)} labels: give one label per class")
    return {
        "architectures": [ARCHITECTURE],
        "model_type": MODEL_TYPE,
        "hidden_size": config.embed_dim,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.num_heads,
        "intermediate_size": int(config.embed_dim * config.mlp_ratio),
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "layer_norm_eps": config.norm_eps,
        "patch_size": config.patch_size,
        "qkv_bias": True,
        "frequency_stride": config.patch_stride,
        "time_stride": config.patch_stride,
        "max_length": config.input_size[1],
        "num_mel_bins": config.input_size[0],
        "problem_type": MULTILABEL if multilabel else "single_label_classification",
        "id2label": {str(i): name for i, name in enumerate(labels)},
        "label2id": {name: i for i, name in enumerate(labels)},
    }


def transformers_state(model: AST) -> dict[str, Tensor]:
    """The weights of an AST under transformers' names, on the CPU."""
    state: dict[str, Tensor] = {}
    for key, tensor in model.state_dict().items():
        tensor = tensor.detach().cpu()
        stacked = re.fullmatch(r"(blocks\.\d+\.attn)\.qkv\.(weight|bias)", key)
        parts = {key: tensor}
        if stacked:
            thirds = zip(("query", "key", "value"), tensor.chunk(3), strict=True)
            parts = {f"{stacked[1]}.{name}.{stacked[2]}": third for name, third in thirds}
        for name, part in parts.items():
            state[_theirs(name)] = part.clone(memory_format=torch.contiguous_format)
    return state


def _theirs(key: str) -> str:
    for pattern, replacement in _RULES:
        renamed, count = re.subn(pattern, replacement, key)
        if count:
            return renamed
    raise CheckpointError(f"{key!r}: transformers' AST has no such weight")

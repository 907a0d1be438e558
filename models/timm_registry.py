"""Our presets in timm's registry: `import models, timm; timm.create_model("mast_base", num_classes=50)`.

`pretrained=True` loads the first published weights of a preset, "mast_base.imagenet" and the like choose by name. timm
takes 1.8 s of CPU time to import, so `import models` never does: the presets are registered when the program itself
imports timm, before or after.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from torch import nn

from models.base import SpectrogramTransformer
from models.pretrained import load_by_name
from models.registry import PRESETS, Preset, create_model

TIMM_MODELS = "timm.models"  # the module with timm's registry
__all__: list[str] = []  # timm appends the names
default_cfgs: dict[str, Any] = {}  # where timm looks up the pretrained configs of a module's models


def register_when_timm_is_imported() -> None:
    """Register the presets now if timm is imported, otherwise as soon as it is."""
    if TIMM_MODELS in sys.modules:
        register_presets_in_timm()
    else:
        sys.meta_path.insert(0, _AfterTimm())


def register_presets_in_timm() -> None:
    """Register every preset that timm does not have yet."""
    from timm.models import generate_default_cfgs, is_model, register_model

    for name, preset in PRESETS.items():
        if not is_model(name):
            default_cfgs.update(generate_default_cfgs(_pretrained_cfgs(name, preset)))
            register_model(_entry_point(name))


def _pretrained_cfgs(name: str, preset: Preset) -> dict[str, Any]:
    """timm's description of the preset's weights, by "name.weights"."""
    config = preset.family.config_class(**preset.fields)
    common = {
        "input_size": (config.in_chans, *config.input_size),
        "num_classes": config.num_classes,
        "fixed_input_size": True,
        "first_conv": "patch_embed.proj",
        "classifier": "head.fc",
    }
    published = {tag: weights for tag, weights in preset.family.published.items() if weights.preset == name}
    if not published:
        return {name: common}
    return {
        f"{name}.{tag}": {**common, "hf_hub_id": weights.repo_id, "hf_hub_filename": weights.filename}
        for tag, weights in published.items()
    }


def _entry_point(name: str) -> Callable[..., nn.Module]:
    """The function that timm calls to build a preset.

    It takes timm's `img_size` for `input_size`, `num_classes=0`, `global_pool=""` and `features_only` with
    `out_indices`.
    """

    def build(
        pretrained: bool = False,
        pretrained_cfg: Any = None,
        pretrained_cfg_overlay: dict[str, Any] | None = None,
        cache_dir: Any = None,
        img_size: tuple[int, int] | None = None,
        global_pool: str | None = None,
        features_only: bool = False,
        out_indices: int | tuple[int, ...] = 3,
        **arguments: Any,
    ) -> nn.Module:
        from timm.models import resolve_pretrained_cfg

        if img_size is not None:
            arguments["input_size"] = img_size
        without_head = arguments.get("num_classes") == 0
        if without_head:
            arguments.pop("num_classes")
        model = create_model(name, **arguments)
        assert isinstance(model, SpectrogramTransformer)  # a preset
        cfg = resolve_pretrained_cfg(name, pretrained_cfg=pretrained_cfg, pretrained_cfg_overlay=pretrained_cfg_overlay)
        if pretrained:
            load_by_name(model, cfg.tag or name)
        if without_head:
            model.reset_classifier(0, global_pool)
        model.pretrained_cfg = model.default_cfg = cfg.to_dict()
        if not features_only:
            return model
        from timm.models._features import FeatureGetterNet  # timm's own door to it, build_model_with_cfg, builds too

        features: nn.Module = FeatureGetterNet(model, out_indices=out_indices)
        return features

    build.__name__ = build.__qualname__ = name
    return build


class _AfterTimm(MetaPathFinder):
    """Registers the presets after the import of timm's models."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != TIMM_MODELS:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _ThenRegister(spec.loader)
        return spec


class _ThenRegister(Loader):
    """timm's loader, and the registration after it."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self.loader.exec_module(module)
        register_presets_in_timm()

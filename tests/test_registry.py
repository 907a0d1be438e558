"""The one door to the models: names, overrides, and building without side effects."""

from __future__ import annotations

import random
import socket
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from models import AST, MAST, create_model, list_models, register_model, registry

PRESETS = [f"{family}_{size}" for family in ("ast", "mast") for size in ("base", "debug", "small", "tiny")]


def test_the_presets_are_listed_in_order() -> None:
    assert list_models() == PRESETS


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_builds_at_the_papers_geometry_by_default(name: str) -> None:
    with torch.device("meta"):
        model = create_model(name)
        assert isinstance(model, AST if name.startswith("ast") else MAST)
        assert model(torch.empty(3, 1, 128, 1024)).shape == (3, 527)


@pytest.mark.parametrize("name", ["", "ast", "AST_BASE", "mast_large", "ast_base "])
def test_unknown_name_is_an_error_that_lists_the_known(name: str) -> None:
    with pytest.raises(ValueError, match="unknown model") as error:
        create_model(name)
    assert repr(name) in str(error.value)
    assert all(known in str(error.value) for known in PRESETS)


@pytest.mark.parametrize("name", ["ast_debug", "mast_debug"])
@pytest.mark.parametrize("override", ["drop_path", "img_size", "pretrained", "Depth"])
def test_unknown_override_is_an_error_that_names_it(name: str, override: str) -> None:
    overrides: dict[str, Any] = {override: 1}
    with pytest.raises(TypeError, match=override):
        create_model(name, **overrides)


def test_an_override_of_the_other_family_is_an_error() -> None:
    with pytest.raises(TypeError, match="pool_strides"):
        create_model("ast_debug", pool_strides=((2, 2), (2, 2), (1, 2)))
    with pytest.raises(TypeError, match="patch_stride"):
        create_model("mast_debug", patch_stride=16)


def test_overrides_win_over_the_preset() -> None:
    ast: Any = create_model("ast_debug", depth=3, input_size=(16, 16))
    mast: Any = create_model("mast_debug", depths=(1, 2, 1, 1), input_size=(16, 16))
    assert (len(ast.blocks), len(mast.blocks)) == (3, 5)


def test_a_name_registers_once_and_the_first_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_BUILDERS", dict(registry._BUILDERS))

    @register_model
    def identity_model(**arguments: Any) -> nn.Module:
        return nn.Identity()

    assert "identity_model" in list_models()
    assert isinstance(create_model("identity_model"), nn.Identity)

    def mast_debug(**arguments: Any) -> nn.Module:
        return nn.Identity()

    with pytest.raises(ValueError, match="'mast_debug' is registered twice"):
        register_model(mast_debug)
    assert isinstance(create_model("mast_debug", input_size=(16, 16)), MAST)


@pytest.mark.parametrize("name", PRESETS)
def test_building_has_no_side_effects_but_on_torchs_generator(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(*arguments: Any, **keywords: Any) -> None:
        raise AssertionError("a model reached for the network")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.chdir(tmp_path)
    random.seed(0)
    np.random.seed(0)
    before = (random.getstate(), np.random.get_state()[1].tolist())  # type: ignore[index]
    settings = (torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled(), list_models())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        create_model(name, input_size=(32, 64))
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # type: ignore[index]
    assert (torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled(), list_models()) == settings


@pytest.mark.parametrize("name", ["ast_debug", "mast_debug"])
def test_the_seed_decides_the_weights(name: str) -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return nn.utils.parameters_to_vector(create_model(name, input_size=(32, 64)).parameters())

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))

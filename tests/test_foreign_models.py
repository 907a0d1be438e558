"""Networks of timm, of transformers and of a user's own function behind our models' interface."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from make_models import make_input, saved_sizes
from torch import nn

from models import AST, ModelError, create_model
from models.checkpoints import load_checkpoint, save_checkpoint, weights_sha256
from models.complexity import count_with_libraries, measure_complexity
from models.counted_costs import counted_items
from models.pretrained import load_by_name, load_pretrained
from models.weight_files import CheckpointError

pytest.importorskip("timm", reason="the adapters need timm")
transformers = pytest.importorskip("transformers", reason="the adapters need transformers")
pytestmark = pytest.mark.usefixtures("one_thread", "fixed_seed")
SIZE = (32, 96)
USERS_CODE = """
from torch import nn

def small(num_classes, input_size):
    assert input_size == (32, 96)
    features = nn.Conv2d(1, 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*features, nn.Linear(4, num_classes))

def without_linear(num_classes, input_size):
    return nn.Sequential(nn.Conv2d(1, num_classes, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())

def tokens(num_classes, input_size):
    return nn.Linear(96, num_classes)

def failing(num_classes, input_size):
    raise KeyError("no such layer")

def text(num_classes, input_size):
    return "a model"

def with_rate(num_classes, input_size, drop_path_rate):
    model = small(num_classes, input_size)
    model.rate = drop_path_rate
    return model
"""


@pytest.fixture
def users_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of an importable module with USERS_CODE, new in every test."""
    name = f"users_{abs(hash(tmp_path))}"
    (tmp_path / f"{name}.py").write_text(USERS_CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


@pytest.fixture
def tiny_ast(tmp_path: Path) -> str:
    """A folder with the config.json and weights of a tiny transformers AST for 64 x 128 and 5 classes."""
    config = transformers.ASTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, max_length=128,
        num_mel_bins=64, num_labels=5,
    )  # fmt: skip
    transformers.ASTForAudioClassification(config).save_pretrained(tmp_path / "tiny-ast")
    return f"hf:{tmp_path / 'tiny-ast'}"


@pytest.fixture(params=["timm:test_resnet", "timm:test_vit", "timm:test_efficientnet", "hf", "function"])
def name(request: pytest.FixtureRequest) -> str:
    if request.param == "hf":
        return str(request.getfixturevalue("tiny_ast"))
    if request.param == "function":
        return f"{request.getfixturevalue('users_module')}:small"
    return str(request.param)


def make(name: str, **arguments: Any) -> Any:
    return create_model(name, **{"num_classes": 5, "input_size": SIZE, **arguments}).eval()


def save(path: Path, model: Any, **arguments: Any) -> None:
    name = model.config.name
    labels = {"label": [f"class {i}" for i in range(5)]}
    save_checkpoint(path, model, name, **{"front_end": {}, "labels": labels, "multilabel": False, **arguments})


# --- the interface


def test_logits_are_the_classes_of_the_embedding(name: str) -> None:
    model, x = make(name), make_input(size=SIZE)
    embedding = model.pool(model.forward_features(x))
    assert embedding.shape == (2, model.embedding_dim)
    assert torch.equal(model.classify(embedding), model(x))
    assert model(x).shape == (2, 5)


def test_logits_are_those_of_the_library(tiny_ast: str) -> None:
    import timm

    torch.manual_seed(0)
    theirs = timm.create_model("test_vit", num_classes=5, in_chans=1, img_size=SIZE).eval()
    torch.manual_seed(0)
    x = make_input(size=SIZE)
    assert torch.equal(make("timm:test_vit")(x), theirs(x))
    reference = transformers.ASTForAudioClassification.from_pretrained(tiny_ast.removeprefix("hf:")).eval()
    model = make(tiny_ast, input_size=(64, 128))
    load_by_name(model, "pretrained")
    x = make_input(size=(64, 128))
    torch.testing.assert_close(model(x), reference(x[:, 0].transpose(1, 2)).logits)


def test_several_heads_replace_the_classifier(name: str) -> None:
    model = make(name, num_classes={"verb": 3, "noun": 4})
    assert {head: y.shape for head, y in model(make_input(size=SIZE)).items()} == {"verb": (2, 3), "noun": (2, 4)}


def test_a_network_whose_last_layer_is_no_linear_has_its_logits_as_embedding(users_module: str) -> None:
    model, x = make(f"{users_module}:without_linear"), make_input(size=SIZE)
    assert torch.equal(model.pool(model.forward_features(x)), model(x))
    assert model.embedding_dim == 5
    with pytest.raises(ModelError, match="no Linear gives its logits: it cannot have heads verb and noun"):
        make(f"{users_module}:without_linear", num_classes={"verb": 3, "noun": 4})


def test_wrong_input_shape_is_an_error_with_both_shapes(name: str) -> None:
    with pytest.raises(ValueError, match="32 mels, 96 frames"):
        make(name)(torch.zeros(2, 1, 32, 97))


def test_every_parameter_is_trained_once_and_the_exempt_ones_exist(name: str) -> None:
    model = make(name).train()
    model(make_input(batch=4, size=SIZE)).square().sum().backward()
    assert [key for key, p in model.named_parameters() if p.grad is None] == []
    names = {key for key, _ in model.named_parameters()}
    assert model.no_weight_decay() <= names
    assert bool(model.no_weight_decay()) == any("pos" in key for key in names)


def test_recomputed_activations_leave_the_gradients_as_they_are() -> None:
    model = make("timm:test_vit").train()
    gradients = []
    for enable in (False, True):
        model.zero_grad()
        model.set_grad_checkpointing(enable)(make_input(size=SIZE)).square().sum().backward()
        gradients.append({key: p.grad.clone() for key, p in model.named_parameters()})
    torch.testing.assert_close(gradients[0], gradients[1])
    assert model.remarks == ()


def test_what_a_network_cannot_do_is_remarked(users_module: str) -> None:
    model = make(f"{users_module}:small", drop_path_rate=0.1).set_grad_checkpointing(True)
    assert len(model.remarks) == 2
    assert "has no drop path: drop_path_rate 0.1 is ignored" in model.remarks[0]
    assert "--grad-checkpointing is ignored" in model.remarks[1]
    assert make(f"{users_module}:with_rate", drop_path_rate=0.1).net.rate == 0.1
    assert make("timm:test_vit", drop_path_rate=0.1).remarks == ()


def test_a_size_that_a_network_refuses_is_padded_to_one_that_it_takes() -> None:
    model = make("timm:test_vit", input_size=(30, 100))
    assert model.padded_size == (32, 112)
    assert "takes 32 x 112 log-mels: the input is padded with zeros" in model.remarks[0]
    x = make_input(size=(30, 100))
    exact = make("timm:test_vit", input_size=(32, 112))
    exact.load_state_dict(model.state_dict())
    assert torch.equal(model(x), exact(nn.functional.pad(x, (0, 12, 0, 2))))
    assert measure_complexity(model).macs_full == measure_complexity(exact).macs_full


# --- names that cannot be had


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm:test_resnett", "no such model: did you mean test_resnet"),
        ("timm:inception_v3", "cannot take 32 x 96 log-mels"),
        ("timm:mvitv2_tiny", "cannot be built for 32 x 96 log-mels"),
        ("hf:nobody/nothing", "config.json cannot be had"),
        ("no_such_package:model", "cannot import no_such_package"),
        ("os:no_such_function", "os has no no_such_function"),
        ("os:sep", "sep is a str: name a function"),
        ("{users}:failing", "failed for num_classes=5"),
        ("{users}:text", "returns a str"),
        ("{users}:tokens", r"gives \(1, 1, 32, 5\) for one clip: let it give logits \(1, 5\)"),
        ("resnet18", "unknown model 'resnet18'.*timm:NAME, hf:NAME or package.module:function"),
    ],
)
def test_a_model_that_cannot_be_had_is_one_line(
    name: str, message: str, users_module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    name = name.format(users=users_module)
    with pytest.raises(ModelError, match=message) as error:
        make(name)
    assert "\n" not in str(error.value)


def test_a_network_of_waveforms_is_refused(tmp_path: Path) -> None:
    transformers.Wav2Vec2Config().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="a wav2vec2 takes no spectrograms"):
        make(f"hf:{tmp_path}")


# --- costs


@pytest.mark.parametrize("name", ["ast_tiny", "mast_tiny"])
def test_the_counter_of_unknown_networks_agrees_with_our_closed_forms(name: str) -> None:
    model: Any = create_model(name, input_size=(64, 256))
    closed = measure_complexity(model)
    counted: dict[str, int] = {}
    with model.attention_by("reference"):
        for item in counted_items(model, make_input(batch=1, size=(64, 256))):
            counted[item.kind] = counted.get(item.kind, 0) + item.macs
    weights = sum(item.macs for item in closed.items if item.kind in ("linear", "conv"))
    assert counted["linear"] + counted["conv"] == pytest.approx(weights, rel=0.01)
    assert sum(counted.values()) == pytest.approx(closed.macs_full, rel=0.02)  # it leaves the norms out


def test_every_library_counts_a_network_alike(name: str) -> None:
    model = make(name)
    macs, counts = measure_complexity(model), count_with_libraries(model)
    assert (macs.counter, macs.macs_full) == ("torch FlopCounterMode", counts["torch FlopCounterMode"])
    assert counts["fvcore"] == pytest.approx(
        macs.macs_full, rel=0.15
    )  # norms and poolings weigh much in networks this small
    assert 0 < macs.macs_module_only <= macs.macs_full


def test_a_tiny_transformers_ast_costs_what_ours_does(tiny_ast: str) -> None:
    ours = create_model(
        "ast_debug", num_classes=5, input_size=(64, 128), embed_dim=16, depth=2, num_heads=2, mlp_ratio=2.0
    )
    assert isinstance(ours, AST)
    theirs = measure_complexity(make(tiny_ast, input_size=(64, 128)))
    assert theirs.parameters == measure_complexity(ours).parameters
    attention = sum(item.macs for item in theirs.items if item.kind == "attention")
    assert attention == sum(item.macs for item in measure_complexity(ours).items if item.kind == "attention")


@pytest.mark.parametrize("name", ["timm:test_resnet", "timm:test_vit"])
def test_saved_activations_are_what_autograd_saves(name: str) -> None:
    model = make(name).train()
    x = make_input(batch=4, size=SIZE)
    real = sum(saved_sizes(lambda: model(x), *model.parameters(), *model.buffers()))
    estimated = 4 * sum(saved.inputs for saved in model.saved_activations(4, torch.device("cpu")))
    assert 0.9 * real < estimated < 1.6 * real  # fused attention saves less than the products counted here


# --- weight files


def test_a_weight_file_rebuilds_its_model(name: str, tmp_path: Path) -> None:
    model, x, path = make(name), make_input(size=SIZE), tmp_path / "weights.safetensors"
    save(path, model)
    function = name if name.endswith(":small") else None
    loaded = load_checkpoint(path, function=function)
    assert torch.equal(loaded.model(x), model(x))
    assert (loaded.name, loaded.config) == (name, model.config)
    assert weights_sha256(loaded.model) == weights_sha256(model)
    other = make(name, num_classes=7)
    report = load_pretrained(other, path)
    assert {entry.key for entry in report.having("initialised")} == {"head.fc.weight", "head.fc.bias"}


@pytest.mark.parametrize("storage", ["float16", "int8"])
def test_a_smaller_file_keeps_the_steps_that_batch_normalisation_counts(storage: str, tmp_path: Path) -> None:
    model, x, path = make("timm:test_resnet"), make_input(size=SIZE), tmp_path / "weights.safetensors"
    model.net.bn1.num_batches_tracked += 100_000  # beyond float16
    save(path, model, storage=storage)
    loaded = load_checkpoint(path).model
    assert loaded.net.bn1.num_batches_tracked == 100_000
    torch.testing.assert_close(loaded(x), model(x), rtol=0.05, atol=0.05)


def test_a_transformers_model_is_rebuilt_without_its_folder(tiny_ast: str, tmp_path: Path) -> None:
    model, path = make(tiny_ast), tmp_path / "weights.safetensors"
    save(path, model)
    for file in Path(tiny_ast.removeprefix("hf:")).iterdir():
        file.unlink()
    assert torch.equal(load_checkpoint(path).model(make_input(size=SIZE)), model(make_input(size=SIZE)))


def test_a_weight_file_runs_no_code_that_the_caller_has_not_named(users_module: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save(path, make(f"{users_module}:small"))
    for function in (None, "os:system", f"{users_module}:other"):
        with pytest.raises(CheckpointError, match=f"--function {users_module}:small"):
            load_checkpoint(path, function=function)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(model_name="timm:test_vit2"),
        lambda d: d["config"].update(name="os:system"),
        lambda d: (d.update(model_name="timm:nothing"), d["config"].update(name="timm:nothing")),
        lambda d: d["config"].update(num_classes=0),
        lambda d: d["config"].update(surprise=1),
    ],
)
def test_an_altered_description_is_one_line(tmp_path: Path, change: Callable[[Any], None]) -> None:
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    path = tmp_path / "weights.safetensors"
    save(path, make("timm:test_vit", input_size=(32, 100)))
    assert load_checkpoint(path).model(make_input(size=(32, 100))).shape == (2, 5)
    with safe_open(path, framework="pt") as file:
        description = json.loads(file.metadata()["self_description"])
    change(description)
    save_file(load_file(path), path, {"self_description": json.dumps(description)})
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(path)
    assert "\n" not in str(error.value)


# --- published weights


def test_weights_of_another_input_and_classes_are_resized_and_their_classifier_left_out(tiny_ast: str) -> None:
    model = make(tiny_ast)
    report = load_by_name(model, "pretrained")
    (resized,) = report.having("resized")
    assert resized.key is not None and resized.key.endswith("position_embeddings")
    assert report.having("initialised") == []
    other = load_by_name(make(tiny_ast, num_classes=7), "pretrained")
    assert {entry.key for entry in other.having("initialised")} == {"head.fc.weight", "head.fc.bias"}


def test_the_librarys_own_state_dict_loads_with_rgb_kernels_summed() -> None:
    import timm

    theirs = timm.create_model("test_resnet", num_classes=5).eval()
    model, x = make("timm:test_resnet"), make_input(size=SIZE)
    report = load_pretrained(model, theirs.state_dict())
    assert len(report.having("summed channels")) == 1
    torch.testing.assert_close(model(x), theirs(x.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-4)


def test_weights_that_a_network_does_not_have_are_one_line(users_module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match=r"no such published weights for .*small: use a path"):
        load_by_name(make(f"{users_module}:small"), "pretrained")
    with pytest.raises(CheckpointError, match="use pretrained or imagenet"):
        load_by_name(make("timm:test_resnet"), "audioset")
    with pytest.raises(CheckpointError, match=r"cannot be downloaded|cannot be built"):
        load_by_name(make("timm:test_resnet"), "imagenet")


def test_a_name_with_the_hash_of_its_code_builds_the_same_model(users_module: str) -> None:
    model = make(f"{users_module}:small@0123abcd")
    assert isinstance(model.get_submodule("head.fc"), nn.Linear)
    assert model.config.name.endswith("@0123abcd")

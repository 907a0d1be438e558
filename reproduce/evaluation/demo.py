"""Small trained models that are installed with the package: `--model demo` and `--model demo:ast_tiny`."""

from __future__ import annotations

from pathlib import Path

from reproduce.errors import InputError

DEMO = "demo"
FOLDER = Path(__file__).resolve().parents[1] / DEMO
MODELS = ("mast_tiny", "ast_tiny")  # the first is meant by "demo" alone


def demo_weights(source: str) -> Path | None:
    """Return the weights that "demo" or "demo:MODEL" names; None for another source, or a file of that name.

    Raises:
        InputError: there is no such demo, or its file is not installed.
    """
    name, _, model = source.partition(":")
    if name != DEMO or Path(source).exists():
        return None
    model = model or MODELS[0]
    if model not in MODELS:
        raise InputError(f"--model {source}: choose from {DEMO}, {', '.join(f'{DEMO}:{m}' for m in MODELS)}")
    path = FOLDER / f"{model}.safetensors"
    if not path.is_file():
        raise InputError(f"--model {source}: {path} is not installed: install the package again")
    return path

"""Small trained models that are installed with the package: `--model demo` and `--model demo:ast_tiny`."""

from __future__ import annotations

import difflib
from pathlib import Path

from reproduce.errors import InputError

DEMO = "demo"
FOLDER = Path(__file__).resolve().parents[1] / DEMO
MODELS = ("mast_tiny", "ast_tiny")  # the first is meant by "demo" alone
# What `--model` takes beside paths and repositories.
NAMES = (DEMO, *(f"{DEMO}:{model}" for model in MODELS), "audioset", "ast:audioset")


def demo_weights(source: str) -> Path | None:
    """Return the weights that "demo" or "demo:MODEL" names; None for another source, or a file of that name.

    Raises:
        InputError: there is no such demo, its file is not installed, or a bare word is neither a name nor a file.
    """
    name, _, model = source.partition(":")
    if Path(source).exists():
        return None
    if name != DEMO:
        if source not in NAMES and "/" not in source and not Path(source).suffix:
            of_model = [name for name in NAMES if name == f"{DEMO}:{source}"]
            close = of_model or difflib.get_close_matches(source, NAMES, n=1, cutoff=0.6)
            others = "a file or folder of weights, or user/model of the Hugging Face hub"
            meant = f"did you mean {close[0]}?" if close else f"give one of {', '.join(NAMES)}, {others}"
            raise InputError(f"--model {source}: no such file; {meant}")
        return None
    model = model or MODELS[0]
    if model not in MODELS:
        raise InputError(f"--model {source}: choose from {DEMO}, {', '.join(f'{DEMO}:{m}' for m in MODELS)}")
    path = FOLDER / f"{model}.safetensors"
    if not path.is_file():
        raise InputError(f"--model {source}: {path} is not installed: install the package again")
    return path

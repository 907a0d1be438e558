"""Small trained models that are installed with the package: `--model demo` and `--model demo:ast_tiny`."""

from __future__ import annotations

import difflib
from pathlib import Path

from reproduce.errors import InputError

DEMO = "demo"
FOLDER = Path(__file__).resolve().parents[1] / DEMO
MODELS = ("mast_tiny", "ast_tiny")  # the first is meant by "demo" alone
NAMES = (DEMO, *(f"{DEMO}:{model}" for model in MODELS), "audioset", "ast:audioset")  # all that `--model` knows


def demo_weights(source: str) -> Path | None:
    """Return the weights that "demo" or "demo:MODEL" names; None for another source, or a file of that name.

    Raises:
        InputError: there is no such demo, its file is not installed, or a source is neither a name nor a file's path.
    """
    name, _, model = source.partition(":")
    if Path(source).exists():
        return None
    if name != DEMO:
        if source not in NAMES and "/" not in source and not Path(source).suffix:
            close = difflib.get_close_matches(source, NAMES, n=1, cutoff=0.6)
            meant = f"did you mean {close[0]}?" if close else f"give one of {', '.join(NAMES)}, or a file of weights"
            raise InputError(f"--model {source}: no such file; {meant}")
        return None
    model = model or MODELS[0]
    if model not in MODELS:
        raise InputError(f"--model {source}: choose from {DEMO}, {', '.join(f'{DEMO}:{m}' for m in MODELS)}")
    path = FOLDER / f"{model}.safetensors"
    if not path.is_file():
        raise InputError(f"--model {source}: {path} is not installed: install the package again")
    return path

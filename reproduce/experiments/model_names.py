"""Names of models as the command line takes them, checked and typed. No torch here: nothing is built.

"mast_tiny" is one of ours, "timm:resnet18" timm's, "hf:OWNER/NAME" or "hf:FOLDER" of transformers, and
"package.module:function" a user's own. The name of a function gets a hash of its module's source, and that of a folder
one of its config.json, so that a changed model is another model in keys and tables: "my_models:small@1a2b3c4d".
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import sys
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from reproduce.errors import InputError

FORMS = "mast_tiny, timm:NAME, hf:NAME or package.module:function"
_OURS = re.compile(r"[A-Za-z]\w*")
_REFERENCE = re.compile(r"([\w./~+-]+)(?:@([0-9a-f]{8}))?")
_FUNCTION = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)(?:@([0-9a-f]{8}))?")


class Source(Enum):
    """Where a model comes from."""

    OURS = "ours"
    TIMM = "timm"
    HF = "hf"
    FUNCTION = "function"


@dataclass(frozen=True, kw_only=True)
class ModelName:
    """The name of one model.

    Args:
        source: where it comes from.
        reference: what the source calls it; of a function "package.module:function".
        code: 8 hex digits of the function's module or the folder's config; "" for other models, and before `with_code`.
    """

    source: Source
    reference: str
    code: str = ""

    @classmethod
    def parse(cls, text: str) -> ModelName:
        """Read a name.

        Raises:
            InputError: it has none of the four forms.
        """
        prefix, colon, reference = text.partition(":")
        if not colon and _OURS.fullmatch(text):
            return cls(source=Source.OURS, reference=text)
        if prefix in (Source.TIMM.value, Source.HF.value):
            if found := _REFERENCE.fullmatch(reference):
                return cls(source=Source(prefix), reference=found[1], code=found[2] or "")
        elif found := _FUNCTION.fullmatch(text):
            return cls(source=Source.FUNCTION, reference=f"{found[1]}:{found[2]}", code=found[3] or "")
        raise InputError(f"--models {text[:60] or '(empty)'}: not the name of a model: write {FORMS}")

    def __str__(self) -> str:
        named = self.source in (Source.TIMM, Source.HF)
        name = f"{self.source.value}:{self.reference}" if named else self.reference
        return f"{name}@{self.code}" if self.code else name

    def with_code(self) -> ModelName:
        """The same name with the hash of today's code, if it is of a function or a folder.

        Raises:
            InputError: the function's module cannot be found.
        """
        config = Path(self.reference, "config.json")
        if self.source is Source.FUNCTION:
            file = _source_of(self.reference.partition(":")[0])
        elif self.source is Source.HF and config.is_file():
            file = config
        else:
            return self
        return replace(self, code=hashlib.sha256(file.read_bytes()).hexdigest()[:8])


def parse_models(text: str) -> tuple[ModelName, ...]:
    """Read a list such as "mast_tiny,timm:resnet18".

    Raises:
        InputError: an empty list, a name of no known form, or a name twice.
    """
    names = tuple(ModelName.parse(part.strip()) for part in text.split(","))
    for number, name in enumerate(names):
        if name in names[:number]:
            raise InputError(f"--models {name}: named twice: name each model once")
    return names


def is_other(model: str) -> bool:
    """Whether a stored name is of a model that is not ours: such names have a colon."""
    return ":" in model and " " not in model


def _source_of(module: str) -> Path:
    """The file of a module, found in the working folder too, as `python -m` does."""
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())
    try:
        spec = importlib.util.find_spec(module)
    except Exception as error:  # finding "a.b" imports "a", the user's own code
        raise InputError(f"--models {module}: cannot be imported ({error}): mend it, or check the name") from None
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        raise InputError(
            f"--models {module}: there is no such module: start where it can be imported, or write {FORMS}"
        )
    return Path(spec.origin)

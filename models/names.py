"""Names of models: "mast_tiny" of ours, "timm:NAME", "hf:NAME", and "package.module:function" of a user's own."""

from __future__ import annotations

TIMM, HF = "timm", "hf"


def is_foreign(name: str) -> bool:
    """Whether `name` is of an adapted network rather than of a preset of ours."""
    return ":" in name


def is_function(name: str) -> bool:
    """Whether `name` is of a user's own function."""
    return is_foreign(name) and split_name(name)[0] not in (TIMM, HF)


def split_name(name: str) -> tuple[str, str]:
    """The source of an adapted network and what the source calls it: "timm:resnet18" is ("timm", "resnet18").

    A name may end in "@" and digits that say which version of a user's files it was: they are left out.
    """
    source, _, reference = name.partition(":")
    return source, reference.partition("@")[0]

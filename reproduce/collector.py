"""Spare Python's collector of reference cycles the modules. No torch here."""

from __future__ import annotations

import gc


def freeze_modules() -> None:
    """Leave what exists now, modules above all, out of every later search for reference cycles.

    To search them again and again takes a tenth of the time of a command that prints stored records. Only the first
    call in a process does it: what a later one froze might be garbage.
    """
    if not gc.get_freeze_count():
        gc.freeze()

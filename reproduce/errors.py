"""The one exception for anything a user can mend: bad files, bad rows, bad options."""

from __future__ import annotations


class InputError(Exception):
    """Bad input. The message is one line that names the file (and row) and the remedy.

    The command line prints the message without a traceback and exits with status 2.
    """

"""`python -m tests.fuzz --n 20000 --kills 200`, from the root of the repository."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the tests import each other by bare names

from fuzz.command import main

if __name__ == "__main__":
    sys.exit(main())

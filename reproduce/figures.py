"""Plots that targets write and the report shows. Every plot takes an Axes and returns it; no torch here.

Colours and letters are the same in all of them.
"""

from __future__ import annotations

# Okabe & Ito's blue and orange: told apart in every common colour blindness, and by lightness in grey.
COLOURS = {"ast": "#0072B2", "mast": "#E69F00"}
LABELS = {"ast": "AST", "mast": "MAST"}

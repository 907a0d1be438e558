"""Names of precisions: those of the command line, and torch's, which records hold. No torch here."""

from __future__ import annotations

AUTO = "auto"
PRECISIONS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}  # of the command line -> of torch

"""What this machine's CPU computes fast. torch 2.9 cannot tell: under it every CPU counts as one without either."""

from __future__ import annotations

import torch

_FOUND = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}

AMX_BFLOAT16 = bool(_FOUND.get("amx_bf16"))  # whether AMX multiplies bfloat16

# Whether oneDNN multiplies float32 faster than MKL, which torch takes otherwise: on AMD's processors with units of 512
# bits, of which MKL uses half. These are Zen 5 and later, the first with AVX-VNNI.
ONEDNN_FLOAT32 = (
    str(_FOUND.get("cpu_name", "")).startswith("AMD")
    and bool(_FOUND.get("avx512_f"))
    and bool(_FOUND.get("avx_vnni"))
    and torch.backends.mkl.is_available()
    and torch.backends.mkldnn.is_available()
)

"""Import this before NumPy: threads of its OpenBLAS then sleep while they have no work. No torch here.

By default they spin for 2**26 clock cycles after each product, on every core: a quarter of the CPU time of a command
that prints a comparison with its bootstraps. OpenBLAS reads the variable when it is loaded; builds with OpenMP, such as
torch's on ARM, ignore it.
"""

import os

os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")  # spin for 2**4 cycles

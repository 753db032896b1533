"""Error bounds, in ulps, of a target's approximate functions.

Host kernels must be as accurate as NumPy, so the host has no bounds here. A GPU's documented bounds
are added to what tests allow.
"""

from __future__ import annotations

from helpers import target

#: The largest relative size of an ulp of a float32.
ULP = 2.0**-23

#: CUDA C++ Programming Guide, Mathematical Functions, table of single-precision functions: "maximum
#: ulp error". Sums, products and quotients are rounded correctly.
CUDA = {"expf": 2, "logf": 1, "powf": 4, "tanhf": 2}
#: csrc/simt/cuda.cuh
CUDA["inverse_three_quarters"] = 6


def granted(*functions: str) -> float:
    """Returns the additional relative error of results that use these `functions`."""
    return 0 if target.IS_HOST else ULP * sum(CUDA[name] for name in functions)

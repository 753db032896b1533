"""How many ulps the functions that a target approximates may be off.

The host's kernels are held to the error of NumPy's functions, so that it has nothing here. A GPU's
bounds are documented, and granted to tests on top of that.
"""

from __future__ import annotations

from helpers import target

#: The most that one ulp is of a float32.
ULP = 2.0**-23

#: CUDA C++ Programming Guide, Mathematical Functions, table of single-precision functions: "maximum
#: ulp error". Sums, products and quotients are rounded correctly.
CUDA = {"expf": 2, "logf": 1, "powf": 4, "tanhf": 2}
#: csrc/simt/cuda.cuh
CUDA["inverse_three_quarters"] = 6


def granted(*functions: str) -> float:
    """The relative error that results through these `functions` may have beside others."""
    return 0 if target.IS_HOST else ULP * sum(CUDA[name] for name in functions)

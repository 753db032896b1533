"""How figures are drawn, whatever a user's matplotlibrc says."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def plain_style() -> Iterator[None]:
    """Matplotlib's own defaults within the block, with text taken literally.

    A matplotlibrc may ask for LaTeX, which need not be there, and a "$" in a name is no formula.
    Characters that the font lacks are boxes, without a warning.
    """
    import matplotlib

    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        matplotlib.rcdefaults()
        matplotlib.rcParams["text.parse_math"] = False
        yield

"""Signals that stop a run."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class Interruption:
    """The first SIGINT, SIGTERM or SIGHUP (a closed terminal) stops the run after the current step.

    After a SIGINT or SIGTERM, these two have their usual effect. SIGHUPs never have: a shell and
    its terminal may send one each. A signal that is ignored, as SIGHUP by nohup, stays so.

    Attributes
    ----------
    requested : bool
        A signal has arrived.
    """

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if signal.getsignal(number) != signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._request)
        return self

    def __exit__(self, *error: object) -> None:
        self._restore(*self._before)

    def _restore(self, *numbers: int) -> None:
        for number in numbers:
            if number in self._before:
                signal.signal(number, self._before.pop(number))

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        if number != signal.SIGHUP:
            self._restore(signal.SIGINT, signal.SIGTERM)

"""Which audiences the model makes configuration for: those whose proxies are connected, or were until lately.

A proxy that reconnects, or its replacement, should find its configuration ready; one that is gone for good should not
be worked for. So an audience stays for a while after its last proxy left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from mesh.model import AUDIENCES, Audience, Connected
from mesh.tables import Change


class Audiences:
    """Keeps the rows of `AUDIENCES`. `linger` is in seconds."""

    def __init__(self, submit: Callable[[Iterable[Change]], None], *, linger: float) -> None:
        self._submit = submit
        self._linger = linger
        self._leaving: dict[Audience, asyncio.TimerHandle] = {}

    def present(self, audience: Audience, connected: bool) -> None:
        """The first proxy of an audience came, or the last one went."""
        leaving = self._leaving.pop(audience, None)
        if leaving is not None:
            leaving.cancel()
        if not connected:
            loop = asyncio.get_running_loop()
            self._leaving[audience] = loop.call_later(self._linger, self._gone, audience)
        elif leaving is None:
            self._submit([Change(AUDIENCES, audience, Connected())])

    def _gone(self, audience: Audience) -> None:
        del self._leaving[audience]
        self._submit([Change(AUDIENCES, audience, None)])

    def stop(self) -> None:
        """Forget the timers."""
        for timer in self._leaving.values():
            timer.cancel()
        self._leaving.clear()

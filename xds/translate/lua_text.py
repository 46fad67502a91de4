"""Strings of users in Lua that Fairlead writes: byte by byte as numbers, so that none can end a string."""

from __future__ import annotations


def quoted(text: str) -> str:
    """A string as an expression of Lua."""
    return '"' + "".join(f"\\{byte:03d}" for byte in text.encode()) + '"'

"""What a cookie can have (RFC 6265): a value and a path without what ends them, and a time in whole seconds."""

from __future__ import annotations

from mesh.problems import Report

_ENDS = frozenset(' ",;\\')


def is_sound(text: str) -> bool:
    """Whether no character ends a cookie's value or attribute."""
    return text.isascii() and text.isprintable() and _ENDS.isdisjoint(text)


def check_cookie_path(text: str, path: str, report: Report) -> None:
    """Judge where clients send a cookie back."""
    if not is_sound(text) or not text.startswith("/"):
        message = "it is no path that a cookie can have (RFC 6265)"
        report.error("InvalidFormat", path, message, "begin with '/', without spaces and ';'")

"""Texts of policies: none has a character that would break what it ends up in, whatever its field is for.

Most become headers, names or parts of a line, where a line break ends one thing and begins another. A few are meant to
have lines, or are sent as they are.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from mesh.kinds.envoypatch import PatchOperation
from mesh.kinds.extensions import LuaExtension, WasmExtension
from mesh.kinds.requestauthentication import JWTRule
from mesh.kinds.rollout import PrometheusQuery
from mesh.kinds.routepolicy import DirectResponse, RegexRewrite, ResponseOverride
from mesh.kinds.telemetrypolicy import AccessLog
from mesh.kinds.trafficpolicy import TCPHealthCheck
from mesh.problems import Report, child
from mesh.validations.headers import check_control_characters

_LINES: Final = frozenset(
    {
        (AccessLog, "text"),
        (AccessLog, "json"),
        (DirectResponse, "body"),
        (JWTRule, "jwks"),
        (LuaExtension, "inline"),
        (PatchOperation, "from_"),
        (PatchOperation, "path"),
        (PatchOperation, "value"),
        (PrometheusQuery, "query"),
        (RegexRewrite, "pattern"),
        (ResponseOverride, "body"),
        (TCPHealthCheck, "send"),
        (TCPHealthCheck, "receive"),
        (WasmExtension, "config"),
    }
)
_SURROGATE = re.compile("[\ud800-\udfff]")


def check_texts(spec: msgspec.Struct, path: str, report: Report) -> None:
    """Judge all texts of a policy, at whatever depth."""
    for field in msgspec.structs.fields(spec):
        value = getattr(spec, field.name)
        if value is not None:
            lines = any((base, field.name) in _LINES for base in type(spec).__mro__)
            _check(value, child(path, field.encode_name), report, lines=lines)


def _check(value: Any, path: str, report: Report, *, lines: bool) -> None:
    match value:
        case str() if lines:
            if _SURROGATE.search(value):
                report.error("InvalidFormat", path, "it has characters that UTF-8 cannot carry", "remove them")
        case str():
            check_control_characters(value, path, report)
        case msgspec.Struct():
            check_texts(value, path, report)
        case tuple() | list():
            for number, one in enumerate(value):
                _check(one, child(path, number), report, lines=lines)
        case dict():
            for name, one in value.items():
                _check(one, child(path, name), report, lines=lines)

"""Header names and values in filters and matches: what Envoy refuses, and what could be used to smuggle."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Protocol

from mesh.kinds.fields import TOKEN
from mesh.kinds.http_filters import HTTPHeaderFilter
from mesh.kinds.routepolicy import PolicyHeaders
from mesh.problems import Report, child, shown
from mesh.validations.formats import check_format

# All but the tab; a lone surrogate cannot be sent either.
CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")

_NAME = re.compile(TOKEN)
# Envoy writes these itself; a message in which one is set is refused or broken.
_NOT_OURS = frozenset({"host", "content-length", "transfer-encoding", "connection", "upgrade"})


class _Named(Protocol):
    @property
    def name(self) -> str: ...


def check_control_characters(text: str, path: str, report: Report) -> None:
    """No line breaks or other control characters: they would end one header and begin another."""
    found = CONTROL.search(text)
    if found:
        code = found.group().encode("unicode_escape").decode("ascii")
        report.error("ControlCharacter", path, f"it contains the control character {code}", "remove it")


def check_unique(entries: Iterable[_Named], path: str, report: Report, *, fold: bool = True) -> None:
    """No two entries of one name: Gateway API counts only the first, so that the second is a mistake."""
    seen: dict[str, str] = {}
    for number, entry in enumerate(entries):
        name = entry.name.lower() if fold else entry.name
        if name in seen:
            report.error(
                "DuplicateName",
                child(child(path, number), "name"),
                f"'{shown(entry.name)}' is there already ('{shown(seen[name])}'), and only the first counts",
                "keep one of them",
            )
        seen.setdefault(name, entry.name)


def check_header_filter(modifier: HTTPHeaderFilter, path: str, report: Report) -> None:
    """A RequestHeaderModifier or ResponseHeaderModifier."""
    for field, headers in (("set", modifier.set), ("add", modifier.add)):
        for number, header in enumerate(headers):
            if header.name.lower() == "host":
                _refuse_host(f"{path}.{field}[{number}].name", report)
            if CONTROL.search(header.value):
                check_control_characters(header.value, f"{path}.{field}[{number}].value", report)
        if len(headers) > 1:
            check_unique(headers, f"{path}.{field}", report)
    seen: set[str] = set()
    for number, name in enumerate(modifier.remove):
        at = f"{path}.remove[{number}]"
        if name.lower() == "host":
            _refuse_host(at, report)
        elif not _NAME.fullmatch(name) or len(name) > 256:
            fix = "write letters, digits and !#$%&'*+-.^_`|~, as in `x-user-id`"
            report.error("InvalidFormat", at, f"'{shown(name)}' is not a header name", fix)
        elif name.lower() in seen:
            report.error("DuplicateName", at, f"'{name}' is removed twice", "keep one of them")
        seen.add(name.lower())
    if not (modifier.set or modifier.add or modifier.remove):
        report.warning("NoEffect", path, "it changes nothing", "add `set`, `add` or `remove`, or remove the filter")


def _refuse_host(path: str, report: Report) -> None:
    report.error(
        "HostHeader",
        path,
        "the Host header cannot be changed by a header modifier: Envoy refuses it",
        "use a URLRewrite filter with `hostname`",
    )


def check_policy_headers(
    part: PolicyHeaders, path: str, report: Report, *, early: bool = False, by_route: bool = False
) -> None:
    """What a policy does to headers, with Envoy's commands in the values.

    `early`: before there is a route. `by_route`: by a policy whose writer may own no more than a route.
    """
    for name, given in (("set", part.set), ("add", part.add)):
        for number, header in enumerate(given):
            at = f"{path}.{name}[{number}]"
            refuse_framing(header.name, f"{at}.name", report)
            if name == "set" and header.name.lower() in [other.name.lower() for other in given[:number]]:
                message = f"'{shown(header.name)}' is set twice, and a header set has one value"
                report.error("DuplicateName", f"{at}.name", message, "keep one of them, or use `add`")
            check_format(header.value, f"{at}.value", report, early=early, by_route=by_route)
    given_back = {header.name.lower() for header in (*part.set, *part.add)}
    for number, removed in enumerate(part.remove):
        if removed.lower() in given_back:
            message = f"'{shown(removed)}' is removed and written again"
            report.error("InvalidCombination", f"{path}.remove[{number}]", message, "remove it here: `set` replaces it")
        refuse_framing(removed, f"{path}.remove[{number}]", report)


def refuse_framing(name: str, path: str, report: Report) -> None:
    """None of the headers that frame a message or say where it goes."""
    if name.lower() in _NOT_OURS:
        message = f"{name} frames or routes the message and cannot be changed"
        fix = "use `rewrite.host` of a RoutePolicy, or a URLRewrite filter" if name.lower() == "host" else "remove it"
        report.error("NotAllowed", path, message, fix)

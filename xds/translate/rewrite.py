"""Rewrites: another host or path towards the backend (URLRewrite), and the path part that redirects share.

Envoy's `prefix_rewrite` replaces exactly the matched characters, so `/foo` → `/` would turn `/foo/bar` into `//bar`;
such cases need a regular expression. User strings are quoted in patterns and escaped in substitutions.
"""

from __future__ import annotations

from typing import Any

import re2

from mesh.kinds.http_filters import HTTPPathModifier, HTTPURLRewriteFilter
from mesh.kinds.httproute import HTTPPathMatch
from mesh.kinds.routepolicy import HostRewrite
from xds.translate.route_match import matched_prefix


def rewrite_url(action: Any, rewrite: HTTPURLRewriteFilter, match: HTTPPathMatch, *, host_only: bool = False) -> None:
    """Apply a URLRewrite to a `RouteAction`; the query string stays as it is. `host_only`: clusters have the path."""
    if rewrite.hostname is not None:
        action.host_rewrite_literal = rewrite.hostname
    path = rewrite.path
    if path is None or host_only:
        return
    if path.type == "ReplaceFullPath":
        action.regex_rewrite.pattern.regex = "^/.*$"
        action.regex_rewrite.substitution = _literal(path.replace_full_path or "/")
    else:
        replace_prefix(action, path, match)


def replace_prefix(action: Any, path: HTTPPathModifier, match: HTTPPathMatch) -> None:
    """Replace the matched prefix in a `RouteAction` or `RedirectAction` (both have the two rewrite fields).

    The result always begins with one slash, as HTTPPathModifier's table in Gateway API has it.
    """
    prefix = matched_prefix(match)
    replacement = (path.replace_prefix_match or "").rstrip("/")
    if not prefix:
        action.prefix_rewrite = f"{replacement}/"
    elif replacement:
        action.prefix_rewrite = replacement
    else:
        action.regex_rewrite.pattern.regex = f"^{re2.escape(prefix)}/*"
        action.regex_rewrite.substitution = "/"


def rewrite_host(action: Any, host: HostRewrite) -> None:
    """Take the host that the backend sees from elsewhere, in a `RouteAction` that has none yet."""
    if host.from_backend:
        action.auto_host_rewrite.value = True
    elif host.from_header is not None:
        action.host_rewrite_header = host.from_header.lower()
    elif host.from_path is not None:
        action.host_rewrite_path_regex.pattern.regex = f"^(?:{host.from_path.pattern})$"
        action.host_rewrite_path_regex.substitution = host.from_path.substitution


def _literal(text: str) -> str:
    return text.replace("\\", "\\\\")

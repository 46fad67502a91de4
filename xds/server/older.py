"""What older Envoys are not sent: resources that use something their schema lacks.

An older Envoy ignores a field that it does not know, so that a policy would silently do nothing, and rejects a message
that it does not know. Such a resource is kept from it as a whole, and told of: in the state of every proxy concerned,
in a counter, and once in the log. The field cannot be taken out without changing what the user asked for.
"""

from __future__ import annotations

import logging
import weakref
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from google.protobuf.message import DecodeError

from xds.protocol.contents import Contents
from xds.schema import SchemaError, unpack
from xds.schema.descriptors import envoy_version
from xds.schema.type_urls import short
from xds.schema.types import Any
from xds.schema.versions import unknown_to
from xds.server.telemetry import Telemetry

# Verdicts remembered; one per older version and resource.
_KEPT: Final = 100_000
# Contents remembered of a version and type, so that their successors are judged at the cost of what changed.
_RECENT: Final = 16
# Resources named in one line of the log.
_NAMED: Final = 5
_NOTHING: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({})

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Filtered:
    """`contents` is None where nothing is left out: what is kept for contents must not keep them, or they never go."""

    contents: Contents | None
    left_out: Mapping[str, tuple[str, ...]]


class Older:
    """Filters contents for older Envoys. Proxies of a version share what is left."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._verdicts: dict[tuple[str, str, str, str], tuple[str, ...]] = {}
        self._filtered: weakref.WeakKeyDictionary[Contents, dict[str, _Filtered]] = weakref.WeakKeyDictionary()
        self._recent: dict[tuple[str, str], deque[weakref.ref[Contents]]] = {}

    def concerns(self, version: str) -> bool:
        """Whether an Envoy of this version is older than our schema; what is not Envoy says no version."""
        minor = _minor(version)
        return minor is not None and minor < (_minor(envoy_version()) or minor)

    def without_unknown(self, version: str, type_url: str, contents: Contents) -> Contents:
        """The contents less what an Envoy of this version would not understand."""
        return self._filter(version, type_url, contents).contents or contents

    def left_out(self, version: str, type_url: str, contents: Contents) -> Mapping[str, tuple[str, ...]]:
        """What is left out of the contents: name → paths of the fields that an Envoy of this version does not know."""
        if not self.concerns(version):
            return _NOTHING
        return self._filter(version, type_url, contents).left_out

    def _filter(self, version: str, type_url: str, contents: Contents) -> _Filtered:
        by_version = self._filtered.setdefault(contents, {})
        found = by_version.get(version)
        if found is None:
            found = by_version[version] = self._judge(version, type_url, contents)
        return found

    def _judge(self, version: str, type_url: str, contents: Contents) -> _Filtered:
        left_out, names = self._known_of(version, type_url, contents)
        news: list[str] = []
        for name in names:
            entry = contents.entries[name]
            key = (version, type_url, name, entry.version)
            unknown = self._verdicts.get(key)
            if unknown is None:
                if len(self._verdicts) >= _KEPT:
                    self._verdicts.clear()
                unknown = self._verdicts[key] = _paths(version, entry.content)
                if unknown:
                    news.append(name)
            if unknown:
                left_out[name] = unknown
        if news:
            self._telemetry.left_out[version, type_url] += len(news)
            _tell(version, type_url, {name: left_out[name] for name in news})
        return _Filtered(contents.without(left_out) if left_out else None, left_out)

    def _known_of(
        self, version: str, type_url: str, contents: Contents
    ) -> tuple[dict[str, tuple[str, ...]], Iterable[str]]:
        """What is left out of contents as far as an ancestor tells, and the names that have yet to be judged."""
        recent = self._recent.setdefault((version, type_url), deque(maxlen=_RECENT))
        ancestors = [known for reference in recent if (known := reference()) is not None]
        recent.appendleft(weakref.ref(contents))
        for known in ancestors:
            changed = contents.changed_since(known)
            if changed is not None:
                before = self._filtered[known][version].left_out
                left_out = {name: paths for name, paths in before.items() if name not in changed}
                return left_out, changed & contents.entries.keys()
        return {}, contents.entries


def _tell(version: str, type_url: str, left_out: Mapping[str, tuple[str, ...]]) -> None:
    words = [f"{name} ({', '.join(paths)})" for name, paths in sorted(left_out.items())[:_NAMED]]
    more = f" and {len(left_out) - _NAMED} more" if len(left_out) > _NAMED else ""
    _log.warning(
        "Envoys of version %s do not know fields of, and are not sent, %s %s%s",
        version,
        short(type_url),
        ", ".join(words),
        more,
    )


def _paths(version: str, content: bytes) -> tuple[str, ...]:
    try:
        return tuple(unknown_to(version, unpack(Any.FromString(content))))
    except (DecodeError, SchemaError):
        # What we cannot read ourselves we do not judge; Envoy will.
        return ()


@lru_cache(maxsize=256)
def _minor(version: str) -> tuple[int, int] | None:
    major, _, rest = version.partition(".")
    minor = rest.partition(".")[0]
    return (int(major), int(minor)) if major.isdecimal() and minor.isdecimal() else None

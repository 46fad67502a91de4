"""Names, labels and annotations: what every object has."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from functools import lru_cache

from mesh.kinds.fields import LABEL, SUBDOMAIN
from mesh.kinds.meta import ObjectMeta
from mesh.problems import Report, child, shown

MAX_ANNOTATIONS = 256 * 1024

_KEY_NAME = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9]")
_KEY_PREFIX = re.compile(SUBDOMAIN)
_LABEL = re.compile(LABEL)
_TIMESTAMP = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)


@lru_cache(maxsize=16_384)
def _is_key(key: str) -> bool:
    prefix, slash, name = key.rpartition("/")
    if slash and (len(prefix) > 253 or not _KEY_PREFIX.fullmatch(prefix)):
        return False
    return _KEY_NAME.fullmatch(name) is not None


def check_keys(keys: Iterable[str], path: str, report: Report) -> None:
    """Keys of labels or annotations: a name of at most 63 characters, perhaps after a DNS prefix and `/`."""
    for key in keys:
        if not _is_key(key):
            report.error(
                "InvalidFormat",
                child(path, key),
                f"'{shown(key)}' is not the key of a label or annotation",
                "write letters, digits, '-', '_', '.', at most 63, perhaps after a domain and '/', as in `a.io/name`",
            )


def is_dns_label(text: str) -> bool:
    """Whether `text` can be one label of a DNS name."""
    return len(text) <= 63 and _LABEL.fullmatch(text) is not None


def is_name(text: str) -> bool:
    """Whether `text` can be the name of an object (RFC 1123's subdomain)."""
    return len(text) <= 253 and _KEY_PREFIX.fullmatch(text) is not None


def check_metadata(metadata: ObjectMeta, report: Report, *, namespaced: bool, dns_label: bool) -> None:
    """Judge an object's metadata; `dns_label` says that its name becomes a label of DNS names."""
    if dns_label and not is_dns_label(metadata.name):
        fix = "write lower-case letters, digits and '-', at most 63 characters"
        report.error("InvalidFormat", "metadata.name", f"'{shown(metadata.name)}' must be one label of a DNS name", fix)
    if metadata.namespace:
        if not namespaced:
            fix = "remove `namespace`"
            report.error("ClusterScoped", "metadata.namespace", "objects of this kind belong to no namespace", fix)
        elif not is_dns_label(metadata.namespace):
            fix = "write lower-case letters, digits and '-', at most 63 characters"
            report.error(
                "InvalidFormat", "metadata.namespace", f"'{shown(metadata.namespace)}' is not a namespace", fix
            )
    if metadata.labels:
        check_keys(metadata.labels, "metadata.labels", report)
    if metadata.annotations:
        check_keys(metadata.annotations, "metadata.annotations", report)
        size = sum(len(key) + len(value) for key, value in metadata.annotations.items())
        if size > MAX_ANNOTATIONS:
            message = f"they have {size} characters together, at most {MAX_ANNOTATIONS} are allowed"
            report.error("TooLong", "metadata.annotations", message, "remove what is not needed")
    if metadata.creation_timestamp is not None and not is_timestamp(metadata.creation_timestamp):
        message = f"'{shown(metadata.creation_timestamp)}' is not a time of RFC 3339"
        fix = "write it as in `2026-01-31T12:00:00Z`, or remove it"
        report.error("InvalidFormat", "metadata.creationTimestamp", message, fix)


@lru_cache(maxsize=4096)
def is_timestamp(text: str) -> bool:
    """Whether `text` is a time as RFC 3339 has it."""
    if not _TIMESTAMP.fullmatch(text):
        return False
    try:
        datetime.fromisoformat(text.upper())
    except ValueError:
        return False
    return True

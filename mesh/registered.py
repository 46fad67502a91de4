"""An instance that registers itself, for machines on which no platform tells of it: what it says, and whether it may.

Pure. How long ago it was heard from is no business of the model's: whoever keeps the registrations adds and removes
rows of `DISCOVERED_ENDPOINTS`.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from mesh.kinds.service import ServiceEndpoint
from mesh.model import DISCOVERED_ENDPOINTS, DiscoveredEndpoints, DiscoveredEndpointsKey
from mesh.problems import Problem, Report, child, shown
from mesh.services import endpoint_of
from mesh.tables import Change
from mesh.validations.metadata import check_keys, is_dns_label
from mesh.validations.service import check_address
from mesh.validations.structure import described, explain

SOURCE = "registered"
MAX_PORTS = 100
MAX_LABELS = 64
_ID = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


class RegistrationKey(NamedTuple):
    """The service of an instance, and the instance's own name in it."""

    namespace: str
    service: str
    id: str

    def __str__(self) -> str:
        """As documents and messages name it."""
        return "/".join(self)


class Registration(ServiceEndpoint, frozen=True, kw_only=True):
    """What an instance says of itself; it leaves when nothing is heard of it for `ttl_seconds`."""

    ttl_seconds: Annotated[float, Meta(ge=1, le=3600)] = 15


def check_key(key: RegistrationKey) -> tuple[Problem, ...]:
    """What is wrong with the names."""
    report = Report()
    for field in ("namespace", "service"):
        if not is_dns_label(getattr(key, field)):
            message = f"'{shown(getattr(key, field))}' cannot be the name of a {field}"
            report.error("InvalidFormat", field, message, "write lower-case letters, digits and '-', at most 63")
    if not _ID.fullmatch(key.id):
        message = f"'{shown(key.id)}' cannot name an instance"
        report.error("InvalidFormat", "id", message, "write letters, digits, '-', '_' and '.', at most 63")
    return tuple(report.problems)


def check(raw: Any) -> tuple[Registration | None, tuple[Problem, ...]]:
    """The registration in a decoded body, or what is wrong with it. Never raises."""
    if not isinstance(raw, dict):
        message = f"a registration is an object, not {described(raw)}"
        return None, (Problem("WrongType", "error", "", message, 'write {"address": "192.0.2.7", "ports": {…}}'),)
    try:
        made = msgspec.convert(raw, Registration)
    except (msgspec.ValidationError, RecursionError, TypeError, ValueError) as error:
        found = explain(raw, Registration)
        return None, found or (Problem("Invalid", "error", "", shown(str(error), 200), "see the reference"),)
    report = Report()
    check_address(made.address, "address", report)
    if not made.ports:
        report.error("MissingField", "ports", "without a port it cannot be reached", 'write {"http": 8080}')
    for name in made.ports:
        if len(name) > 63:
            message = f"'{shown(name)}' is longer than a port's name can be"
            report.error(
                "InvalidFormat", child("ports", shown(name)), message, "write the name of a port of the Service"
            )
    for field, most in (("ports", MAX_PORTS), ("labels", MAX_LABELS)):
        if len(getattr(made, field)) > most:
            report.error("OutOfRange", field, f"there are more than {most}", "leave some out")
    check_keys(made.labels, "labels", report)
    if made.service_account and not is_dns_label(made.service_account.replace(".", "-")):
        message = f"'{shown(made.service_account)}' is not the name of a service account"
        report.error("InvalidFormat", "serviceAccount", message, "write lower-case letters, digits, '-' and '.'")
    return (None if report.problems else made), tuple(report.problems)


def change(key: RegistrationKey, registration: Registration | None) -> Change:
    """The instance as a row, or the row's end."""
    at = DiscoveredEndpointsKey(SOURCE, key.namespace, key.service, key.id)
    if registration is None:
        return Change(DISCOVERED_ENDPOINTS, at, None)
    endpoint = endpoint_of(registration, registration.ports)
    return Change(DISCOVERED_ENDPOINTS, at, DiscoveredEndpoints((endpoint,)))

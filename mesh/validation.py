"""The one judge of what users write: files, REST, the command line and webhooks all ask it.

`validate` takes one decoded document and gives the object, or says everything that is wrong with it. It is pure, never
raises, and on good input costs little more than msgspec's conversion. What depends on other objects (does the backend
exist? may it be referred to?) is not judged here: that is derived, and told in the status.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

from mesh.kinds import KINDS, Kind
from mesh.kinds.meta import Object
from mesh.problems import Problem, Report, shown
from mesh.validations.backend import check_backend_object
from mesh.validations.backendtlspolicy import check_backendtlspolicy
from mesh.validations.clientpolicy import check_clientpolicy
from mesh.validations.envoypatch import check_envoypatch
from mesh.validations.gateway import check_gateway
from mesh.validations.gatewayparameters import check_gatewayparameters
from mesh.validations.grpcroute import check_grpcroute
from mesh.validations.httproute import check_httproute
from mesh.validations.listenerset import check_listenerset
from mesh.validations.metadata import check_metadata
from mesh.validations.peerauthentication import check_peerauthentication
from mesh.validations.requestauthentication import check_requestauthentication
from mesh.validations.rollout import check_rollout
from mesh.validations.routepolicy import check_routepolicy
from mesh.validations.salvage import certain, sound_part
from mesh.validations.secret import check_secret
from mesh.validations.service import check_service, check_servicesubset
from mesh.validations.streamroutes import check_streamroute
from mesh.validations.structure import MAX_DEPTH, TooDeepError, closest, described, explain, tidy
from mesh.validations.telemetrypolicy import check_telemetrypolicy
from mesh.validations.texts import check_texts
from mesh.validations.trafficpolicy import check_trafficpolicy

DEFAULT_NAMESPACE = "default"

_CHECKS: Mapping[str, Callable[[Any, Report], None]] = MappingProxyType(
    {
        "Backend": check_backend_object,
        "BackendTLSPolicy": check_backendtlspolicy,
        "ClientPolicy": check_clientpolicy,
        "EnvoyPatch": check_envoypatch,
        "Gateway": check_gateway,
        "GatewayParameters": check_gatewayparameters,
        "GRPCRoute": check_grpcroute,
        "HTTPRoute": check_httproute,
        "ListenerSet": check_listenerset,
        "PeerAuthentication": check_peerauthentication,
        "RequestAuthentication": check_requestauthentication,
        "Rollout": check_rollout,
        "RoutePolicy": check_routepolicy,
        "Secret": check_secret,
        "Service": check_service,
        "ServiceSubset": check_servicesubset,
        "TCPRoute": check_streamroute,
        "TLSRoute": check_streamroute,
        "TelemetryPolicy": check_telemetrypolicy,
        "TrafficPolicy": check_trafficpolicy,
        "UDPRoute": check_streamroute,
    }
)
ADDED_ON_READS: Final = frozenset({"status", "origin", "warnings", "changes"})
"""What the API says of an object beside what was written, so that what it gave can be sent back as it is."""
_WITH_TEXTS = frozenset(
    {
        "ClientPolicy",
        "EnvoyPatch",
        "PeerAuthentication",
        "RequestAuthentication",
        "Rollout",
        "RoutePolicy",
        "TelemetryPolicy",
        "TrafficPolicy",
    }
)
# Their names become labels of DNS names: a namespace of `<service>.<namespace>`, a Service of the same.
_DNS_LABELS = frozenset({"Service", "Namespace"})
_TOO_DEEP = Problem("TooDeep", "error", "", f"it is nested deeper than {MAX_DEPTH} levels", "write it flatter")


class Checked(msgspec.Struct, frozen=True):
    """What became of a document: `object` is None exactly where a problem of level error is among `problems`."""

    object: Object | None
    problems: tuple[Problem, ...] = ()


def validate(raw: Any) -> Checked:
    """Judge one decoded document (JSON's types). Never raises.

    An accepted apiVersion becomes the kind's own, an absent namespace becomes `default`, what the API adds
    (`ADDED_ON_READS`) and the bookkeeping that Kubernetes puts into metadata are dropped, and a null field counts as
    absent.
    """
    kind = _kind(raw)
    if not isinstance(kind, Kind):
        return Checked(None, (kind,))
    if raw["apiVersion"] != kind.api_version or not ADDED_ON_READS.isdisjoint(raw):
        raw = {key: value for key, value in raw.items() if key not in ADDED_ON_READS} | {"apiVersion": kind.api_version}
    made: Object | None
    try:
        made = msgspec.convert(raw, kind.struct)
    except (msgspec.ValidationError, RecursionError, TypeError, ValueError) as error:
        made, problems = _explained(raw, kind, error)
        if made is None:
            return Checked(None, problems)
    return validate_object(made)


def validate_object(made: Object) -> Checked:
    """Judge an object whose structure is right already; with an absent namespace filled in."""
    kind = KINDS[made.kind]
    report = Report()
    metadata = made.metadata
    check_metadata(metadata, report, namespaced=kind.namespaced, dns_label=kind.name in _DNS_LABELS)
    check = _CHECKS.get(kind.name)
    if check is not None:
        check(made, report)
    if kind.name in _WITH_TEXTS:
        check_texts(made.spec, "spec", report)  # type: ignore[attr-defined]  # these kinds have one
    problems = tuple(report.problems)
    if any(problem.level == "error" for problem in problems):
        return Checked(None, problems)
    if kind.namespaced and not metadata.namespace:
        metadata = msgspec.structs.replace(metadata, namespace=DEFAULT_NAMESPACE)
        made = msgspec.structs.replace(made, metadata=metadata)
    return Checked(made, problems)


def _beyond(cleaned: dict[Any, Any], kind: Kind, problems: tuple[Problem, ...]) -> tuple[Problem, ...]:
    """What is wrong with an object apart from its structure, so that a user need not mend that first to hear of it."""
    sound = sound_part(cleaned, kind.struct, problems)
    if sound is None:
        return ()
    part, structural = sound
    try:
        made = msgspec.convert(part, kind.struct)
    except (msgspec.ValidationError, RecursionError, TypeError, ValueError):
        return ()
    return certain(validate_object(made).problems, part, structural)


def _kind(raw: Any) -> Kind | Problem:
    if not isinstance(raw, dict):
        message = f"a document must be an object with apiVersion, kind, metadata and spec, not {described(raw)}"
        return Problem("WrongType", "error", "", message, "write `apiVersion:`, `kind:` and so on")
    name = raw.get("kind")
    version = raw.get("apiVersion")
    for field, value in (("kind", name), ("apiVersion", version)):
        if not isinstance(value, str) or not value:
            code = "MissingField" if value is None else "WrongType"
            example = ", as in `kind: HTTPRoute`" if field == "kind" else ", as in `apiVersion: fairlead.dev/v1alpha1`"
            return Problem(code, "error", field, f"the object needs a `{field}`, a string", f"add it{example}")
    assert isinstance(name, str)
    kind = KINDS.get(name)
    if kind is None:
        meant = closest(name, KINDS)
        known = ", ".join(sorted(KINDS))
        message = f"there is no kind '{shown(name)}'" + (f"; did you mean `{meant}`?" if meant else "")
        return Problem(
            "UnknownKind", "error", "kind", message, f"write `{meant}`" if meant else f"write one of {known}"
        )
    if version not in kind.accepted:
        message = f"kind {kind.name} is not known in the version '{shown(str(version))}'"
        return Problem("UnknownVersion", "error", "apiVersion", message, f"write `apiVersion: {kind.api_version}`")
    return kind


def _explained(raw: dict[Any, Any], kind: Kind, error: Exception) -> tuple[Object | None, tuple[Problem, ...]]:
    """The object after all, where only nulls and bookkeeping were in the way; else everything that is wrong."""
    quiet = kind.name == "Secret"
    try:
        cleaned = tidy(raw)
    except (TooDeepError, RecursionError):
        return None, (_TOO_DEEP,)
    problems = explain(cleaned, kind.struct, quiet=quiet)
    if problems:
        return None, problems + _beyond(cleaned, kind, problems)
    try:
        return msgspec.convert(cleaned, kind.struct), ()
    except (msgspec.ValidationError, RecursionError, TypeError, ValueError) as still:
        # Not reached by any known input; msgspec's own words are better than none.
        error = still
    message = "it cannot be read" if quiet else shown(str(error), 200)
    return None, (Problem("Invalid", "error", "", message, "compare it with the reference of the kind"),)

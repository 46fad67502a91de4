"""How each service's workloads are reached: over mutual TLS, in plaintext, or both. Both sides read it here.

From the strongest to the weakest: a policy with a selector (what it says of the port, then of all), the policy of the
namespace, that of the root namespace for the mesh, and PERMISSIVE. The oldest policy of a level counts, the others do
not. Selectors see the labels of endpoints; in the root namespace they select nothing. A service is the unit: its
sidecars share their configuration, so where its endpoints would differ the strictest mode is for all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Literal

import msgspec

from mesh.conditions import Condition
from mesh.kinds.peerauthentication import Mode, PeerAuthentication
from mesh.model import Declared, ObjectKey, ServiceKey, mesh_settings
from mesh.objects import OBJECTS, find
from mesh.precedence import age
from mesh.services import ENDPOINTS, SERVICES, ServiceEndpoints
from mesh.spiffe import InvalidSpiffeId, TrustDomain, workload
from mesh.tables import Look, Reader, derived, each

PeerMode = Literal["DISABLE", "PERMISSIVE", "STRICT"]
DEFAULT: Final[PeerMode] = "PERMISSIVE"
_STRICTNESS: Final = {"DISABLE": 0, "PERMISSIVE": 1, "STRICT": 2}
_KIND: Final = PeerAuthentication.__name__


class PeerModes(msgspec.Struct, frozen=True):
    """The mode of a service's workloads, and those ports (the numbers at which endpoints serve) that differ."""

    mode: PeerMode = DEFAULT
    ports: tuple[tuple[int, PeerMode], ...] = ()

    def of_port(self, number: int) -> PeerMode:
        """The mode of a port."""
        return next((mode for port, mode in self.ports if port == number), self.mode)


def _namespace(key: ObjectKey, _row: Declared) -> tuple[str, ...]:
    return (key.namespace,) if key.kind == _KIND else ()


PEER_POLICIES = OBJECTS.index("peer authentication", _namespace)


@derived("peer_modes", each(SERVICES))
def PEER_MODES(key: ServiceKey, look: Look) -> PeerModes | None:  # noqa: N802
    """The services whose workloads are not simply PERMISSIVE."""
    around = _around(look, key.namespace)
    selecting = _with_selector(look, key.namespace)
    if not selecting:
        return PeerModes(around) if around != DEFAULT else None
    found = [_of_labels(dict(labels), selecting, around) for labels in _label_sets(look, key)]
    numbers = {port for modes in found for port, _ in modes.ports}
    mode = _strictest(modes.mode for modes in found)
    ports = ((number, _strictest(modes.of_port(number) for modes in found)) for number in sorted(numbers))
    made = PeerModes(mode, tuple((number, said) for number, said in ports if said != mode))
    return made if made != PeerModes() else None


def peer_modes(look: Reader, service: ServiceKey) -> PeerModes:
    """How the workloads of a service are reached."""
    return look(PEER_MODES, service) or PeerModes()


class PeerIdentities(msgspec.Struct, frozen=True):
    """Who a service's endpoints are that speak mutual TLS: SPIFFE IDs, sorted."""

    names: tuple[str, ...]


def _with_certificates(key: ServiceKey, row: ServiceEndpoints) -> tuple[ServiceKey, ...]:
    return (key,) if any(endpoint.mesh_tls for endpoint in row.endpoints) else ()


@derived("peer_identities", each(ENDPOINTS, _with_certificates))
def PEER_IDENTITIES(key: ServiceKey, look: Look) -> PeerIdentities | None:  # noqa: N802
    """The services some of whose endpoints have a certificate; a moved endpoint leaves the row as it is."""
    row = look(ENDPOINTS, key)
    accounts = {one.service_account for one in row.endpoints if one.mesh_tls} if row is not None else set()
    trust_domain = TrustDomain(mesh_settings(look).trust_domain)
    names = sorted(name for account in accounts if (name := _identity(trust_domain, key.namespace, account)))
    return PeerIdentities(tuple(names)) if names else None


def has_identity(namespace: str, account: str) -> bool:
    """Whether an endpoint with that account can have an identity that clients could check."""
    return bool(_identity(TrustDomain("any"), namespace, account))


def _identity(trust_domain: TrustDomain, namespace: str, account: str) -> str:
    try:
        return str(workload(trust_domain, namespace, account))
    except InvalidSpiffeId:
        return ""


def _policies(look: Reader, namespace: str) -> list[tuple[ObjectKey, PeerAuthentication]]:
    """The policies of a namespace, the oldest first."""
    found = ((key, find(look, PeerAuthentication, key)) for key in look.keys(PEER_POLICIES, namespace))
    return sorted(((key, each) for key, each in found if each is not None), key=lambda item: age(item[1].metadata))


def _whole(look: Reader, namespace: str) -> ObjectKey | None:
    """The policy that is for a namespace."""
    return next((key for key, policy in _policies(look, namespace) if policy.spec.selector is None), None)


def _around(look: Reader, namespace: str) -> PeerMode:
    """What holds in a namespace where no selector selects."""
    for at in (namespace, mesh_settings(look).root_namespace):
        key = _whole(look, at)
        policy = find(look, PeerAuthentication, key) if key is not None else None
        if policy is not None and policy.spec.mtls.mode != "UNSET":
            return policy.spec.mtls.mode
    return DEFAULT


def _with_selector(look: Reader, namespace: str) -> list[PeerAuthentication]:
    if namespace == mesh_settings(look).root_namespace:
        return []
    return [policy for _, policy in _policies(look, namespace) if policy.spec.selector is not None]


def _label_sets(look: Reader, service: ServiceKey) -> Iterator[tuple[tuple[str, str], ...]]:
    """The labels that a service's endpoints bear, each set once; its own while it has no endpoints."""
    row = look(ENDPOINTS, service)
    labels = {endpoint.labels for endpoint in row.endpoints} if row is not None else set()
    if labels:
        yield from sorted(labels)
        return
    own = look(SERVICES, service)
    yield own.labels if own is not None else ()


def _of_labels(labels: Mapping[str, str], selecting: Iterable[PeerAuthentication], around: PeerMode) -> PeerModes:
    for policy in selecting:
        spec = policy.spec
        if spec.selector is not None and spec.selector.selects(labels):
            mode = _inherits(spec.mtls.mode, around)
            ports = ((int(port), _inherits(said.mode, mode)) for port, said in spec.port_level_mtls.items())
            return PeerModes(mode, tuple(sorted(ports)))
    return PeerModes(around)


def _inherits(mode: Mode, outer: PeerMode) -> PeerMode:
    return outer if mode == "UNSET" else mode


def _strictest(modes: Iterable[PeerMode]) -> PeerMode:
    return max(modes, key=_STRICTNESS.__getitem__)


# -- what users are told ----------------------------------------------------------------------------------------------


def peer_authentication_conditions(look: Look, key: ObjectKey) -> tuple[Condition, ...]:
    """Whether a policy counts, and whether it selects anything."""
    policy = find(look, PeerAuthentication, key)
    if policy is None:
        return ()
    selector = policy.spec.selector
    if selector is None:
        first = _whole(look, key.namespace)
        if first is not None and first != key:
            return (Condition("Accepted", False, "Conflicted", f"{first} is older and for the same namespace."),)
        return (Condition("Accepted", True, "Accepted"),)
    if key.namespace == mesh_settings(look).root_namespace:
        said = "In the root namespace a policy is for the whole mesh: remove the selector, or move the policy."
        return (Condition("Accepted", False, "NotAllowed", said),)
    selected = [labels for labels in _all_labels(look, key.namespace) if selector.selects(dict(labels))]
    if not selected:
        said = f"No endpoint of a service in {key.namespace} has such labels."
        return (Condition("Accepted", True, "Accepted"), Condition("ResolvedRefs", False, "TargetNotFound", said))
    resolved = Condition("ResolvedRefs", True, "ResolvedRefs")
    older = _older(look, key)
    winners = [_first(labels, older) for labels in selected]
    lost = sorted({str(winner) for winner in winners if winner is not None})
    if not lost:
        return (Condition("Accepted", True, "Accepted"), resolved)
    said = f"Older policies select the same workloads, and count there: {', '.join(lost)}."
    if all(winner is not None for winner in winners):
        return (Condition("Accepted", False, "Conflicted", said), resolved)
    return (Condition("Accepted", True, "Accepted"), resolved, Condition("Conflicted", True, "Conflicted", said))


def _all_labels(look: Reader, namespace: str) -> list[tuple[tuple[str, str], ...]]:
    services = look.keys(SERVICES_BY_NAMESPACE, namespace)
    return sorted({labels for service in services for labels in _label_sets(look, service)})


def _older(look: Reader, key: ObjectKey) -> list[tuple[ObjectKey, PeerAuthentication]]:
    found = []
    for at, policy in _policies(look, key.namespace):
        if at == key:
            break
        found.append((at, policy))
    return found


def _first(
    labels: Iterable[tuple[str, str]], policies: Iterable[tuple[ObjectKey, PeerAuthentication]]
) -> ObjectKey | None:
    has = dict(labels)
    for at, policy in policies:
        if policy.spec.selector is not None and policy.spec.selector.selects(has):
            return at
    return None


SERVICES_BY_NAMESPACE = SERVICES.index("namespace", lambda key, _: (key.namespace,))

"""TLSRoute, TCPRoute and UDPRoute: the rules of their CRDs (v1.6.3)."""

from __future__ import annotations

from mesh.kinds.tlsroute import TLSRoute
from mesh.problems import Report
from mesh.routes import StreamRoute
from mesh.validations.backends import check_backend
from mesh.validations.hostnames import check_hostname
from mesh.validations.parents import check_parents


def check_streamroute(route: StreamRoute, report: Report) -> None:
    """Judge a TLSRoute, TCPRoute or UDPRoute."""
    check_parents(route.spec.parent_refs, route.metadata.namespace, report)
    if isinstance(route, TLSRoute):
        for number, hostname in enumerate(route.spec.hostnames):
            check_hostname(hostname, f"spec.hostnames[{number}]", report)
    for number, rule in enumerate(route.spec.rules):
        for at, ref in enumerate(rule.backend_refs):
            check_backend(ref, f"spec.rules[{number}].backendRefs[{at}]", report)

"""BackendTLSPolicy: the rules of its CRD (v1.6.3)."""

from __future__ import annotations

from types import MappingProxyType

from mesh.kinds.backendtlspolicy import BackendTLSPolicy, BackendTLSPolicyValidation
from mesh.kinds.references import FAIRLEAD
from mesh.problems import Report
from mesh.validations.hostnames import check_hostname
from mesh.validations.metadata import check_keys
from mesh.validations.policy import Targets, check_targets

TARGETS: Targets = MappingProxyType({("", "Service"): True, (FAIRLEAD, "Service"): True, (FAIRLEAD, "Backend"): False})


def check_backendtlspolicy(policy: BackendTLSPolicy, report: Report) -> None:
    """Judge a BackendTLSPolicy."""
    spec = policy.spec
    check_targets(spec.target_refs, TARGETS, policy.metadata, report)
    _check_validation(spec.validation, "spec.validation", report)
    if spec.options:
        check_keys(spec.options, "spec.options", report)
        report.warning("Unsupported", "spec.options", "Fairlead knows no TLS options", "remove them")


def _check_validation(validation: BackendTLSPolicyValidation, path: str, report: Report) -> None:
    check_hostname(validation.hostname, f"{path}.hostname", report)
    if validation.ca_certificate_refs and validation.well_known_ca_certificates is not None:
        message = "`caCertificateRefs` and `wellKnownCACertificates` cannot stand together"
        report.error("NotAllowed", f"{path}.wellKnownCACertificates", message, "remove one of them")
    elif not validation.ca_certificate_refs and validation.well_known_ca_certificates is None:
        message = "nothing says which authorities a backend's certificate may come from"
        fix = "name a ConfigMap with `ca.crt` in `caCertificateRefs`, or write `wellKnownCACertificates: System`"
        report.error("MissingField", f"{path}.caCertificateRefs", message, fix)
    for number, name in enumerate(validation.subject_alt_names):
        at = f"{path}.subjectAltNames[{number}]"
        for kind, value, wire in (("Hostname", name.hostname, "hostname"), ("URI", name.uri, "uri")):
            if name.type == kind and value is None:
                report.error("MissingField", f"{at}.{wire}", f"type {kind} needs `{wire}`", f"add `{wire}`")
            elif name.type != kind and value is not None:
                message = f"`{wire}` does not belong to type {name.type}"
                report.error("NotAllowed", f"{at}.{wire}", message, f"remove it, or write `type: {kind}`")

"""RoutePolicy: what Envoy would refuse or what cannot work, said with the path and the way out."""

from __future__ import annotations

import base64
import re
from types import MappingProxyType

import re2

from mesh.kinds.duration import milliseconds
from mesh.kinds.routepolicy import (
    GRPCJSON,
    AdmissionControl,
    DirectResponse,
    FaultInjection,
    HeaderTransformation,
    HostRewrite,
    RegexRewrite,
    ResponseOverride,
    RoutePolicy,
    RouteRewrite,
    RouteSettings,
    SessionAffinity,
    stanzas,
)
from mesh.problems import Report, shown
from mesh.validations.cookies import check_cookie_path
from mesh.validations.durations import check_whole_seconds
from mesh.validations.extensions import check_extensions
from mesh.validations.headers import check_policy_headers, refuse_framing
from mesh.validations.policy import Targets, check_both, check_targets
from mesh.validations.regexes import check_regex, fault
from mesh.validations.trafficpolicy import check_status_range

TARGETS: Targets = MappingProxyType(
    {
        ("gateway.networking.k8s.io", "HTTPRoute"): True,
        ("gateway.networking.k8s.io", "GRPCRoute"): True,
        ("gateway.networking.k8s.io", "Gateway"): True,
        ("gateway.networking.k8s.io", "ListenerSet"): True,
        ("", "Namespace"): False,
    }
)
_GROUP = re.compile(r"\\(\\|[0-9])?")
_SAMPLES = ("/", "/a", "/a/b/c")
_REDIRECTS = (301, 302, 303, 307, 308)
_LEAST_PERCENT = 0.0001
_HOUR = 3_600_000
# Envoy sends a body with these where it has one, and a client takes it for the beginning of the next answer; with 205
# there must not be one (RFC 9110).
_WITHOUT_BODY = (204, 205, 304)


def check_routepolicy(policy: RoutePolicy, report: Report) -> None:
    """Judge a RoutePolicy."""
    spec = policy.spec
    check_targets(spec.target_refs, TARGETS, policy.metadata, report)
    check_both(spec, RouteSettings, _check_settings, report, example="faultInjection")
    if any(ref.kind in ("Gateway", "ListenerSet") for ref in spec.target_refs):
        _refuse_what_is_of_routes_alone(policy, report)
    _check_cookies(policy, report)


def _check_cookies(policy: RoutePolicy, report: Report) -> None:
    """Which requests a rule is for is said of that rule, and of nothing wider or by anything wider."""
    spec = policy.spec
    if spec.overrides is not None and spec.overrides.match_cookies is not None:
        message = "nothing narrower than a rule could say which cookies its requests have"
        report.error("NotAllowed", "spec.overrides.matchCookies", message, "write it under `spec`")
    if spec.match_cookies is None:
        return
    if any(ref.kind != "HTTPRoute" or ref.section_name is None for ref in spec.target_refs):
        message = "cookies are matched for named rules of HTTPRoutes alone"
        report.error("NotAllowed", "spec.matchCookies", message, "name the rule by `sectionName` in `targetRefs`")
    names = [one.name for one in spec.match_cookies]
    for number, name in enumerate(names):
        if name in names[:number]:
            message = f"'{name}' is there twice"
            report.error("DuplicateName", f"spec.matchCookies[{number}].name", message, "remove one")


def _refuse_what_is_of_routes_alone(policy: RoutePolicy, report: Report) -> None:
    """Whether a route's backends may be asked for any host, or get a secret, is known of the route alone."""
    for path, one in zip(("spec", "spec.overrides"), stanzas(policy), strict=False):
        if one.rewrite is not None and one.rewrite.host is not None and one.rewrite.host.by_client:
            message = "a host from the request must fit a route's backends and cannot be inherited from a Gateway"
            fix = "write it in a policy for the route or its namespace"
            report.error("NotAllowed", f"{path}.rewrite.host", message, fix)
        if one.credential_injection is not None:
            message = "a Gateway's routes may be other people's, whose backends would get the credential"
            fix = "write it in a policy for the route or its namespace"
            report.error("NotAllowed", f"{path}.credentialInjection", message, fix)


def _check_settings(settings: RouteSettings, path: str, report: Report) -> None:
    if settings.fault_injection is not None:
        _check_fault(settings.fault_injection, f"{path}.faultInjection", report)
    if settings.direct_response is not None:
        _check_answer(settings, settings.direct_response, path, report)
    if settings.redirect is not None:
        _check_rewrite(settings.redirect, f"{path}.redirect", report)
        _check_narrowing(settings.redirect.path, f"{path}.redirect.pattern", report)
    if settings.rewrite is not None:
        _check_route_rewrite(settings.rewrite, f"{path}.rewrite", report)
    _check_overrides(settings, f"{path}.responseOverrides", report)
    _check_buffer(settings, path, report)
    compression = settings.compression
    if compression is not None and len(set(compression.algorithms)) < len(compression.algorithms):
        report.error("Duplicate", f"{path}.compression.algorithms", "one is there twice", "remove one")
    limit = settings.bandwidth_limit
    if limit is not None and limit.request_kibps is None and limit.response_kibps is None:
        message = "it limits neither direction"
        report.error("MissingField", f"{path}.bandwidthLimit", message, "add `requestKibps` or `responseKibps`")
    if settings.admission_control is not None:
        _check_admission(settings.admission_control, f"{path}.admissionControl", report)
    injected = settings.credential_injection
    if injected is not None:
        refuse_framing(injected.header, f"{path}.credentialInjection.header", report)
    _check_internal_redirects(settings, f"{path}.internalRedirects", report)
    _check_origins(settings, f"{path}.csrf.additionalOrigins", report)
    if settings.headers is not None:
        _check_headers(settings.headers, f"{path}.headers", report)
    if settings.grpc_json is not None:
        _check_grpc_json(settings.grpc_json, f"{path}.grpcJSON", report)
    check_extensions(settings.extensions or (), f"{path}.extensions", report)
    if settings.session_affinity is not None:
        _check_affinity(settings.session_affinity, f"{path}.sessionAffinity", report)


def _check_buffer(settings: RouteSettings, path: str, report: Report) -> None:
    if settings.request_buffer is None:
        return
    tunnels = settings.connect in ("Terminate", "Forward")
    for name, wanted, what in (("webSocket", settings.web_socket, "WebSocket"), ("connect", tunnels, "tunnel")):
        if wanted:
            message = f"a {what} is never whole, so that it would wait in the buffer for ever"
            report.error("InvalidCombination", f"{path}.{name}", message, "remove it or `requestBuffer`")


def _check_answer(settings: RouteSettings, answer: DirectResponse, path: str, report: Report) -> None:
    if answer.body and answer.status in _WITHOUT_BODY:
        message = f"an answer of status {answer.status} has no body"
        report.error("InvalidCombination", f"{path}.directResponse.body", message, "remove it, or write another status")
    if settings.redirect is not None:
        message = "a request is either answered or sent elsewhere"
        report.error("InvalidCombination", f"{path}.redirect", message, "remove it or `directResponse`")


def _check_fault(fault: FaultInjection, path: str, report: Report) -> None:
    delay, abort = fault.delay, fault.abort
    if delay is not None:
        if (delay.fixed is not None) == delay.from_header:
            message = "a delay is either `fixed` or as long as the header says"
            report.error("InvalidCombination", f"{path}.delay", message, "write `fixed`, or `fromHeader: true`")
        if delay.fixed is not None and not 0 < milliseconds(delay.fixed) <= _HOUR:
            report.error("OutOfRange", f"{path}.delay.fixed", "it must be between 1ms and 1h", "write it as in `200ms`")
    if abort is not None:
        given = [abort.http_status, abort.grpc_status, abort.from_header or None]
        if len([value for value in given if value is not None]) != 1:
            message = "an abort has exactly one of httpStatus, grpcStatus and fromHeader"
            report.error("InvalidCombination", f"{path}.abort", message, "write one of them, as `httpStatus: 503`")
        if abort.http_status in _WITHOUT_BODY:
            message = f"Envoy sends a body with it, and an answer of status {abort.http_status} has none"
            fix = "write another, or use `directResponse`"
            report.error("NotAllowed", f"{path}.abort.httpStatus", message, fix)
    names = [header.name.lower() for header in fault.headers or ()]
    for number, name in enumerate(names):
        if name in names[:number]:
            report.error(
                "DuplicateName", f"{path}.headers[{number}].name", f"'{shown(name)}' is there twice", "keep one"
            )
    for part, share in (("delay", delay), ("abort", abort)):
        if share is not None and 0 < share.percent < _LEAST_PERCENT:
            message = "requests are chosen by the million, and this share of them is none"
            report.error("OutOfRange", f"{path}.{part}.percent", message, f"write 0, or at least {_LEAST_PERCENT}")
    if delay is None and abort is None:
        message = "it neither delays nor aborts, unless another policy says so"
        report.warning("NoEffect", path, message, "add `delay` or `abort`")


def _check_route_rewrite(rewrite: RouteRewrite, path: str, report: Report) -> None:
    if rewrite.path is not None:
        _check_rewrite(rewrite.path, f"{path}.path", report)
    if rewrite.host is not None:
        _check_host(rewrite.host, f"{path}.host", report)


def _check_rewrite(rewrite: RegexRewrite, path: str, report: Report) -> None:
    before = len(report.problems)
    check_regex(rewrite.pattern, f"{path}.pattern", report)
    if len(report.problems) > before:
        return
    if not _check_groups(rewrite.pattern, rewrite.substitution, f"{path}.substitution", report):
        return
    first = rewrite.substitution[:1]
    if rewrite.pattern.startswith("^/") and first not in ("", "/", "\\"):
        message = f"what it makes of a path begins with '{first}', and a path begins with '/'"
        report.error("InvalidFormat", f"{path}.substitution", message, f"write `/{rewrite.substitution}`")
        return
    for sample in _SAMPLES:
        made = re2.compile(rewrite.pattern).sub(rewrite.substitution, sample)
        if not made.startswith("/"):
            message = f"it makes '{shown(made)}' of '{sample}', and a path begins with '/'"
            report.error("InvalidFormat", f"{path}.substitution", message, "put a '/' where the path is to begin")
            return


def _check_host(host: HostRewrite, path: str, report: Report) -> None:
    given = [host.from_header is not None, host.from_path is not None, host.from_backend]
    if sum(given) != 1:
        message = "a host comes from exactly one of fromHeader, fromPath and fromBackend"
        report.error("InvalidCombination", path, message, "write one of them, as `fromBackend: true`")
    if host.from_path is None:
        return
    pattern, at = host.from_path.pattern, f"{path}.fromPath"
    before = len(report.problems)
    check_regex(pattern, f"{at}.pattern", report)
    if len(report.problems) > before:
        return
    _check_narrowing(pattern, f"{at}.pattern", report)
    _check_groups(pattern, host.from_path.substitution, f"{at}.substitution", report)


def _check_narrowing(pattern: str, path: str, report: Report) -> None:
    """What Envoy gets where a rule's requests are told apart by it must not be too large either."""
    reason = fault(rf"(?:{pattern})(?:\?.*)?")
    if "instructions" in reason:
        report.error("InvalidRegex", path, reason, "write a simpler expression")


def _check_groups(pattern: str, substitution: str, path: str, report: Report) -> bool:
    """Whether a substitution names only groups that there are."""
    groups = int(re2.compile(pattern).groups)
    for found in _GROUP.finditer(substitution):
        what = found[1]
        if what is None or (what != "\\" and int(what) > groups):
            message = f"`{found.group()}` names no group: the pattern has {groups}"
            fix = f"write \\0 to \\{groups}, or \\\\ for a plain backslash"
            report.error("InvalidFormat", path, message, fix)
            return False
    return True


def _check_overrides(settings: RouteSettings, path: str, report: Report) -> None:
    seen: dict[str, int] = {}
    for number, override in enumerate(settings.response_overrides or ()):
        if override.redirect_to is not None and override.status is not None and override.status not in _REDIRECTS:
            message = f"a client follows no {override.status} elsewhere"
            fix = f"write one of {', '.join(map(str, _REDIRECTS))}, or leave it out"
            report.error("InvalidCombination", f"{path}[{number}].status", message, fix)
        if override.redirect_to is not None and override.body:
            message = "a client that is sent elsewhere reads no body"
            report.error("InvalidCombination", f"{path}[{number}].body", message, "remove it or `redirectTo`")
        _check_has_body(override, f"{path}[{number}].body", report)
        for at, status in enumerate(override.statuses):
            if status in seen:
                message = f"{status} is overridden by [{seen[status]}] already, and the first counts"
                report.error("Duplicate", f"{path}[{number}].statuses[{at}]", message, "remove one")
            seen.setdefault(status, number)


def _check_has_body(override: ResponseOverride, path: str, report: Report) -> None:
    if not override.body or override.redirect_to is not None:
        return
    kept = override.statuses if override.status is None else (str(override.status),)
    for status in _WITHOUT_BODY:
        if {str(status), f"{status // 100}xx"} & set(kept):
            message = f"an answer of status {status} has no body"
            report.error("InvalidCombination", path, message, "write another `status` for it, or leave the body out")


def _check_internal_redirects(settings: RouteSettings, path: str, report: Report) -> None:
    wanted = settings.internal_redirects
    if wanted is None:
        return
    if len(set(wanted.statuses)) < len(wanted.statuses):
        report.error("Duplicate", f"{path}.statuses", "one is there twice", "remove one")
    if settings.credential_injection is not None:
        message = "the backend that a redirect leads to would get the credential of the first"
        report.error("InvalidCombination", path, message, "remove it or `credentialInjection`")


def _check_admission(wanted: AdmissionControl, path: str, report: Report) -> None:
    check_whole_seconds(wanted.sampling_window, f"{path}.samplingWindow", report)
    if milliseconds(wanted.sampling_window) > _HOUR:
        message = "Envoy keeps a count for each second of it"
        report.error("OutOfRange", f"{path}.samplingWindow", message, "write at most 1h")
    for number, statuses in enumerate(wanted.http_success_statuses or ()):
        check_status_range(statuses, f"{path}.httpSuccessStatuses[{number}]", report)


def _check_origins(settings: RouteSettings, path: str, report: Report) -> None:
    origins = settings.csrf.additional_origins if settings.csrf is not None else ()
    for number, origin in enumerate(origins):
        port = origin.partition(":")[2]
        if port and not 0 < int(port) <= 65535:
            report.error("OutOfRange", f"{path}[{number}]", f"there is no port {port}", "write one from 1 to 65535")
        if origin in origins[:number]:
            report.error("Duplicate", f"{path}[{number}]", "the origin is there twice", "remove one")


def _check_headers(headers: HeaderTransformation, path: str, report: Report) -> None:
    for name, part in (("request", headers.request), ("response", headers.response)):
        if part is not None:
            check_policy_headers(part, f"{path}.{name}", report, by_route=True)


def _check_grpc_json(wanted: GRPCJSON, path: str, report: Report) -> None:
    source = wanted.descriptor
    if (source.config_map is None) == (source.inline is None):
        message = "a descriptor is either in a ConfigMap or written here"
        report.error("InvalidCombination", f"{path}.descriptor", message, "write one of `configMap` and `inline`")
    if source.inline is not None:
        try:
            base64.b64decode(source.inline, validate=True)
        except ValueError:
            fix = "write the output of `base64 -w0 FILE`"
            report.error("InvalidFormat", f"{path}.descriptor.inline", "it is not base64", fix)
    for number, service in enumerate(wanted.services):
        if service in wanted.services[:number]:
            report.error("Duplicate", f"{path}.services[{number}]", "the service is there twice", "remove one")


def _check_affinity(affinity: SessionAffinity, path: str, report: Report) -> None:
    if (affinity.cookie is None) == (affinity.header is None):
        message = "a session is known either by a cookie or by a header"
        report.error("InvalidCombination", path, message, "write one of `cookie` and `header`")
    if affinity.header is not None:
        refuse_framing(affinity.header, f"{path}.header", report)
    if affinity.cookie is not None:
        if affinity.cookie.ttl is not None and milliseconds(affinity.cookie.ttl):
            check_whole_seconds(affinity.cookie.ttl, f"{path}.cookie.ttl", report)
        check_cookie_path(affinity.cookie.path, f"{path}.cookie.path", report)

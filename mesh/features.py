"""Which features of Gateway API v1.6.3 are served: what a GatewayClass says in `status.supportedFeatures`.

One row per feature, by its name in Gateway API's `pkg/features`, with what serves it and where a real Envoy shows
that, or a real Kubernetes where it is the platform's. Users and the conformance suite take the list at its word, so a
row comes in with the test that shows the whole of the feature, and what is served in part is not in it. Nothing here
decides what is served.

Not in it though they are served: session persistence and external authorization have no feature's name there, and
the suite has no test of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import msgspec


class Feature(msgspec.Struct, frozen=True):
    """A feature's name, how it is served, and the file or folder of tests that shows it.

    `experimental`: its fields are in CRDs of the experimental channel only.
    """

    name: str
    served_by: str
    shown_in: str
    experimental: bool = False


FEATURES: tuple[Feature, ...] = (
    Feature("BackendTLSPolicy", "TLS to backends, judged by authority and name", "tests/envoy/test_backend_tls.py"),
    Feature("BackendTLSPolicySANValidation", "Names and URIs of a certificate", "tests/envoy/test_backend_tls.py"),
    Feature("GRPCRoute", "Envoy's routes by path and headers", "tests/envoy/test_grpc_route.py"),
    Feature("GRPCRouteNamedRouteRule", "Rules keep their names in Envoy's routes", "tests/envoy/test_grpc_route.py"),
    Feature("Gateway", "Listeners with conditions, routes attached to them", "tests/envoy/test_gateway_api.py"),
    Feature("GatewayAddressEmpty", "One is assigned, or all are bound", "tests/kubernetes/test_provision.py"),
    Feature(
        "GatewayBackendClientCertificate",
        "The Gateway's own version of clusters that speak TLS",
        "tests/envoy/test_backend_tls.py",
    ),
    Feature(
        "GatewayFrontendClientCertificateValidation",
        "Clients' certificates are asked for and judged, per gateway and port",
        "tests/envoy/test_client_certificates.py",
    ),
    Feature(
        "GatewayFrontendClientCertificateValidationInsecureFallback",
        "Clients without a good certificate are let in too, and a condition says so",
        "tests/envoy/test_client_certificates.py",
    ),
    Feature("GatewayHTTPListenerIsolation", "A scope for each listener's hostname", "tests/envoy/test_scopes.py"),
    Feature(
        "GatewayHTTPSListenerDetectMisdirectedRequests",
        "Hosts of other listeners answer 421 on a connection's own routes",
        "tests/envoy/test_https.py",
    ),
    Feature(
        "GatewayInfrastructure",
        "Labels, annotations and parameters of all that runs a Gateway",
        "tests/kubernetes/test_provision.py",
    ),
    Feature("GatewayPort8080", "Any port is served", "tests/envoy/test_gateway_api.py"),
    Feature(
        "GatewayStaticAddresses",
        "Asked of the Service, or bound; what cannot be had is told",
        "tests/kubernetes/test_provision.py",
    ),
    Feature("HTTPRoute", "Matches, backends, core filters", "tests/envoy/test_routing.py"),
    Feature("HTTPRoute303RedirectStatusCode", "Envoy's redirect", "tests/envoy/test_routing.py"),
    Feature("HTTPRoute307RedirectStatusCode", "Envoy's redirect", "tests/envoy/test_routing.py"),
    Feature("HTTPRoute308RedirectStatusCode", "Envoy's redirect", "tests/envoy/test_routing.py"),
    Feature("HTTPRouteBackendProtocolH2C", "appProtocol kubernetes.io/h2c is HTTP/2", "tests/envoy/test_scopes.py"),
    Feature("HTTPRouteBackendProtocolWebSocket", "Upgrades are on for all routes", "tests/envoy/test_websocket.py"),
    Feature(
        "HTTPRouteBackendRequestHeaderModification", "Headers of one weighted cluster", "tests/envoy/test_routing.py"
    ),
    Feature("HTTPRouteBackendTimeout", "The lesser timeout, or that of each try", "tests/envoy/test_routing.py"),
    Feature("HTTPRouteCORS", "Envoy's CORS filter, one policy per route", "tests/envoy/test_cors.py"),
    Feature("HTTPRouteDestinationPortMatching", "parentRef.port", "tests/envoy/test_gateway_api.py", experimental=True),
    Feature("HTTPRouteHostRewrite", "A literal host", "tests/envoy/test_routing.py"),
    Feature("HTTPRouteMethodMatching", "The pseudo-header :method", "tests/property/test_route_matching.py"),
    Feature("HTTPRouteNamedRouteRule", "Rules keep their names in Envoy's routes", "tests/envoy/test_route_policy.py"),
    Feature("HTTPRouteParentRefPort", "parentRef.port", "tests/envoy/test_gateway_api.py"),
    Feature("HTTPRoutePathRedirect", "Whole paths and prefixes", "tests/envoy/test_routing.py"),
    Feature("HTTPRoutePathRewrite", "Whole paths and prefixes", "tests/envoy/test_routing.py"),
    Feature("HTTPRoutePortRedirect", "The port is always decided here", "tests/envoy/test_routing.py"),
    Feature("HTTPRouteQueryParamMatching", "Query parameters", "tests/property/test_route_matching.py"),
    Feature("HTTPRouteRequestMirror", "A mirror policy", "tests/envoy/test_routing.py"),
    Feature("HTTPRouteRequestMultipleMirrors", "A mirror policy for each", "tests/envoy/test_routing.py"),
    Feature("HTTPRouteRequestPercentageMirror", "A mirror policy's share", "tests/envoy/test_routing.py"),
    Feature("HTTPRouteRequestTimeout", "A route's timeout", "tests/envoy/test_routing.py"),
    Feature("HTTPRouteResponseHeaderModification", "A route's response headers", "tests/envoy/test_routing.py"),
    Feature(
        "HTTPRouteRetry", "Retry on codes, with attempts and backoff", "tests/envoy/test_routing.py", experimental=True
    ),
    Feature(
        "HTTPRouteRetryBackendTimeout", "Each try has its own time", "tests/envoy/test_routing.py", experimental=True
    ),
    Feature(
        "HTTPRouteRetryConnectionError",
        "Failed and reset connections are retried",
        "tests/envoy/test_routing.py",
        experimental=True,
    ),
    Feature("HTTPRouteSchemeRedirect", "Scheme, and the port that goes with it", "tests/envoy/test_routing.py"),
    Feature("ListenerSet", "Listeners of a Gateway that are written elsewhere", "tests/envoy/test_listener_sets.py"),
    Feature("ReferenceGrant", "References across namespaces", "tests/envoy/test_gateway_api.py"),
    Feature("TCPRoute", "Envoy's TCP proxy, with weights", "tests/envoy/test_stream_routes.py"),
    Feature("TLSRoute", "A filter chain per server name, passed through", "tests/envoy/test_stream_routes.py"),
    Feature(
        "TLSRouteModeMixed",
        "Filter chains of both modes on one port",
        "tests/envoy/test_stream_routes.py",
        experimental=True,
    ),
    Feature("TLSRouteModeTerminate", "TLS ends at the chain's certificate", "tests/envoy/test_stream_routes.py"),
    Feature("UDPRoute", "Envoy's UDP proxy, weights within one cluster", "tests/envoy/test_stream_routes.py"),
)


NOT_SERVED: Mapping[str, str] = MappingProxyType(
    {
        "Mesh": "sidecars are served, and not tried by the suite yet",
        "MeshClusterIPMatching": "not tried by the suite yet",
        "MeshConsumerRoute": "routes of the client's namespace win, and not tried by the suite yet",
        "MeshHTTPRouteBackendRequestHeaderModification": "not tried by the suite yet",
        "MeshHTTPRouteNamedRouteRule": "not tried by the suite yet",
        "MeshHTTPRouteQueryParamMatching": "not tried by the suite yet",
        "MeshHTTPRouteRedirectPath": "not tried by the suite yet",
        "MeshHTTPRouteRedirectPort": "not tried by the suite yet",
        "MeshHTTPRouteRewritePath": "not tried by the suite yet",
        "MeshHTTPRouteSchemeRedirect": "not tried by the suite yet",
    }
)
"""The other features of `pkg/features`, and what is lacking: with `FEATURES` they are all that there are."""


def names(*, experimental: bool = True) -> tuple[str, ...]:
    """As `supportedFeatures` lists them: in alphabetical order, as the specification demands."""
    return tuple(sorted(feature.name for feature in FEATURES if experimental or not feature.experimental))

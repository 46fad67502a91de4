"""Random small configurations for property tests: few names, so that objects meet, refer and clash."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import strategies as st

from mesh.jwks import NOBODYS_KEYS
from mesh.kinds import KINDS
from mesh.model import (
    AUDIENCES,
    DECLARED,
    DISCOVERED_ENDPOINTS,
    DISCOVERED_SERVICES,
    KEY_SETS,
    MESH,
    PROVISIONED,
    ROLLOUT_STATES,
    Audience,
    Connected,
    Declared,
    DeclaredKey,
    DiscoveredEndpoints,
    DiscoveredEndpointsKey,
    DiscoveredService,
    DiscoveredServiceKey,
    Endpoint,
    KeySetRow,
    MeshSettings,
    ObjectKey,
    Provisioned,
    ProvisionedKey,
    RolloutState,
    ServicePort,
)
from mesh.tables import Change

NAMESPACES = ("red", "blue")
HOSTS = ("a.com", "*.com", "b.a.com", "*.a.com", "org")
GATEWAY_API = "gateway.networking.k8s.io"
SOURCES = ("files", "store", "kubernetes:one")

namespaces = st.sampled_from(NAMESPACES)
hosts = st.sampled_from(HOSTS)
names = st.sampled_from(("x", "y"))
services = st.sampled_from(("s", "t"))


def _some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """A mapping with any of the fields."""
    return st.fixed_dictionaries({}, optional=fields)


backend_refs = st.fixed_dictionaries(
    {"name": services, "port": st.sampled_from((80, 81))},
    optional={
        "namespace": namespaces,
        "group": st.sampled_from(("", "fairlead.dev")),
        "kind": st.sampled_from(("Service", "ServiceSubset", "Backend")),
        "weight": st.integers(0, 2),
    },
)
matches = _some(
    path=st.fixed_dictionaries(
        {"type": st.sampled_from(("Exact", "PathPrefix")), "value": st.sampled_from(("/", "/p", "/p/q"))}
    ),
    method=st.sampled_from(("GET", "POST")),
    headers=st.lists(
        st.fixed_dictionaries({"name": st.sampled_from(("h", "i")), "value": st.sampled_from("12")}), max_size=2
    ),
    queryParams=st.lists(st.fixed_dictionaries({"name": st.just("q"), "value": st.sampled_from("12")}), max_size=1),
)
rules = _some(matches=st.lists(matches, max_size=2), backendRefs=st.lists(backend_refs, max_size=2))
parent_refs = st.one_of(
    st.fixed_dictionaries(
        {"name": names, "kind": st.just("ListenerSet")},
        optional={"namespace": namespaces, "sectionName": st.sampled_from(("l0", "l1"))},
    ),
    st.fixed_dictionaries(
        {"name": names},
        optional={
            "namespace": namespaces,
            "sectionName": st.sampled_from(("l0", "l1")),
            "port": st.sampled_from((80, 443)),
        },
    ),
    st.fixed_dictionaries(
        {"name": services, "kind": st.just("Service"), "group": st.sampled_from(("", "fairlead.dev"))},
        optional={"namespace": namespaces, "port": st.sampled_from((80, 81))},
    ),
)
routes = st.fixed_dictionaries(
    {"rules": st.lists(rules, min_size=1, max_size=2), "parentRefs": st.lists(parent_refs, max_size=2)},
    optional={"hostnames": st.lists(hosts, max_size=2)},
)
grpc_matches = _some(
    method=st.one_of(
        st.fixed_dictionaries({"service": st.sampled_from(("a.S", "b.S"))}, optional={"method": st.just("M")}),
        st.fixed_dictionaries({"method": st.just("M|N"), "type": st.just("RegularExpression")}),
    ),
    headers=st.lists(
        st.fixed_dictionaries({"name": st.sampled_from(("h", "i")), "value": st.sampled_from("12")}), max_size=2
    ),
)
grpc_routes = st.fixed_dictionaries(
    {
        "rules": st.lists(
            _some(matches=st.lists(grpc_matches, max_size=2), backendRefs=st.lists(backend_refs, max_size=2)),
            max_size=2,
        ),
        "parentRefs": st.lists(parent_refs, max_size=2),
    },
    optional={"hostnames": st.lists(hosts, max_size=2)},
)
_selector = st.fixed_dictionaries({"matchLabels": st.fixed_dictionaries({"team": st.sampled_from("12")})})
listeners = st.one_of(
    st.fixed_dictionaries(
        {"port": st.sampled_from((80, 81)), "protocol": st.sampled_from(("HTTP", "TCP"))},
        optional={
            "hostname": hosts,
            "allowedRoutes": _some(
                namespaces=st.one_of(
                    st.fixed_dictionaries({"from": st.sampled_from(("All", "Same"))}),
                    st.fixed_dictionaries({"from": st.just("Selector"), "selector": _selector}),
                ),
                kinds=st.lists(st.fixed_dictionaries({"kind": st.sampled_from(("HTTPRoute", "TCPRoute"))}), max_size=1),
            ),
        },
    ),
    st.fixed_dictionaries(
        {
            "port": st.sampled_from((80, 443)),
            "protocol": st.just("HTTPS"),
            "tls": st.fixed_dictionaries(
                {
                    "certificateRefs": st.lists(
                        st.fixed_dictionaries({"name": st.just("cert")}, optional={"namespace": namespaces}), max_size=1
                    )
                }
            ),
        },
        optional={"hostname": hosts},
    ),
    st.fixed_dictionaries(
        {
            "port": st.sampled_from((80, 443)),
            "protocol": st.just("TLS"),
            "tls": st.sampled_from(({"mode": "Passthrough"}, {"certificateRefs": [{"name": "cert"}]})),
        },
        optional={"hostname": hosts},
    ),
    st.fixed_dictionaries({"port": st.sampled_from((80, 81)), "protocol": st.sampled_from(("TCP", "UDP"))}),
)
stream_routes = st.fixed_dictionaries(
    {
        "rules": st.lists(backend_refs, min_size=1, max_size=2).map(lambda refs: [{"backendRefs": refs}]),
        "parentRefs": st.lists(parent_refs, max_size=2),
    }
)
tls_routes = st.builds(
    lambda route, names: {**route, "hostnames": names}, stream_routes, st.lists(hosts, min_size=1, max_size=2)
)


def _numbered(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**item, "name": f"l{number}"} for number, item in enumerate(items)]


def _ca(namespace: str | None) -> dict[str, str]:
    return {"group": "", "kind": "ConfigMap", "name": "ca", **({"namespace": namespace} if namespace else {})}


gateways = st.fixed_dictionaries(
    {
        "gatewayClassName": st.sampled_from(("fairlead", "fairlead", "other")),
        "listeners": st.lists(listeners, min_size=1, max_size=3).map(_numbered),
    },
    optional={
        "allowedListeners": st.sampled_from(("All", "Same", "None")).map(lambda of: {"namespaces": {"from": of}}),
        "addresses": st.lists(
            st.sampled_from(({"value": "10.9.0.1"}, {"type": "Hostname", "value": "a.com"})), max_size=1
        ),
        "tls": st.builds(
            lambda mode, namespace: {
                "frontend": {"default": {"validation": {"mode": mode, "caCertificateRefs": [_ca(namespace)]}}},
                "backend": {"clientCertificateRef": {"name": "cert"}},
            },
            st.sampled_from(("AllowValidOnly", "AllowInsecureFallback")),
            st.none() | namespaces,
        ),
        "infrastructure": st.just(
            {"parametersRef": {"group": "fairlead.dev", "kind": "GatewayParameters", "name": "x"}}
        ),
    },
)
listener_sets = st.fixed_dictionaries(
    {
        "parentRef": st.fixed_dictionaries({"name": names}, optional={"namespace": namespaces}),
        "listeners": st.lists(listeners, min_size=1, max_size=2).map(_numbered),
    }
)
grants = st.fixed_dictionaries(
    {
        "from": st.lists(
            st.fixed_dictionaries(
                {
                    "group": st.just(GATEWAY_API),
                    "kind": st.sampled_from(("HTTPRoute", "Gateway", "TCPRoute")),
                    "namespace": namespaces,
                }
            ),
            min_size=1,
            max_size=2,
        ),
        "to": st.lists(
            st.fixed_dictionaries(
                {"group": st.just(""), "kind": st.sampled_from(("Service", "Secret", "ConfigMap"))},
                optional={"name": services},
            ),
            min_size=1,
            max_size=2,
        ),
    }
)
backend_tls_policies = st.builds(
    lambda target, trust: {
        "targetRefs": [target],
        "validation": {"hostname": "a.com", **trust},
    },
    st.one_of(
        st.fixed_dictionaries(
            {"kind": st.just("Service"), "name": services}, optional={"sectionName": st.just("http")}
        ),
        st.fixed_dictionaries({"group": st.just("fairlead.dev"), "kind": st.just("Backend"), "name": services}),
    ),
    st.sampled_from(
        (
            {"wellKnownCACertificates": "System"},
            {"caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "ca"}]},
        )
    ),
)
_endpoints = st.lists(
    st.fixed_dictionaries(
        {"address": st.sampled_from(("10.0.0.1", "10.0.0.2"))},
        optional={
            "labels": st.just({"version": "1"}),
            "weight": st.integers(1, 2),
            "zone": st.sampled_from(("a", "b")),
            "forZones": st.sampled_from((["a"], ["a", "b"])),
        },
    ),
    max_size=2,
)
service_specs = st.fixed_dictionaries(
    {
        "ports": st.sampled_from(
            (
                [{"name": "http", "port": 80}],
                [{"name": "web", "port": 80}, {"name": "admin", "port": 81, "protocol": "UDP"}],
                [{"name": "tcp", "port": 80, "protocol": "TCP"}, {"name": "udp", "port": 80, "protocol": "UDP"}],
            )
        )
    },
    optional={"endpoints": _endpoints, "exportTo": st.lists(st.sampled_from(("*", ".", *NAMESPACES)), max_size=2)},
)
subsets = st.fixed_dictionaries(
    {"service": services, "labels": st.just({"version": "1"})},
    optional={"fallback": st.sampled_from(([{"labels": {"version": "2"}}], [{"labels": {"zone": "a"}}]))},
)

_places = st.sampled_from(
    (
        [{"ip": {"address": "203.0.113.7", "port": 80}}],
        [{"fqdn": {"hostname": "a.example.net", "port": 80}}, {"ip": {"address": "203.0.113.8", "port": 81}}],
        [{"unix": {"path": "/run/shop.sock"}}],
    )
)
_protocols = st.sampled_from(("HTTP", "HTTP2", "TCP", "TLS"))
backends = st.one_of(
    st.fixed_dictionaries({"endpoints": _places}, optional={"protocol": _protocols}),
    st.just({"endpoints": [{"ip": {"address": "203.0.113.53", "port": 53}}], "protocol": "UDP"}),
    st.builds(lambda host: {"dynamicResolver": {"hostnames": [host]}}, st.sampled_from(("a.com", "*.a.com"))),
)

_traffic = _some(
    timeouts=_some(request=st.sampled_from(("1s", "2s")), connect=st.sampled_from(("1s", "3s"))),
    retry=_some(attempts=st.integers(0, 2)),
    loadBalancer=_some(
        type=st.sampled_from(("LeastRequest", "RoundRobin")),
        subsetFallback=st.just("AnyEndpoint"),
        locality=_some(failover=st.just([{"zone": "a"}]), preferSameZone=st.booleans()),
    ),
)
_policy_targets = st.one_of(
    st.fixed_dictionaries({"kind": st.just("Service"), "name": services}, optional={"sectionName": st.just("80")}),
    st.fixed_dictionaries(
        {"group": st.just("fairlead.dev"), "kind": st.just("ServiceSubset"), "name": services}, optional={}
    ),
    st.fixed_dictionaries({"group": st.just("fairlead.dev"), "kind": st.just("Backend"), "name": services}),
    st.fixed_dictionaries({"kind": st.just("Namespace"), "name": namespaces}),
)
traffic_policies = st.builds(
    lambda targets, own, overrides: {"targetRefs": targets, **own, **({"overrides": overrides} if overrides else {})},
    st.lists(_policy_targets, min_size=1, max_size=2),
    _traffic,
    st.none() | _traffic,
)

route_policies = st.builds(
    lambda target, own: {"targetRefs": [target], **own},
    st.one_of(
        st.fixed_dictionaries(
            {"group": st.just(GATEWAY_API), "kind": st.just("HTTPRoute"), "name": st.sampled_from(("r", "q"))}
        ),
        st.builds(
            lambda kind, name, part: {"group": GATEWAY_API, "kind": kind, "name": name, **part},
            st.sampled_from(("Gateway", "ListenerSet")),
            names,
            _some(sectionName=st.sampled_from(("l0", "l1"))),
        ),
        st.fixed_dictionaries({"kind": st.just("Namespace"), "name": namespaces}),
    ),
    _some(
        grpcWeb=st.booleans(),
        compression=st.just({"algorithms": ["gzip"]}),
        directResponse=st.just({"status": 503}),
        extensions=st.just([{"extProc": {"backend": {"name": "s", "port": 80}}}]),
        faultInjection=_some(delay=st.just({"fixed": "1s"}), abort=st.just({"httpStatus": 500})),
    ),
)

_PEM = "-----BEGIN {0}-----\nMIIB\n-----END {0}-----\n"
secrets = st.sampled_from(
    (
        {
            "type": "kubernetes.io/tls",
            "stringData": {"tls.crt": _PEM.format("CERTIFICATE"), "tls.key": _PEM.format("PRIVATE KEY")},
        },
        {"type": "kubernetes.io/tls", "stringData": {"tls.crt": "no"}},
    )
)


config_maps = st.sampled_from(
    ({"data": {"ca.crt": _PEM.format("CERTIFICATE")}}, {"data": {"ca.crt": "no"}}, {"binaryData": {"ca.crt": "?"}})
)


def _kind(kind: str, names_: st.SearchStrategy[str], body: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[Any]:
    """Changes that declare an object of a kind, or take it back."""

    def make(name: str, namespace: str, source: str, content: dict[str, Any] | None, stamp: str | None) -> Change:
        known = KINDS[kind]
        namespace = namespace if known.namespaced else ""
        key = DeclaredKey(kind, namespace, name, source)
        if content is None:
            return Change(DECLARED, key, None)
        metadata = {"name": name, "namespace": namespace, **({"creationTimestamp": stamp} if stamp else {})}
        extra = content.pop("labels", None) if kind == "Namespace" else None
        metadata |= {"labels": extra} if extra else {}
        document = {"apiVersion": known.api_version, "kind": kind, "metadata": metadata, **content}
        return Change(DECLARED, key, Declared(msgspec.convert(document, known.struct), f"{source}:1"))

    stamps = st.sampled_from((None, "2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z"))
    copies = body.map(lambda content: msgspec.json.decode(msgspec.json.encode(content)))
    return st.builds(make, names_, namespaces, st.sampled_from(SOURCES), st.none() | copies, stamps)


def _spec(body: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return body.map(lambda spec: {"spec": spec})


_controllers = st.sampled_from(("fairlead.dev/gateway-controller", "example.com/x")).map(
    lambda name: {"spec": {"controllerName": name}}
)
_labels = st.sampled_from(({"labels": {"team": "1"}}, {"labels": {"team": "2"}}, {}))

client_policies = st.builds(
    lambda target, own, over: {"targetRefs": [target], **own, "overrides": over},
    st.one_of(
        st.builds(
            lambda section: {"group": GATEWAY_API, "kind": "Gateway", "name": "x", **section},
            _some(sectionName=st.sampled_from(("l0", "l1"))),
        ),
        st.fixed_dictionaries({"kind": st.just("Namespace"), "name": namespaces}),
    ),
    _some(
        http3=st.just({"enabled": True}),
        clientAddress=st.just({"trustedHops": 1}),
        proxyProtocol=st.just({"optional": True}),
        timeouts=_some(idle=st.just("1m"), request=st.just("1s")),
    ),
    _some(timeouts=_some(idle=st.just("2m")), tls=st.just({"maxVersion": "1.2"})),
)

telemetry_policies = st.builds(
    lambda target, own: {"targetRefs": [target], **own},
    st.one_of(
        st.just({"group": GATEWAY_API, "kind": "Gateway", "name": "x"}),
        st.just({"group": GATEWAY_API, "kind": "HTTPRoute", "name": "r"}),
        st.fixed_dictionaries({"kind": st.just("Namespace"), "name": namespaces}),
    ),
    _some(
        accessLogs=st.sampled_from(([], [{"grpc": {"backend": {"name": "s", "port": 80}}}])),
        tracing=_some(
            provider=st.sampled_from(
                tuple({kind: {"backend": {"name": "s", "port": 80}}} for kind in ("otlp", "zipkin", "datadog"))
            ),
            sampling=st.just(50),
        ),
        requestId=st.just({"preserve": True}),
    ),
)

_modes = st.sampled_from(("UNSET", "DISABLE", "PERMISSIVE", "STRICT")).map(lambda mode: {"mode": mode})
_selected = st.sampled_from(({"matchLabels": {"version": "v1"}}, {"matchLabels": {"version": "v2"}}))
peer_authentications = st.one_of(
    _modes.map(lambda mode: {"mtls": mode}),
    st.builds(
        lambda selector, mode, port: {"selector": selector, "mtls": mode, "portLevelMtls": {"8080": port}},
        _selected,
        _modes,
        _modes,
    ),
)

_jwt_rules = st.sampled_from(
    (
        [],
        [{"issuer": "a", "jwksUri": "https://a.org/keys"}],
        [
            {"issuer": "b", "jwksUri": "https://b.org/keys", "outputPayloadToHeader": "x-b"},
            {"issuer": "a", "jwksUri": "https://a.org/keys", "audiences": ["x"]},
        ],
    )
)
_token_settings = _some(jwtRules=_jwt_rules, required=st.booleans())
_token_targets = st.one_of(
    st.builds(lambda name: {"kind": "Namespace", "name": name}, namespaces),
    st.builds(lambda name: {"kind": "Service", "name": name}, services),
    st.builds(
        lambda name, part: {"group": GATEWAY_API, "kind": "Gateway", "name": name, **part},
        names,
        st.sampled_from(({}, {"sectionName": "l0"}, {"sectionName": "l1"})),
    ),
    st.builds(
        lambda name, part: {"group": GATEWAY_API, "kind": "HTTPRoute", "name": name, **part},
        st.sampled_from(("r", "q", "p")),
        st.sampled_from(({}, {"sectionName": "first"})),
    ),
)
request_authentications = st.builds(
    lambda settings, over, target: {**settings, **over, "targetRefs": [target]},
    _token_settings,
    _some(overrides=_token_settings),
    _token_targets,
)
key_sets = st.builds(
    lambda uri, row: Change(KEY_SETS, uri, row),
    st.sampled_from(("https://a.org/keys", "https://b.org/keys")),
    st.sampled_from((None, KeySetRow(problem="away"), KeySetRow(NOBODYS_KEYS), KeySetRow(NOBODYS_KEYS, "away"))),
)

_rollout_backends = st.fixed_dictionaries({"name": services}, optional={"port": st.sampled_from((80, 81))})
rollouts = st.builds(
    lambda target, section, stable, canary, more: {
        "targetRef": {**target, **section},
        "stable": stable,
        "canary": canary,
        "steps": [{"weight": 25}],
        **more,
    },
    st.sampled_from(tuple({"kind": kind, "name": name} for kind in ("HTTPRoute", "GRPCRoute") for name in "rq")),
    st.sampled_from(({}, {"sectionName": "0"}, {"sectionName": "1"})),
    _rollout_backends,
    _rollout_backends,
    _some(
        version=st.just("2"),
        cohort=st.lists(
            st.sampled_from(
                (
                    {"header": {"name": "h", "value": "1"}},
                    {"header": {"name": "k", "value": "[12]", "type": "RegularExpression"}},
                    {"cookie": {"name": "c", "value": "1"}},
                )
            ),
            max_size=2,
        ),
    ),
)
_rollout_states = st.builds(
    lambda namespace, name, row: Change(ROLLOUT_STATES, ObjectKey("Rollout", namespace, name), row),
    namespaces,
    names,
    st.none()
    | st.builds(
        RolloutState,
        moves=st.sampled_from(("a", "b")),
        phase=st.sampled_from(("Pending", "Progressing", "Promoted", "RolledBack")),
        step=st.integers(0, 1),
        weight=st.sampled_from((0, 25, 100)),
    ),
)
envoy_patches = st.builds(
    lambda targets, patch: {"targetRefs": targets, "patch": [patch]},
    st.one_of(
        st.builds(
            lambda part: [{"group": GATEWAY_API, "kind": "Gateway", "name": "x", **part}],
            _some(sectionName=st.sampled_from(("l0", "l1"))),
        ),
        st.just([{"group": GATEWAY_API, "kind": kind, "name": "r"} for kind in ("HTTPRoute", "GRPCRoute")]),
        st.builds(lambda name: [{"kind": "Service", "name": name}, {"kind": "Service", "name": "t"}], services),
    ),
    st.sampled_from(
        (
            {"op": "add", "path": "/stat_prefix", "value": "patched"},
            {"op": "add", "path": "/connect_timeout", "value": "7s"},
            {"op": "remove", "path": "/match"},
            {"op": "remove", "path": "/nowhere/at/all"},
        )
    ),
)

declarations = st.one_of(
    _kind("Gateway", names, _spec(gateways)),
    _kind("ListenerSet", names, _spec(listener_sets)),
    _kind("HTTPRoute", st.sampled_from(("r", "q", "p")), _spec(routes)),
    _kind("GRPCRoute", st.sampled_from(("r", "q")), _spec(grpc_routes)),
    _kind("TCPRoute", st.sampled_from(("r", "q")), _spec(stream_routes)),
    _kind("UDPRoute", st.sampled_from(("r", "q")), _spec(stream_routes)),
    _kind("TLSRoute", st.sampled_from(("r", "q")), _spec(tls_routes)),
    _kind("Service", services, _spec(service_specs)),
    _kind("ServiceSubset", services, _spec(subsets)),
    _kind("Backend", services, _spec(backends)),
    _kind("ReferenceGrant", names, _spec(grants)),
    _kind("GatewayParameters", names, _spec(st.sampled_from(({}, {"replicas": 2})))),
    _kind("PeerAuthentication", names, _spec(peer_authentications)),
    _kind("RequestAuthentication", names, _spec(request_authentications)),
    _kind("ClientPolicy", names, _spec(client_policies)),
    _kind("TelemetryPolicy", names, _spec(telemetry_policies)),
    _kind("BackendTLSPolicy", names, _spec(backend_tls_policies)),
    _kind("RoutePolicy", names, _spec(route_policies)),
    _kind("Rollout", names, _spec(rollouts)),
    _kind("TrafficPolicy", names, _spec(traffic_policies)),
    _kind("EnvoyPatch", names, _spec(envoy_patches)),
    _kind("Secret", st.just("cert"), secrets),
    _kind("ConfigMap", st.just("ca"), config_maps),
    _kind("GatewayClass", st.sampled_from(("fairlead", "other")), _controllers),
    _kind("Namespace", namespaces, _labels),
)

_platforms = st.sampled_from(("kubernetes:one", "consul:dc1"))
_discovered = st.builds(
    lambda source, namespace, name, row: Change(
        DISCOVERED_SERVICES, DiscoveredServiceKey(source, namespace, name), row
    ),
    _platforms,
    namespaces,
    services,
    st.none()
    | st.builds(
        DiscoveredService,
        ports=st.sampled_from(((ServicePort("http", 80, "HTTP"),), (ServicePort("other", 80, "TCP"),))),
        export_to=st.sampled_from(((), ("*",), ("blue",))),
    ),
)
_discovered_endpoints = st.builds(
    lambda source, namespace, name, part, row: Change(
        DISCOVERED_ENDPOINTS, DiscoveredEndpointsKey(source, namespace, name, part), row
    ),
    _platforms,
    namespaces,
    services,
    names,
    st.none()
    | st.builds(
        lambda addresses: DiscoveredEndpoints(
            tuple(
                Endpoint(at, (("http", 8080),), (("version", "v1"),), service_account="a", mesh_tls=at.endswith("1"))
                for at in sorted(addresses)
            )
        ),
        st.sets(st.sampled_from(("10.1.0.1", "10.1.0.2")), max_size=2),
    ),
)
_provisioned = st.builds(
    lambda namespace, name, row: Change(PROVISIONED, ProvisionedKey(namespace, name, "kubernetes:one"), row),
    namespaces,
    names,
    st.none() | st.builds(Provisioned, addresses=st.sampled_from(((), ("10.9.0.1",))), ready=st.booleans()),
)
_audiences = st.builds(
    lambda audience, row: Change(AUDIENCES, audience, row),
    st.one_of(
        st.tuples(namespaces, names, st.booleans(), st.sampled_from(("", "a"))).map(
            lambda at: Audience("gateway", *at[:2], sotw=at[2], zone=at[3])
        ),
        st.tuples(namespaces, services, st.booleans()).map(
            lambda at: Audience("sidecar", *at[:2], 80, 15006, 15001, mesh_tls=at[2])
        ),
        st.tuples(namespaces, st.sampled_from(("", "b"))).map(lambda at: Audience("grpc", at[0], zone=at[1])),
    ),
    st.none() | st.just(Connected()),
)

_mesh = st.builds(
    lambda root, patched: Change(MESH, "", MeshSettings(root_namespace=root, envoy_patches=patched)),
    st.sampled_from(("root", "red")),
    st.booleans(),
)

changes = st.one_of(
    declarations,
    declarations,
    declarations,
    _discovered,
    _discovered_endpoints,
    _audiences,
    _provisioned,
    _mesh,
    key_sets,
    _rollout_states,
)


def _declare(kind: str, namespace: str, name: str, spec: dict[str, Any]) -> Change:
    known = KINDS[kind]
    document = {
        "apiVersion": known.api_version,
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }
    item = Declared(msgspec.convert(document, known.struct), "files:1")
    return Change(DECLARED, DeclaredKey(kind, namespace, name, "files"), item)


# A world in which most references lead somewhere, so that random changes to it cut and join them.
BASE = [
    Change(MESH, "", MeshSettings(root_namespace="root", envoy_patches=True)),
    *(
        change
        for namespace in NAMESPACES
        for change in (
            _declare(
                "Gateway",
                namespace,
                "x",
                {
                    "gatewayClassName": "fairlead",
                    "allowedListeners": {"namespaces": {"from": "All"}},
                    "listeners": [
                        {
                            "name": "l0",
                            "port": 80,
                            "protocol": "HTTP",
                            "allowedRoutes": {"namespaces": {"from": "All"}},
                        },
                        {"name": "l1", "port": 80, "protocol": "HTTP", "hostname": "*.a.com"},
                    ],
                },
            ),
            _declare("Service", namespace, "s", {"ports": [{"name": "http", "port": 80}]}),
            _declare(
                "HTTPRoute",
                namespace,
                "r",
                {"parentRefs": [{"name": "x"}], "rules": [{"backendRefs": [{"name": "s", "port": 80}]}]},
            ),
        )
    ),
]
batches = st.lists(st.lists(changes, min_size=1, max_size=6), min_size=1, max_size=8).map(lambda steps: [BASE, *steps])

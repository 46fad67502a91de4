"""Gateway API's own kinds, as random specs."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.support.configs.common import GATEWAY_API, hosts, names, namespaces, services, some

backend_refs = st.fixed_dictionaries(
    {"name": services, "port": st.sampled_from((80, 81))},
    optional={
        "namespace": namespaces,
        "group": st.sampled_from(("", "fairlead.dev")),
        "kind": st.sampled_from(("Service", "ServiceSubset", "Backend")),
        "weight": st.integers(0, 2),
    },
)
matches = some(
    path=st.fixed_dictionaries(
        {"type": st.sampled_from(("Exact", "PathPrefix")), "value": st.sampled_from(("/", "/p", "/p/q"))}
    ),
    method=st.sampled_from(("GET", "POST")),
    headers=st.lists(
        st.fixed_dictionaries({"name": st.sampled_from(("h", "i")), "value": st.sampled_from("12")}), max_size=2
    ),
    queryParams=st.lists(st.fixed_dictionaries({"name": st.just("q"), "value": st.sampled_from("12")}), max_size=1),
)
rules = some(matches=st.lists(matches, max_size=2), backendRefs=st.lists(backend_refs, max_size=2))
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
grpc_matches = some(
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
            some(matches=st.lists(grpc_matches, max_size=2), backendRefs=st.lists(backend_refs, max_size=2)),
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
            "allowedRoutes": some(
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

"""Services, backends, certificates, as random specs."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.support.configs.common import NAMESPACES, services

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

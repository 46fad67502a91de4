"""Policies, rollouts and patches, as random specs."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.support.configs.common import GATEWAY_API, names, namespaces, services, some

_traffic = some(
    timeouts=some(request=st.sampled_from(("1s", "2s")), connect=st.sampled_from(("1s", "3s"))),
    retry=some(attempts=st.integers(0, 2)),
    loadBalancer=some(
        type=st.sampled_from(("LeastRequest", "RoundRobin")),
        subsetFallback=st.just("AnyEndpoint"),
        locality=some(failover=st.just([{"zone": "a"}]), preferSameZone=st.booleans()),
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
            some(sectionName=st.sampled_from(("l0", "l1"))),
        ),
        st.fixed_dictionaries({"kind": st.just("Namespace"), "name": namespaces}),
    ),
    some(
        grpcWeb=st.booleans(),
        compression=st.just({"algorithms": ["gzip"]}),
        directResponse=st.just({"status": 503}),
        extensions=st.just([{"extProc": {"backend": {"name": "s", "port": 80}}}]),
        faultInjection=some(delay=st.just({"fixed": "1s"}), abort=st.just({"httpStatus": 500})),
    ),
)

client_policies = st.builds(
    lambda target, own, over: {"targetRefs": [target], **own, "overrides": over},
    st.one_of(
        st.builds(
            lambda section: {"group": GATEWAY_API, "kind": "Gateway", "name": "x", **section},
            some(sectionName=st.sampled_from(("l0", "l1"))),
        ),
        st.fixed_dictionaries({"kind": st.just("Namespace"), "name": namespaces}),
    ),
    some(
        http3=st.just({"enabled": True}),
        clientAddress=st.just({"trustedHops": 1}),
        proxyProtocol=st.just({"optional": True}),
        timeouts=some(idle=st.just("1m"), request=st.just("1s")),
    ),
    some(timeouts=some(idle=st.just("2m")), tls=st.just({"maxVersion": "1.2"})),
)

telemetry_policies = st.builds(
    lambda target, own: {"targetRefs": [target], **own},
    st.one_of(
        st.just({"group": GATEWAY_API, "kind": "Gateway", "name": "x"}),
        st.just({"group": GATEWAY_API, "kind": "HTTPRoute", "name": "r"}),
        st.fixed_dictionaries({"kind": st.just("Namespace"), "name": namespaces}),
    ),
    some(
        accessLogs=st.sampled_from(([], [{"grpc": {"backend": {"name": "s", "port": 80}}}])),
        tracing=some(
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
_token_settings = some(jwtRules=_jwt_rules, required=st.booleans())
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
    some(overrides=_token_settings),
    _token_targets,
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
    some(
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

envoy_patches = st.builds(
    lambda targets, patch: {"targetRefs": targets, "patch": [patch]},
    st.one_of(
        st.builds(
            lambda part: [{"group": GATEWAY_API, "kind": "Gateway", "name": "x", **part}],
            some(sectionName=st.sampled_from(("l0", "l1"))),
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

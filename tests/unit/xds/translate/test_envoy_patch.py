"""What an EnvoyPatch may make of a message: never a way to read what its writer may not."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from mesh.envoy_patches import PatchInForce
from mesh.kinds.envoypatch import PatchOperation
from mesh.kinds.routepolicy import CredentialInjection, SecretEntry
from mesh.model import ObjectKey
from xds.schema import encode, from_dict, pack, to_dict
from xds.schema.types import Cluster, ClusterHttpProtocolOptions, Listener, Route
from xds.translate.credential_injection import add_credential
from xds.translate.envoy_patch import patched
from xds.translate.json_patch import PatchError

ROUTE = {"name": "r", "match": {"prefix": "/"}, "route": {"cluster": "c"}}
CHOSEN = {"cluster_header": "x-to", "weight": 1}
FILTER = "type.googleapis.com/envoy.extensions.filters.http"


def apply(value: Any, *operations: dict[str, Any]) -> Any:
    made = tuple(msgspec.convert(one, PatchOperation) for one in operations)
    return patched(value, PatchInForce(ObjectKey("EnvoyPatch", "default", "p"), made))


def add(path: str, value: Any) -> dict[str, Any]:
    return {"op": "add", "path": path, "value": value}


def per_route(config: dict[str, Any]) -> dict[str, Any]:
    return add("/typed_per_filter_config", {"envoy.filters.http.some": config})


def test_a_patch_that_fits_makes_a_new_message_and_leaves_the_old_one() -> None:
    route = from_dict(Route, ROUTE)
    before = encode(route)
    made = apply(route, add("/route/timeout", "3s"))
    assert to_dict(made)["route"]["timeout"] == "3s"
    assert encode(route) == before


@pytest.mark.parametrize(
    "operation",
    [
        add("/direct_response", {"status": 200, "body": {"filename": "/var/run/secrets/token"}}),
        add("/direct_response", {"status": 200, "body": {"environment_variable": "TOKEN"}}),
        add("/response_headers_to_add", [{"header": {"key": "x", "value": "%ENVIRONMENT(TOKEN)%"}}]),
        add("/response_headers_to_add", [{"header": {"key": "x", "value": "%file_content(/etc/passwd)%"}}]),
        per_route(
            {
                "@type": f"{FILTER}.lua.v3.LuaPerRoute",
                "source_code": {"inline_string": "function envoy_on_request(r) io.open('/etc/passwd') end"},
            }
        ),
        per_route(
            {
                "@type": "type.googleapis.com/xds.type.v3.TypedStruct",
                "type_url": f"{FILTER}.lua.v3.LuaPerRoute",
                "value": {"source_code": {"inline_string": "x = 1"}},
            }
        ),
        per_route({"@type": "type.googleapis.com/google.protobuf.Struct", "value": {"source_code": {}}}),
    ],
)
def test_nothing_makes_a_proxy_read_files_or_run_code(operation: dict[str, Any]) -> None:
    with pytest.raises(PatchError, match="read or run what its writer may not"):
        apply(from_dict(Route, ROUTE), {"op": "remove", "path": "/route"}, operation)


def test_no_cluster_leads_to_a_socket_file_or_takes_its_endpoints_from_a_file_or_another_server() -> None:
    cluster = from_dict(Cluster, {"name": "c", "type": "EDS", "eds_cluster_config": {"eds_config": {"ads": {}}}})
    for source in (
        {"path_config_source": {"path": "/etc/fairlead/key"}},
        {"api_config_source": {"api_type": "GRPC", "grpc_services": [{"envoy_grpc": {"cluster_name": "mine"}}]}},
    ):
        with pytest.raises(PatchError, match="ConfigSource"):
            apply(cluster, {"op": "replace", "path": "/eds_cluster_config/eds_config", "value": source})
    endpoint = {"endpoint": {"address": {"pipe": {"path": "@envoy-admin"}}}}
    assignment = {"cluster_name": "c", "endpoints": [{"lb_endpoints": [endpoint]}]}
    with pytest.raises(PatchError, match="Pipe"):
        apply(cluster, {"op": "replace", "path": "/type", "value": "STATIC"}, add("/load_assignment", assignment))


def test_what_was_there_before_is_no_fault_of_the_patch() -> None:
    route = from_dict(Route, {**ROUTE, "response_headers_to_add": [{"header": {"key": "x", "value": "%SECRET(a)%"}}]})
    assert apply(route, add("/route/timeout", "3s")).route.timeout.seconds == 3


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "copy", "from": "/filter_chains/0/name", "path": "/stat_prefix"},
        {"op": "move", "from": "/filter_chains/0/name", "path": "/stat_prefix"},
        {"op": "test", "path": "/name", "value": "l"},
    ],
)
def test_where_there_is_a_secret_nothing_is_copied_moved_or_tested(operation: dict[str, Any]) -> None:
    key = {"private_key": {"inline_string": "very secret"}, "certificate_chain": {"inline_string": "public"}}
    tls = {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": {"tls_certificates": [key]},
    }
    chain = {"name": "n", "transport_socket": {"name": "tls", "typed_config": tls}}
    listener = from_dict(Listener, {"name": "l", "filter_chains": [chain]})
    with pytest.raises(PatchError, match="holds a secret") as raised:
        apply(listener, operation)
    assert "very secret" not in str(raised.value)
    assert apply(listener, add("/stat_prefix", "fine")).stat_prefix == "fine"


@pytest.mark.parametrize(
    ("operation", "words"),
    [
        (add("/no_such_field", 1), 'no field named "no_such_field"'),
        (add("/route/timeout", "soon"), "timeout"),
        (add("/route/timeout", {"seconds": 1}), "timeout"),
        (per_route({"@type": "type.googleapis.com/no.Such"}), "no.Such"),
        (per_route({"no": "type"}), "@type"),
        ({"op": "remove", "path": "/match"}, "Envoy would refuse match"),
        ({"op": "replace", "path": "/name", "value": "other"}, "renames"),
        (add("/metadata", {"filter_metadata": {"x": {"big": "x" * 2_000_000}}}), "larger than"),
    ],
)
def test_what_would_be_no_route_any_more_does_not_apply(operation: dict[str, Any], words: str) -> None:
    with pytest.raises(PatchError) as raised:
        apply(from_dict(Route, ROUTE), operation)
    assert words in str(raised.value)


def test_what_is_nested_too_deeply_does_not_apply() -> None:
    value: Any = {"s": "x"}
    for _ in range(400):
        value = {"x": value}
    with pytest.raises(PatchError):
        apply(from_dict(Route, ROUTE), add("/metadata", {"filter_metadata": {"x": value}}))


def test_a_credential_of_another_policy_is_not_to_be_had_by_naming_it() -> None:
    options = ClusterHttpProtocolOptions()
    options.explicit_http_config.http_protocol_options.SetInParent()
    wanted = CredentialInjection(secret=SecretEntry(name="tokens", key="a"))
    add_credential(options, wanted, ObjectKey("RoutePolicy", "shop", "own"))
    cluster = Cluster(name="c")
    cluster.typed_extension_protocol_options["http"].CopyFrom(pack(options))
    credential = "/typed_extension_protocol_options/http/http_filters/0/typed_config/credential/typed_config/credential"
    assert apply(cluster, add("/connect_timeout", "3s")).connect_timeout.seconds == 3
    with pytest.raises(PatchError, match="the credential ~credentials/shop/other"):
        apply(cluster, {"op": "replace", "path": f"{credential}/name", "value": "~credentials/shop/other"})
    filters = to_dict(cluster)["typed_extension_protocol_options"]
    with pytest.raises(PatchError, match="the credential ~credentials/shop/own"):
        apply(Cluster(name="d"), add("/typed_extension_protocol_options", filters))


@pytest.mark.parametrize("name", ["~credentials/a", "~credentials/a/b/c", "~credentials/"])
def test_what_is_named_almost_like_a_credential_does_not_apply_either(name: str) -> None:
    secret = {"name": name, "sds_config": {"ads": {}}}
    tls = {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "common_tls_context": {"tls_certificate_sds_secret_configs": [secret]},
    }
    with pytest.raises(PatchError, match="credential"):
        apply(Cluster(name="c"), add("/transport_socket", {"name": "tls", "typed_config": tls}))


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "replace", "path": "/route/cluster", "value": "shop/bank:80~credential/shop/own"},
        add("/route/request_mirror_policies", [{"cluster": "shop/bank:80~credential/shop/own"}]),
        add("/route/request_mirror_policies", [{"cluster_header": "x-to"}]),
        {"op": "replace", "path": "/route", "value": {"cluster_header": "x-to"}},
        {"op": "replace", "path": "/route", "value": {"weighted_clusters": {"clusters": [CHOSEN]}}},
    ],
)
def test_no_route_goes_where_another_policys_credential_is_added(operation: dict[str, Any]) -> None:
    with pytest.raises(PatchError, match=r"the credential|cluster_header"):
        apply(from_dict(Route, ROUTE), operation)


def test_a_route_of_a_cluster_with_a_credential_can_be_patched() -> None:
    route = from_dict(Route, {**ROUTE, "route": {"cluster": "shop/bank:80~credential/shop/own"}})
    assert apply(route, add("/route/timeout", "3s")).route.timeout.seconds == 3

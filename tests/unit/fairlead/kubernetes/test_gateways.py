from __future__ import annotations

from typing import Any

import msgspec
import pytest

from discovery.kubernetes.provision import BOOTSTRAP, CONFIG_DIR, DRAIN
from fairlead.addresses import Address
from fairlead.errors import UsageError
from fairlead.kubernetes.gateway_pods import files_for
from fairlead.kubernetes.gateways import gateway_address
from fairlead.settings import Settings
from mesh.kinds.gateway import Gateway
from mesh.kinds.gatewayparameters import GatewayParametersSpec

GATEWAY = msgspec.convert(
    {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "edge", "namespace": "shop"},
        "spec": {"gatewayClassName": "fairlead", "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]},
    },
    Gateway,
)


def address(*, inside: bool, **settings: Any) -> tuple[Address, str] | None:
    made = Settings(kubernetes=("in-cluster",), kubernetes_lease="infra/fairlead", xds="0.0.0.0:18000", **settings)
    return gateway_address(made, "infra", inside=inside)


def test_in_its_own_cluster_proxies_reach_the_program_at_its_service() -> None:
    assert address(inside=True) == (Address("fairlead.infra.svc", 18000), "fairlead.infra.svc")
    assert address(inside=True, xds_names=("a.b",)) == (Address("a.b", 18000), "a.b")
    assert address(inside=True, xds_tokens="0.0.0.0:18001") == (
        Address("fairlead.infra.svc", 18001),
        "fairlead.infra.svc",
    )


def test_in_another_cluster_proxies_are_run_only_where_the_address_is_given() -> None:
    assert address(inside=False) is None
    given = address(inside=False, gateway_xds="192.0.2.1:443")
    assert given == (Address("192.0.2.1", 443), "fairlead.infra.svc")
    named = address(inside=False, gateway_xds="192.0.2.1:443", xds_names=("a.b", "192.0.2.1"))
    assert named == (Address("192.0.2.1", 443), "192.0.2.1")


def test_no_proxies_are_run_where_nobody_wants_them_or_they_could_not_come_in() -> None:
    assert address(inside=True, gateway_xds="none") is None
    assert address(inside=True, insecure_xds=True) is None
    with pytest.raises(UsageError, match="no way in"):
        address(inside=True, insecure_xds=True, gateway_xds="a.b:1")
    with pytest.raises(UsageError, match="HOST:PORT"):
        address(inside=True, gateway_xds="a.b")


def test_there_are_no_files_before_there_is_an_authority() -> None:
    assert files_for(Address("a.b", 1), server_name="a.b", ca=lambda: b"")(GATEWAY, GatewayParametersSpec()) is None


def test_a_pod_finds_every_file_that_its_bootstrap_names() -> None:
    files = files_for(Address("a.b", 1), server_name="a.b", ca=lambda: b"PEM")(GATEWAY, GatewayParametersSpec())
    assert files is not None
    assert {BOOTSTRAP, DRAIN} <= files.start.keys()
    for name in files.start:
        if name not in (BOOTSTRAP, DRAIN):
            assert f"{CONFIG_DIR}/{name}" in files.start[BOOTSTRAP]
    node = msgspec.json.decode(files.start[BOOTSTRAP])["node"]
    assert node["metadata"]["fairlead"] == {"kind": "gateway", "namespace": "shop", "name": "edge"}
    assert files.ca == "PEM"
    assert "PEM" not in "".join(files.start.values())

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from fairlead.addresses import Address
from fairlead.bootstraps.bootstrap import (
    Certificates,
    ProxyIdentity,
    Readiness,
    Token,
    envoy_bootstrap,
    grpc_bootstrap,
    token_files,
)
from fairlead.envoy_binary import envoy_command, find_envoy
from mesh.model import Upstream
from tests.support.certificates import Authority

XDS = Address("127.0.0.1", 18000)
EDGE = ProxyIdentity(kind="gateway", name="edge")
CART = ProxyIdentity(kind="sidecar", name="cart", service="cart", port=8080, ingress_port=15006, egress_port=15001)
MTLS = Certificates("/etc/fairlead/proxy.crt", "/etc/fairlead/proxy.key", "/etc/fairlead/ca.crt", "fairlead.example")
TEMPLATES: dict[str, dict[str, Any]] = {
    "gateway.yaml": envoy_bootstrap(EDGE, xds=XDS, admin_port=9901),
    "gateway-sotw.yaml": envoy_bootstrap(EDGE, xds=XDS, admin_port=9901, sotw=True),
    "gateway-mtls.yaml": envoy_bootstrap(
        EDGE, xds=Address("fairlead.example", 18000), admin_port=9901, certificates=MTLS
    ),
    "gateway-token/bootstrap.yaml": envoy_bootstrap(
        EDGE,
        xds=Address("fairlead.fairlead-system.svc", 18000),
        admin_port=9901,
        token=Token("/etc/fairlead", "fairlead.fairlead-system.svc"),
        readiness=Readiness(),
    ),
    **{
        f"gateway-token/{name}": document
        for name, document in token_files(token="/var/run/secrets/fairlead/token", ca="/etc/fairlead/ca.crt").items()
    },
    "sidecar.yaml": envoy_bootstrap(CART, xds=XDS, admin_port=15000),
    "grpc.json": grpc_bootstrap(ProxyIdentity(kind="grpc", name="client"), xds=XDS),
}


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_the_committed_template_is_what_the_command_prints(root: Path, name: str) -> None:
    assert yaml.safe_load((root / "envoy-configs" / name).read_text()) == TEMPLATES[name]


@pytest.mark.envoy
@pytest.mark.parametrize("name", ["gateway.yaml", "gateway-sotw.yaml", "sidecar.yaml", "standalone.yaml"])
def test_envoy_accepts_the_template(root: Path, name: str) -> None:
    path = root / "envoy-configs" / name
    subprocess.run([find_envoy(), "--mode", "validate", "-c", str(path)], check=True, capture_output=True, timeout=60)


@pytest.mark.envoy
def test_envoy_accepts_a_bootstrap_with_a_token_and_a_port_for_probes(tmp_path: Path) -> None:
    for name, document in token_files(token=f"{tmp_path}/token", ca=f"{tmp_path}/ca.crt").items():
        (tmp_path / name).write_text(json.dumps(document))
    (tmp_path / "token").write_text("a.b.c")
    (tmp_path / "ca.crt").write_bytes(Authority(tmp_path).ca.read_bytes())
    bootstrap = envoy_bootstrap(
        EDGE, xds=XDS, admin_port=0, token=Token(str(tmp_path), "fairlead.test"), readiness=Readiness(host="::")
    )
    (tmp_path / "bootstrap.json").write_text(json.dumps(bootstrap))
    command = [find_envoy(), "--mode", "validate", "-c", str(tmp_path / "bootstrap.json")]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


def test_t9_an_envoy_waits_for_its_clusters_and_listeners_without_a_time_limit_and_asks_as_often_as_it_likes() -> None:
    for name in ("gateway.yaml", "gateway-sotw.yaml", "sidecar.yaml"):
        dynamic = TEMPLATES[name]["dynamic_resources"]
        assert {dynamic[kind]["initial_fetch_timeout"] for kind in ("cds_config", "lds_config")} == {"0s"}
        assert "rate_limit_settings" not in dynamic["ads_config"]


def test_a_sidecar_says_which_service_it_stands_beside_and_where() -> None:
    assert CART.node() == {
        "id": "sidecar~default~cart~1",
        "cluster": "cart.default",
        "metadata": {
            "fairlead": {
                "kind": "sidecar",
                "namespace": "default",
                "name": "cart",
                "service": "cart",
                "port": 8080,
                "ingress_port": 15006,
                "egress_port": 15001,
            }
        },
    }


def test_a_sidecar_says_which_ports_on_loopback_stand_for_which_of_services() -> None:
    cart = msgspec.structs.replace(CART, upstreams=(Upstream(5432, "shop", "db", 5433),))
    assert cart.node()["metadata"]["fairlead"]["upstreams"] == ["5432=shop/db:5433"]


def test_the_admin_listener_is_on_loopback_only() -> None:
    for document in TEMPLATES.values():
        if "admin" in document:
            assert document["admin"]["address"]["socket_address"]["address"] == "127.0.0.1"


def test_the_control_planes_certificate_must_carry_the_name_or_the_address_that_was_asked_for() -> None:
    def tls(host: str) -> dict[str, Any]:
        certificates = Certificates("c", "k", "a", host)
        document = envoy_bootstrap(EDGE, xds=Address(host, 1), admin_port=0, certificates=certificates)
        config: dict[str, Any] = document["static_resources"]["clusters"][0]["transport_socket"]["typed_config"]
        return config

    by_name, by_address = tls("cp.example"), tls("10.0.0.1")
    assert by_name["sni"] == "cp.example"
    assert "sni" not in by_address
    names = [
        config["common_tls_context"]["validation_context"]["match_typed_subject_alt_names"]
        for config in (by_name, by_address)
    ]
    assert names == [
        [{"san_type": "DNS", "matcher": {"exact": "cp.example"}}],
        [{"san_type": "IP_ADDRESS", "matcher": {"exact": "10.0.0.1"}}],
    ]


def test_a_grpc_client_with_certificates_uses_them() -> None:
    document = grpc_bootstrap(EDGE, xds=XDS, certificates=MTLS)
    [creds] = document["xds_servers"][0]["channel_creds"]
    assert creds["type"] == "tls"
    assert creds["config"]["ca_certificate_file"] == MTLS.ca


def test_two_envoys_on_one_machine_do_not_meet_unless_asked_to() -> None:
    plain = envoy_command("envoy", {"a": 1}, arguments=["-l", "debug"])
    assert plain == [
        "envoy",
        "--config-yaml",
        json.dumps({"a": 1}, separators=(",", ":")),
        "--disable-hot-restart",
        "-l",
        "debug",
    ]
    assert "--disable-hot-restart" not in envoy_command("envoy", {}, arguments=["--base-id=7"])

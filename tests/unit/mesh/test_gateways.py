from __future__ import annotations

import textwrap

import pytest

from mesh.certificates import KEY_PAIRS, SecretKey
from mesh.gateways import GATEWAYS, Gateway, GatewayKey
from mesh.listeners import GatewayListener
from tests.support.model import Model
from tests.support.secrets import KEY, PEM, secret

EDGE = GatewayKey("default", "edge")


def gateway(*listeners: str, extra: str = "") -> str:
    written = ", ".join(listeners)
    return (
        "{kind: Gateway, metadata: {name: edge}, "
        f"spec: {{gatewayClassName: fairlead, listeners: [{written}]{', ' + extra if extra else ''}}}}}"
    )


def http(name: str, port: int = 80, hostname: str = "") -> str:
    return f"{{name: {name}, port: {port}, protocol: HTTP{f', hostname: {hostname!r}' if hostname else ''}}}"


def https(name: str, secret: str, hostname: str = "", namespace: str = "") -> str:
    ref = f"{{name: {secret}{f', namespace: {namespace}' if namespace else ''}}}"
    host = f", hostname: {hostname!r}" if hostname else ""
    return f"{{name: {name}, port: 443, protocol: HTTPS{host}, tls: {{certificateRefs: [{ref}]}}}}"


def edge(model: Model) -> Gateway:
    row = model.engine.get(GATEWAYS, EDGE)
    assert row is not None
    return row


def conditions(item: GatewayListener | Gateway) -> dict[str, tuple[bool, str]]:
    return {condition.type: (condition.status, condition.reason) for condition in item.conditions}


def listener(model: Model, name: str) -> GatewayListener:
    found = edge(model).listener(name)
    assert found is not None
    return found


def test_a_gateway_of_class_fairlead_is_ours_without_a_gateway_class() -> None:
    model = Model()
    model.apply(gateway(http("http")))
    assert conditions(edge(model)) == {"Accepted": (True, "Accepted"), "Programmed": (True, "Programmed")}
    assert edge(model).service_account == "edge"


def test_a_gateway_class_object_decides_whose_the_gateways_are() -> None:
    model = Model()
    model.apply(gateway(http("http")))
    cls = "{kind: GatewayClass, metadata: {name: fairlead}, spec: {controllerName: CONTROLLER}}"
    model.apply(cls.replace("CONTROLLER", "example.com/other"))
    assert model.engine.get(GATEWAYS, EDGE) is None
    model.apply(cls.replace("CONTROLLER", "fairlead.dev/gateway-controller"))
    assert model.engine.get(GATEWAYS, EDGE) is not None


def test_a_class_of_another_name_is_ours_by_its_controller_only() -> None:
    model = Model()
    model.apply(gateway(http("http")).replace("gatewayClassName: fairlead", "gatewayClassName: edge"))
    assert model.engine.get(GATEWAYS, EDGE) is None
    model.apply("{kind: GatewayClass, metadata: {name: edge}, spec: {controllerName: fairlead.dev/gateway-controller}}")
    assert model.engine.get(GATEWAYS, EDGE) is not None


def test_a_listener_of_an_unknown_protocol_is_refused_and_the_others_live_on() -> None:
    model = Model()
    model.apply(
        gateway(
            http("http"), "{name: odd, port: 81, protocol: example.com/ODD}", "{name: tls, port: 80, protocol: tls}"
        )
    )
    assert conditions(listener(model, "odd"))["Accepted"] == (False, "UnsupportedProtocol")
    assert conditions(listener(model, "tls"))["Accepted"] == (False, "UnsupportedProtocol")
    assert listener(model, "odd").supported_kinds == ()
    assert listener(model, "http").programmed
    assert conditions(edge(model))["Accepted"] == (True, "ListenersNotValid")


def test_a_gateway_with_no_listener_to_serve_is_not_accepted() -> None:
    model = Model()
    model.apply(gateway("{name: odd, port: 81, protocol: example.com/ODD}"))
    assert conditions(edge(model)) == {"Accepted": (False, "ListenersNotValid"), "Programmed": (False, "Invalid")}


def test_listeners_with_one_port_and_hostname_conflict_and_none_wins() -> None:
    model = Model()
    model.apply(gateway(http("a", hostname="a.com"), http("b", hostname="a.com"), http("c", hostname="c.com")))
    for name in "ab":
        assert conditions(listener(model, name))["Conflicted"] == (True, "HostnameConflict")
        assert not listener(model, name).programmed
    assert conditions(listener(model, "c"))["Conflicted"] == (False, "NoConflicts")
    assert listener(model, "c").programmed


def test_two_protocols_on_one_port_conflict() -> None:
    model = Model()
    model.apply(secret("cert"))
    model.apply(gateway(http("plain", 443), https("tls", "cert", "b.com"), http("other", 80)))
    for name in ("plain", "tls"):
        assert conditions(listener(model, name))["Accepted"] == (False, "ProtocolConflict")
    assert listener(model, "other").programmed


def test_the_same_hostname_on_two_ports_is_no_conflict() -> None:
    model = Model()
    model.apply(gateway(http("a", 80, "a.com"), http("b", 81, "a.com")))
    assert all(item.programmed for item in edge(model).listeners)


def test_an_https_listener_serves_with_its_certificate() -> None:
    model = Model()
    model.apply(gateway(https("tls", "cert")))
    assert conditions(listener(model, "tls"))["ResolvedRefs"] == (False, "InvalidCertificateRef")
    assert not listener(model, "tls").programmed
    model.apply(secret("cert"))
    assert listener(model, "tls").programmed
    assert listener(model, "tls").certificates == (SecretKey("default", "cert"),)


@pytest.mark.parametrize(
    "broken",
    [
        secret("cert", crt="Hello world"),
        secret("cert", key="Hello world"),
        secret("cert", crt=KEY),
        secret("cert", key=PEM),
        secret("cert", crt="-----BEGIN CERTIFICATE-----\nHello world\n-----END CERTIFICATE-----"),
        secret("cert", crt="-----BEGIN CERTIFICATE-----\nSGVsbG8=\n-----END CERTIFICATE-----"),
        secret("cert", type_="Opaque"),
        "{kind: Secret, metadata: {name: cert}, type: kubernetes.io/tls}",
        "{kind: Secret, metadata: {name: cert}, type: kubernetes.io/tls, data: {tls.crt: '!', tls.key: '!'}}",
    ],
)
def test_a_malformed_secret_is_an_invalid_certificate_and_the_listener_stays_accepted(broken: str) -> None:
    model = Model()
    model.apply(gateway(https("tls", "cert"), http("http")))
    model.apply(broken)
    found = conditions(listener(model, "tls"))
    assert found["ResolvedRefs"] == (False, "InvalidCertificateRef")
    assert found["Programmed"] == (False, "Invalid")
    assert found["Accepted"] == (True, "Accepted")
    assert listener(model, "http").programmed


def test_a_secret_may_be_written_in_plain_string_data() -> None:
    model = Model()
    pem, key = (textwrap.indent(text, "    ") for text in (PEM, KEY))
    model.apply(
        "kind: Secret\nmetadata: {name: cert}\ntype: kubernetes.io/tls\n"
        f"stringData:\n  tls.crt: |\n{pem}  tls.key: |\n{key}"
    )
    model.apply(gateway(https("tls", "cert")))
    assert listener(model, "tls").programmed


def test_a_renewed_certificate_changes_its_key_pair_and_no_gateway() -> None:
    model = Model()
    model.apply(gateway(https("tls", "cert")))
    model.apply(secret("cert"))
    commit = model.apply(secret("cert", crt=PEM + PEM))
    assert {table.name for table in commit.changes} == {"declared", "objects", "key_pairs"}


def test_a_private_key_never_shows_in_text() -> None:
    model = Model()
    model.apply(secret("cert"))
    row = model.engine.get(KEY_PAIRS, SecretKey("default", "cert"))
    assert row is not None
    assert "MHcC" in row.key.pem.decode()
    assert "MHcC" not in repr(row)
    assert "[redacted]" in repr(row)


def test_a_certificate_in_another_namespace_needs_a_grant_that_names_gateways_of_this_one() -> None:
    model = Model()
    model.apply(secret("cert", "vault"))
    model.apply(gateway(https("tls", "cert", namespace="vault")))
    assert conditions(listener(model, "tls"))["ResolvedRefs"] == (False, "RefNotPermitted")
    grant = """
    kind: ReferenceGrant
    metadata: {name: g, namespace: vault}
    spec:
      from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: FROM}]
      to: [{group: "", kind: Secret, name: NAME}]
    """
    model.apply(grant.replace("FROM", "default").replace("NAME", "another"))
    assert not listener(model, "tls").programmed
    model.apply(grant.replace("FROM", "elsewhere").replace("NAME", "cert"))
    assert not listener(model, "tls").programmed
    model.apply(grant.replace("FROM", "default").replace("NAME", "cert"))
    assert listener(model, "tls").programmed
    model.apply(grant.replace("FROM", "default").replace(", name: NAME", ""))
    assert listener(model, "tls").programmed
    model.delete("ReferenceGrant", "g", "vault")
    assert not listener(model, "tls").programmed


def test_one_good_certificate_among_bad_ones_is_served_and_the_bad_one_is_told() -> None:
    model = Model()
    model.apply(secret("good"))
    refs = "certificateRefs: [{name: bad}, {name: good}, {kind: Other, group: a.com, name: x}]"
    model.apply(gateway(f"{{name: tls, port: 443, protocol: HTTPS, tls: {{{refs}}}}}"))
    found = listener(model, "tls")
    assert found.programmed
    assert found.certificates == (SecretKey("default", "good"),)
    assert conditions(found)["ResolvedRefs"] == (False, "InvalidCertificateRef")


def test_route_kinds_that_a_protocol_does_not_carry_are_left_out_and_told() -> None:
    model = Model()
    kinds = "allowedRoutes: {kinds: [{kind: HTTPRoute}, {kind: TCPRoute}]}"
    only = "allowedRoutes: {kinds: [{kind: TCPRoute}]}"
    model.apply(
        gateway(
            f"{{name: a, port: 80, protocol: HTTP, {kinds}}}",
            f"{{name: b, port: 81, protocol: HTTP, {only}}}",
            http("c", 82),
        )
    )
    assert [kind.kind for kind in listener(model, "a").supported_kinds] == ["HTTPRoute"]
    assert conditions(listener(model, "a"))["ResolvedRefs"] == (False, "InvalidRouteKinds")
    assert listener(model, "a").programmed
    assert listener(model, "b").supported_kinds == ()
    assert not listener(model, "b").programmed
    assert conditions(listener(model, "c"))["ResolvedRefs"] == (True, "ResolvedRefs")


def test_tls_passthrough_is_refused() -> None:
    model = Model()
    model.apply(gateway("{name: a, port: 443, protocol: HTTPS, tls: {mode: Passthrough}}", http("b")))
    assert conditions(listener(model, "a"))["Accepted"] == (False, "UnsupportedValue")


def test_a_gateway_that_asks_for_client_certificates_is_not_served_without_them() -> None:
    model = Model()
    model.apply(secret("cert"))
    ask = "tls: {frontend: {default: {validation: {caCertificateRefs: [{group: '', kind: ConfigMap, name: ca}]}}}}"
    model.apply(gateway(https("tls", "cert"), http("http"), extra=ask))
    assert conditions(listener(model, "tls"))["Accepted"] == (False, "NoValidCACertificate")
    assert conditions(listener(model, "tls"))["ResolvedRefs"] == (False, "InvalidCACertificateRef")
    assert not listener(model, "tls").programmed
    assert listener(model, "http").programmed
    pem = "-----BEGIN CERTIFICATE-----\\nMIIB\\n-----END CERTIFICATE-----\\n"
    model.apply(f'{{kind: ConfigMap, metadata: {{name: ca}}, data: {{ca.crt: "{pem}"}}}}')
    assert listener(model, "tls").programmed
    assert listener(model, "tls").clients is not None


def test_addresses_are_ip_addresses_written_in_one_way() -> None:
    model = Model()
    model.apply(gateway(http("http"), extra="addresses: [{value: '::0001'}, {value: 127.0.0.2}, {type: IPAddress}]"))
    assert edge(model).addresses == ("127.0.0.2", "::1")


@pytest.mark.parametrize("address", ["{type: Hostname, value: a.com}", "{value: a.com}", "{type: a.com/x, value: y}"])
def test_an_address_of_another_kind_refuses_the_gateway(address: str) -> None:
    model = Model()
    model.apply(gateway(http("http"), extra=f"addresses: [{address}]"))
    assert conditions(edge(model)) == {"Accepted": (False, "UnsupportedAddress"), "Programmed": (False, "Invalid")}
    assert not listener(model, "http").programmed
    assert conditions(listener(model, "http"))["Programmed"] == (False, "Invalid")


def test_parameters_of_a_gateway_that_nobody_knows_refuse_it() -> None:
    model = Model()
    model.apply(gateway(http("http"), extra="infrastructure: {parametersRef: {group: a.com, kind: X, name: y}}"))
    assert conditions(edge(model))["Accepted"] == (False, "InvalidParameters")


def test_a_gateway_deleted_and_made_anew_is_the_same() -> None:
    model = Model()
    model.apply(gateway(http("http")))
    before = edge(model)
    model.delete("Gateway", "edge")
    assert model.engine.get(GATEWAYS, EDGE) is None
    model.apply(gateway(http("http")))
    assert edge(model) == before

from __future__ import annotations

from typing import Any

from discovery.kubernetes.secrets import referenced
from mesh.kinds.gatewayclass import CONTROLLER_NAME
from mesh.model import Declared, ObjectKey
from mesh.validation import validate

API = "gateway.networking.k8s.io/v1"


def declared(*raws: dict[str, Any]) -> dict[ObjectKey, Declared]:
    found = {}
    for raw in raws:
        checked = validate(raw)
        assert checked.object is not None, checked.problems
        metadata = checked.object.metadata
        found[ObjectKey(checked.object.kind, metadata.namespace, metadata.name)] = Declared(checked.object)
    return found


def gateway_class(name: str, controller: str = CONTROLLER_NAME) -> dict[str, Any]:
    spec = {"controllerName": controller}
    return {"apiVersion": API, "kind": "GatewayClass", "metadata": {"name": name}, "spec": spec}


def gateway(*references: dict[str, str], class_name: str = "ours") -> dict[str, Any]:
    tls = {"certificateRefs": list(references)}
    listener = {"name": "https", "port": 443, "protocol": "HTTPS", "tls": tls}
    return {
        "apiVersion": API,
        "kind": "Gateway",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"gatewayClassName": class_name, "listeners": [listener]},
    }


def test_the_secrets_that_listeners_of_our_gateways_name_are_read_and_no_others() -> None:
    objects = declared(gateway_class("ours"), gateway({"name": "tls"}, {"name": "tls", "namespace": "certs"}))
    assert referenced(objects) == {ObjectKey("Secret", "shop", "tls"), ObjectKey("Secret", "certs", "tls")}


def test_what_gateways_of_other_controllers_refer_to_is_not_read() -> None:
    assert not referenced(declared(gateway_class("ours", "example.com/other"), gateway({"name": "tls"})))
    assert not referenced(declared(gateway({"name": "tls"})))


def test_without_a_class_of_that_name_gateways_of_class_fairlead_are_ours() -> None:
    objects = declared(gateway({"name": "tls"}, class_name="fairlead"), gateway_class("another"))
    assert referenced(objects) == {ObjectKey("Secret", "shop", "tls")}
    objects |= declared(gateway_class("fairlead", "example.com/other"))
    assert not referenced(objects)


def test_references_to_other_groups_and_kinds_are_not_read() -> None:
    objects = declared(
        gateway_class("ours"), gateway({"name": "tls", "group": "example.com"}, {"name": "tls", "kind": "Vault"})
    )
    assert not referenced(objects)


def test_the_lists_of_certificates_taken_back_that_client_policies_name_are_read() -> None:
    crl = {"configMap": {"name": "revoked", "key": "ca.crl"}}
    target = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "web"}
    rules = {"tls": {"clientValidation": {"crl": crl}}}
    other = {"tls": {"clientValidation": {"crl": {"configMap": {"name": "more", "key": "ca.crl"}}}}}
    raw = {
        "apiVersion": "fairlead.dev/v1alpha1",
        "kind": "ClientPolicy",
        "metadata": {"name": "edge", "namespace": "shop"},
        "spec": {"targetRefs": [target], **rules, "overrides": other},
    }
    assert referenced(declared(raw)) == {ObjectKey("ConfigMap", "shop", name) for name in ("revoked", "more")}


def test_the_secrets_of_credentials_are_read_in_their_policys_namespace() -> None:
    entry = {"secret": {"name": "tokens", "key": "a"}}
    policy = {
        "apiVersion": "fairlead.dev/v1alpha1",
        "kind": "RoutePolicy",
        "metadata": {"name": "token", "namespace": "shop"},
        "spec": {
            "targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "billing"}],
            "credentialInjection": entry,
            "overrides": {"credentialInjection": {"secret": {"name": "others", "key": "a"}}},
        },
    }
    assert referenced(declared(policy)) == {
        ObjectKey("Secret", "shop", "tokens"),
        ObjectKey("Secret", "shop", "others"),
    }

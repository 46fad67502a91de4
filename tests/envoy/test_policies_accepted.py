"""Whatever validation lets through, a real Envoy takes: random policies, each on a target of its own."""

from __future__ import annotations

import json
import random
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mesh.kinds.meta import Object
from mesh.model import AUDIENCES, MESH, Connected, MeshSettings
from mesh.problems import Report
from mesh.tables import Change, Engine
from mesh.validations.cel import check_condition
from mesh.validations.formats import COMMANDS, check_format
from tests.support.certificates import Authority
from tests.support.conditions import CONDITIONS, mutated
from tests.support.descriptors import CART, cart_base64
from tests.support.model import declared, objects
from tests.support.random_objects import Maker
from tests.support.routing import EDGE, document, gateway, route, service
from tests.support.secrets import secret
from tests.support.static_bootstrap import static_bootstrap
from tests.support.static_envoy import ENVOY
from xds.translate.offline import translated
from xds.translate.tables import TABLES

pytestmark = pytest.mark.envoy

BATCH = 250
EXTENSIONS = (
    [],
    [{"lua": {"inline": "function envoy_on_request(handle) end"}}],
    [{"extProc": {"backend": {"name": "echo", "port": 80}, "requestBody": "Streamed", "failOpen": True}}],
    [{"extProc": {"backend": {"name": "gone", "port": 80}}}, {"lua": {"inline": "a = 1"}}],
)
TOKENS = document("Secret", "tokens", {}).replace('"spec": {}', '"stringData": {"a": "s3cret"}')
HASHES: dict[str, Callable[[random.Random], Any]] = {
    "spkiHashes": lambda _: ["A" * 43 + "="],
    "certificateHashes": lambda _: ["0aF9" * 16],
}
LISTENERS = 64  # the most that a Gateway has
_OTHER = re.compile("~(credential|failover)/")


def _failover(luck: random.Random) -> Any:
    return {"backendRefs": [{"name": f"s{at}", "port": 80} for at in luck.sample(range(60), luck.randint(1, 3))]}


@pytest.mark.parametrize("seed", range(8))
def test_two_thousand_random_traffic_policies_make_clusters_that_envoy_takes(seed: int, tmp_path: Path) -> None:
    known = {"overrides": lambda _: None, "path": lambda _: "/healthz", "failover": _failover}
    maker = Maker("TrafficPolicy", seed, known)
    text = gateway(10000)
    policies: list[Object] = []
    for number in range(BATCH):
        name = f"s{number}"
        protocol = ("HTTP", "HTTP2", "GRPC", "TCP")[number % 3]
        text += service(name, 8080, 8081, protocol=protocol)
        text += route(f"\n  - backendRefs: [{{name: {name}, port: 80}}]", hosts=f"[{name}.example.com]", name=name)
        policies.append(maker.object(name, targetRefs=[{"kind": "Service", "name": name}]))
    _accepted(text, policies, tmp_path, clusters=BATCH)


@pytest.mark.parametrize("seed", range(4))
def test_a_thousand_random_route_policies_make_routes_that_envoy_takes(seed: int, tmp_path: Path) -> None:
    patterns = ("^/a", "/(x|y)/(.*)$", "[a-z]{1,5}")
    known = {
        "overrides": lambda _: None,
        "matchCookies": lambda _: None,  # of a named rule alone
        "pattern": lambda luck: luck.choice(patterns),
        "descriptor": lambda _: {"inline": cart_base64()},
        "services": lambda _: [CART],
        "extensions": lambda luck: luck.choice(EXTENSIONS),
        "secret": lambda _: {"name": "tokens", "key": "a"},
        "redirectTo": lambda luck: luck.choice(("/elsewhere", "https://example.com/100%25")),
    }
    maker = Maker("RoutePolicy", seed, known)
    text = gateway(10000) + service("echo", 8080) + TOKENS
    policies: list[Object] = []
    for number in range(BATCH):
        name = f"r{number}"
        text += route("\n  - backendRefs: [{name: echo, port: 80}]", hosts=f"[{name}.example.com]", name=name)
        target = {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": name}
        policies.append(maker.object(name, targetRefs=[target]))
    _accepted(
        text, policies, tmp_path, clusters=2
    )  # of `echo`, and as a processor is spoken to; beside those with credentials


@pytest.mark.parametrize("seed", range(8))
def test_five_hundred_random_client_policies_make_listeners_that_envoy_takes(seed: int, tmp_path: Path) -> None:
    ranges = ("10.0.0.0/8", "192.0.2.1/32", "fd00::/8", "2001:db8::1")
    known = {**HASHES, "overrides": lambda _: None, "trustedCidrs": lambda luck: [luck.choice(ranges)]}
    maker = Maker("ClientPolicy", seed, known)
    listeners: list[dict[str, Any]] = []
    policies: list[Object] = []
    for number in range(LISTENERS):
        listener: dict[str, Any] = {
            "name": f"l{number}",
            "port": 10_000 + number,
            "protocol": ("HTTP", "HTTPS", "TCP")[number % 3],
        }
        if listener["protocol"] == "HTTPS":
            listener["tls"] = {"certificateRefs": [{"name": "cert"}]}
        listeners.append(listener)
        target = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge", "sectionName": f"l{number}"}
        policies.append(maker.object(f"p{number}", targetRefs=[target]))
    pair = Authority(tmp_path).server("cert")
    text = secret("cert", crt=pair.cert.read_text(), key=pair.key.read_text()) + "\n---\n"
    held = {"metadata": {"name": "ca"}, "data": {"ca.crt": pair.cert.read_text()}}
    text += json.dumps({"kind": "ConfigMap", **held}) + "\n---\n"
    validation = {"caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "ca"}]}
    # Where clients are asked for certificates there is no HTTP/3.
    judged = [{"port": 10_000 + number, "tls": {"validation": validation}} for number in range(1, LISTENERS, 6)]
    frontend = {"frontend": {"default": {}, "perPort": judged}}
    spec = {"gatewayClassName": "fairlead", "listeners": listeners, "tls": frontend}
    text += document("Gateway", "edge", spec)
    _accepted(text, policies, tmp_path, clusters=0)


@pytest.mark.parametrize("seed", range(4))
def test_random_telemetry_policies_make_listeners_and_routes_that_envoy_takes(seed: int, tmp_path: Path) -> None:
    formats = ("%DURATION%", "plain", "%REQ(x-a?:PATH)% %%", "%START_TIME(%s)%")
    known = {
        "overrides": lambda _: None,
        "backend": lambda luck: {"name": "collector", "port": luck.choice([80, 81])},
        "path": lambda _: "/dev/null",  # a file that cannot be opened is refused, and nobody here knows that
        "text": lambda luck: luck.choice(formats),
        "json": lambda luck: {"a": luck.choice(formats)},
        "expression": lambda luck: luck.choice(CONDITIONS),
    }
    maker = Maker("TelemetryPolicy", seed, known)
    tags = {**known, "tags": lambda luck: {"a": luck.choice(formats)}, "tracing": lambda _: None}
    counting = Maker("TelemetryPolicy", seed, tags)
    listeners: list[dict[str, Any]] = []
    policies: list[Object] = []
    for number in range(LISTENERS):
        listeners.append({"name": f"l{number}", "port": 10_000 + number, "protocol": "HTTP"})
        target = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge", "sectionName": f"l{number}"}
        policies.append((counting if number % 4 == 0 else maker).object(f"p{number}", targetRefs=[target]))
    text = document("Gateway", "edge", {"gatewayClassName": "fairlead", "listeners": listeners})
    text += service("collector", 4317)
    _accepted(text, policies, tmp_path, clusters=None)


def test_envoy_takes_every_condition_that_validation_lets_through(tmp_path: Path) -> None:
    conditions = [*CONDITIONS, *(text for text in mutated(7, 6000) if _is_condition(text))]
    assert len(CONDITIONS) * 2 < len(conditions) < 8 * LISTENERS
    listeners, text = [], ""
    for at in range(0, len(conditions), 8):  # the most access logs that a policy has
        name = f"l{at}"
        listeners.append({"name": name, "port": 10_000 + at, "protocol": "HTTP"})
        target = {"group": GATEWAY_API, "kind": "Gateway", "name": "edge", "sectionName": name}
        logs = [{"stdout": True, "only": {"expression": one}} for one in conditions[at : at + 8]]
        text += document("TelemetryPolicy", name, {"targetRefs": [target], "accessLogs": logs})
    text += document("Gateway", "edge", {"gatewayClassName": "fairlead", "listeners": listeners})
    _accepted(text, [], tmp_path, clusters=0)


def test_envoy_takes_every_command_that_validation_lets_through(tmp_path: Path) -> None:
    arguments = (
        "",
        "()",
        "(a)",
        "(A?b)",
        "(A?:b?C)",
        "(:path)",
        "(?a)",
        "(a:b)",
        "(a:b:c)",
        "(:)",
        "(a::b)",
        "(a.b_c-d)",
    )
    arguments += ("(a:PLAIN)", "(a:TYPED)", "(a:FIELD:x)", "(a:FIELD)", "(a b)", "(é)", "(1)")
    names = sorted({*COMMANDS, "TRAILER", "FILE_CONTENT", "CEL", "UNKNOWN"})
    commands = [f"%{name}{each}{cut}%" for name in names for each in arguments for cut in ("", ":0", ":9999", ":99999")]
    logged, shown = (
        [text for text in commands if _is_format(text, logs=logs, by_route=not logs)] for logs in (True, False)
    )
    assert len(commands) > len(logged) > len(shown) > 100
    text = gateway(10_000) + service("echo", 8080)
    listener = {"group": GATEWAY_API, "kind": "Gateway", "name": "edge"}
    logs = [
        {"stdout": True, "json": {f"f{number}": each for number, each in enumerate(logged[at : at + 64])}}
        for at in range(0, len(logged), 64)
    ]
    assert len(logs) <= 8
    text += document("TelemetryPolicy", "logs", {"targetRefs": [listener], "accessLogs": logs})
    for at in range(0, len(shown), 16):
        name = f"r{at}"
        text += route("\n  - backendRefs: [{name: echo, port: 80}]", hosts=f"[{name}.example.com]", name=name)
        headers = [{"name": f"x-{number}", "value": each} for number, each in enumerate(shown[at : at + 16])]
        target = {"group": GATEWAY_API, "kind": "HTTPRoute", "name": name}
        text += document("RoutePolicy", name, {"targetRefs": [target], "headers": {"response": {"set": headers}}})
    _accepted(text, [], tmp_path, clusters=1)


def _is_format(text: str, **of: bool) -> bool:
    report = Report()
    check_format(text, "at", report, **of)
    return not report.problems


def _is_condition(text: str) -> bool:
    report = Report()
    check_condition(text, "at", report)
    return not report.problems


JWKS = '{"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}'
GATEWAY_API = "gateway.networking.k8s.io"


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=[pytest.mark.faults, pytest.mark.timeout(300)]) for seed in range(1, 12))]
)
def test_random_policies_of_all_kinds_together_make_what_envoy_takes(seed: int, tmp_path: Path) -> None:
    """Each Service, route and listener has policies of its own, under those of its Gateway and its namespace.

    With all the seeds these are 2,000 objects.
    """
    count = 40
    formats = ("%DURATION%", "plain", "%REQ(x-a?:PATH)% %%")
    common = {"overrides": lambda _: None}
    makers = {
        "TrafficPolicy": Maker("TrafficPolicy", seed, {"path": lambda _: "/healthz", "failover": _failover}),
        "RoutePolicy": Maker(
            "RoutePolicy",
            seed,
            {
                "matchCookies": lambda _: None,
                "pattern": lambda luck: luck.choice(("^/a", "[a-z]{1,5}")),
                "descriptor": lambda _: {"inline": cart_base64()},
                "services": lambda _: [CART],
                "extensions": lambda luck: luck.choice(EXTENSIONS),
                "host": lambda _: None,
                "secret": lambda _: {"name": "tokens", "key": "a"},
                "redirectTo": lambda _: "/elsewhere",
            },
        ),
        "ClientPolicy": Maker("ClientPolicy", seed, {**HASHES, "trustedCidrs": lambda _: ["10.0.0.0/8"]}),
        "TelemetryPolicy": Maker(
            "TelemetryPolicy",
            seed,
            {
                "backend": lambda _: {"name": "collector", "port": 80},
                "path": lambda _: "/dev/null",
                "text": lambda luck: luck.choice(formats),
                "json": lambda luck: {"a": luck.choice(formats)},
                "expression": lambda luck: luck.choice(CONDITIONS),
                "metrics": lambda _: None,
            },
        ),
        "RequestAuthentication": Maker(
            "RequestAuthentication", seed, {**common, "jwks": lambda _: JWKS, "jwksUri": lambda _: None}
        ),
    }
    listeners = [{"name": f"l{number}", "port": 10_000 + number, "protocol": "HTTP"} for number in range(8)]
    text = document("Gateway", "edge", {"gatewayClassName": "fairlead", "listeners": listeners})
    text += service("collector", 4317) + TOKENS
    places: list[tuple[str, dict[str, Any]]] = []
    for kind in makers:
        places.append((kind, {"kind": "Namespace", "name": "default"}))
        if kind != "TrafficPolicy":
            places.append((kind, {"group": GATEWAY_API, "kind": "Gateway", "name": "edge"}))
    for listener in listeners:
        at = {"group": GATEWAY_API, "kind": "Gateway", "name": "edge", "sectionName": listener["name"]}
        places += [(kind, at) for kind in ("ClientPolicy", "TelemetryPolicy", "RoutePolicy", "RequestAuthentication")]
    for number in range(count):
        name = f"s{number}"
        text += service(name, 8080, 8081, protocol=("HTTP", "HTTP2", "GRPC")[number % 3])
        text += route(f"\n  - backendRefs: [{{name: {name}, port: 80}}]", hosts=f"[{name}.example.com]", name=name)
        at = {"group": GATEWAY_API, "kind": "HTTPRoute", "name": name}
        places += [(kind, at) for kind in ("RoutePolicy", "RequestAuthentication")]
        places.append(("TrafficPolicy", {"kind": "Service", "name": name}))
    policies = [makers[kind].object(f"p{at}", targetRefs=[target]) for at, (kind, target) in enumerate(places)]
    assert len(policies) > 150
    _accepted(text, policies, tmp_path, clusters=None)


def _accepted(text: str, policies: list[Object], directory: Path, *, clusters: int | None) -> None:
    engine = Engine(TABLES)
    changes = [declared(each) for each in [*objects(text.rstrip().removesuffix("---")), *policies]]
    engine.commit([*changes, Change(MESH, "", MeshSettings(route_code=True)), Change(AUDIENCES, EDGE, Connected())])
    assert engine.faults == {}
    bootstrap: dict[str, Any] = static_bootstrap(translated(engine, EDGE), admin_port=0)
    made = [one["name"] for one in bootstrap["static_resources"]["clusters"] if one["name"].startswith("default/")]
    assert clusters is None or len([name for name in made if not _OTHER.search(name)]) == clusters
    config = directory / "bootstrap.json"
    config.write_text(json.dumps(bootstrap))
    command = [str(ENVOY), "--mode", "validate", "-c", str(config), "-l", "error"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr

"""Users' own code on a route: what it does, what it cannot reach, and that nothing passes where it cannot be had."""

from __future__ import annotations

import base64
import http.client
import json
from pathlib import Path
from typing import Any

import pytest

from fairlead.processes import Children
from fairlead.processes import free_port as port_of
from mesh.model import AUDIENCES, MESH, Connected, MeshSettings
from mesh.tables import Change, Engine
from tests.envoy.test_envoy_patch import put, put_shop
from tests.envoy.test_route_policy import policy, raw, rules
from tests.support.dynamic_module import SEARCH_PATH, built
from tests.support.ext_proc import processor
from tests.support.model import declared, objects
from tests.support.programs import Serving, ask, reached, start_backend, start_envoy, start_serve
from tests.support.routing import EDGE, Server, document, gateway, get, route, service, serving
from tests.support.static_bootstrap import static_bootstrap
from tests.support.static_envoy import free_port, running
from tests.support.wasm import module
from xds.translate.offline import translated
from xds.translate.tables import TABLES

pytestmark = pytest.mark.envoy

HOST = "shop.example.com"
MARK = "function envoy_on_response(handle) handle:headers():add('x-lua', '{0}') end"


def with_code(text: str) -> dict[str, Any]:
    engine = Engine(TABLES)
    changes = [declared(each) for each in objects(text.rstrip().removesuffix("---"))]
    code = Change(MESH, "", MeshSettings(route_code=True))
    engine.commit([*changes, code, Change(AUDIENCES, EDGE, Connected())])
    assert engine.faults == {}
    return static_bootstrap(translated(engine, EDGE), admin_port=0)


@pytest.mark.shows("RoutePolicy.extensions.lua", "inline", "configMap.name", "configMap.key")
def test_scripts_of_a_route_run_in_order_for_that_route_alone(tmp_path: Path, backend: Server) -> None:
    port = free_port()
    text = gateway(port) + service("echo", backend.server_port) + route(rules("scripted", "plain"))
    text += document("ConfigMap", "scripts", {}).replace('"spec": {}', f'"data": {{"a.lua": "{MARK.format("two")}"}}')
    scripts = [{"lua": {"inline": MARK.format("one")}}, {"lua": {"configMap": {"name": "scripts", "key": "a.lua"}}}]
    with running(with_code(text + policy("scripted", extensions=scripts)), tmp_path):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/", headers={"host": "a.example.com", "rule": "scripted"})
        answer = connection.getresponse()
        # An answer passes them in the opposite order.
        assert (answer.status, answer.headers.get_all("x-lua")) == (200, ["two", "one"])
        connection.close()
        assert "x-lua" not in get(port, "/", rule="plain")[1]


def test_a_script_reaches_nothing_of_the_proxys_machine(tmp_path: Path, backend: Server) -> None:
    port = free_port()
    names = "io os package require module debug load loadstring loadfile dofile ffi jit getfenv setfenv newproxy"
    tried = " ".join(f"tell('{name}', {name})" for name in names.split())
    script = f"""
        local found = ''
        local function tell(name, value) if value ~= nil then found = found .. name .. ' ' end end
        {tried}
        tell('dump', string.dump)
        tell('dump too', ('').dump)
        tell('loaded', _G['package'])
        function envoy_on_response(handle) handle:headers():add('x-found', found) end
    """
    text = gateway(port) + service("echo", backend.server_port) + route(rules("scripted"))
    with running(with_code(text + policy("scripted", extensions=[{"lua": {"inline": script}}])), tmp_path):
        status, headers, _ = get(port, "/", rule="scripted")
        assert (status, headers["x-found"].strip()) == (200, "")


def test_without_the_setting_a_scripted_route_answers_500_and_others_serve(tmp_path: Path, backend: Server) -> None:
    port = free_port()
    text = gateway(port) + service("echo", backend.server_port) + route(rules("scripted", "plain"))
    with serving(text + policy("scripted", extensions=[{"lua": {"inline": MARK}}]), tmp_path):
        assert get(port, "/", rule="scripted")[0] == 500
        assert get(port, "/", rule="plain")[0] == 200
    assert len(backend.seen) == 1


@pytest.mark.shows(
    "RoutePolicy.extensions.extProc", "backend.name", "backend.port", "responseHeaders", "messageTimeout"
)
def test_a_processor_changes_requests_and_answers_and_refuses(tmp_path: Path, backend: Server) -> None:
    port = free_port()
    with processor() as beside:
        text = gateway(port) + service("echo", backend.server_port) + service("beside", beside.port)
        text += route(rules("processed", "bodies", "patient", "plain"))
        asked = {"backend": {"name": "beside", "port": 80}, "responseHeaders": True}
        text += policy("processed", extensions=[{"extProc": {**asked, "messageTimeout": "5s"}}])
        bodies = {"backend": {"name": "beside", "port": 80}, "requestBody": "Buffered", "messageTimeout": "5s"}
        text += policy("bodies", extensions=[{"extProc": bodies}])
        text += policy("patient", extensions=[{"extProc": {**asked, "messageTimeout": "100ms"}}])
        with serving(text, tmp_path):
            status, headers, echoed = get(port, "/here", rule="processed")
            assert (status, headers["x-answered"], echoed["headers"]["x-processed"]) == (200, "yes", "/here")
            status, _, body = raw(port, "/refused", rule="processed")
            assert (status, body) == (403, b"not here")
            _, headers, echoed = get(port, "/here", rule="plain")
            assert "x-answered" not in headers
            assert "x-processed" not in echoed["headers"]
            assert raw(port, "/x", "POST", b"small", rule="bodies")[0] == 200
            assert get(port, "/slow", rule="patient")[0] == 504
            beside.released.set()


@pytest.mark.shows("RoutePolicy.extensions.wasm", "configMap.name", "configMap.key", "file", "failOpen")
def test_a_module_runs_from_a_config_map_or_a_file_and_a_crash_lets_nothing_pass_unless_it_may(
    tmp_path: Path, backend: Server
) -> None:
    port, file = free_port(), tmp_path / "module.wasm"
    file.write_bytes(module())
    held = {"good.wasm": base64.b64encode(module()).decode()}
    held["bad.wasm"] = base64.b64encode(module(crashing=True)).decode()
    text = gateway(port) + service("echo", backend.server_port) + route(rules("held", "filed", "closed", "open"))
    text += document("ConfigMap", "code", {}).replace('"spec": {}', f'"binaryData": {json.dumps(held)}')
    bad = {"configMap": {"name": "code", "key": "bad.wasm"}}
    text += policy("held", extensions=[{"wasm": {"configMap": {"name": "code", "key": "good.wasm"}}}])
    text += policy("filed", extensions=[{"wasm": {"file": str(file), "config": "x"}}])
    text += policy("closed", extensions=[{"wasm": bad}])
    text += policy("open", extensions=[{"wasm": {**bad, "failOpen": True}}])
    with running(with_code(text), tmp_path):
        for rule in ("held", "filed"):
            status, headers, _ = get(port, "/", rule=rule)
            assert (status, headers["x-wasm"]) == (200, "yes")
        get(port, "/", rule="open")  # the one during which it crashes
        assert get(port, "/", rule="open")[0] == 200
        for _ in range(2):
            assert get(port, "/", rule="closed")[0] in (500, 503)


def test_what_follows_an_extension_that_held_a_request_back_is_not_passed_by(tmp_path: Path, backend: Server) -> None:
    port = free_port()
    with processor() as beside:
        text = gateway(port) + service("echo", backend.server_port) + service("beside", beside.port)
        text += route(rules("all"), hosts="['*.example.com']")
        asked = {"backend": {"name": "beside", "port": 80}, "messageTimeout": "5s"}
        script = "function envoy_on_request(handle) handle:headers():add('x-lua', 'after') end"
        extensions = [{"extProc": asked}, {"lua": {"inline": script}}, {"extProc": asked}]
        fault = {"delay": {"fixed": "20ms"}}
        with running(with_code(text + policy("all", extensions=extensions, faultInjection=fault)), tmp_path):
            _, _, echoed = get(port, "/here", rule="all")
            assert (echoed["headers"]["x-processed"], echoed["headers"]["x-lua"]) == ("/here", "after")


def test_a_body_is_counted_and_kept_whole_while_a_processor_holds_the_request_back(
    tmp_path: Path, backend: Server
) -> None:
    port, most = free_port(), 2_000_000
    with processor() as beside:
        text = gateway(port) + service("echo", backend.server_port) + service("beside", beside.port)
        text += route(rules("all"), hosts="['*.example.com', a.example.org]")
        asked = {"backend": {"name": "beside", "port": 80}, "messageTimeout": "5s"}
        override = [{"statuses": ["413"], "body": "too much"}]
        text += policy(
            "all", extensions=[{"extProc": asked}], requestBuffer={"maxBytes": most}, responseOverrides=override
        )
        with serving(text, tmp_path):
            for host in ("a.example.com", "a.example.org"):
                assert raw(port, "/", "POST", b"x" * most, host=host, rule="all")[0] == 200
                status, _, body = raw(port, "/", "POST", b"x" * (most + 1), host=host, rule="all")
                assert (status, body) == (413, b"too much")
    assert [one["headers"]["content-length"] for one in backend.seen] == [str(most)] * 2
    assert all(one["headers"]["x-processed"] == "/" for one in backend.seen)


def test_a_wildcards_host_has_its_scripts_and_modules_and_goes_without_grpc_web(
    tmp_path: Path, backend: Server
) -> None:
    port, file = free_port(), tmp_path / "module.wasm"
    file.write_bytes(module())
    text = gateway(port) + service("echo", backend.server_port)
    text += route(rules("coded", "plain"), hosts="['*.example.com', a.example.org]")
    code = [{"lua": {"inline": MARK.format("yes")}}, {"wasm": {"file": str(file)}}]
    text += policy("coded", extensions=code, grpcWeb=False)
    with running(with_code(text), tmp_path):
        for host in ("a.example.com", "A.Example.com", "a.example.org"):
            for rule, found, arrives in (("coded", ("yes", "yes"), "grpc-web+proto"), ("plain", (None, None), "grpc")):
                sent = {"host": host, "rule": rule, "content_type": "application/grpc-web+proto"}
                _, headers, _ = raw(port, "/", "POST", b"12345", **sent)
                assert (headers.get("x-lua"), headers.get("x-wasm")) == found
                assert backend.seen[-1]["headers"]["content-type"] == f"application/{arrives}"


@pytest.mark.shows("RoutePolicy.extensions.extProc", "failOpen")
def test_where_a_processor_is_away_requests_fail_unless_they_may_pass(tmp_path: Path, backend: Server) -> None:
    port, nobody = free_port(), free_port()
    text = gateway(port) + service("echo", backend.server_port) + service("beside", nobody)
    text += route(rules("closed", "open", "absent"))
    asked = {"backend": {"name": "beside", "port": 80}}
    text += policy("closed", extensions=[{"extProc": asked}])
    text += policy("open", extensions=[{"extProc": {**asked, "failOpen": True}}])
    text += policy("absent", extensions=[{"extProc": {"backend": {"name": "nowhere", "port": 80}}}])
    with serving(text, tmp_path):
        assert get(port, "/", rule="closed")[0] == 500
        assert get(port, "/", rule="open")[0] == 200
        assert get(port, "/", rule="absent")[0] == 500
    assert len(backend.seen) == 1


def put_coded_and_plain(serving: Serving) -> dict[str, str]:
    """A route with a rule for code and one without; the target that names the first."""
    both = [
        {"name": "coded", "matches": [{"path": {"value": "/coded"}}], "backendRefs": [{"name": "shop", "port": 80}]},
        {"name": "plain", "backendRefs": [{"name": "shop", "port": 80}]},
    ]
    put(serving, "HTTPRoute", "httproutes", "shop", {"parentRefs": [{"name": "edge"}], "rules": both})
    return {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "shop", "sectionName": "coded"}


def test_code_that_envoy_refuses_stops_its_own_route_and_nothing_else(children: Children) -> None:
    port = port_of()
    serving = start_serve(children, "--route-code")
    put_shop(serving, start_backend(children, "shop"), port)
    target = put_coded_and_plain(serving)
    wrong = {"targetRefs": [target], "extensions": [{"lua": {"inline": "this is no Lua"}}]}
    put(serving, "RoutePolicy", "routepolicies", "code", wrong)
    start_envoy(children, "gateway", "edge", xds=serving.xds)
    children.wait_until(lambda: reached(port, HOST), what="the other rule")
    assert ask(port, HOST, "/coded").status == 500
    children.wait_until(lambda: "refused" in _programmed(serving), what="the verdict")
    good = {"targetRefs": [target], "extensions": [{"lua": {"inline": MARK.format("good")}}]}
    put(serving, "RoutePolicy", "routepolicies", "code", good)
    children.wait_until(lambda: get(port, "/coded", HOST)[1].get("x-lua") == "good", what="the mended code")
    bad = {"targetRefs": [target], "extensions": [{"wasm": {"file": "/nowhere/x.wasm"}}]}
    put(serving, "RoutePolicy", "routepolicies", "code", bad)
    children.wait_until(lambda: ask(port, HOST, "/coded").status == 500, what="the absent module", timeout=30)
    assert ask(port, HOST).status == 200


def test_a_script_can_lead_to_another_route_whose_filters_are_awake(tmp_path: Path, backend: Server) -> None:
    port = free_port()
    text = gateway(port) + service("echo", backend.server_port)
    text += route(rules("led", "kept"), hosts="['*.example.com', a.example.org]")
    script = "function envoy_on_request(handle) handle:headers():replace('rule', 'kept') handle:clearRouteCache() end"
    text += policy("led", extensions=[{"lua": {"inline": script}}])
    text += policy("kept", sessionAffinity={"cookie": {"name": "mine"}})
    with running(with_code(text), tmp_path):
        for host in ("a.example.com", "a.example.org"):
            assert "mine" in get(port, "/", host, rule="led")[1]["set-cookie"]


@pytest.mark.shows("RoutePolicy.extensions.dynamicModule", "name", "filter", "config")
def test_a_dynamic_module_runs_for_its_route_however_its_host_is_found(
    tmp_path: Path, backend: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SEARCH_PATH, str(built(tmp_path / "modules")))
    port = free_port()
    text = gateway(port) + service("echo", backend.server_port)
    text += route(rules("marked", "named", "plain"), hosts="['*.example.com', a.example.org]")
    text += policy("marked", extensions=[{"dynamicModule": {"name": "mark", "filter": "f", "config": "yes"}}])
    text += policy("named", extensions=[{"dynamicModule": {"name": "mark", "filter": "f"}}])
    with running(with_code(text), tmp_path):
        for host in ("a.example.com", "A.Example.com", "a.example.org"):
            for rule, found in (("marked", "yes"), ("named", "f"), ("plain", None)):
                _, headers, arrived = get(port, "/", host, rule=rule)
                assert (headers.get("x-module"), arrived["headers"].get("x-module")) == (found, found)


def test_a_dynamic_module_that_cannot_be_had_stops_its_own_route_and_nothing_else(
    children: Children, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SEARCH_PATH, str(built(tmp_path / "modules")))
    port = port_of()
    serving = start_serve(children, "--route-code")
    put_shop(serving, start_backend(children, "shop"), port)
    target = put_coded_and_plain(serving)

    def put_module(**module: str) -> None:
        spec = {"targetRefs": [target], "extensions": [{"dynamicModule": module}]}
        put(serving, "RoutePolicy", "routepolicies", "code", spec)

    put_module(name="nowhere")
    start_envoy(children, "gateway", "edge", xds=serving.xds)
    children.wait_until(lambda: "libnowhere.so" in _programmed(serving), what="the absent module", timeout=30)
    children.wait_until(lambda: reached(port, HOST), what="the other rule")
    assert ask(port, HOST, "/coded").status == 500
    put_module(name="mark", config="good")
    children.wait_until(lambda: get(port, "/coded", HOST)[1].get("x-module") == "good", what="the module")
    put_module(name="mark", config="bad")
    children.wait_until(lambda: "initialize" in _programmed(serving), what="the refused configuration", timeout=30)
    children.wait_until(lambda: ask(port, HOST, "/coded").status == 500, what="the route to stop")
    assert ask(port, HOST).status == 200


def _programmed(serving: Serving) -> str:
    found = serving.client.get("/api/v1/namespaces/default/routepolicies/code")["status"]["conditions"]
    return next((json.dumps(each["message"]) for each in found if each["type"] == "Programmed"), "")

"""Services that are found in a real Consul, and requests to them through a real Envoy."""

from __future__ import annotations

import pytest

from fairlead.demo.traffic import Background
from fairlead.processes import Children
from tests.support.consul import ConsulAgent
from tests.support.consul_mesh import ConsulMesh, document, route
from tests.support.programs import start_backend

pytestmark = [pytest.mark.envoy, pytest.mark.timeout(400)]


def mesh(children: Children, agent: ConsulAgent, *hosts: str, reads: str = "default") -> ConsulMesh:
    flags = ("--consul", agent.url, "--consul-reads", reads)
    return ConsulMesh(children, *flags, objects=[route(host) for host in hosts])


@pytest.mark.parametrize("reads", ["default", "cached"])
def test_service_is_routed_to_while_it_is_registered_and_healthy(
    children: Children, agent: ConsulAgent, reads: str
) -> None:
    one, two = start_backend(children, "web", number="1"), start_backend(children, "web", number="2")
    first = agent.register("web", one)
    made = mesh(children, agent, "web", "later", reads=reads)
    made.wait_ok("web")
    second = agent.register("web", two)
    made.wait(lambda: made.count("web", 20).keys() == {"web-v1-1", "web-v1-2"}, "traffic to both")

    agent.check(first, "fail")
    made.wait(lambda: made.count("web", 20).keys() == {"web-v1-2"}, "the critical one to be left out")
    agent.check(first, "pass")
    made.wait(lambda: len(made.count("web", 20)) == 2, "it to be back")

    agent.maintain(second, enable=True)
    made.wait(lambda: made.count("web", 20).keys() == {"web-v1-1"}, "the one in maintenance to be left out")
    agent.maintain(second, enable=False)
    made.wait(lambda: len(made.count("web", 20)) == 2, "it to be back")

    agent.deregister(second)
    made.wait(lambda: made.count("web", 20).keys() == {"web-v1-1"}, "the deregistered one to be gone")
    agent.deregister(first)
    made.wait_gone("web")

    agent.register("later", start_backend(children, "later"))
    made.wait_ok("later", "a service that was routed to before it was there")


def test_an_address_that_is_nobodys_is_left_out_and_keeps_no_other_back(children: Children, agent: ConsulAgent) -> None:
    first = agent.register("web", start_backend(children, "web", number="1"))
    made = mesh(children, agent, "web")
    made.wait_ok("web")
    for number, address in enumerate(("fe80::1%nowhere0", "224.0.0.1", "a.host.name")):
        agent.register("web", 80, id=f"a-{number}", Address=address)
    agent.register("web", start_backend(children, "web", number="2"), id="z-good")
    agent.deregister(first)
    made.wait(lambda: made.count("web", 20).keys() == {"web-v1-2"}, "all traffic to the good one")
    found = made.serving.client.get("/api/v1/discovered/endpoints", service="web")["items"]
    assert [each["address"] for each in found] == ["127.0.0.1"]


def test_warning_keeps_its_lower_weight(children: Children, agent: ConsulAgent) -> None:
    weights = {"Passing": 10, "Warning": 1}
    names = ["1", "2"]
    ids = [agent.register("web", start_backend(children, "web", number=number), Weights=weights) for number in names]
    made = mesh(children, agent, "web")
    made.wait_ok("web")
    made.wait(lambda: abs(made.count("web", 100)["web-v1-1"] - 50) <= 10, "an even share")
    agent.check(ids[0], "warn")
    made.wait(lambda: 1 <= made.count("web", 110)["web-v1-1"] <= 25, "a tenth of the traffic")


def test_instance_that_nobody_can_connect_to_is_told_of_and_harms_no_other(
    children: Children, agent: ConsulAgent
) -> None:
    """A scope made Envoy resolve the whole service by names."""
    agent.register("web", start_backend(children, "web"))
    made = mesh(children, agent, "web")
    made.wait_ok("web")
    meta = {"fairlead-port": "99999"}
    scoped = agent.register("web", 9, id="web-scoped", Address="fe80::1%lo", Meta=meta)
    named = agent.register("web", 9, id="web-named", Address="db.example.com")
    told = ("OddAddress", "fe80::1%lo"), ("OddAddress", "db.example.com"), ("OddMeta", "fairlead-port=99999")
    made.wait(lambda: all(words in made.problems().get(code, "") for code, words in told), "them to be told of")
    assert made.count("web", 20).keys() == {"web-v1-1"}
    assert made.services()["web"]["endpoints"] == 1
    for own in (scoped, named):
        agent.deregister(own)
    made.wait(lambda: not {"OddAddress", "OddMeta"} & made.problems().keys(), "nothing to be told of any more")


def test_subset_chooses_by_tags_and_meta(children: Children, agent: ConsulAgent) -> None:
    agent.register("web", start_backend(children, "web", "v1"), Meta={"version": "v1"})
    agent.register("web", start_backend(children, "web", "v2"), Tags=["version=v2", "canary"])
    made = mesh(children, agent, "web")
    subsets = {"canary": {"canary": "true"}, "stable": {"version": "v1"}}
    made.declare(
        *(document("ServiceSubset", name, {"service": "web", "labels": chosen}) for name, chosen in subsets.items()),
        *(
            route(name, {"group": "fairlead.dev", "kind": "ServiceSubset", "name": name, "port": 80})
            for name in subsets
        ),
    )
    made.wait_ok("canary")
    made.wait_ok("stable")
    assert made.count("canary", 20).keys() == {"web-v2-1"}
    assert made.count("stable", 20).keys() == {"web-v1-1"}


def test_a_tag_that_a_header_asks_for_is_preferred_while_a_healthy_instance_has_it(
    children: Children, agent: ConsulAgent
) -> None:
    agent.register("web", start_backend(children, "web", "stable"), Tags=["stable"])
    agent.register("web", start_backend(children, "web", "canary"), Tags=["canary"])
    made = mesh(children, agent, "web")
    spec = {"service": "web", "labels": {"ada": "true"}, "fallback": [{"labels": {"canary": "true"}}]}
    asks = {"headers": [{"name": "x-service-tag", "value": "ada"}]}
    to_ada = {"group": "fairlead.dev", "kind": "ServiceSubset", "name": "ada", "port": 80}
    rules = [{"matches": [asks], "backendRefs": [to_ada]}, {"backendRefs": [{"name": "web", "port": 80}]}]
    plain = route("web")
    made.declare(document("ServiceSubset", "ada", spec), {**plain, "spec": {**plain["spec"], "rules": rules}})
    made.wait_ok("web")
    made.wait(lambda: made.count("web", 20, x_service_tag="ada").keys() == {"web-canary-1"}, "the next best")
    with Background(made.port, "web", headers={"x-service-tag": "ada"}) as traffic:
        own = agent.register("web", start_backend(children, "web", "ada"), Tags=["ada"])
        made.wait(lambda: traffic.answered("web-ada-1"), "the best")
        made.wait(lambda: traffic.silent_for("web-canary-1") > 0.5, "the next best to have nothing to do")
        agent.check(own, "fail")
        made.wait(lambda: traffic.silent_for("web-ada-1") > 0.5, "the next best to be back")
        made.wait(lambda: len(made.count("web", 40)) == 2, "those who ask for nothing to reach all others")
    assert not traffic.failures
    assert not traffic.answered("web-stable-1")


def test_a_header_chooses_among_the_instances_by_any_of_their_tags(children: Children, agent: ConsulAgent) -> None:
    agent.register("web", start_backend(children, "web", "v1"), Tags=["stable", "eu"])
    agent.register("web", start_backend(children, "web", "v2"), Tags=["canary", "eu"])
    made = mesh(children, agent, "web")
    balancer = {"endpointSelection": {"header": "x-service-tag"}}
    targets = [{"kind": "Service", "name": "web"}]
    made.declare(route("web"), document("TrafficPolicy", "web", {"targetRefs": targets, "loadBalancer": balancer}))
    made.wait_ok("web")

    def chosen(tags: str) -> set[str]:
        return set(made.count("web", 20, x_service_tag=tags))

    made.wait(lambda: chosen("canary") == {"web-v2-1"}, "the policy")
    assert chosen("stable") == {"web-v1-1"}
    assert chosen("eu") == {"web-v1-1", "web-v2-1"}
    assert chosen("ada, canary") == {"web-v2-1"}, "the first that an instance has"
    own = agent.register("web", start_backend(children, "web", "ada"), Tags=["ada"])
    made.wait(lambda: chosen("ada, canary") == {"web-ada-1"}, "the new instance")
    agent.check(own, "fail")
    made.wait(lambda: chosen("ada, canary") == {"web-v2-1"}, "the next best")


def test_sidecar_is_no_second_service_and_namespaces_are_said_by_tags(children: Children, agent: ConsulAgent) -> None:
    port = start_backend(children, "web")
    agent.register("web", port, Connect={"SidecarService": {"Port": 21999}}, Tags=["fairlead-namespace=shop"])
    made = mesh(children, agent)
    made.wait(lambda: "web" in made.services(), "the service")
    assert made.services()["web"]["namespace"] == "shop"
    assert set(made.services()) == {"web", "consul"}

    def endpoints() -> list[str]:
        items = made.serving.client.get("/api/v1/discovered/endpoints", service="web")["items"]
        return [each["address"] for each in items]

    made.wait(lambda: endpoints() == ["127.0.0.1"], "the endpoint of the service alone")
    listed = made.serving.client.get("/api/v1/discovered/services")["items"]
    assert [each["sources"] for each in listed if each["name"] == "web"] == [["consul"]]


def test_queries_that_do_not_fit_the_cap_take_turns_and_say_so(children: Children, agent: ConsulAgent) -> None:
    ids = [agent.register(f"s{number}", 9000 + number) for number in range(12)]
    port = start_backend(children, "web")
    made = ConsulMesh(children, "--consul", agent.url, "--consul-polls", "4", objects=[route("web")])
    made.wait(lambda: len(made.services()) == 13, "all services")
    made.wait(lambda: "13 services share 4" in made.problems().get("Crowded", ""), "it to be told")
    assert made.metric('fairlead_consul_queries{state="allowed"}') == 4
    agent.register("web", port)
    made.wait_ok("web", "a new service that is needed")
    agent.deregister(ids[3])
    made.wait(lambda: "s3" not in made.services(), "one to be gone")
    agent.check(ids[7], "fail")
    made.wait(
        lambda: not made.serving.client.get("/api/v1/discovered/endpoints", service="s7")["items"], "one to be critical"
    )

"""One HTTPRoute of a cluster changes again and again while clients ask for its host: how many requests fail?

Each change sends the host to the other one of two Services, so that each brings a cluster and takes one away. A request
fails that is answered with anything but 200, or not at all; the clients are four connections, without retries.
"""

from __future__ import annotations

import time
import urllib.request

from benchmarks.bench import Bench
from benchmarks.cluster import Site, route
from benchmarks.report import Bar, Reading, Result
from benchmarks.simulator import Turn
from tests.support.kubernetes import eventually

NAME = "kubernetes-change"
_CONNECTIONS = 4
_SERVICES = ("blue", "green")
_AFTER_SECONDS = 6.0  # longer than a cluster outlives the last route to it
_ENVOY_GATEWAY = "Envoy Gateway 1.9 on such a node: 823 to 1,444 of 23,000"


def run(bench: Bench) -> list[Result]:
    """Change it under traffic."""
    size = bench.size

    def measure(site: Site) -> list[Reading]:
        space, simulator = site.namespace, site.simulator
        site.backend(*_SERVICES)
        simulator.send(space.create(space.gateway(site.port)))
        with site.fairlead() as server, site.proxy(server.xds):
            turn = Turn(site.url, "host.example.com")
            simulator.turn(turn, space.create(route("host", _SERVICES[0])))
            simulator.start_traffic(turn, connections=_CONNECTIONS)
            for i in range(1, size.cluster_changes + 1):
                time.sleep(size.cluster_change_pause)
                changed = route("host", _SERVICES[i % 2], filters=[_stamp(i)])
                simulator.send(space.patch("HTTPRoute", "host", {"spec": changed["spec"]}))
            eventually(lambda: _stamped(site) == str(size.cluster_changes), "the last change to come through")
            time.sleep(_AFTER_SECONDS)
            codes = simulator.end_traffic()
        asked = sum(codes.values())
        failed = {code: count for code, count in sorted(codes.items()) if code != "200"}
        note = ", ".join([f"of {asked:,}", *(f"{count} of {code}" for code, count in failed.items()), _ENVOY_GATEWAY])
        label = f"failed requests over {size.cluster_changes} changes"
        return [Reading(label, sum(failed.values()), "", Bar(at_most=0), note)]

    return bench.in_cluster(NAME, measure)


def _stamped(site: Site) -> str:
    """The number of the change by which the host answers now."""
    request = urllib.request.Request(site.url, headers={"Host": "host.example.com"})
    with urllib.request.urlopen(request, timeout=5) as answer:
        return str(answer.headers.get("x-change"))


def _stamp(number: int) -> dict[str, object]:
    """A filter that makes each change another."""
    header = {"name": "x-change", "value": str(number)}
    return {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"set": [header]}}

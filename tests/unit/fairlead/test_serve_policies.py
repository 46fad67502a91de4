"""What holds for a target, and who said so: by the command line and the API of a running server."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from fairlead.processes import Children
from tests.support.programs import FAIRLEAD, start_serve

OURS, GATEWAY_API = "fairlead.dev/v1alpha1", "gateway.networking.k8s.io/v1"
ROUTE = {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "shop"}
OBJECTS: tuple[dict[str, Any], ...] = (
    {"kind": "Service", "metadata": {"name": "reviews"}, "spec": {"ports": [{"name": "http", "port": 80}]}},
    {
        "apiVersion": GATEWAY_API,
        "kind": "HTTPRoute",
        "metadata": {"name": "shop"},
        "spec": {"rules": [{"name": "main", "backendRefs": [{"name": "reviews", "port": 80}]}]},
    },
    {
        "kind": "TrafficPolicy",
        "metadata": {"name": "mesh", "namespace": "fairlead-system"},
        "spec": {
            "targetRefs": [{"kind": "Namespace", "name": "fairlead-system"}],
            "timeouts": {"connect": "1s", "request": "9s"},
            "overrides": {"circuitBreaker": {"maxRequests": 1000}},
        },
    },
    {
        "kind": "TrafficPolicy",
        "metadata": {"name": "reviews"},
        "spec": {
            "targetRefs": [{"kind": "Service", "name": "reviews"}],
            "timeouts": {"request": "3s"},
            "circuitBreaker": {"maxRequests": 5},
        },
    },
    {
        "kind": "TrafficPolicy",
        "metadata": {"name": "rival"},
        "spec": {"targetRefs": [{"kind": "Service", "name": "reviews"}], "timeouts": {"request": "4s", "idle": "7s"}},
    },
    {
        "kind": "TrafficPolicy",
        "metadata": {"name": "lost"},
        "spec": {"targetRefs": [{"kind": "Service", "name": "nosuch"}], "timeouts": {"idle": "1s"}},
    },
    {
        "kind": "RoutePolicy",
        "metadata": {"name": "shop"},
        "spec": {"targetRefs": [ROUTE], "compression": {"algorithms": ["gzip"]}},
    },
)
MESH, OWN, RIVAL = (f"TrafficPolicy {name}" for name in ("fairlead-system/mesh", "default/reviews", "default/rival"))


def test_what_holds_for_a_target_and_whose_it_is_is_shown_and_what_does_not_hold_is_told(children: Children) -> None:
    serving = start_serve(children)

    def run(*arguments: str, of: str = "", status: int = 0) -> str:
        ended = subprocess.run(
            [*FAIRLEAD, *arguments, "--server", f"http://127.0.0.1:{serving.api}"],
            check=False,
            input=of,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert ended.returncode == status, ended.stderr
        return ended.stdout + ended.stderr

    run("apply", "-f", "-", of="\n---\n".join(json.dumps({"apiVersion": OURS, **one}) for one in OBJECTS))
    [told] = json.loads(run("get", "policies", "--effective", "reviews", "-o", "json"))["items"]
    assert told["target"] == {"kind": "Service", "name": "reviews", "namespace": "default"}
    assert told["origins"] == {
        "circuitBreaker.maxRequests": MESH,  # an override, over what the Service's own policy says
        "timeouts.connect": MESH,
        "timeouts.idle": RIVAL,
        "timeouts.request": OWN,  # the older of two for the same target
    }
    assert told["settings"]["timeouts"] == {"connect": "1s", "idle": "7s", "request": "3s"}
    table = [line.split() for line in run("get", "policies", "--effective", "reviews").splitlines()]
    assert f"Service default/reviews timeouts.request 3s {OWN}".split() in table
    everywhere = serving.client.items("/api/v1/effective-policies")["items"]
    assert told in everywhere
    assert {"compression": "RoutePolicy default/shop"} in [one["origins"] for one in everywhere]

    shown = run("get", "policies")
    assert f"Older policies for the same target set these fields: timeouts.request ({OWN})." in shown
    assert "TargetNotFound: spec.targetRefs[0]: Service default/nosuch does not exist." in shown
    assert "no policy reaches any such target" in run("get", "policies", "--effective", "nosuch")
    assert "--effective is of policies. Fix:" in run("get", "services", "--effective", status=2)


@pytest.mark.parametrize("how", ["validate", "apply"])
def test_a_wrong_policy_is_refused_with_its_line_path_and_fix_and_takes_nothing_with_it(
    children: Children, how: str
) -> None:
    serving = start_serve(children)
    good = {"apiVersion": OURS, **OBJECTS[0]}
    target = [{"kind": "Service", "name": "reviews"}]
    spec = {"targetRefs": target, "timeouts": {"request": "3s", "perTry": "1s"}, "retry": {"attempts": 3}}
    wrong = {"apiVersion": OURS, "kind": "TrafficPolicy", "metadata": {"name": "wrong"}, "spec": spec}
    file = children.folder / "objects.yaml"
    file.write_text(f"{json.dumps(good)}\n---\n{json.dumps(wrong)}\n")
    server = ["--server", f"http://127.0.0.1:{serving.api}"] if how == "apply" else []
    ended = subprocess.run(
        [*FAIRLEAD, how, "-f", str(file), *server], check=False, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 1
    assert (
        f"{file}:3: error [InvalidCombination] spec.retry.attempts: 4 tries of 1s take 4000 ms, and the request ends "
        "after 3s. Fix: lower `attempts` or `timeouts.perTry`, or raise `timeouts.request`."
    ) in ended.stdout + ended.stderr
    assert serving.client.items("/api/v1/services")["items"] == []

from __future__ import annotations

from discovery.kubernetes.informer_state import Trouble
from discovery.kubernetes.troubles import Situation, told


def test_an_api_server_that_is_away_is_one_problem() -> None:
    away = Trouble("Unreachable", "cannot connect to 10.0.0.1:6443: Connection refused")
    problems = told(
        "kubernetes:east", [Situation("Pod", "", "pods", trouble=away), Situation("Node", "", "nodes", trouble=away)]
    )
    (problem,) = problems
    assert (problem.code, problem.level) == ("Unreachable", "error")
    assert "Connection refused" in problem.message


def test_a_missing_permission_says_which_to_give() -> None:
    refused = Trouble("Forbidden", "403 Forbidden: no")
    (problem,) = told("kubernetes:east", [Situation("Gateway", "g.io", "gateways", "shop", refused)])
    assert problem.fix == (
        "allow `list` and `watch` of gateways (group 'g.io') in namespace shop; what was last seen stands"
    )


def test_a_missing_permission_that_can_be_done_without_is_a_warning_that_says_what_is_lost() -> None:
    refused = Trouble("Forbidden", "403 Forbidden: no")
    (problem,) = told("kubernetes:east", [Situation("Node", "", "nodes", trouble=refused, beyond=True)])
    assert problem.level == "warning"
    assert problem.fix == (
        "allow `list` and `watch` of nodes (group '') in a ClusterRole; "
        "without, it is not known in which zones endpoints are"
    )


def test_missing_kinds_are_one_warning() -> None:
    problems = told(
        "kubernetes:east",
        [
            Situation("HTTPRoute", "g.io", "httproutes", missing=True),
            Situation("Gateway", "g.io", "gateways", missing=True),
        ],
    )
    (problem,) = problems
    assert (problem.code, problem.level) == ("MissingKinds", "warning")
    assert "Gateway, HTTPRoute" in problem.message


def test_all_is_well_where_nothing_is_wrong() -> None:
    assert told("kubernetes:east", [Situation("Pod", "", "pods")]) == ()

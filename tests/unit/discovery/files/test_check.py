from __future__ import annotations

from discovery.files.check import check
from mesh.model import ObjectKey

GOOD = """\
apiVersion: fairlead.dev/v1alpha1
kind: ServiceSubset
metadata: {name: %s}
spec: {service: reviews, labels: {version: v2}}
"""


EXAMPLE = """\
apiVersion: fairlead.dev/v1alpha1
kind: Service
metadata: {name: reviews, namespace: default}
spec:
  ports: [{name: http, port: 80, protocol: HTTP}]        # protocol: HTTP | HTTP2 | GRPC | TCP | TLS | UDP
  endpoints:
  - {address: 127.0.0.1, ports: {http: 9001}, labels: {version: v1}}
  - {address: 127.0.0.1, ports: {http: 9002}, labels: {version: v2}, weight: 2, zone: b, health: Healthy}
---
apiVersion: fairlead.dev/v1alpha1
kind: ServiceSubset
metadata: {name: reviews-v2, namespace: default}
spec: {service: reviews, labels: {version: v2}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: default}
spec: {gatewayClassName: fairlead, listeners: [{name: http, port: 10000, protocol: HTTP}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: reviews, namespace: default}
spec:
  parentRefs: [{name: edge}]
  hostnames: [reviews.example.com]
  rules:
  - matches: [{headers: [{name: x-canary, value: "yes"}]}]
    backendRefs: [{group: fairlead.dev, kind: ServiceSubset, name: reviews-v2, port: 80}]
  - backendRefs: [{name: reviews, port: 80}]             # kind Service: Kubernetes' or ours, in this namespace
"""


def test_the_smallest_whole_example_is_good_as_it_stands() -> None:
    text = check(EXAMPLE, "first.yaml")
    assert text.problems == ()
    assert [(str(located.key), located.line) for located in text.objects] == [
        ("Service default/reviews", 1),
        ("ServiceSubset default/reviews-v2", 10),
        ("Gateway default/edge", 15),
        ("HTTPRoute default/reviews", 20),
    ]


def test_each_object_has_its_line_and_its_key() -> None:
    text = check(GOOD % "a" + "---\n" + GOOD % "b", "x.yaml")
    assert [(located.key, located.line) for located in text.objects] == [
        (ObjectKey("ServiceSubset", "default", "a"), 1),
        (ObjectKey("ServiceSubset", "default", "b"), 6),
    ]
    assert text.problems == ()


def test_a_problem_names_file_line_and_path() -> None:
    text = check(GOOD % "a" + "---\n" + (GOOD % "b").replace("service: reviews, ", ""), "x.yaml")
    (problem,) = text.problems
    assert str(problem) == (
        "x.yaml:9: error [MissingField] spec.service: `spec` needs a field `service`. Fix: add `service`."
    )
    assert text.objects[1].object is None
    assert text.objects[1].key == ObjectKey("ServiceSubset", "default", "b")


def test_a_list_counts_as_its_items() -> None:
    items = "".join("- " + (GOOD % name).replace("\n", "\n  ").rstrip() + "\n" for name in ("a", "B"))
    text = check(f"apiVersion: v1\nkind: List\nitems:\n{items}", "x.yaml")
    assert [located.line for located in text.objects] == [4, 8]
    (problem,) = text.problems
    assert (problem.path, problem.line) == ("items[1].metadata.name", 10)


def test_an_object_that_is_there_twice_is_an_error_on_the_second() -> None:
    text = check(GOOD % "a" + "---\n" + GOOD % "a", "x.yaml")
    assert text.objects[0].object is not None
    assert text.objects[1].object is None
    (problem,) = text.problems
    assert (problem.code, problem.line) == ("DuplicateObject", 6)


def test_of_json_too_the_lines_are_known() -> None:
    text = check('{"apiVersion": "v1",\n "kind": "Namespace",\n "metadata": {},\n "x": 1}', "x.json")
    assert [(problem.path, problem.line) for problem in text.problems] == [("metadata.name", 3), ("x", 4)]


def test_problems_are_told_from_top_to_bottom_whoever_finds_them() -> None:
    """What the types find, and what comes after them."""
    head = "apiVersion: fairlead.dev/v1alpha1\nkind: Service\nmetadata: {name: a}\nspec:\n"
    text = check(head + "  ports: [{port: 80, name: a}, {port: 80, name: b}]\n  exportTo: [a_b]\n")
    assert [(problem.code, problem.line) for problem in text.problems] == [("Duplicate", 5), ("InvalidFormat", 6)]


def test_a_fault_of_syntax_is_told_after_the_objects_before_it() -> None:
    text = check(GOOD % "a" + "---\na: [", "x.yaml")
    assert text.objects[0].object is not None
    assert text.unreadable is not None
    assert text.problems == (text.unreadable,)
    assert text.unreadable.file == "x.yaml"


def test_after_a_thousand_problems_a_text_is_given_up() -> None:
    text = check("---\nkind: x\n" * 1_100, "x.yaml")
    assert len(text.objects) == 1_000
    assert text.unreadable is not None
    assert (text.unreadable.code, text.unreadable.line) == ("TooManyProblems", 2002)


def test_a_document_that_is_no_object_is_an_error() -> None:
    assert [problem.code for problem in check("- 1\n---\nx\n").problems] == ["WrongType", "WrongType"]

"""Commands against a running server: what they change, what they say of it, and how they end."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from fairlead.processes import Children
from tests.support.programs import FAIRLEAD, Serving, start_serve

NAMESPACE = "apiVersion: v1\nkind: Namespace\nmetadata: {name: %s, labels: {n: '%s'}}\n"


@pytest.fixture
def serving(children: Children) -> Serving:
    (children.folder / "config").mkdir()
    return start_serve(children, "--files", str(children.folder / "config"))


def run(serving: Serving, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*FAIRLEAD, *arguments, "--server", f"http://127.0.0.1:{serving.api}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        input=stdin,
    )


def apply(serving: Serving, text: str, *flags: str) -> str:
    made = run(serving, "apply", "-f", "-", *flags, stdin=text)
    assert made.returncode == 0, made.stderr
    return made.stdout


def test_apply_tells_what_it_made_what_it_changed_and_what_was_so_already(serving: Serving) -> None:
    assert apply(serving, NAMESPACE % ("a", 1)) == "namespace a created\n"
    assert apply(serving, NAMESPACE % ("a", 1)) == "namespace a unchanged\n"
    assert apply(serving, NAMESPACE % ("a", 2), "--dry-run") == "namespace a configured (dry run)\n"
    assert apply(serving, NAMESPACE % ("a", 1), "--dry-run") == "namespace a unchanged (dry run)\n"
    assert apply(serving, NAMESPACE % ("b", 1), "--dry-run") == "namespace b created (dry run)\n"
    assert apply(serving, NAMESPACE % ("a", 2)) == "namespace a configured\n"


@pytest.mark.parametrize("name", [(), ("a",)])
def test_what_get_prints_can_be_applied_again(serving: Serving, name: tuple[str, ...]) -> None:
    apply(serving, NAMESPACE % ("a", 1))
    printed = run(serving, "get", "namespace", *name, "-o", "yaml").stdout
    assert "origin:" in printed
    assert apply(serving, printed) == "namespace a unchanged\n"
    assert apply(serving, printed.replace(" n: '1'", " n: '2'")) == "namespace a configured\n"
    assert run(serving, "diff", "-f", "-", stdin=printed).returncode == 3


def test_apply_tells_a_warning_once(serving: Serving) -> None:
    head = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ntype: kubernetes.io/tls\n"
    made = run(serving, "apply", "-f", "-", stdin=head + "stringData: {tls.crt: x, tls.key: x}\n")
    assert [line.partition(":")[0] for line in made.stderr.splitlines()] == ["stdin", "stdin"]


def test_a_changed_secret_is_told_although_nobody_sees_it(serving: Serving) -> None:
    secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ntype: Opaque\nstringData: {a: %s}\n"
    assert [apply(serving, secret % text) for text in ("x", "x", "y")] == [
        "secret default/s created\n",
        "secret default/s unchanged\n",
        "secret default/s configured\n",
    ]


SECRET = """\
apiVersion: v1
kind: Secret
metadata: {name: edge}
type: kubernetes.io/tls
stringData: {tls.crt: %s CERTIFICATE-----, tls.key: %s PRIVATE KEY-----}
"""


def test_a_secret_is_compared_without_anybody_seeing_its_key(serving: Serving) -> None:
    missing = run(serving, "diff", "-f", "-", stdin=SECRET % ("crt", "s3cr3t"))
    apply(serving, SECRET % ("crt", "s3cr3t"))
    same = run(serving, "diff", "-f", "-", stdin=SECRET % ("crt", "s3cr3t"))
    key = run(serving, "diff", "-f", "-", stdin=SECRET % ("crt", "an0ther"))
    both = run(serving, "diff", "-f", "-", "-o", "json", stdin=SECRET % ("new", "an0ther"))
    assert [each.returncode for each in (missing, same, key, both)] == [3, 0, 3, 3]
    assert (same.stdout, same.stderr) == ("", "")
    assert 'default/edge: stringData["tls.key"] differs (its values are not shown)\n' in key.stdout
    [found] = json.loads(both.stdout)
    assert (found["kind"], found["name"], found["result"]) == ("Secret", "edge", "differs")
    assert "+  tls.crt: new CERTIFICATE-----" in found["lines"]
    assert not any(word in each.stdout for each in (missing, same, key, both) for word in ("s3cr3t", "an0ther"))


def test_a_dry_run_tells_a_secret_that_is_there_already_from_one_that_changed(serving: Serving) -> None:
    apply(serving, SECRET % ("crt", "a"))
    assert apply(serving, SECRET % ("crt", "a"), "--dry-run") == "secret default/edge unchanged (dry run)\n"
    assert apply(serving, SECRET % ("crt", "b"), "--dry-run") == "secret default/edge configured (dry run)\n"


def test_diff_tells_machines_what_is_missing_and_what_is_the_same(serving: Serving) -> None:
    apply(serving, NAMESPACE % ("a", 1))
    made = run(serving, "diff", "-f", "-", "-o", "json", stdin=f"{NAMESPACE % ('a', 1)}---\n{NAMESPACE % ('b', 1)}")
    assert [(each["name"], each["result"]) for each in json.loads(made.stdout)] == [("a", "same"), ("b", "missing")]
    assert made.returncode == 3


def test_what_cannot_be_deleted_does_not_keep_the_others(serving: Serving) -> None:
    for name in ("a", "b"):
        apply(serving, NAMESPACE % (name, 1))
    tried = run(serving, "delete", "namespace", "a", "none", "b", "--dry-run", "-o", "json")
    assert [(each["name"], each["result"]) for each in json.loads(tried.stdout)] == [
        ("a", "deleted"),
        ("none", "failed"),
        ("b", "deleted"),
    ]
    made = run(serving, "delete", "namespace", "a", "none", "b")
    assert made.returncode == tried.returncode == 1
    assert made.stdout == "namespace a deleted\nnamespace b deleted\n"
    assert "namespace none not deleted: Namespace none does not exist." in made.stderr
    assert run(serving, "delete", "namespace", "none").returncode == 1


def test_machines_too_are_told_that_it_was_a_dry_run(serving: Serving) -> None:
    [made] = json.loads(apply(serving, NAMESPACE % ("a", 1), "--dry-run", "-o", "json"))
    assert made == {"kind": "Namespace", "namespace": "", "name": "a", "result": "created", "dryRun": True}
    [made] = json.loads(apply(serving, NAMESPACE % ("a", 1), "-o", "json"))
    assert made["dryRun"] is False


def test_without_a_gateway_explain_says_so(serving: Serving) -> None:
    made = run(serving, "explain", "GET", "http://x/")
    assert made.returncode == 1
    assert "has no Gateway of ours" in made.stderr
    made = run(serving, "explain", "GET", "http://x/", "-o", "json")
    assert (made.returncode, json.loads(made.stdout)) == (1, {"gateways": []})


def test_problems_of_the_sources_are_shown_until_they_are_mended(serving: Serving, children: Children) -> None:
    assert run(serving, "problems").stderr == "nothing is wrong in the sources\n"
    file = Path(children.folder) / "config" / "bad.yaml"
    file.write_text("kind: Nonsense\n")
    children.wait_until(lambda: bool(serving.client.get("/api/v1/problems")["items"]), what="the problem")
    made = run(serving, "problems")
    assert made.returncode == 1
    assert f"{file}:1: error" in made.stdout
    file.unlink()
    children.wait_until(lambda: not serving.client.get("/api/v1/problems")["items"], what="the mending")
    assert run(serving, "problems").returncode == 0


def test_without_load_reports_the_command_says_when_they_come(serving: Serving) -> None:
    made = run(serving, "loads")
    assert (made.returncode, made.stdout) == (0, "")
    assert "no proxy reports load yet" in made.stderr

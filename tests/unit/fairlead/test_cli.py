from __future__ import annotations

import base64
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fairlead.cli import SECTIONS, main

COMMANDS = [name for section in SECTIONS.values() for name in section]


def run(*arguments: str, env: dict[str, str] | None = None, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fairlead", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        input=stdin,
        env={**os.environ, "NO_COLOR": "1", **(env or {})},
    )


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """What a command line ends with and prints, in this process: for those that end before anything begins."""
    monkeypatch.setenv("NO_COLOR", "1")

    def run_here(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["fairlead", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        assert isinstance(ended.value.code, int)
        return ended.value.code, *capsys.readouterr()

    return run_here


def test_help_lists_every_command_and_imports_none_of_them() -> None:
    script = "import sys; sys.argv[1:] = ['--help']\n"
    script += "try:\n  from fairlead.cli import main; main()\nexcept SystemExit: pass\n"
    script += "heavy = {'rich', 'msgspec', 'yaml', 'grpc', 'fastapi', 'google.protobuf', 'fairlead.commands'}\n"
    script += "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    made = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert made.returncode == 0, made.stderr
    assert all(f"  {name} " in made.stdout for name in COMMANDS)


def test_help_takes_less_than_a_third_of_a_second_of_cpu() -> None:
    def spent() -> float:
        before = os.times()
        run("--help")
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    assert min(spent() for _ in range(3)) < 0.3


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_teaches_by_example(command: str, said: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = said(*([command, "show"] if command == "proxy" else [command]), "--help")
    assert code == 0, err
    assert "Examples:\n" in out
    assert f"fairlead {command}" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nonsense"], "No such command"),
        (["wait", "httproute"], "Missing argument"),
        (["get", "unicorns"], "there is no kind 'unicorns'"),
        (["explain", "GET", "http://x/", "-H", "nocolon"], "'nocolon' is no header"),
        (["bootstrap", "gateway", "--name", "edge", "--xds", "18000"], "--xds: '18000' is not HOST:PORT"),
        (["get", "gateways", "--server", "ftp://x"], "is no http:// or https:// URL"),
        (
            ["get", "gateways", "--server", "foo"],
            "'foo' is no http:// or https:// URL. Fix: like http://127.0.0.1:8080",
        ),
        (["get", "gateways", "-A", "-n", "shop"], "-A means all namespaces and -n one of them"),
        (["get", "gateways", "edge", "-A"], "-A chooses among many objects and NAME is one"),
        (["get", "gateways", "edge", "-l", "a=b"], "-l chooses among many objects and NAME is one"),
        (["get", "gateways", "-o", "xml"], "'--output' / '-o': 'xml' is not one of 'table', 'json', 'yaml'."),
        (["get", "httproute", "a/b"], "'a/b' is no name of an object. Fix: write `b -n a`"),
        (["get", "httproute", "../x"], "'../x' is no name of an object. Fix: write lower-case letters"),
        (["get", "namespace", "a/b"], "'a/b' is no name of an object. Fix: write lower-case letters"),
        (["get", "httproute", "a", "-n", "a b"], "--namespace: 'a b' is no namespace. Fix: write lower-case letters"),
        (["delete", "httproute", "a", "B"], "'B' is no name of an object"),
        (["wait", "httproute", "a%"], "'a%' is no name of an object"),
        (["explain", "FOO BAR", "http://x/"], "'FOO BAR' is no method of HTTP"),
        (["translate", "-f", "x"], "say for whom"),
        (["translate", "-f", "x", "--gateway", "a/b/c"], "--gateway: 'a/b/c' is no NS/NAME"),
        (["translate", "-f", "x", "--sidecar", "a", "--sotw"], "--sotw: only gateways get something else"),
        (["translate", "-f", "x", "--sidecar", "a/"], "--sidecar: 'a/' is no NS/NAME"),
        (["bootstrap", "gateway", "--name", "edge", "--ingress-port", "9"], "--ingress-port: for sidecars"),
        (["bootstrap", "gateway", "--name", "edge", "--admin-port", "65536"], "--admin-port"),
        (["bootstrap", "gateway", "--name", "edge", "--xds", "h:0"], "cannot connect to port 0"),
        (["bootstrap", "grpc", "--name", "a", "--sotw", "--admin-port", "0"], "--sotw, --admin-port: for Envoys"),
        (["bootstrap", "sidecar", "--name", "a"], "a sidecar needs --port"),
        (["bootstrap", "sidecar", "--name", "a", "--port", "0"], "--port"),
        (["bootstrap", "gateway", "--name", "a", "--upstream", "1=b:2"], "--upstream: for sidecars"),
        (["bootstrap", "sidecar", "--name", "a", "--port", "1", "--upstream", "db:2"], "'db:2' is not LISTEN="),
        (["bootstrap", "sidecar", "--name", "a", "--port", "1", "--upstream", "15001=db:2"], "15001 is taken"),
        (["bootstrap", "sidecar", "--name", "a", "--port", "15006"], "are the same"),
        (["serve", "--api-tokens", "a:read:0123456789abcdef"], "No such option: --api-tokens"),
        (["serve", "--insecure-xds", "--store", "sqlite::memory:"], "names no file"),
        (["serve", "--log-level", "loud", "--insecure-xds"], "--log-level = 'loud'"),
    ],
)
def test_what_makes_no_sense_ends_with_2_and_says_why(
    arguments: list[str], words: str, said: Callable[..., tuple[int, str, str]]
) -> None:
    code, out, err = said(*arguments)
    assert (code, out) == (2, "")
    assert words in err
    assert "Traceback" not in err


def test_with_no_server_there_the_command_asks_whether_one_runs() -> None:
    made = run("proxies", "--server", "http://127.0.0.1:1")
    assert made.returncode == 1
    assert "is `fairlead serve` running there?" in made.stderr


def test_a_reader_who_has_seen_enough_is_no_error(root: Path) -> None:
    command = f"{sys.executable} -m fairlead translate -f {root}/envoy-configs/examples/first --gateway default/edge"
    made = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{command} | head -n 1"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (made.returncode, made.stdout, made.stderr) == (0, "CDS:\n", "")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_who_left_before_the_first_word_is_no_error_either(unbuffered: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        made = subprocess.run(
            [sys.executable, "-m", "fairlead", "version"],
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        )
    finally:
        os.close(writer)
    assert (made.returncode, made.stderr) == (0, "")


def test_validate_tells_file_line_path_and_fix_and_ends_with_1(tmp_path: Path) -> None:
    file = tmp_path / "route.yaml"
    file.write_text("apiVersion: fairlead.dev/v1alpha1\nkind: Service\nmetadata: {name: a}\nspec:\n  prots: []\n")
    made = run("validate", "-f", str(file))
    assert made.returncode == 1
    assert f"{file}:5: error" in made.stdout
    assert "spec.prots" in made.stdout
    assert "did you mean" in made.stdout.lower()
    assert made.stderr == "1 object, 2 errors, 0 warnings\n"


def test_validate_reads_stdin_and_folders(root: Path) -> None:
    folder = root / "envoy-configs" / "examples"
    assert run("validate", "-f", str(folder)).returncode == 0
    text = (folder / "first" / "config.yaml").read_text()
    assert run("validate", "-f", "-", stdin=text).stderr == "4 objects, 0 errors, 0 warnings\n"


@pytest.mark.parametrize(("content", "words"), [(b"\xff\xfe", "not UTF-8"), (None, "No such file")])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None, words: str) -> None:
    file = tmp_path / "x.yaml"
    if content is not None:
        file.write_bytes(content)
    made = run("validate", "-f", str(file))
    assert made.returncode == 1
    assert f"{file}: error" in made.stdout
    assert words in made.stdout
    assert "Fix: " in made.stdout


def test_one_unreadable_file_does_not_keep_the_others_from_being_checked(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xff")
    (tmp_path / "b.yaml").write_text("kind: Nonsense\n")
    with (tmp_path / "c.yaml").open("wb") as large:
        large.truncate(17 * 1024 * 1024)
    made = run("validate", "-f", str(tmp_path), "-f", str(tmp_path / "none.yaml"), "-o", "json")
    assert made.returncode == 1
    problems = [(Path(each["file"]).name, each["code"]) for each in json.loads(made.stdout)]
    assert problems == [
        ("a.yaml", "NotUTF8"),
        ("b.yaml", "MissingField"),
        ("c.yaml", "TooLarge"),
        ("none.yaml", "Unreadable"),
    ]


@pytest.mark.parametrize("command", ["validate", "apply"])
@pytest.mark.parametrize("where", ["-", "folder", "file"])
def test_nothing_to_do_is_an_error_wherever_it_was_looked_for(tmp_path: Path, command: str, where: str) -> None:
    file = tmp_path / "file.yaml"
    file.write_text("# nothing\n")
    (tmp_path / "folder").mkdir()
    path = {"-": "-", "folder": str(tmp_path / "folder"), "file": str(file)}[where]
    made = run(command, "-f", path)
    assert made.returncode == 1
    assert f"there are no objects in {path}" in made.stdout + made.stderr


def test_an_object_that_two_files_declare_is_an_error_that_names_both(tmp_path: Path) -> None:
    text = "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n"
    (tmp_path / "a.yaml").write_text(text)
    (tmp_path / "b.yaml").write_text("\n" + text)
    made = run("validate", "-f", str(tmp_path))
    assert made.returncode == 1
    assert f"{tmp_path}/b.yaml:2: error [DuplicateObject] Namespace a is declared twice" in made.stdout
    assert f"first in {tmp_path}/a.yaml:1" in made.stdout
    assert run("apply", "-f", str(tmp_path), "--server", "http://127.0.0.1:1").stderr.endswith("nothing was done\n")


def test_what_follows_from_files_for_nobody_is_an_error(root: Path) -> None:
    example = str(root / "envoy-configs/examples/first")
    made = run("translate", "-f", example, "--gateway", "default/nope")
    assert (made.returncode, made.stdout) == (1, "")
    assert "no gateway default/nope follows from these files. Fix: " in made.stderr


def test_translate_shows_no_private_key(root: Path) -> None:
    made = run("translate", "-f", str(root / "tests/golden/https/in.yaml"), "--gateway", "default/edge", "-o", "json")
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["SDS"]
    assert "PRIVATE KEY" not in made.stdout
    assert base64.b64encode(b"PRIVATE KEY").decode()[:10] not in made.stdout
    assert "[redacted]" in made.stdout or base64.b64encode(b"[redacted]").decode() in made.stdout


def test_a_certificate_that_is_not_there_stops_envoy_and_is_told_with_a_bootstrap(tmp_path: Path) -> None:
    flags = [word for flag in ("cert", "key", "ca") for word in (f"--{flag}", str(tmp_path / flag))]
    made = run("envoy", "gateway", "--name", "edge", *flags)
    assert (made.returncode, made.stdout) == (1, "")
    assert f"--cert: cannot read {tmp_path}/cert: No such file or directory" in made.stderr
    printed = run("bootstrap", "gateway", "--name", "edge", *flags)
    assert printed.returncode == 0
    assert f"--key: cannot read {tmp_path}/key" in printed.stderr


@pytest.mark.parametrize(
    ("flags", "warned"),
    [
        (["--xds", "cp.example:18000"], True),
        (["--xds", "localhost:18000"], False),
        (["--xds", "[::1]:18000"], False),
        (["--xds", "cp.example:18000", "--agent", "/run/agent.sock"], False),
    ],
)
def test_a_bootstrap_for_plaintext_to_another_machine_is_printed_with_a_warning(flags: list[str], warned: bool) -> None:
    made = run("bootstrap", "gateway", "--name", "edge", *flags)
    assert made.returncode == 0
    assert made.stdout.startswith("node:")
    assert ("cp.example:18000 is asked in plaintext" in made.stderr) is warned


def test_an_admin_port_that_is_taken_stops_envoy_and_is_told_in_a_line() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        made = run("envoy", "gateway", "--name", "edge", "--admin-port", str(port))
        assert made.returncode == 1
        assert made.stderr == (
            f"fairlead: 127.0.0.1:{port} is in use by another process. Fix: --admin-port 0 takes a free port\n"
        )
        looked = run("envoy", "gateway", "--name", "edge", "--admin-port", str(port), "--", "--version")
        assert looked.returncode == 0


def test_a_misspelt_variable_is_an_error() -> None:
    made = run("serve", "--insecure-xds", env={"FAIRLEAD_LOG_LEVLE": "debug"})
    assert made.returncode == 2
    assert "FAIRLEAD_LOG_LEVLE, and there is no such setting. Fix: did you mean FAIRLEAD_LOG_LEVEL?" in made.stderr


def test_apply_sends_nothing_when_one_of_the_files_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("kind: Nonsense\n")
    made = run("apply", "-f", str(tmp_path), "--server", "http://127.0.0.1:1")
    assert made.returncode == 1
    assert "nothing was done" in made.stderr
    assert "is `fairlead serve` running" not in made.stderr


def test_completion_knows_the_commands() -> None:
    assert "_FAIRLEAD_COMPLETE=complete_bash" in run("completion", "bash").stdout.replace("\\\n", "")
    env = {"_FAIRLEAD_COMPLETE": "complete_bash", "COMP_WORDS": "fairlead pro", "COMP_CWORD": "1"}
    assert run(env=env).stdout.split() == ["proxies", "proxy", "problems"]


def test_doctor_and_version_speak_json(tmp_path: Path) -> None:
    env = {"XDG_STATE_HOME": str(tmp_path)}
    doctor = run("doctor", "-o", "json", env=env)
    assert '"check": "Envoy"' in doctor.stdout
    assert '"envoy": "1.40.0"' in run("version", "-o", "json").stdout


def test_backup_and_restore_say_what_is_missing(tmp_path: Path) -> None:
    env = {"XDG_STATE_HOME": str(tmp_path)}
    backup = run("backup", str(tmp_path / "copy.db"), env=env)
    assert (backup.returncode, backup.stderr.startswith("fairlead: There is no store at")) == (1, True)
    restore = run("restore", str(tmp_path / "copy.db"), env=env)
    assert (restore.returncode, "There is no backup" in restore.stderr) == (1, True)


def test_measured_time_of_help_is_what_a_person_waits() -> None:
    started = time.monotonic()
    run("--help")
    assert time.monotonic() - started < 3.0, "something heavy is imported for --help"


TOKEN_FLAGS = ("--token-file", "/t/token", "--ca", "/t/ca.crt")


def test_a_bootstrap_with_a_token_is_written_with_the_files_that_it_refers_to(tmp_path: Path) -> None:
    into = tmp_path / "made" / "here"
    done = run("bootstrap", "gateway", "--name", "edge", "--xds", "cp.example:1", *TOKEN_FLAGS, "--into", str(into))
    assert done.returncode == 0
    assert sorted(path.name for path in into.iterdir()) == ["bootstrap.yaml", "ca.yaml", "token.yaml"]
    assert f"path: {into}/token.yaml" in (into / "bootstrap.yaml").read_text()
    assert "filename: /t/token" in (into / "token.yaml").read_text()


@pytest.mark.parametrize(
    ("arguments", "fix"),
    [
        (["gateway", *TOKEN_FLAGS], "Fix: --into DIR"),
        (["gateway", "--token-file", "/t/token", "--into", "{}"], "Fix: add --ca"),
        (["gateway", "--token-file", "token", "--ca", "/t/ca.crt", "--into", "{}"], "the whole path"),
        (["gateway", *TOKEN_FLAGS, "--cert", "c", "--key", "k", "--into", "{}"], "exclude each other"),
        (["grpc", *TOKEN_FLAGS, "--into", "{}"], "leave it out|Fix: > grpc.json"),
        (["grpc", "--into", "{}"], "Fix: > grpc.json"),
    ],
)
def test_flags_of_a_token_that_do_not_fit_are_refused(tmp_path: Path, arguments: list[str], fix: str) -> None:
    kind, *flags = (each.format(tmp_path / "into") for each in arguments)
    done = run("bootstrap", kind, "--name", "edge", *flags)
    assert done.returncode == 2
    assert re.search(fix, done.stderr)
    assert not (tmp_path / "into").exists()

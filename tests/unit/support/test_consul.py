"""Where tests take Consul from, and what becomes of them where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import consul


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No consul on PATH, none fetched before, and an apt that finds no mirror."""
    apt = tmp_path / "apt-get"
    apt.write_text(
        "#!/bin/sh\necho 'Err: http://deb.debian.org bullseye' >&2\necho 'E: no mirror answers' >&2\nexit 100\n"
    )
    apt.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(consul, "_CACHE", tmp_path / "cache" / "consul")
    return tmp_path


@pytest.mark.parametrize("said", ["true", "1"])
def test_in_ci_a_consul_that_cannot_be_fetched_fails_the_test_and_says_why(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    monkeypatch.setenv("CI", said)
    with pytest.raises(pytest.fail.Exception, match="could not be fetched: E: no mirror answers"):
        consul.required_consul()


@pytest.mark.parametrize("said", [None, "", "false"])
def test_elsewhere_it_skips_the_test_and_says_why(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch, said: str | None
) -> None:
    monkeypatch.delenv("CI", raising=False) if said is None else monkeypatch.setenv("CI", said)
    with pytest.raises(pytest.skip.Exception, match="no mirror answers"):
        consul.required_consul()
    assert consul.consul_binary() is None


def test_the_one_on_the_path_comes_first(nowhere: Path) -> None:
    program = nowhere / "consul"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert consul.required_consul() == program

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fairlead.commands.serve import app
from fairlead.errors import UsageError
from fairlead.settings import Settings, describe
from fairlead.settings_load import load
from fairlead.settings_page import reference_page
from fairlead.stores.store_place import default_store_path, store_path


def test_nothing_given_means_the_defaults() -> None:
    assert load({}, environ={}) == Settings()


def test_a_flag_wins_over_the_environment_and_the_environment_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("xds: 127.0.0.1:1\napi: 127.0.0.1:2\nlog_level: debug\n")
    environ = {"FAIRLEAD_XDS": "127.0.0.1:3", "FAIRLEAD_API": "127.0.0.1:4"}
    found = load({"xds": "127.0.0.1:5", "api": None}, environ=environ, config_file=str(file))
    assert (found.xds, found.api, found.log_level) == ("127.0.0.1:5", "127.0.0.1:4", "debug")


@pytest.mark.parametrize(
    ("name", "text"), [("s.toml", 'quiet_period = 0.5\nfiles = ["a"]\n'), ("s.yaml", "{quiet_period: 0.5, files: [a]}")]
)
def test_the_file_may_be_toml_or_yaml(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    found = load({}, environ={"FAIRLEAD_CONFIG": str(tmp_path / name)})
    assert (found.quiet_period, found.files) == (0.5, ("a",))


def test_an_unknown_key_in_the_file_is_named_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("quiet_perod: 1\n")
    with pytest.raises(UsageError, match=r"s\.yaml: unknown setting 'quiet_perod'. Fix: did you mean 'quiet_period'"):
        load({}, environ={}, config_file=str(tmp_path / "s.yaml"))


@pytest.mark.parametrize("text", [None, "a: ["])
def test_every_fault_of_the_file_comes_with_its_fix(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(UsageError, match="Fix: "):
        load({}, environ={}, config_file=str(tmp_path / "s.yaml"))


@pytest.mark.parametrize("text", ["[1]", "a: [", "\x00", "just words"])
def test_a_file_that_is_no_settings_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(UsageError, match=r"s\.yaml: "):
        load({}, environ={}, config_file=str(tmp_path / "s.yaml"))


def test_a_missing_file_is_named() -> None:
    with pytest.raises(UsageError, match=r"/nowhere/s\.toml: cannot read the settings file: No such file"):
        load({}, environ={}, config_file="/nowhere/s.toml")


def test_help_says_of_each_flag_what_it_takes_and_in_which_unit() -> None:
    text = CliRunner().invoke(app, ["--help"], terminal_width=400).output
    takes = dict(re.findall(r"^  (--[a-z-]+) (\S+)(?:  |$)", text, re.MULTILINE))
    assert takes["--xds"] == takes["--gateway-xds"] == "HOST:PORT"
    assert (takes["--quiet-period"], takes["--first-bytes-wait"]) == ("SECONDS", "MILLISECONDS")
    assert (takes["--streams-per-second"], takes["--gateway-image"]) == ("NUMBER", "IMAGE")
    files = {flag for flag, what in takes.items() if what == "FILE"}
    named = {flag for flag in takes if re.search(r"-(file|cert|key|ca|roots|issuers)$", flag)}
    assert files == named - {"--ca"} | {"--config", "--store-local"}
    assert "One of , " not in text


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"FAIRLEAD_QUIET_PERIOD": "soon"}, "FAIRLEAD_QUIET_PERIOD = 'soon': Expected `float`"),
        ({"FAIRLEAD_QUIET_PERIOD": "-1"}, "FAIRLEAD_QUIET_PERIOD = '-1': Expected `float` >= 0"),
        ({"FAIRLEAD_LOG_LEVEL": "loud"}, "FAIRLEAD_LOG_LEVEL = 'loud': Invalid enum value"),
        ({"FAIRLEAD_INSECURE_XDS": "maybe"}, "FAIRLEAD_INSECURE_XDS = 'maybe': Expected `bool`"),
    ],
)
def test_a_wrong_value_is_told_by_the_name_it_was_given_under(environ: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError) as raised:
        load({}, environ=environ)
    assert words in str(raised.value)


def test_folders_in_the_environment_are_separated_as_in_path() -> None:
    assert load({}, environ={"FAIRLEAD_FILES": "/a:/b"}).files == ("/a", "/b")


def test_the_store_is_in_the_users_state_directory_unless_said_otherwise() -> None:
    assert default_store_path({"XDG_STATE_HOME": "/s"}) == Path("/s/fairlead/fairlead.db")
    assert default_store_path({"HOME": "/h"}) == Path("/h/.local/state/fairlead/fairlead.db")
    assert store_path(Settings(store="sqlite:/x/y.db")) == Path("/x/y.db")


def test_what_kubernetes_adds_for_a_service_of_our_name_is_not_taken_for_a_setting() -> None:
    names = ("SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_XDS", "PORT", "PORT_18000_TCP", "PORT_18000_TCP_ADDR")
    environ = {f"FAIRLEAD_{name}": "x" for name in (*names, "XDS_SERVICE_HOST", "SERVER", "TOKEN")}
    assert load({}, environ=environ) == Settings()


def test_an_unknown_variable_is_named_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"FAIRLEAD_QUIET_PEROID.*did you mean FAIRLEAD_QUIET_PERIOD"):
        load({}, environ={"FAIRLEAD_QUIET_PEROID": "1"})
    with pytest.raises(UsageError, match=r"FAIRLEAD_UNICORN.*Fix: unset it"):
        load({}, environ={"FAIRLEAD_UNICORN": "1"})


def test_tokens_have_no_flag() -> None:
    flags = {info.name: info.flag for info in describe()}
    secret = {"api_tokens", "ca_passphrase"}
    assert {flags[name] for name in secret} == {""}
    assert all(flag.startswith("--") for name, flag in flags.items() if name not in secret)


@pytest.mark.parametrize("store", ["sqlite::memory:", "sqlite::x"])
def test_a_store_that_is_no_file_is_refused(store: str) -> None:
    with pytest.raises(UsageError, match="names no file"):
        store_path(Settings(store=store))


@pytest.mark.parametrize("store", ["y.db", "etcd:http://x", "sqlite:"])
def test_a_store_we_do_not_know_is_refused(store: str) -> None:
    with pytest.raises(UsageError, match="Fix: write sqlite:PATH"):
        store_path(Settings(store=store))


def test_the_reference_page_is_what_the_code_says(root: Path) -> None:
    assert (root / "docs/reference/settings.md").read_text() == reference_page(), "run `make docs`"


def test_every_setting_says_what_it_means() -> None:
    assert all(info.description.endswith(".") for info in describe())

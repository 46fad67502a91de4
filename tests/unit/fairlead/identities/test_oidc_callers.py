"""Tokens of listed issuers as a way in: who is asked about which, floods, and a file that changes."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from fairlead.errors import UsageError
from fairlead.identities.oidc_callers import OidcCallers
from fairlead.identities.tokens import with_oidc
from fairlead.settings import Settings
from tests.unit.sds.test_oidc import GOOD, NOW, OTHER, document, jwk, made
from xds.server.authentication import CannotReviewError, NotAuthenticatedError, Vouched


class Others:
    """Takes every token: what reaches it was not judged before."""

    async def review(self, token: str, *, caller: str) -> Vouched:
        return Vouched("others", token[:5] + caller, 0.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "issuers.json"
    made.write_bytes(document())
    return made


@pytest.fixture
def callers(path: Path) -> OidcCallers:
    return OidcCallers(path, Others(), clock=lambda: NOW)


async def test_a_listed_issuers_token_is_its_subjects_account(callers: OidcCallers) -> None:
    assert await callers.review(GOOD, caller="a") == Vouched("shop", "reviews", NOW + 300)


async def test_a_bad_token_of_a_listed_issuer_is_not_passed_on(callers: OidcCallers) -> None:
    with pytest.raises(NotAuthenticatedError, match="signature is wrong"):
        await callers.review(made(key=OTHER), caller="a")


@pytest.mark.parametrize("token", ["", "a.b.c", made(iss="https://cluster.example")])
async def test_other_tokens_are_for_others_to_review(callers: OidcCallers, token: str) -> None:
    assert (await callers.review(token, caller="a")).namespace == "others"


async def test_who_shows_many_bad_tokens_has_to_wait_and_nobody_else(callers: OidcCallers) -> None:
    for _ in range(20):
        with pytest.raises(NotAuthenticatedError):
            await callers.review(made(key=OTHER), caller="flood")
    with pytest.raises(CannotReviewError, match="too many bad tokens"):
        await callers.review(GOOD, caller="flood")
    assert await callers.review(GOOD, caller="other")


def change(path: Path, content: bytes | None) -> None:
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)


async def test_a_changed_file_holds_at_once_and_a_broken_one_not_at_all(
    callers: OidcCallers, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    change(path, b"{")
    assert await callers.review(GOOD, caller="a")
    assert "stays in force" in caplog.text
    caplog.set_level(logging.INFO)
    change(path, document(jwks={"keys": [jwk("e", OTHER)]}))
    with pytest.raises(NotAuthenticatedError):
        await callers.review(GOOD, caller="a")
    assert await callers.review(made(key=OTHER), caller="a")
    change(path, None)
    assert await callers.review(made(key=OTHER), caller="a")


def test_settings_say_whether_there_are_any(path: Path, tmp_path: Path) -> None:
    others = Others()
    assert with_oidc(Settings(), others) is others
    assert isinstance(with_oidc(Settings(oidc_issuers=str(path)), others), OidcCallers)
    with pytest.raises(UsageError, match="--oidc-issuers"):
        with_oidc(Settings(oidc_issuers=str(tmp_path / "none.json")), others)

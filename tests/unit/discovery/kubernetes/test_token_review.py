"""What tokens and an API server's answers mean; the answers are those of Kubernetes 1.34."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Mapping

import msgspec
import pytest

from discovery.kubernetes.api import ApiError, Method, UnreachableError
from discovery.kubernetes.token_keys import HOLDS_SECONDS, ForgedError, Signed, UnknownKeyError
from discovery.kubernetes.token_review import (
    PATH,
    Account,
    BadTokenError,
    Callers,
    NoReviewError,
    TokenReviews,
    account_in,
    claims_of,
    plausible,
    question,
)

NOW = 1_795_656_300.0
GOOD: dict[str, object] = {
    "audiences": ["fairlead"],
    "authenticated": True,
    "user": {
        "extra": {
            "authentication.kubernetes.io/credential-id": ["JTI=10643b5f-cb2d-4b8c-bed6-7e9d7a954de6"],
            "authentication.kubernetes.io/node-name": ["node1"],
            "authentication.kubernetes.io/pod-name": ["edge-5d8f-abcde"],
            "authentication.kubernetes.io/pod-uid": ["0f0a1c9e-7a0b-4a43-9d7e-000000000001"],
        },
        "groups": ["system:serviceaccounts", "system:serviceaccounts:shop", "system:authenticated"],
        "uid": "d2f2f104-bbd4-4786-a99a-28818b674a02",
        "username": "system:serviceaccount:shop:edge",
    },
}
BAD = {
    "error": '[invalid bearer token, token audiences ["other"] is invalid for the target audiences ["fairlead"]]',
    "user": {},
}


def token(**claims: object) -> str:
    """A token that says so, signed by nobody."""
    said = {"aud": ["fairlead"], "exp": NOW + 3_600, "iss": "https://kubernetes.default.svc", **claims}
    parts = ({"alg": "RS256"}, {key: value for key, value in said.items() if value is not None})
    return ".".join(
        [*(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts), "s"]
    )


def answer(status: object) -> bytes:
    return json.dumps({"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "status": status}).encode()


def with_user(**changes: object) -> dict[str, object]:
    return {**GOOD, "user": {**GOOD["user"], **changes}}  # type: ignore[dict-item]


# -- pure --------------------------------------------------------------------------------------------------------------


def test_a_good_answer_says_which_account_and_which_pod() -> None:
    assert account_in(answer(GOOD), audience="fairlead", expires_at=9.0, cluster="east") == Account(
        namespace="shop",
        name="edge",
        expires_at=9.0,
        pod="edge-5d8f-abcde",
        pod_uid="0f0a1c9e-7a0b-4a43-9d7e-000000000001",
        cluster="east",
        node="node1",
    )


@pytest.mark.parametrize(
    ("status", "why"),
    [
        (BAD, "target audiences"),
        ({}, "not authenticated"),
        ({**GOOD, "audiences": ["other"]}, "for the audience 'other'"),
        ({**GOOD, "audiences": []}, "for the audience of nobody"),
        (with_user(username="alice"), "'alice' in cluster east is no service account"),
        (with_user(username="system:serviceaccount:shop:edge:more"), "no service account"),
        (with_user(username="system:serviceaccount:shop/../x:edge"), "no service account"),
        (with_user(username="system:serviceaccount:shop:edge\n"), "no service account"),
        (with_user(groups=["system:authenticated"]), "no service account"),
        ([], "is no TokenReview"),
    ],
)
def test_any_other_answer_makes_nobody_of_it(status: object, why: str) -> None:
    with pytest.raises(BadTokenError, match=why):
        account_in(answer(status), audience="fairlead", expires_at=9.0, cluster="east")


@pytest.mark.parametrize("body", [b"", b"null", b"<html>", b"[" * 100_000, b'{"status": {"user": 3}}'])
def test_an_answer_that_is_none_is_no_permission(body: bytes) -> None:
    with pytest.raises(BadTokenError):
        account_in(body, audience="fairlead", expires_at=9.0)


def test_the_question_names_our_audience() -> None:
    assert json.loads(question("a.b.c", "fairlead"))["spec"] == {"token": "a.b.c", "audiences": ["fairlead"]}


@pytest.mark.parametrize(
    ("shown", "why"),
    [
        ("opaque", "no JWT"),
        ("a.b", "no JWT"),
        ("a.b.c", "claims cannot be read"),
        ("a..c", "claims cannot be read"),
        ("a.é.c", "claims cannot be read"),
        ("a." + base64.urlsafe_b64encode(b"[" * 9_000).decode().rstrip("=") + ".c", "claims cannot be read"),
        (token(aud="other"), "for the audience 'other', not for fairlead"),
        (token(aud=["x" * 9_000]), "for the audience 'x"),
        (token(aud=None), "of nobody"),
        (token(exp=None), "never ends"),
        (token(exp=NOW - 5), "ended 5 s ago"),
        (token(exp="soon"), "claims cannot be read"),
    ],
)
def test_a_token_that_cannot_be_good_is_told_by_its_own_words(shown: str, why: str) -> None:
    with pytest.raises(BadTokenError, match=why) as caught:
        plausible(shown, audience="fairlead", now=NOW)
    assert len(str(caught.value)) < 500


def test_an_audience_may_be_one_or_several() -> None:
    assert claims_of(token(aud="fairlead")).audiences == ("fairlead",)
    assert plausible(token(aud=["x", "fairlead"]), audience="fairlead", now=NOW).exp == NOW + 3_600


def test_an_address_that_shows_bad_tokens_has_to_wait_and_is_forgiven() -> None:
    callers = Callers()
    for _ in range(20):
        assert not callers.must_wait("192.0.2.1", NOW)
        callers.bad("192.0.2.1", NOW)
    assert callers.must_wait("192.0.2.1", NOW)
    assert not callers.must_wait("192.0.2.2", NOW)
    assert not callers.must_wait("192.0.2.1", NOW + 10)


def test_addresses_are_remembered_in_bounded_number() -> None:
    callers = Callers()
    for number in range(20_000):
        callers.bad(str(number), NOW)
    assert len(callers._spent) == 10_000


# -- asking ------------------------------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


class Cluster:
    """An API server that answers as told."""

    def __init__(self, *, says: bytes | Exception) -> None:
        self.says = says
        self.asked = 0
        self.held = asyncio.Event()
        self.held.set()

    async def request(
        self,
        method: Method,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = "",
        timeout: float = 15.0,  # noqa: ASYNC109 - the protocol's
    ) -> bytes:
        assert (method, path) == ("POST", PATH)
        self.asked += 1
        await self.held.wait()
        if isinstance(self.says, Exception):
            raise self.says
        return self.says

    def lines(self, path: str, *, query: Mapping[str, str], idle_timeout: float) -> AsyncIterator[bytes]:
        raise NotImplementedError


def reviews(clock: Clock, **clusters: Cluster) -> TokenReviews:
    return TokenReviews(lambda: clusters, clock=clock)


async def account(asked: TokenReviews, shown: str, caller: str = "192.0.2.1") -> Account:
    return await asked.account(shown, caller=caller)


async def test_a_good_answer_holds_for_a_minute() -> None:
    clock, east = Clock(), Cluster(says=answer(GOOD))
    asked, shown = reviews(clock, east=east), token()
    for _ in range(3):
        assert (await account(asked, shown)).name == "edge"
    assert east.asked == 1
    clock.now += 61
    await account(asked, shown)
    assert east.asked == 2


async def test_a_token_that_was_good_and_is_revoked_is_bad_at_the_next_asking() -> None:
    clock, east = Clock(), Cluster(says=answer(GOOD))
    asked, shown = reviews(clock, east=east), token()
    await account(asked, shown)
    east.says = answer(BAD)
    clock.now += 61
    with pytest.raises(BadTokenError):
        await account(asked, shown)
    clock.now += 61
    east.says = UnreachableError("gone")
    with pytest.raises(NoReviewError):
        await account(asked, shown)


async def test_a_bad_answer_holds_for_some_seconds_only() -> None:
    clock, east = Clock(), Cluster(says=answer(BAD))
    asked, shown = reviews(clock, east=east), token()
    for _ in range(3):
        with pytest.raises(BadTokenError):
            await account(asked, shown)
    assert east.asked == 1
    clock.now += 6
    east.says = answer(GOOD)
    assert (await account(asked, shown)).name == "edge"


async def test_what_a_token_gives_away_itself_is_not_asked_for() -> None:
    clock, east = Clock(), Cluster(says=answer(GOOD))
    for shown in ("garbage", token(aud="other"), token(exp=NOW - 1)):
        with pytest.raises(BadTokenError):
            await account(reviews(clock, east=east), shown)
    assert east.asked == 0


async def test_many_who_show_one_token_at_once_are_one_question() -> None:
    east = Cluster(says=answer(GOOD))
    east.held.clear()
    asked, shown = reviews(Clock(), east=east), token()
    waiting = [asyncio.get_running_loop().create_task(account(asked, shown)) for _ in range(5)]
    while not east.asked:  # noqa: ASYNC110 - nothing signals it
        await asyncio.sleep(0)
    waiting[0].cancel()
    east.held.set()
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError), "who goes away does not take the answer from the others"
    assert [each.name for each in found[1:] if isinstance(each, Account)] == ["edge"] * 4
    assert east.asked == 1


async def test_a_flood_of_bad_tokens_from_one_address_is_not_passed_on_and_does_not_touch_the_good() -> None:
    east = Cluster(says=answer(GOOD))
    asked, good = reviews(Clock(), east=east), token()
    await account(asked, good)
    east.says = answer(BAD)
    for number in range(20):
        with pytest.raises(BadTokenError):
            await account(asked, token(sub=number))
    with pytest.raises(NoReviewError, match=r"192\.0\.2\.1 has shown too many"):
        await account(asked, token(sub=21))
    assert east.asked == 21
    assert (await account(asked, good)).name == "edge"


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (UnreachableError("connection refused"), "connection refused"),
        (ApiError(403, "Forbidden", "cannot create tokenreviews"), "Fix: let Fairlead's account create tokenreviews"),
        (ApiError(500, "InternalError", "etcd"), "etcd"),
    ],
)
async def test_where_nobody_can_be_asked_it_is_neither_good_nor_bad(trouble: Exception, said: str) -> None:
    with pytest.raises(NoReviewError, match=said):
        await account(reviews(Clock(), east=Cluster(says=trouble)), token())
    with pytest.raises(NoReviewError, match="no cluster"):
        await account(reviews(Clock()), token())


async def test_what_was_found_good_stands_until_its_end_while_nobody_can_be_asked() -> None:
    clock, east = Clock(), Cluster(says=answer(GOOD))
    asked, shown = reviews(clock, east=east), token()
    await account(asked, shown)
    east.says = UnreachableError("gone")
    clock.now += 3_000
    assert (await account(asked, shown)).name == "edge"
    clock.now += 601
    with pytest.raises(BadTokenError, match="ended"):
        await account(asked, shown)


async def test_of_several_clusters_the_one_that_knows_the_token_says_whose_it_is() -> None:
    east, west = Cluster(says=answer(BAD)), Cluster(says=answer(GOOD))
    asked = reviews(Clock(), east=east, west=west)
    assert (await account(asked, token())).cluster == "west"
    assert (east.asked, west.asked) == (1, 1)
    await account(asked, token(sub="another of that issuer"))
    assert (east.asked, west.asked) == (1, 2)
    west.says = answer(BAD)
    with pytest.raises(BadTokenError, match="cluster east"):
        await account(asked, token(sub="nobody's"))


async def test_a_cluster_that_is_away_may_be_the_one_that_knows() -> None:
    east, west = Cluster(says=UnreachableError("gone")), Cluster(says=answer(BAD))
    with pytest.raises(NoReviewError):
        await account(reviews(Clock(), east=east, west=west), token())


class Keys:
    """Tells of any token what it is made with, or raises that; counts how often it was asked."""

    def __init__(self, says: Signed | Exception) -> None:
        self.says = says
        self.asked: list[str] = []

    def signed(self, cluster: str, token: str, *, audience: str, now: float) -> Signed:
        self.asked.append(cluster)
        if isinstance(self.says, Exception):
            raise self.says
        return self.says


SIGNED = Signed("shop", "edge", "edge-5d8f-abcde", "p", NOW + 3_600)
AWAY = UnreachableError("connection refused")


async def test_a_token_that_was_never_reviewed_is_taken_by_its_signature_for_minutes_and_that_is_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, east, keys = Clock(), Cluster(says=AWAY), Keys(SIGNED)
    asked = TokenReviews(lambda: {"east": east}, clock=clock, signatures=keys)
    found = await account(asked, token())
    assert (found.namespace, found.name, found.pod, found.cluster) == ("shop", "edge", "edge-5d8f-abcde", "east")
    assert found.expires_at == NOW + HOLDS_SECONDS, "so that it is reviewed soon, if that can be"
    await account(asked, token())
    [said] = [record.message for record in caplog.records if "by its signature" in record.message]
    assert "shop/edge" in said
    assert "connection refused" in said
    assert token().split(".")[1] not in said
    east.says = answer(BAD)
    with pytest.raises(BadTokenError):
        await account(asked, token())


async def test_a_signature_counts_never_longer_than_its_token() -> None:
    keys = Keys(msgspec.structs.replace(SIGNED, expires_at=NOW + 7))
    asked = TokenReviews(lambda: {"east": Cluster(says=AWAY)}, clock=Clock(), signatures=keys)
    assert (await account(asked, token())).expires_at == NOW + 7


@pytest.mark.parametrize(
    "answered",
    [answer(GOOD), answer(BAD), ApiError(401, "Unauthorized", ""), ApiError(403, "Forbidden", ""), b"<html>"],
)
async def test_where_an_api_server_answers_no_signature_is_looked_at(answered: bytes | Exception) -> None:
    keys = Keys(SIGNED)
    asked = TokenReviews(lambda: {"east": Cluster(says=answered)}, clock=Clock(), signatures=keys)
    with contextlib.suppress(BadTokenError, NoReviewError):
        assert (await account(asked, token())).expires_at > NOW + HOLDS_SECONDS
    assert keys.asked == []


async def test_an_api_server_that_cannot_do_its_work_counts_as_away() -> None:
    keys = Keys(SIGNED)
    broken = Cluster(says=ApiError(503, "ServiceUnavailable", "etcd"))
    assert (await account(TokenReviews(lambda: {"east": broken}, clock=Clock(), signatures=keys), token())).name


async def test_only_the_keys_of_clusters_that_are_away_count() -> None:
    keys = Keys(UnknownKeyError("none"))
    clusters = {"east": Cluster(says=answer(BAD)), "west": Cluster(says=AWAY)}
    with pytest.raises(NoReviewError, match="connection refused"):
        await account(TokenReviews(lambda: clusters, clock=Clock(), signatures=keys), token())
    assert keys.asked == ["west"]


async def test_a_forged_token_is_bad_and_its_caller_waits_as_for_any_other() -> None:
    asked = TokenReviews(lambda: {"east": Cluster(says=AWAY)}, clock=Clock(), signatures=Keys(ForgedError("wrong")))
    for number in range(20):
        with pytest.raises(BadTokenError, match="wrong"):
            await account(asked, token(sub=number))
    with pytest.raises(NoReviewError, match="too many"):
        await account(asked, token(sub=21))


async def test_what_an_api_server_refused_stays_refused_while_it_is_away_however_its_signature_is_written() -> None:
    clock, east, keys = Clock(), Cluster(says=answer(BAD)), Keys(SIGNED)
    asked = TokenReviews(lambda: {"east": east}, clock=clock, signatures=keys)
    with pytest.raises(BadTokenError):
        await account(asked, token())
    clock.now += 1_000
    east.says = AWAY
    for shown in (token(), token() + "A"):
        with pytest.raises(BadTokenError):
            await account(asked, shown)
    assert keys.asked == []


async def test_no_token_is_in_what_is_said_or_kept() -> None:
    east = Cluster(says=answer(BAD))
    asked, shown = reviews(Clock(), east=east), token()
    with pytest.raises(BadTokenError) as caught:
        await account(asked, shown)
    assert shown.split(".")[1] not in str(caught.value)
    assert shown not in repr(vars(asked))

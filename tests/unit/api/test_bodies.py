from __future__ import annotations

import pytest

from api.bodies import Limits
from tests.unit.api.fakes import Answer, Client, Fixture, fixture, service

URL = "/api/v1/namespaces/default/services/reviews"
JSON = {"content-type": "application/json"}
YAML = {"content-type": "application/yaml; charset=utf-8"}


async def put(api: Fixture, body: bytes | list[bytes], headers: dict[str, str] = JSON) -> Answer:
    return await api.client.request("PUT", URL, body=body, headers=headers)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b"{} {}", 400),
        (b'{"spec": NaN}', 400),
        (b'{"spec": 1e999}', 400),
        (b'{"spec": "\\ud800"}', 400),
        (b'{"spec": {"ports": 1, "ports": 2}}', 422),
        (b'{"spec": ' + b"9" * 5000 + b"}", 422),
        (b"[" * 100_000, 400),
        (b"[" * 50 + b"]" * 50, 422),
        (b'{"a":' * 40 + b"1" + b"}" * 40, 422),
    ],
)
async def test_json_that_could_mean_anything_is_refused(api: Fixture, body: bytes, status: int) -> None:
    answer = await put(api, body)
    if body[:9] == b'{"spec": ' and b"999999" in body and status == 422:
        assert answer.status in {400, 422}, "a number no machine needs is refused, as JSON or as an object"
    else:
        assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["detail"]
    assert (await api.client.get(URL)).status == 404


async def test_a_key_that_stands_twice_is_named(api: Fixture) -> None:
    answer = await put(api, b'{"spec": {"ports": 1, "ports": 2}}')
    assert [(one["code"], one["path"]) for one in answer.json["problems"]] == [("DuplicateKey", "ports")]


async def test_yaml_is_read_and_one_document_is_what_a_path_can_take(api: Fixture) -> None:
    text = b"apiVersion: fairlead.dev/v1alpha1\nkind: Service\nspec:\n  ports: [{name: http, port: 80}]\n"
    assert (await put(api, text, YAML)).status == 201
    assert (await put(api, text + b"---\n" + text, YAML)).status == 400
    assert (await put(api, b"", YAML)).status == 400
    assert (await put(api, b"a: [", YAML)).status == 422
    assert (await put(api, b"\xff", YAML)).status == 400


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
async def test_other_content_types_are_refused_so_that_no_web_form_can_write(api: Fixture, content_type: str) -> None:
    answer = await put(api, b"{}", {"content-type": content_type})
    assert answer.status == 415
    assert "application/json" in answer.json["fix"]


async def test_a_compressed_body_is_refused(api: Fixture) -> None:
    assert (await put(api, b"x", {**JSON, "content-encoding": "gzip"})).status == 415


@pytest.mark.parametrize("declared", [{}, {"content-length": "999999999"}])
async def test_a_body_over_the_cap_is_413_without_being_kept(declared: dict[str, str]) -> None:
    api = fixture(limits=Limits(body_bytes=1000))
    pulled = []

    def pieces() -> list[bytes]:
        pulled.append(1)
        return [b" " * 600] * 50

    answer = await put(api, pieces(), {**JSON, **declared})
    assert answer.status == 413
    assert answer.headers["connection"] == "close"


async def test_a_body_that_never_ends_is_timed_out() -> None:
    api = fixture(limits=Limits(body_seconds=0.05))
    answer = await api.client.request("PUT", URL, body=b'{"spec":', headers=JSON, hang=True)
    assert (answer.status, answer.json["code"]) == (408, "BodyTimeout")


async def test_others_are_served_while_a_body_hangs() -> None:
    import asyncio

    api = fixture(limits=Limits(body_seconds=30))
    hanging = asyncio.get_running_loop().create_task(api.client.request("PUT", URL, body=b"{", headers=JSON, hang=True))
    await asyncio.sleep(0)
    assert (await Client(api.app).put(URL, service())).status == 201
    hanging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hanging

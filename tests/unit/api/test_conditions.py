"""Writes and reads that depend on what is there: ETags, If-Match, resourceVersion."""

from __future__ import annotations

import pytest

from api.ports import Item
from mesh.model import ObjectKey
from tests.unit.api.fakes import Fixture, codes, file_item, made, service

SERVICE = "/api/v1/namespaces/default/services/reviews"
KEY = ObjectKey("Service", "default", "reviews")


async def test_a_reader_with_the_same_etag_gets_304_and_a_new_status_is_new_content(api: Fixture) -> None:
    await api.client.put(SERVICE, service())
    tag = (await api.client.get(SERVICE)).headers["etag"]
    again = await api.client.get(SERVICE, if_none_match=tag)
    assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)
    api.world.statuses[KEY] = {"conditions": [{"type": "Accepted"}]}
    assert (await api.client.get(SERVICE, if_none_match=tag)).status == 200


async def test_if_match_guards_every_write(api: Fixture) -> None:
    await api.client.put(SERVICE, service())
    tag = (await api.client.get(SERVICE)).headers["etag"]
    await api.client.put(SERVICE, service(port=81), if_match=tag)
    for answer in (
        await api.client.put(SERVICE, service(port=82), if_match=tag),
        await api.client.patch(SERVICE, {"metadata": {"labels": {"a": "b"}}}, if_match=tag),
        await api.client.delete(SERVICE, if_match=tag),
        await api.client.post(f"{SERVICE}/rollback", {"revision": 1}, if_match=tag),
        await api.client.put(SERVICE, service(port=82), if_none_match="*"),
        await api.client.put(f"{SERVICE}?dryRun=All", service(port=82), if_match=tag),
    ):
        assert (answer.status, answer.json["code"]) == (412, "PreconditionFailed")
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["fairlead-revision"] == "2"
    assert (await api.client.get(SERVICE)).json["spec"]["ports"][0]["port"] == 81
    assert (await api.client.put(SERVICE, service(port=82), if_match="*")).status == 200
    assert (await api.client.put(SERVICE, service(), if_match="seven")).status == 400


async def test_what_is_not_there_matches_nothing(api: Fixture) -> None:
    assert (await api.client.put(SERVICE, service(), if_match="*")).status == 412
    assert (await api.client.put(SERVICE, service(), if_match='"1"')).status == 412
    assert (await api.client.put(f"{SERVICE}?dryRun=All", service(), if_match="*")).status == 412
    assert (await api.client.patch(SERVICE, {"spec": {}}, if_match="*")).status == 404
    assert (await api.client.delete(SERVICE, if_match="*")).status == 404
    assert (await api.client.put(SERVICE, service(), if_none_match="*")).status == 201


async def test_if_match_compares_strongly_and_takes_a_list(api: Fixture) -> None:
    await api.client.put(SERVICE, service())
    for weak in ('W/"1"', 'W/"1", "7"', '"of-another-server"'):
        assert (await api.client.put(SERVICE, service(port=81), if_match=weak)).status == 412, weak
    assert (await api.client.put(SERVICE, service(port=81), if_match='"7", "1"')).status == 200
    assert (await api.client.put(SERVICE, service(port=82), if_none_match='W/"2"')).status == 412
    assert (await api.client.put(SERVICE, service(port=82), if_none_match='"1"')).status == 200
    for garbage in ('"1', '"1" "2"', "W/1", '"1",', '"' * 5000):
        assert (await api.client.put(SERVICE, service(), if_match=garbage)).status == 400, garbage


async def test_an_object_of_a_file_is_there_for_conditions_too(api: Fixture) -> None:
    api.config.elsewhere = [file_item(service())]
    tag = (await api.client.get(SERVICE)).headers["etag"]
    assert (await api.client.put(SERVICE, service(port=81), if_none_match="*")).status == 412
    assert (await api.client.put(SERVICE, service(port=81), if_match=tag)).status == 201
    assert (await api.client.put(SERVICE, service(port=82), if_match=tag)).status == 412


async def test_a_write_that_is_overtaken_after_its_condition_was_checked_does_not_happen(api: Fixture) -> None:
    await api.client.put(SERVICE, service())

    def other_writer() -> None:
        api.config.revision += 1
        api.config.items[KEY] = Item(made(service(port=99)), "store", api.config.revision)

    api.config.before_put = [other_writer]
    assert (await api.client.put(SERVICE, service(port=81), if_match='"1"')).status == 412
    api.config.before_put = [other_writer]
    assert (await api.client.put(SERVICE, service(port=81), if_match="*")).status == 200


async def test_a_body_with_an_old_resource_version_is_a_conflict(api: Fixture) -> None:
    await api.client.put(SERVICE, service())
    old = (await api.client.get(SERVICE)).json
    await api.client.put(SERVICE, service(port=81))
    assert (await api.client.put(SERVICE, old)).status == 409
    for version, status in (("1", 409), ("2", 200)):
        change = {"metadata": {"resourceVersion": version, "labels": {"by": f"v{version}"}}}
        assert (await api.client.patch(SERVICE, change)).status == status
    assert (await api.client.get(SERVICE)).json["metadata"]["labels"] == {"by": "v2"}


@pytest.mark.parametrize("version", ["abc", "-1", "1.0", "\u0661", "9" * 40])
async def test_a_resource_version_that_no_store_gave_is_refused(api: Fixture, version: str) -> None:
    for answer in (
        await api.client.put(SERVICE, service(resourceVersion=version)),
        await api.client.patch(SERVICE, {"metadata": {"resourceVersion": version}}),
    ):
        assert (answer.status, codes(answer)) == (422, ["BadResourceVersion"])
        assert answer.json["problems"][0]["path"] == "metadata.resourceVersion"
    assert api.config.items == {}

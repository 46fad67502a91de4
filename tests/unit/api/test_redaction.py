"""Keys of Secrets: never told, and never destroyed by what was read."""

from __future__ import annotations

from mesh.model import ObjectKey
from tests.unit.api.fakes import Fixture, codes


async def test_the_key_of_a_secret_is_never_told_and_never_destroyed_by_what_was_read(api: Fixture) -> None:
    url = "/api/v1/namespaces/default/secrets/edge"
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "edge", "namespace": "default"},
        "type": "Opaque",
        "stringData": {"password": "s3cr3t-of-mine"},
    }
    written = await api.client.put(url, secret)
    assert written.status == 201
    patched = await api.client.patch(url, {"metadata": {"labels": {"a": "b"}}})
    for answer in (
        written,
        patched,
        await api.client.get(url),
        await api.client.get("/api/v1/secrets"),
        await api.client.get(f"{url}/history"),
    ):
        assert answer.status in {200, 201}
        assert b"s3cr3t" not in answer.body
        assert b"[redacted]" in answer.body
    assert api.config.items[ObjectKey("Secret", "default", "edge")].object.string_data == {  # type: ignore[attr-defined]
        "password": "s3cr3t-of-mine"
    }
    back = await api.client.put(url, (await api.client.get(url)).json)
    assert (back.status, codes(back)) == (422, ["RedactedValue"])
    back = await api.client.patch(url, {"stringData": {"password": "[redacted]"}})
    assert (back.status, codes(back)) == (422, ["RedactedValue"])


async def test_a_dry_run_tells_which_key_of_a_secret_would_change_and_no_value(api: Fixture) -> None:
    url = "/api/v1/namespaces/default/secrets/edge"
    secret = {"stringData": {"tls.key": "old-key", "b": "same"}}
    await api.client.put(url, secret)
    assert (await api.client.put(f"{url}?dryRun=All", secret)).json["changes"] == []
    tried = await api.client.put(f"{url}?dryRun=All", {"stringData": {"tls.key": "new-key", "b": "same"}})
    assert tried.json["changes"] == ['stringData["tls.key"]']
    assert b"old-key" not in tried.body
    assert b"new-key" not in tried.body


async def test_the_copy_of_a_secret_that_kubectl_keeps_in_an_annotation_is_hidden_too(api: Fixture) -> None:
    url = "/api/v1/namespaces/default/secrets/edge"
    kept = {"kubectl.kubernetes.io/last-applied-configuration": '{"stringData":{"a":"s3cr3t"}}', "other": "shown"}
    await api.client.put(url, {"metadata": {"annotations": kept}, "stringData": {"a": "s3cr3t"}})
    found = await api.client.get(url)
    assert b"s3cr3t" not in found.body
    assert found.json["metadata"]["annotations"]["other"] == "shown"

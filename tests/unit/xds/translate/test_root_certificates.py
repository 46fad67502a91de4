"""What proxies are told to trust."""

from __future__ import annotations

import datetime as dt

from cryptography import x509
from google.protobuf.any_pb2 import Any

from mesh.model import AUDIENCES, TRUST_BUNDLES, Audience, Connected, TrustBundleRow
from mesh.tables import Change, Engine
from xds.resources import ResourceKey, ViewKey
from xds.schema import unpack
from xds.schema.type_urls import TYPE_SECRET
from xds.translate.root_certificates import NOBODY
from xds.translate.tables import TABLES, VIEWS
from xds.translate.views import present

SIDECAR = Audience("sidecar", "shop", "reviews")


def engine(**rows: TrustBundleRow) -> Engine:
    made = Engine(TABLES)
    bundles = [Change(TRUST_BUNDLES, name.replace("_", "."), row) for name, row in rows.items()]
    made.commit([Change(AUDIENCES, SIDECAR, Connected()), *bundles])
    return made


def roots(found: Engine, name: str) -> bytes | None:
    row = present(found.get, ResourceKey(TYPE_SECRET, name))
    if row is None:
        return None
    packed = Any()
    packed.ParseFromString(row.any)
    secret = unpack(packed)
    assert secret.name == name
    trusted: bytes = secret.validation_context.trusted_ca.inline_bytes
    return trusted


def test_ours_is_rootca_and_others_carry_their_names() -> None:
    found = engine(ours=TrustBundleRow(b"ours", own=True), elsewhere_org=TrustBundleRow(b"theirs"))
    assert roots(found, "ROOTCA") == b"ours"
    assert roots(found, "ROOTCA:elsewhere.org") == b"theirs"
    assert roots(found, "ROOTCA:ours") is None
    view = found.get(VIEWS, ViewKey(SIDECAR, TYPE_SECRET))
    assert view is not None
    assert [key.name for key in view.keys] == ["ROOTCA", "ROOTCA:elsewhere.org"]


def test_a_new_root_changes_the_secret_and_nothing_else() -> None:
    found = engine(ours=TrustBundleRow(b"ours", own=True))
    commit = found.commit([Change(TRUST_BUNDLES, "ours", TrustBundleRow(b"ours and new", own=True))])
    assert roots(found, "ROOTCA") == b"ours and new"
    assert {table.name for table in commit.changes} == {"trust_bundles", "root_certificates"}


def test_without_an_authority_there_is_no_secret() -> None:
    assert roots(engine(), "ROOTCA") is None


def test_a_domain_that_took_everything_back_is_trusted_by_nobody() -> None:
    """As in CVE-2026-31837, what is missing opens no door: by an empty list Envoy verifies nothing."""
    trusted = roots(engine(gone=TrustBundleRow(b"")), "ROOTCA:gone")
    assert trusted == NOBODY
    assert x509.load_pem_x509_certificate(NOBODY).not_valid_after_utc < dt.datetime(2026, 6, 1, tzinfo=dt.UTC)

"""The order of HTTP filters is one table."""

from __future__ import annotations

import pytest

from xds.schema import pack
from xds.schema.types import Cors, HttpConnectionManager, Router
from xds.translate.http_filters import CORS, ORDER, ROUTER, add_filters, http_filter, known


def test_a_filter_that_is_not_in_the_table_is_an_error() -> None:
    with pytest.raises(LookupError, match="add a row with a reason"):
        known("envoy.filters.http.nowhere")


def test_filters_are_installed_in_the_order_of_the_table() -> None:
    manager = HttpConnectionManager()
    add_filters(manager, (http_filter(ROUTER, pack(Router())), http_filter(CORS, pack(Cors()))))
    assert [each.name for each in manager.http_filters] == [CORS, ROUTER]


def test_every_row_has_a_reason_and_the_router_is_last() -> None:
    assert all(row.reason for row in ORDER)
    assert ORDER[-1].name == ROUTER

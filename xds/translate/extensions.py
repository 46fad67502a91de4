"""Users' own code in the way of a route's requests: a place for each of them, which routes fill in.

Lua in Envoy has all of Lua's libraries, and with them the proxy's files, its keys too. A line in front of each script
takes away what leads out of it, and what could load bytecode, before the script is read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final

from mesh.backends import Backend
from mesh.config_maps import config_map_entry
from mesh.kinds.duration import milliseconds
from mesh.kinds.extensions import (
    DynamicModuleExtension,
    Extension,
    ExtProcExtension,
    LuaExtension,
    WasmExtension,
)
from mesh.model import ObjectKey, ServiceKey, mesh_settings
from mesh.services import SERVICES
from mesh.tables import Reader
from xds.schema import message, pack
from xds.schema.types import Lua
from xds.translate.composite import filled, place
from xds.translate.http_filters import EXTENSIONS
from xds.translate.names import cluster_name
from xds.translate.timeouts import set_duration

UNABLE: Final = 500
_MOST_BYTES = 1024 * 1024

_ExtProc = message("envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor")
_Mode = message("envoy.extensions.filters.http.ext_proc.v3.ProcessingMode")
_Wasm = message("envoy.extensions.filters.http.wasm.v3.Wasm")
_Plugin = message("envoy.extensions.wasm.v3.PluginConfig")
_DynamicModule = message("envoy.extensions.filters.http.dynamic_modules.v3.DynamicModuleFilter")
_StringValue = message("google.protobuf.StringValue")

PRELUDE: Final = (
    "io,os,package,require,module,debug,load,loadstring,loadfile,dofile,ffi,jit,getfenv,setfenv,newproxy,"
    "collectgarbage,string.dump=nil "
)
_BODIES = {"None": "NONE", "Streamed": "STREAMED", "Buffered": "BUFFERED", "BufferedPartial": "BUFFERED_PARTIAL"}


FILTERS = tuple(place(name) for name in EXTENSIONS)
"""A place for each: in one alone, what follows one that holds a request back would be passed by (`composite`)."""


class ExtensionError(ValueError):
    """Why an extension cannot be had, as a sentence without its full stop."""


def set_extensions(look: Reader, route: Any, wanted: Sequence[Extension], said_by: ObjectKey) -> set[str]:
    """Give a `Route` extensions; the clusters that they ask.

    Raises:
        ExtensionError: one of them cannot be had.
    """
    clusters: set[str] = set()
    for number, extension in enumerate(wanted):
        name = f"{said_by.namespace}/{said_by.name}/{number}"
        if extension.ext_proc is None and not mesh_settings(look).route_code:
            raise ExtensionError(
                "this server runs no code of policies; start it with --route-code if they can be trusted"
            )
        if extension.lua is not None:
            made = _lua(look, extension.lua, said_by)
        elif extension.wasm is not None:
            made = _wasm(look, extension.wasm, said_by, name)
        elif extension.dynamic_module is not None:
            made = _dynamic_module(extension.dynamic_module)
        else:
            processor = extension.ext_proc
            assert processor is not None
            cluster = _processor(look, processor, said_by)
            clusters.add(cluster)
            made = _ext_proc(processor, cluster)
        route.typed_per_filter_config[EXTENSIONS[number]].CopyFrom(filled((name, made)))
    return clusters


def runs_code(route: Any) -> bool:
    """Whether code of users sees a `Route`'s requests."""
    return any(name in route.typed_per_filter_config for name in EXTENSIONS)


def _lua(look: Reader, wanted: LuaExtension, said_by: ObjectKey) -> Any:
    script = wanted.inline or ""
    if wanted.config_map is not None:
        try:
            script = _entry(look, said_by, wanted.config_map).decode()
        except UnicodeDecodeError:
            raise ExtensionError(f"ConfigMap {wanted.config_map.name} has no text in {wanted.config_map.key}") from None
    if script.startswith("\x1b"):
        raise ExtensionError("it is bytecode; only Lua's source is taken")
    made = Lua()
    made.default_source_code.inline_string = PRELUDE + script
    return pack(made)


def _entry(look: Reader, said_by: ObjectKey, source: Any) -> bytes:
    found = config_map_entry(look, said_by.namespace, source)
    if isinstance(found, str):
        raise ExtensionError(found)
    if len(found) > _MOST_BYTES:
        raise ExtensionError(f"{source.key} of ConfigMap {source.name} has more than {_MOST_BYTES // 1024} KiB")
    return found


def _wasm(look: Reader, wanted: WasmExtension, said_by: ObjectKey, name: str) -> Any:
    made = _Wasm()
    made.config.name = name
    made.config.root_id = wanted.root_id
    made.config.failure_policy = 3 if wanted.fail_open else 2
    machine = made.config.vm_config
    machine.runtime = "envoy.wasm.runtime.v8"
    if wanted.config_map is not None:
        code = _entry(look, said_by, wanted.config_map)
        if not code.startswith(b"\0asm"):
            raise ExtensionError(f"{wanted.config_map.key} of ConfigMap {wanted.config_map.name} is no Wasm module")
        machine.code.local.inline_bytes = code
        machine.vm_id = hashlib.sha256(code).hexdigest()[:16]
    else:
        machine.code.local.filename = wanted.file or ""
        machine.vm_id = wanted.file or ""
    if wanted.config:
        made.config.configuration.CopyFrom(_text(wanted.config))
    return pack(made)


def _text(value: str) -> Any:
    text = _StringValue()
    text.value = value
    return pack(text)


def _dynamic_module(wanted: DynamicModuleExtension) -> Any:
    made = _DynamicModule()
    made.dynamic_module_config.name = wanted.name
    # Not all that is loaded can be unloaded (Go's runtime cannot), and a changed route would unload it.
    made.dynamic_module_config.do_not_close = True
    made.filter_name = wanted.filter
    if wanted.config:
        made.filter_config.CopyFrom(_text(wanted.config))
    return pack(made)


def _processor(look: Reader, wanted: ExtProcExtension, said_by: ObjectKey) -> str:
    key = ServiceKey(said_by.namespace, wanted.backend.name)
    service = look(SERVICES, key)
    if service is None:
        raise ExtensionError(f"Service {key.namespace}/{key.name} does not exist")
    if service.port(wanted.backend.port, udp=False) is None:
        known = ", ".join(str(one.port) for one in service.ports if not one.udp) or "none"
        raise ExtensionError(f"Service {key.namespace}/{key.name} has no port {wanted.backend.port}; it has: {known}")
    return cluster_name(Backend(key, wanted.backend.port, http2=True))


def _ext_proc(wanted: ExtProcExtension, cluster: str) -> Any:
    made = _ExtProc()
    made.grpc_service.envoy_grpc.cluster_name = cluster
    made.failure_mode_allow = wanted.fail_open
    made.stat_prefix = "extensions"
    set_duration(made.message_timeout, milliseconds(wanted.message_timeout))
    # What a processor changes must not lead a request to another route, past what was checked for this one.
    made.route_cache_action = _ExtProc.RETAIN
    mode = made.processing_mode
    mode.request_header_mode = _Mode.SEND if wanted.request_headers else _Mode.SKIP
    mode.response_header_mode = _Mode.SEND if wanted.response_headers else _Mode.SKIP
    mode.request_body_mode = getattr(_Mode, _BODIES[wanted.request_body])
    mode.response_body_mode = getattr(_Mode, _BODIES[wanted.response_body])
    return pack(made)

"""EnvoyPatches applied to Envoy's messages: each alone, and a resource stands without one that does not fit.

A patch is done on the message as people are shown it (`to_dict`), and what comes of it must be a message again: no
unknown field, none of Envoy's field rules broken, its name as before. Whether Envoy's own code takes it is seen when an
Envoy answers (`fairlead.rejections`).

A patch can do anything to traffic, but it must not read what its writer may not. So it cannot make a proxy read files
or its environment (that would show the proxy's own token and keys), nor talk to its admin socket, nor run code in it or
take configuration from elsewhere; and what Envoy's API marks as secret can neither be copied, moved nor tested.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from google.protobuf.message import DecodeError

from mesh.envoy_patches import Patched, PatchInForce, patches_of
from mesh.results import Results
from mesh.tables import Reader
from xds.schema import SchemaError, encode, from_dict, message, to_dict
from xds.schema.redact import redacted
from xds.schema.rules import violations
from xds.schema.types import VirtualHost
from xds.translate.json_patch import PatchError, apply_patch

_READING = frozenset({"move", "copy", "test"})
_MOST_BYTES = 1024 * 1024
_ANY = "google.protobuf.Any"
_READERS: Final = {
    "envoy.config.core.v3.DataSource": ("filename", "environment_variable"),
    # An API of the writer's own could hand in what is refused here.
    "envoy.config.core.v3.ConfigSource": ("path", "path_config_source", "api_config_source"),
    "envoy.config.core.v3.WatchedDirectory": ("path",),
    "envoy.config.core.v3.Pipe": ("path",),  # the proxy's admin interface is behind one
    # A request could name a cluster in which others' credentials are added.
    "envoy.config.route.v3.RouteAction": ("cluster_header",),
    "envoy.config.route.v3.RouteAction.RequestMirrorPolicy": ("cluster_header",),
    "envoy.config.route.v3.WeightedCluster.ClusterWeight": ("cluster_header",),
}
_CODE: Final = re.compile(r"\.(lua|wasm|golang|dynamic_modules|file_content|generic_secret|file_system_buffer)\.")
# A credential that a proxy has for one backend is not for another that a patch names, and the cluster in which it is
# added is not for other routes. Their names (`xds.translate.names`) tell, whatever field they stand in.
_CREDENTIAL: Final = re.compile(r"~credentials?/")
# Envoy reads a configuration out of these whatever its type is, and so past all that is looked for here.
_UNTYPED: Final = frozenset({"xds.type.v3.TypedStruct", "udpa.type.v1.TypedStruct", "google.protobuf.Struct"})
_COMMANDS = re.compile(r"%(ENVIRONMENT|FILE_CONTENT|SECRET)\b", re.IGNORECASE)


def patch_message(
    look: Reader, value: Any, target: Patched, sections: frozenset[str] = frozenset()
) -> tuple[Any, Results]:
    """A message with all patches of its object that fit, and what became of each."""
    outcomes = []
    for patch in patches_of(look, target, sections, getattr(value, "name", "")):
        try:
            value = patched(value, patch)
        except PatchError as error:
            outcomes.append((patch.key, str(error)))
        else:
            outcomes.append((patch.key, ""))
    return value, tuple(outcomes)


def patched(value: Any, patch: PatchInForce) -> Any:
    """A message with a patch applied, as a new one.

    Raises:
        PatchError: it does not apply, or what comes of it may not be sent.
    """
    if any(operation.op in _READING for operation in patch.operations) and encode(redacted(value)) != encode(value):
        raise PatchError("the resource holds a secret, and nothing in it may be moved, copied or tested")
    try:
        document = to_dict(value)
        made = from_dict(type(value), apply_patch(document, patch.operations))
        broken = violations(made)
        reading = _reads(made) - _reads(value)
    except SchemaError as error:
        raise PatchError(str(error).partition(" Available Fields")[0].strip()) from None
    except RecursionError:
        raise PatchError("what comes of it is nested too deeply") from None
    if reading:
        raise PatchError(f"it would make proxies read or run what its writer may not: {min(reading)}")
    if broken:
        raise PatchError(f"Envoy would refuse {broken[0].path}: {broken[0].detail}")
    if getattr(made, "name", "") != getattr(value, "name", ""):
        raise PatchError("it renames the resource, which others know by its name")
    if isinstance(made, VirtualHost) and (made.domains != value.domains or made.routes or made.HasField("matcher")):
        raise PatchError("it changes which hosts or routes a virtual host has; its routes are patched by themselves")
    if made.ByteSize() > max(_MOST_BYTES, 2 * value.ByteSize()):
        raise PatchError(f"the resource would be larger than {_MOST_BYTES // 1024} KiB")
    return made


def _reads(value: Any) -> set[str]:
    """What in a message makes a proxy read something of its own, or run code that could."""
    found: set[str] = set()
    _look_through(value, found)
    return found


def _look_through(value: Any, found: set[str]) -> None:
    name = value.DESCRIPTOR.full_name
    if name == _ANY:
        _look_into(value, found)
        return
    if _CODE.search(name):
        found.add(name)
    for field in _READERS.get(name, ()):
        if value.HasField(field) if value.DESCRIPTOR.fields_by_name[field].has_presence else getattr(value, field):
            found.add(f"{name.rpartition('.')[2]}.{field}")
    for field, item in value.ListFields():
        for inner in _items(field, item):
            if field.message_type is not None and hasattr(inner, "DESCRIPTOR"):
                _look_through(inner, found)
            elif isinstance(inner, str) and (command := _COMMANDS.search(inner)):
                found.add(f"{command.group()}%")
            elif isinstance(inner, str) and _CREDENTIAL.search(inner):
                found.add(f"the credential {inner}")


def _items(field: Any, item: Any) -> Iterable[Any]:
    if not field.is_repeated:
        return (item,)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return [item[key] for key in item]
    return list(item)


def _look_into(packed: Any, found: set[str]) -> None:
    name = packed.type_url.rpartition("/")[2]
    if name in _UNTYPED:
        found.add(name)
        return
    try:
        inner = message(name).FromString(packed.value)
    except (SchemaError, DecodeError):
        found.add(f"something of the unknown type {packed.type_url}")
        return
    _look_through(inner, found)

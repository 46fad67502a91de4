"""Request bodies: read within limits, and decoded without doubt.

Owns size, time, content type and the strictness of JSON (no duplicate keys, no NaN, bounded depth). YAML is decoded by
a parser that the program hands in, which holds the same rules for it. Whether a value is a valid object is not asked
here.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any

import msgspec
from fastapi import Request

from api.ports import YamlParser
from api.problems import Refusal, invalid
from mesh.problems import Problem, shown

JSON_TYPES = frozenset({"application/json"})
PATCH_TYPES = frozenset({"application/merge-patch+json", *JSON_TYPES})
YAML_TYPES = frozenset({"application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml"})


class Limits(msgspec.Struct, frozen=True):
    """What a client may ask for: bytes of a body, seconds to send it, nesting, watches at a time, and seconds that a
    watch may go unread.
    """

    body_bytes: int = 1024 * 1024
    body_seconds: float = 10.0
    depth: int = 32
    watches: int = 1000
    stalled_seconds: float = 30.0


DEFAULT_LIMITS = Limits()


async def read_value(request: Request, *, parse_yaml: YamlParser, limits: Limits, patch: bool = False) -> Any:
    """The one value in a request's body. Raises Refusal."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    accepted = PATCH_TYPES if patch else JSON_TYPES
    if media_type not in accepted | YAML_TYPES:
        raise Refusal(
            415,
            "UnsupportedMediaType",
            f"A body of type {shown(media_type) or '(none)'} is not understood here.",
            fix=f"Send Content-Type: {' or '.join((*sorted(accepted), 'application/yaml'))}",
        )
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refusal(415, "UnsupportedMediaType", "Compressed bodies are not accepted.", fix="Send it as it is")
    body = await _read(request, limits)
    value = decoded_json(body) if media_type in accepted else _decoded_yaml(body, parse_yaml)
    if _deeper_than(value, limits.depth):
        raise Refusal(422, "TooDeep", f"The body nests deeper than {limits.depth} levels.")
    return value


async def _read(request: Request, limits: Limits) -> bytes:
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limits.body_bytes:
        raise _too_large(limits)
    body = bytearray()
    try:
        async with asyncio.timeout(limits.body_seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limits.body_bytes:
                    raise _too_large(limits)
    except TimeoutError as error:
        raise Refusal(
            408,
            "BodyTimeout",
            f"The body did not arrive within {limits.body_seconds:g} seconds.",
            headers={"Connection": "close"},
        ) from error
    return bytes(body)


def _too_large(limits: Limits) -> Refusal:
    return Refusal(
        413,
        "BodyTooLarge",
        f"The body is larger than {limits.body_bytes} bytes.",
        fix="Split the object into several",
        headers={"Connection": "close"},
    )


def decoded_json(body: bytes) -> Any:
    """Decode strictly. Raises Refusal for what is no JSON, and for keys that stand twice in one object."""
    try:
        value = msgspec.json.decode(body)  # strict: no NaN, no lone surrogates, no trailing text
        _refuse_twice(body)
    except (msgspec.DecodeError, ValueError) as error:
        raise Refusal(400, "NotJSON", f"The body is not JSON: {shown(str(error), 200)}.") from error
    except RecursionError as error:
        raise Refusal(400, "TooDeep", "The body nests too deep.") from error
    return value


def _refuse_twice(body: bytes) -> None:
    def pairs(found: Iterable[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for key, _ in found:
            if key in seen:
                raise invalid(
                    [
                        Problem(
                            "DuplicateKey",
                            "error",
                            key,
                            f"the key {shown(key)!r} stands twice in one object",
                            "keep one of the two",
                        )
                    ],
                    what="The body",
                )
            seen.add(key)

    json.loads(body, object_pairs_hook=pairs)


def _decoded_yaml(body: bytes, parse_yaml: YamlParser) -> Any:
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refusal(400, "NotUTF8", f"The body is not UTF-8 at byte {error.start}.") from error
    parsed = parse_yaml(text)
    if any(problem.level == "error" for problem in parsed.problems):
        raise invalid(parsed.problems, what="The body")
    if len(parsed.values) != 1:
        raise Refusal(
            400, "NotOneDocument", f"The body holds {len(parsed.values)} documents.", fix="Send one object per request"
        )
    return parsed.values[0]


def _deeper_than(value: Any, depth: int) -> bool:
    level = [value]
    for _ in range(depth):
        level = [
            item
            for container in level
            if isinstance(container, dict | list)
            for item in (container.values() if isinstance(container, dict) else container)
        ]
        if not level:
            return False
    return True

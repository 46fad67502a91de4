"""A Wasm module for Envoy (proxy-wasm ABI 0.2.1), assembled by hand: it adds `x-wasm: yes` to answers, or crashes."""

from __future__ import annotations

_I32, _FUNCTION, _MEMORY = 0x7F, 0x60, 2
_TEXT = b"x-wasmyes"
_AT, _HEAP = 1024, 4096


def module(*, crashing: bool = False) -> bytes:
    """The module; with `crashing` it traps at each answer."""
    types = [_type(0, 0), _type(1, 1), _type(2, 0), _type(2, 1), _type(3, 1), _type(5, 1)]
    imports = [_name("env") + _name("proxy_add_header_map_value") + bytes([0, 5])]
    functions = [(0, _code()), (1, _code(_const(_HEAP))), (2, _code()), (3, _code(_const(1))), (3, _code(_const(1)))]
    add = b"".join(_const(value) for value in (2, _AT, 6, _AT + 6, 3))  # 2: the headers of the response
    functions.append((4, _code(b"\x00" if crashing else add + b"\x10\x00\x1a" + _const(0))))
    names = (
        *("proxy_abi_version_0_2_1", "proxy_on_memory_allocate", "proxy_on_context_create"),
        *("proxy_on_vm_start", "proxy_on_configure", "proxy_on_response_headers"),
    )
    exports = [_name("memory") + bytes([_MEMORY, 0])]
    exports += [_name(name) + bytes([0, number]) for number, name in enumerate(names, start=1)]
    return b"".join(
        (
            b"\0asm\1\0\0\0",
            _section(1, _list(types)),
            _section(2, _list(imports)),
            _section(3, _list([bytes([kind]) for kind, _ in functions])),
            _section(5, _list([b"\0\x02"])),
            _section(7, _list(exports)),
            _section(10, _list([code for _, code in functions])),
            _section(11, _list([b"\0" + _const(_AT) + b"\x0b" + _bytes(_TEXT)])),
        )
    )


def _type(takes: int, gives: int) -> bytes:
    return bytes([_FUNCTION, takes, *[_I32] * takes, gives, *[_I32] * gives])


def _code(body: bytes = b"") -> bytes:
    return _bytes(b"\0" + body + b"\x0b")


def _const(value: int) -> bytes:
    made = b"\x41"
    while True:
        low, value = value & 0x7F, value >> 7
        if not value and not low & 0x40:
            return made + bytes([low])
        made += bytes([low | 0x80])


def _leb(value: int) -> bytes:
    made = b""
    while value > 0x7F:
        made, value = made + bytes([value & 0x7F | 0x80]), value >> 7
    return made + bytes([value])


def _bytes(content: bytes) -> bytes:
    return _leb(len(content)) + content


def _name(text: str) -> bytes:
    return _bytes(text.encode())


def _list(items: list[bytes]) -> bytes:
    return _leb(len(items)) + b"".join(items)


def _section(number: int, content: bytes) -> bytes:
    return bytes([number]) + _bytes(content)

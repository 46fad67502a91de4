"""Extensions of a route: exactly one of each choice, and no time that is none."""

from __future__ import annotations

from collections.abc import Iterable

from mesh.kinds.duration import milliseconds
from mesh.kinds.extensions import Extension, ExtProcExtension
from mesh.problems import Report

_MINUTE = 60_000


def check_extensions(extensions: Iterable[Extension], path: str, report: Report) -> None:
    """Judge `extensions`."""
    for number, extension in enumerate(extensions):
        at = f"{path}[{number}]"
        choices = (extension.lua, extension.wasm, extension.dynamic_module, extension.ext_proc)
        if len([one for one in choices if one is not None]) != 1:
            message = "an extension is one of lua, wasm, dynamicModule and extProc"
            report.error("InvalidCombination", at, message, "write an entry for each")
        if extension.lua is not None:
            lua = extension.lua
            _one(f"{at}.lua", (lua.inline, lua.config_map), "`inline` and `configMap`", report)
            if lua.inline is not None and "\0" in lua.inline:
                report.error("InvalidFormat", f"{at}.lua.inline", "it has a NUL character", "remove it")
        if extension.wasm is not None:
            wasm = extension.wasm
            _one(f"{at}.wasm", (wasm.file, wasm.config_map), "`file` and `configMap`", report)
        processor = extension.ext_proc
        if processor is not None and not 0 < milliseconds(processor.message_timeout) <= _MINUTE:
            message = "it must be between 1ms and 1m"
            report.error("OutOfRange", f"{at}.extProc.messageTimeout", message, "write it as in `200ms`")
        if processor is not None and not _asks(processor):
            fix = "set `requestHeaders: true`, for instance"
            report.error("InvalidCombination", f"{at}.extProc", "the processor is asked nothing", fix)


def _asks(processor: ExtProcExtension) -> bool:
    bodies = {processor.request_body, processor.response_body}
    return processor.request_headers or processor.response_headers or bodies != {"None"}


def _one(path: str, given: Iterable[object], names: str, report: Report) -> None:
    if len([one for one in given if one is not None]) != 1:
        report.error("InvalidCombination", path, "it comes from exactly one place", f"write one of {names}")

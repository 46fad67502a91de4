"""Logging: one stream on stderr, for people on a terminal and as JSON lines elsewhere.

Modules log with the standard library; here their records are given time, level and logger, and rendered by structlog.
Tracebacks are shown without the values of variables, among which tokens and private keys may be.
"""

from __future__ import annotations

import logging
import sys
from typing import Final

import structlog

from fairlead.settings import LogFormat, LogLevel

_TRACEBACKS: Final = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)


def configure(*, level: LogLevel, form: LogFormat) -> None:
    """Send all logging to stderr. Chatty libraries are heard from `warning` on unless everything is."""
    as_json = form == "json" or (form == "auto" and not sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[structlog.typing.Processor] = (
        [structlog.processors.ExceptionRenderer(_TRACEBACKS), structlog.processors.JSONRenderer()]
        if as_json
        else [
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
        ]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    if level != "debug":
        for name in ("uvicorn", "watchfiles", "asyncio", "grpc"):
            logging.getLogger(name).setLevel(logging.WARNING)

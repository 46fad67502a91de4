"""Where the store is: what `--store` and the settings beside it mean."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, parse_qsl, urlsplit

from fairlead.errors import UsageError
from fairlead.settings import Settings

if TYPE_CHECKING:
    from discovery.consul.http import Target

_PART = r"(?!\.\.?(?:/|\Z))[A-Za-z0-9._-]+"  # `..` would leave the KV, as paths of URLs go
_PREFIX = re.compile(f"{_PART}(?:/{_PART})*")
_PORTS = {"consul": 8500, "consul+https": 8501}
_PLACES = {"dc": "datacenter", "ns": "namespace", "partition": "partition"}
_FORM = "consul://HOST:PORT/PREFIX, like consul://127.0.0.1:8500/fairlead"


def default_store_path(environ: Mapping[str, str] = os.environ) -> Path:
    """Where the store lives when nobody says: `$XDG_STATE_HOME/fairlead/fairlead.db`."""
    state = environ.get("XDG_STATE_HOME") or str(Path(environ.get("HOME") or "~").expanduser() / ".local" / "state")
    return Path(state) / "fairlead" / "fairlead.db"


def store_path(settings: Settings, environ: Mapping[str, str] = os.environ) -> Path:
    """The file of the `sqlite:` store, or of what stays local beside a store that replicas share.

    Raises:
        UsageError: the setting names no store we know.
    """
    if in_consul(settings.store):
        return Path(settings.store_local).expanduser() if settings.store_local else default_store_path(environ)
    for name in ("store_local", "store_token_file", "store_ca", "store_cert", "store_key"):
        if getattr(settings, name):
            flag = "--" + name.replace("_", "-")
            raise UsageError(
                f"{flag} is for a store in Consul. Fix: --store consul://HOST:PORT/PREFIX, or leave it out"
            )
    if not settings.store:
        return default_store_path(environ)
    scheme, colon, path = settings.store.partition(":")
    if scheme != "sqlite" or not colon or not path:
        raise UsageError(
            f"--store: {settings.store!r} is no store. Fix: write sqlite:PATH, like sqlite:/var/lib/f.db, or"
            " consul://HOST:PORT/PREFIX"
        )
    if path.startswith(":") or "\0" in path:
        raise UsageError(
            f"--store: {settings.store!r} names no file, and a store that forgets is none."
            " Fix: write sqlite:PATH, like sqlite:/tmp/try.db"
        )
    return Path(path).expanduser()


def in_consul(store: str) -> bool:
    """Whether a store is a prefix of Consul's KV."""
    return store.startswith(("consul://", "consul+https://"))


def consul_place(settings: Settings) -> tuple[Target, str]:
    """The agent and the prefix that `--store` names.

    Raises:
        UsageError: it has not the form, or what is set beside it does not fit.
    """
    from discovery.consul.http import Target

    try:
        at = urlsplit(settings.store)
        host, port = at.hostname, at.port or _PORTS[at.scheme]
        query = dict(parse_qsl(at.query, strict_parsing=True)) if at.query else {}
    except ValueError:
        raise _no_store(settings.store) from None
    prefix = at.path.strip("/")
    if not host or at.username is not None or at.fragment or not query.keys() <= _PLACES.keys():
        raise _no_store(settings.store)
    if not _PREFIX.fullmatch(prefix):
        raise _no_store(settings.store)
    _check_beside(settings, at)
    shown = f"[{host}]" if ":" in host else host
    return (
        Target(
            url=f"{'https' if at.scheme == 'consul+https' else 'http'}://{shown}:{port}",
            token_file=settings.store_token_file,
            ca_file=settings.store_ca,
            certificate_file=settings.store_cert,
            key_file=settings.store_key,
            **{_PLACES[name]: value for name, value in query.items()},
        ),
        prefix,
    )


def _check_beside(settings: Settings, at: SplitResult) -> None:
    if bool(settings.store_cert) != bool(settings.store_key):
        raise UsageError("--store-cert and --store-key belong together. Fix: both, or neither")
    files = {"ca": settings.store_ca, "cert": settings.store_cert, "key": settings.store_key}
    if at.scheme == "consul" and any(files.values()):
        flag = next(name for name, value in files.items() if value)
        raise UsageError(f"--store-{flag} is for HTTPS. Fix: --store consul+https://…, or leave it out")
    for name, path in (*files.items(), ("token-file", settings.store_token_file)):
        if path and not os.access(path, os.R_OK):
            raise UsageError(f"--store-{name}: {path} cannot be read. Fix: name a file that this user may read")


def _no_store(value: str) -> UsageError:
    shown = "what is given" if "@" in value or "?" in value else repr(value)  # there may be a secret in these
    return UsageError(f"--store: {shown} names no prefix of Consul's KV. Fix: write {_FORM}")

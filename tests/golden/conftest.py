"""`--rewrite-golden` writes what the code makes over what cases expect; read the difference before committing it."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite-golden", action="store_true", help="write out.yaml of every golden case anew")

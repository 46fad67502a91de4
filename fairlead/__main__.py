"""`python -m fairlead` is the same program as `fairlead`."""

from __future__ import annotations

from fairlead.cli import main

main()

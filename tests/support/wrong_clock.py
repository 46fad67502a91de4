"""Wall clocks for whole programs, real Envoy too, that can be put wrong while these run (`wrong_clock.c`)."""

from __future__ import annotations

import mmap
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

_SOURCE = Path(__file__).with_suffix(".c")


def compiler() -> str | None:
    """A C compiler; None where there is none."""
    return shutil.which("cc") or shutil.which("gcc")


class WrongClock:
    """A clock for the programs that get its `env`; right at first."""

    def __init__(self, folder: Path, name: str) -> None:
        self._file = folder / f"{name}.clock"
        self._file.write_bytes(bytes(8))
        library = folder / "wrong_clock.so"
        if not library.exists():
            found = compiler()
            assert found is not None
            command = [found, "-O2", "-shared", "-fPIC", "-o", str(library), str(_SOURCE)]
            subprocess.run(command, check=True, timeout=120)
        self.env: Mapping[str, str] = {"LD_PRELOAD": str(library), "WRONG_CLOCK": str(self._file)}

    def put(self, seconds: int) -> None:
        """Have it ahead by so many seconds, from now on; behind, if negative; right, if 0."""
        with self._file.open("r+b") as file, mmap.mmap(file.fileno(), 8) as mapped:
            mapped[:] = seconds.to_bytes(8, "little", signed=True)

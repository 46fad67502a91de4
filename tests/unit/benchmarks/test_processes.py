from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from benchmarks.processes import MissingProgramError, Program, build


def python(code: str, log: Path) -> Program:
    return Program([sys.executable, "-u", "-c", code], log)


def test_without_go_the_message_says_how_to_mend_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingProgramError, match="Install Go"):
        build("peer")


def test_a_printed_address_is_found(tmp_path: Path) -> None:
    with python("import sys; print('xds listening on 1:2', file=sys.stderr); sys.stdin.read()", tmp_path / "log") as p:
        assert p.printed(r"xds listening on (\S+)\n", timeout=30) == "1:2"


def test_a_program_that_ends_early_is_reported_with_its_last_words(tmp_path: Path) -> None:
    with python("raise SystemExit('no such port')", tmp_path / "log") as p, pytest.raises(RuntimeError) as caught:
        p.printed("(listening)", timeout=30)
    assert "ended with 1" in str(caught.value)
    assert "no such port" in str(caught.value)


def test_the_output_of_an_earlier_run_in_the_same_log_does_not_count(tmp_path: Path) -> None:
    for word in ("first", "second"):
        with python(f"print('{word} run')", tmp_path / "log") as p:
            assert p.printed(r"(\w+) run", timeout=30) == word


def test_cpu_and_memory_are_those_of_the_whole_tree(tmp_path: Path) -> None:
    child = "import time\nwhile time.process_time() < 0.2: pass\nprint('burnt', flush=True)\ntime.sleep(60)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with python(code, tmp_path / "log") as p:
        p.printed("(burnt)", timeout=60)
        assert p.cpu_seconds() >= 0.2
        own = int(Path(f"/proc/{p.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        assert p.rss_bytes() > own
        os.killpg(p.process.pid, 15)


def test_stopping_ends_a_program_that_ignores_sigterm(tmp_path: Path) -> None:
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf'); time.sleep(60)"
    with python(code, tmp_path / "log") as p:
        p.printed("(deaf)", timeout=30)
        p.stop(timeout=0.2)
        assert p.process.returncode == -9

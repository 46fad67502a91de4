"""Regular expressions as Envoy will read them: RE2's syntax, with bounds on length and on the compiled program."""

from __future__ import annotations

import re
from functools import lru_cache

import re2

from mesh.problems import Report, shown

MAX_LENGTH = 1024
# Envoy 1.40 refuses more than `re2.max_program_size.error_level`, 100 where a bootstrap does not set it in its runtime
# layer; Fairlead's bootstraps set this number, and so must any other.
MAX_PROGRAM_SIZE = 1000

_LOOK_AROUND = re.compile(r"\(\?<?[=!]")

_OPTIONS = re2.Options()
_OPTIONS.log_errors = False


@lru_cache(maxsize=16_384)
def fault(pattern: str, *, most: int = MAX_PROGRAM_SIZE) -> str:
    """Why Envoy would not take `pattern`, of which the program has at most so many instructions; empty if it would."""
    if len(pattern) > MAX_LENGTH:
        return f"the regular expression has {len(pattern)} characters, at most {MAX_LENGTH} are allowed"
    try:
        size = re2.compile(pattern, _OPTIONS).programsize
    except re2.error as error:
        reason = error.args[0] if error.args else "unknown error"
        return f"it is not a regular expression of RE2: {reason.decode() if isinstance(reason, bytes) else reason}"
    except UnicodeEncodeError:
        return "it has characters that UTF-8 cannot carry"
    if size > most:
        return f"the regular expression compiles to {size} instructions, at most {most} are allowed"
    return ""


def check_regex(pattern: str, path: str, report: Report) -> None:
    """RE2 must take the pattern; look-around and back-references, which it lacks, get a fix of their own."""
    reason = fault(pattern)
    if not reason:
        return
    if _LOOK_AROUND.search(pattern):
        fix = "RE2 has no look-around; say it with several matches instead"
    elif "instructions" in reason or "characters," in reason:
        fix = "write a simpler expression: bounded repeats such as {200} are what makes it large"
    else:
        fix = "write it in RE2's syntax (https://github.com/google/re2/wiki/Syntax)"
    report.error("InvalidRegex", path, f"'{shown(pattern)}': {reason}", fix)

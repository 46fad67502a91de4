"""Conditions in the Common Expression Language: what Envoy would refuse, or what it would take and never find true.

Envoy knows a part of the language: attributes of requests (its documentation, "Attributes"), no macros but `has`, and
no joining of strings. A condition that it cannot work out counts as false, without a word: so names are checked here,
and that the whole is true or false at all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from mesh.problems import Report, shown
from mesh.validations.regexes import fault

_TOKEN = re.compile(
    r"""\s*(?:(?P<number>0x[0-9a-fA-F]{1,15}u?|[0-9]+\.[0-9]+(?:[eE][+-]?[0-9]{1,3})?|[0-9]{1,18}u?)
    |(?P<text>"(?:[^"\\\n]|\\["'\\nrt])*"|'(?:[^'\\\n]|\\["'\\nrt])*')
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<sign>\|\||&&|[=!<>]=|[-+*/%<>!?:.,()\[\]]))""",
    re.VERBOSE,
)
_ANY: frozenset[str] = frozenset()
_OF_CERTIFICATES = """
    subject_local_certificate subject_peer_certificate dns_san_local_certificate dns_san_peer_certificate
    uri_san_local_certificate uri_san_peer_certificate sha256_peer_certificate_digest
"""
_ATTRIBUTES = {
    "request": """
        path url_path host scheme method headers referer useragent time id protocol query duration size total_size
    """,
    "response": "code code_details flags grpc_status headers trailers size total_size backend_latency",
    "connection": f"""
        id mtls requested_server_name tls_version termination_details transport_failure_reason {_OF_CERTIFICATES}
    """,
    "source": "address port",
    "destination": "address port",
    "upstream": f"""
        address port local_address tls_version transport_failure_reason request_attempt_count cx_pool_ready_duration
        {_OF_CERTIFICATES}
    """,
    "xds": """
        cluster_name cluster_metadata route_name route_metadata virtual_host_name virtual_host_metadata
        upstream_host_metadata filter_chain_name listener_metadata listener_direction node
    """,
    "metadata": "",
    "filter_state": "",
}
ATTRIBUTES: Mapping[str, frozenset[str]] = MappingProxyType(
    {root: frozenset(parts.split()) for root, parts in _ATTRIBUTES.items()}
)
"""What a condition can ask of a request, by the first two parts of its name; nothing where the second may be any."""
_MAPS = frozenset({"request.headers", "response.headers", "response.trailers"})
_TRUTHS = ("startsWith", "endsWith", "contains", "matches")
_FUNCTIONS = ("size", "int", "double", "uint", "duration", "timestamp")
_RELATIONS = frozenset(("==", "!=", "<", "<=", ">", ">=", "in"))
_WORDS = frozenset(("true", "false", "null", "in"))
_DEEPEST = 8
_PROGRAM_SIZE = 100  # Envoy's own for its conditions, which no runtime layer changes
_COMPARE = "compare it with something, as `response.code >= 500`"


class _WrongError(ValueError):
    """What is wrong with a condition and how to mend it."""

    def __init__(self, message: str, fix: str) -> None:
        super().__init__(message)
        self.fix = fix


def check_condition(text: str, path: str, report: Report) -> None:
    """Judge a condition that is true or false of a request."""
    try:
        truth = _Parser(text).whole()
    except _WrongError as wrong:
        report.error("InvalidFormat", path, str(wrong), wrong.fix)
        return
    if not truth:
        report.error("InvalidFormat", path, "it is neither true nor false", _COMPARE)


class _Parser:
    """Reads an expression once from left to right; each step says whether what it read is true or false."""

    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0
        self._depth = 0
        self._kind, self._token = "", ""
        self._next()

    def whole(self) -> bool:
        """The whole text."""
        truth = self._expression()
        if self._kind:
            raise self._unexpected()
        return truth

    def _next(self) -> None:
        found = _TOKEN.match(self._text, self._at)
        if found is None:
            if self._text[self._at :].strip():
                raise _WrongError(
                    f"nothing of the language begins with '{shown(self._text[self._at :].strip()[:20])}'",
                    "write texts in quotes, as in `request.path == '/a'`",
                )
            self._kind = self._token = ""
            return
        self._at = found.end()
        self._kind = found.lastgroup or ""
        self._token = found.group(self._kind)

    def _unexpected(self) -> _WrongError:
        what = f"'{shown(self._token)}'" if self._kind else "the end"
        return _WrongError(f"{what} is not expected there", "write it as in `response.code >= 500`")

    def _is(self, *signs: str) -> bool:
        return self._kind in ("sign", "name") and self._token in signs

    def _take(self, sign: str) -> None:
        if not self._is(sign):
            raise self._unexpected()
        self._next()

    def _expression(self) -> bool:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise _WrongError(f"it is nested more than {_DEEPEST} deep", "make it flatter")
        truth = self._joined()
        if self._is("?"):
            if not truth:
                raise _WrongError("what stands before '?' must be true or false", _COMPARE)
            self._next()
            first = self._joined()
            self._take(":")
            truth = self._expression() and first
        self._depth -= 1
        return truth

    def _joined(self) -> bool:
        truth = self._relation()
        while self._is("||", "&&"):
            self._next()
            other = self._relation()
            if not (truth and other):
                raise _WrongError("what && and || join must be true or false", _COMPARE)
        return truth

    def _relation(self) -> bool:
        truth = self._sum()
        related = False
        while self._is(*_RELATIONS):
            if related:
                raise _WrongError("it compares what is compared already", "put one of them into parentheses")
            self._next()
            self._sum()
            truth = related = True
        return truth

    def _sum(self) -> bool:
        truth = self._unary()
        while self._is("+", "-", "*", "/", "%"):
            self._next()
            self._unary()
            truth = False
        return truth

    def _unary(self) -> bool:
        if not self._is("!", "-"):
            return self._member()
        negated = self._is("!")
        self._next()
        if self._member() is not negated:
            raise _WrongError("'!' is for what is true or false, and '-' for numbers", _COMPARE)
        return negated

    def _member(self) -> bool:
        truth, name = self._primary()
        while self._is(".", "["):
            if self._is("["):
                self._next()
                self._expression()
                self._take("]")
                truth, name = False, ""
                continue
            self._next()
            part = self._name()
            if self._is("("):
                truth, name = self._called(part), ""
            else:
                name = f"{name}.{part}" if name else ""
                self._check_attribute(name)
                truth = name == "connection.mtls"
        return truth

    def _name(self) -> str:
        if self._kind != "name" or self._token in _WORDS:
            raise self._unexpected()
        found = self._token
        self._next()
        return found

    def _check_attribute(self, name: str) -> None:
        root, _, part = name.partition(".")
        known = ATTRIBUTES.get(root, _ANY)
        if name and "." not in part and known and part not in known:
            fix = f"write one of {', '.join(sorted(known))}"
            raise _WrongError(f"'{shown(root)}' has no '{shown(part)}'", fix)
        if name.rpartition(".")[0] in _MAPS:
            fix = f"write `{name.rpartition('.')[0]}['{part.rpartition('.')[2]}']`"
            raise _WrongError("a header is asked for by its name in brackets", fix)

    def _called(self, function: str) -> bool:
        """A method: its arguments, in parentheses."""
        if function not in (*_TRUTHS, "size"):
            fix = f"write one of {', '.join((*_TRUTHS, 'size'))}"
            raise _WrongError(f"there is no '{shown(function)}' that could be asked of it", fix)
        self._take("(")
        if function == "matches":
            self._pattern()
        elif function != "size":
            self._expression()
        self._take(")")
        return function != "size"

    def _pattern(self) -> None:
        if self._kind != "text":
            raise _WrongError("a pattern must be written out", "write it as in `request.path.matches('^/a')`")
        pattern = self._token[1:-1].replace("\\\\", "\\")
        if why := fault(pattern, most=_PROGRAM_SIZE):
            raise _WrongError(why, "write it in RE2's syntax, and simpler where it is too large")
        self._next()

    def _primary(self) -> tuple[bool, str]:
        if self._kind in ("number", "text"):
            self._next()
            return False, ""
        if self._is("true", "false", "null"):
            truth = not self._is("null")
            self._next()
            return truth, ""
        if self._is("("):
            self._next()
            truth = self._expression()
            self._take(")")
            return truth, ""
        if self._is("["):
            self._list()
            return False, ""
        return self._named()

    def _list(self) -> None:
        self._next()
        while not self._is("]"):
            self._expression()
            if not self._is(","):
                break
            self._next()
        self._take("]")

    def _named(self) -> tuple[bool, str]:
        """An attribute's first name, or a function with what it is asked of."""
        name = self._name()
        if not self._is("("):
            if name not in ATTRIBUTES:
                fix = f"write one of {', '.join(sorted(ATTRIBUTES))}"
                raise _WrongError(f"there is no '{shown(name)}' to ask for", fix)
            return False, name
        if name not in (*_FUNCTIONS, "has"):
            fix = f"write one of {', '.join(sorted((*_FUNCTIONS, 'has')))}"
            raise _WrongError(f"there is no function '{shown(name)}'", fix)
        self._next()
        if name == "has":
            self._attribute()
        else:
            self._expression()
        self._take(")")
        return name == "has", ""

    def _attribute(self) -> None:
        """What is asked of `has`: names with dots between them, at least two."""
        name = self._name()
        if name not in ATTRIBUTES or not self._is("."):
            raise _WrongError("`has` is asked of an attribute", "write it as in `has(request.referer)`")
        while self._is("."):
            self._next()
            name += f".{self._name()}"
            self._check_attribute(name)
        if self._is("["):
            raise _WrongError("`has` is not asked of what stands in brackets", f"write `'x-name' in {name}`")

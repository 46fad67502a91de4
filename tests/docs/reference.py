"""Writes the parts of the reference that follow from the code, and says what they should be.

    python -m tests.docs.reference        # rewrite the pages; the words in the `meaning` columns are kept

A page holds such a part between `<!-- made: NAME -->` and `<!-- end -->`. `tests/docs/test_reference.py` fails when a
page differs from what is made here.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import yaml
from msgspec import inspect

from tests.docs.pages import ROOT

REFERENCE = ROOT / "docs" / "reference"
_PART = re.compile(r"<!-- made: (?P<name>[a-z -]+) -->\n(?P<body>.*?)<!-- end -->", re.DOTALL)
_ROW = re.compile(r"^\| `(?P<field>[^`|]+)` \|.*\| (?P<meaning>[^|]*) \|$", re.MULTILINE)
_TEST = re.compile(r"def (test_(?:[sdt]\d+_)+\w+)")
_SHORT = {"apiVersion", "kind", "metadata"}


# -- the command line ---------------------------------------------------------------------------------------------


def commands() -> list[tuple[str, ...]]:
    """Every command, in the order of the help."""
    from fairlead.cli import SECTIONS

    named = [(name,) for section in SECTIONS.values() for name in section]
    steps = [
        "init",
        "status",
        "compare",
        "prepare",
        "activate",
        "taint",
        "revoke",
        "request",
        "sign",
        "bundle",
        "federation",
    ]
    groups = {"proxy": [("proxy", "show")], "ca": [("ca", step) for step in steps]}
    return [words for (name,) in named for words in groups.get(name, [(name,)])]


_PRINT_HELP = """
import contextlib, io, json, sys
from fairlead.cli import app
texts = []
for words in json.load(sys.stdin):
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        app([*words, "--help"], prog_name="fairlead", standalone_mode=False)
    texts.append(printed.getvalue())
print(json.dumps(texts))
"""


def help_of(asked: list[tuple[str, ...]]) -> list[str]:
    """What `fairlead WORDS --help` prints for each, on 100 columns; all from one process, for starting one is slow."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FAIRLEAD_")}
    done = subprocess.run(
        [sys.executable, "-c", _PRINT_HELP],
        input=json.dumps(asked),
        cwd=ROOT,
        env={**environment, "COLUMNS": "100", "TERMINAL_WIDTH": "100", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return ["\n".join(line.rstrip() for line in text.strip("\n").splitlines()) for text in json.loads(done.stdout)]


def cli(_old: str) -> str:
    """The help of all commands."""
    asked: list[tuple[str, ...]] = [(), *commands()]
    parts = zip(asked, help_of(asked), strict=True)
    return "\n".join(f"## {' '.join(('fairlead', *words))}\n\n```text\n{text}\n```\n" for words, text in parts)


# -- kinds --------------------------------------------------------------------------------------------------------


def meanings(page: str) -> dict[tuple[str, str], str]:
    """The words of the `meaning` columns of a page: (heading, field) → meaning."""
    found: dict[tuple[str, str], str] = {}
    heading = ""
    for line in page.splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        elif (row := _ROW.match(line)) is not None:
            found[heading, row["field"]] = row["meaning"]
    return found


def kinds(old: str) -> str:
    """A section for each kind, and one for each type that several share, with all fields."""
    from mesh.kinds import KINDS

    words = meanings(old)
    owners: dict[type[Any], list[str]] = {}
    for kind in KINDS.values():
        for struct in _nested(kind.struct):
            owners.setdefault(struct, []).append(kind.name)
    parts = []
    for kind in KINDS.values():
        accepted = ", ".join(f"`{version}`" for version in kind.accepted)
        short = f", short {', '.join(f'`{name}`' for name in kind.short_names)}" if kind.short_names else ""
        scope = "namespaced" if kind.namespaced else "cluster-scoped"
        parts.append(f"## {kind.name}\n\napiVersion {accepted}; plural `{kind.plural}`{short}; {scope}.\n")
        own = [struct for struct, users in owners.items() if users[0] == kind.name]
        for struct in own:
            parts.extend(_section(struct, kind.struct, words))
    return "\n".join(parts)


def _section(struct: type[Any], top: type[Any], words: dict[tuple[str, str], str]) -> Iterator[str]:
    heading = struct.__name__
    fields = [field for field in msgspec.structs.fields(struct) if struct is not top or field.encode_name not in _SHORT]
    if not fields:
        return
    if struct is not top:
        yield f"### {heading}\n"
    lines = ["| field | type | default | meaning |", "|---|---|---|---|"]
    types = {field.name: field.type for field in inspect.type_info(struct).fields}  # type: ignore[union-attr]
    for field in fields:
        meaning = words.get((heading, field.encode_name), "")
        lines.append(f"| `{field.encode_name}` | {type_words(types[field.name])} | {_default(field)} | {meaning} |")
    yield "\n".join(lines) + "\n"


def _nested(struct: type[Any]) -> Iterator[type[Any]]:
    seen: dict[type[Any], None] = {}

    def walk(info: inspect.Type) -> None:
        match info:
            case inspect.Metadata(type=inner) | inspect.VarTupleType(item_type=inner):
                walk(inner)
            case inspect.UnionType(types=members):
                for member in members:
                    walk(member)
            case inspect.StructType(cls=cls, fields=fields) if cls.__name__ != "ObjectMeta" and cls not in seen:
                seen[cls] = None
                for field in fields:
                    walk(field.type)

    walk(inspect.type_info(struct))
    yield from seen


def type_words(info: inspect.Type) -> str:
    """A type as the page tells it, with its limits."""
    match info:
        case inspect.Metadata(type=inner):
            return type_words(inner)
        case inspect.UnionType(types=members):
            return " or ".join(type_words(one) for one in members if not isinstance(one, inspect.NoneType))
        case inspect.StructType(cls=cls):
            return f"[{cls.__name__}](#{cls.__name__.lower()})"
        case inspect.VarTupleType(item_type=item):
            return f"list of {type_words(item)}{_limits(info.min_length, info.max_length, 'items')}"
        case inspect.DictType(value_type=value):
            values = type_words(value).partition(" (")[0]
            return f"map of {values}s{_limits(info.min_length, info.max_length, 'entries')}"
        case inspect.LiteralType(values=allowed):
            return ", ".join(f"`{value}`" for value in allowed)
        case inspect.IntType():
            return f"number{_limits(info.ge, info.le, '')}"
        case inspect.BoolType():
            return "boolean"
        case inspect.StrType():
            return f"string{_limits(info.min_length, info.max_length, 'characters')}"
    return "any"


def _limits(low: int | None, high: int | None, unit: str) -> str:
    low = low or None
    if low is None and high is None:
        return ""
    if high is None:
        return f" (at least {low} {unit})".replace(" )", ")")
    text = f"at most {high:,}" if low is None or (low == 1 and unit) else f"{low:,} to {high:,}"
    return f" ({text} {unit})".replace(" )", ")")


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "required"
    value = field.default
    if value is msgspec.NODEFAULT or value is None or value in ((), ""):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, (str, int)):
        return f"`{value}`"
    return ""


# -- REST ---------------------------------------------------------------------------------------------------------


def rest(_old: str) -> str:
    """The table of paths, from the OpenAPI document that the server gives; what all kinds share stands there once."""
    from mesh.kinds import KINDS

    roots = {
        f"/api/v1/namespaces/{{namespace}}/{kind.plural}" if kind.namespaced else f"/api/v1/{kind.plural}": kind
        for kind in KINDS.values()
    }
    lists = {f"/api/v1/{kind.plural}": kind for kind in KINDS.values() if kind.namespaced}
    found: dict[tuple[str, str], str] = {}
    for path, operations in openapi()["paths"].items():
        root = next((root for root in roots if path == root or path.startswith(f"{root}/{{name}}")), "")
        kind = roots.get(root) or lists.get(path)
        for method in ("get", "put", "patch", "post", "delete"):
            if method not in operations:
                continue
            shown, summary = path, operations[method]["summary"]
            if kind is not None and not path.endswith("/split"):
                shown = path.replace(f"/{kind.plural}", "/{plural}", 1)
                summary = re.sub(rf"\ban? {kind.name}\b", "an object", summary).replace(kind.plural, "objects")
            found.setdefault((method.upper(), shown), summary)
    lines = ["| method | path | what it does |", "|---|---|---|"]
    lines += [f"| {method} | `{path}` | {summary} |" for (method, path), summary in found.items()]
    return "\n".join(lines) + "\n"


def openapi() -> dict[str, Any]:
    """The OpenAPI document."""
    from api.openapi import document

    return document(version="0", with_tokens=False)


# -- rules of xDS -------------------------------------------------------------------------------------------------


def features(_old: str) -> str:
    """Every feature of Gateway API by name, and what serves it."""
    from mesh.features import FEATURES, NOT_SERVED

    rows = {
        one.name: f"| `{one.name}` | yes | {one.served_by}{' (experimental channel)' if one.experimental else ''} "
        f"| `{one.shown_in}` |"
        for one in FEATURES
    }
    rows |= {name: f"| `{name}` | no | {why} | |" for name, why in NOT_SERVED.items()}
    return (
        "\n".join(
            [
                "| feature | supported | how, or why not | shown by |",
                "|---|---|---|---|",
                *(rows[n] for n in sorted(rows)),
            ]
        )
        + "\n"
    )


def behaviours(_old: str) -> str:
    """Every behaviour that the conformance suite checks, and where it is tried here."""
    table = yaml.safe_load((ROOT / "tests" / "conformance" / "behaviours.yaml").read_text())
    lines = ["| behaviour | since | golden cases | tests |", "|---|---|---|---|"]
    for name, row in table.items():
        tests = [
            test.rpartition("::")[2].removeprefix("test_") for test in (*row.get("envoy", ()), *row.get("also", ()))
        ]
        cases = ", ".join(f"`{case}`" for case in row.get("golden", ()))
        lines.append(f"| `{name}` | {row.get('since', '')} | {cases} | {', '.join(f'`{test}`' for test in tests)} |")
    return "\n".join(lines) + "\n"


def constructs(_old: str) -> str:
    """The hard parts, and the tests that try each at a real Envoy."""
    table = yaml.safe_load((ROOT / "tests" / "conformance" / "constructs.yaml").read_text())
    lines = ["| what | tried by real requests |", "|---|---|"]
    for name, tests in table.items():
        named = ", ".join(f"`{test.rpartition('::')[2].removeprefix('test_')}`" for test in tests)
        lines.append(f"| {name} | {named} |")
    return "\n".join(lines) + "\n"


def rules_tested() -> dict[str, dict[str, bool]]:
    """The tests that carry a rule's id in their name: `S17` → their names, each with whether a real Envoy is asked."""
    found: dict[str, dict[str, bool]] = {}
    for file in (ROOT / "tests").rglob("test_*.py"):
        real = file.is_relative_to(ROOT / "tests" / "envoy")
        for name in _TEST.findall(file.read_text()):
            for rule in re.findall(r"(?<=_)([sdt]\d+)(?=_)", name):
                found.setdefault(rule.upper(), {})[name] = real
    return found


def rules(old: str) -> str:
    """The table of rules: their words are the page's, the tests those whose names carry the rule's id."""
    known = rules_tested()
    lines = ["| rule | what it asks | tests with a scripted client | tests with a real Envoy |", "|---|---|---|---|"]
    for line in old.splitlines():
        if (row := re.match(r"^\| ([SDT]\d+) \| ([^|]*) \|", line)) is not None:
            names = known.get(row[1], {})
            scripted, real = (
                ", ".join(f"`{name.removeprefix('test_')}`" for name in sorted(names) if names[name] is asked)
                for asked in (False, True)
            )
            lines.append(f"| {row[1]} | {row[2]} | {scripted} | {real} |")
    return "\n".join(lines) + "\n"


def envoy_control(_old: str) -> str:
    """What envoy-control tests, and where the same is tried here."""
    table = yaml.safe_load((ROOT / "tests" / "consul" / "envoy_control.yaml").read_text())
    lines = []
    for part, rows in table.items():
        lines += [f"### {part.capitalize()}", "", "| there | what | here | tests |", "|---|---|---|---|"]
        for name, row in rows.items():
            here = ["yes"] if not row.keys() & {"instead", "missing"} else []
            here += [row["instead"]] if "instead" in row else []
            here += [f"**missing**: {row['missing']}"] if "missing" in row else []
            tests = ", ".join(f"`{test.rpartition('::test_')[2]}`" for test in row.get("tests", ()))
            there = name if part == "beyond" else f"`{name}`"
            lines.append(f"| {there} | {row['about']} | {'; '.join(here)} | {tests} |")
        lines.append("")
    return "\n".join(lines)


MAKERS: dict[str, tuple[str, Callable[[str], str]]] = {
    "cli": ("cli.md", cli),
    "kinds": ("kinds.md", kinds),
    "features": ("gateway-api.md", features),
    "behaviours": ("gateway-api-behaviours.md", behaviours),
    "constructs": ("gateway-api-behaviours.md", constructs),
    "envoy-control": ("envoy-control.md", envoy_control),
    "rest": ("rest.md", rest),
    "rules": ("xds-rules.md", rules),
}


def made(page: str) -> str:
    """A page with its made parts made anew."""

    def part(match: re.Match[str]) -> str:
        _, make = MAKERS[match["name"]]
        return f"<!-- made: {match['name']} -->\n{make(match['body'])}<!-- end -->"

    return _PART.sub(part, page)


def main() -> None:
    """Rewrite the pages."""
    for name, (file, _) in MAKERS.items():
        page = REFERENCE / file
        text = page.read_text()
        new = made(text)
        sys.stdout.write(f"{name}: {'rewritten' if new != text else 'unchanged'}\n")
        page.write_text(new)


if __name__ == "__main__":
    main()

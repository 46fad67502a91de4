"""How a person names objects on the command line, and where the API has them."""

from __future__ import annotations

from typing import Annotated

import typer

from fairlead.client import segment
from fairlead.errors import UsageError
from mesh.kinds import KINDS, Kind, kind_named
from mesh.problems import shown
from mesh.validations.metadata import is_dns_label, is_name

KindArgument = Annotated[str, typer.Argument(metavar="KIND", help="A kind, its plural or its short name, in any case.")]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The object's name.")]
NamespaceOption = Annotated[str, typer.Option("--namespace", "-n", help="The namespace.")]


def kind_of(text: str) -> Kind:
    """The kind that is meant.

    Raises:
        UsageError: there is none of that name.
    """
    kind = kind_named(text)
    if kind is None:
        known = ", ".join(sorted(each.name for each in KINDS.values()))
        raise UsageError(f"there is no kind {text!r}. The kinds are {known}")
    return kind


def collection_path(kind: Kind, namespace: str | None) -> str:
    """Where the API has the objects of a kind; `namespace=None` means all namespaces.

    Raises:
        UsageError: there can be no such namespace.
    """
    if kind.namespaced and namespace is not None and not is_dns_label(namespace):
        fix = "write lower-case letters, digits and '-', at most 63 characters"
        raise UsageError(f"--namespace: '{shown(namespace)}' is no namespace. Fix: {fix}")
    if kind.namespaced and namespace is not None:
        return f"/api/v1/namespaces/{segment(namespace)}/{kind.plural}"
    return f"/api/v1/{kind.plural}"


def object_path(kind: Kind, namespace: str, name: str) -> str:
    """Where the API has one object.

    Raises:
        UsageError: there can be none of that name.
    """
    if not is_name(name):
        before, slash, after = name.partition("/")
        if slash and kind.namespaced and is_dns_label(before) and is_name(after):
            fix = f"write `{after} -n {before}`"
        else:
            fix = "write lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit"
        raise UsageError(f"NAME: '{shown(name)}' is no name of an object. Fix: {fix}")
    return f"{collection_path(kind, namespace)}/{segment(name)}"


def title(kind: str, namespace: str, name: str) -> str:
    """An object in a message: `httproute default/reviews`."""
    return f"{kind.lower()} {namespace}/{name}" if namespace else f"{kind.lower()} {name}"

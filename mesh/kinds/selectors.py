"""Kubernetes' label selectors, and whether labels satisfy one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from msgspec import field

from mesh.kinds.meta import Spec


class LabelSelectorRequirement(Spec, frozen=True, kw_only=True):
    """One condition on a label; `values` belongs to In and NotIn only."""

    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: tuple[str, ...] = ()

    def selects(self, labels: Mapping[str, str]) -> bool:
        """Tell whether `labels` satisfy this condition. NotIn holds for an absent label, as in Kubernetes."""
        match self.operator:
            case "In":
                return labels.get(self.key) in self.values
            case "NotIn":
                return labels.get(self.key) not in self.values
            case "Exists":
                return self.key in labels
            case "DoesNotExist":
                return self.key not in labels


class LabelSelector(Spec, frozen=True, kw_only=True):
    """All of its conditions must hold; an empty selector selects everything."""

    match_labels: dict[str, str] = field(default_factory=dict)
    match_expressions: tuple[LabelSelectorRequirement, ...] = ()

    def selects(self, labels: Mapping[str, str]) -> bool:
        """Tell whether `labels` satisfy every condition."""
        return all(labels.get(key) == value for key, value in self.match_labels.items()) and all(
            requirement.selects(labels) for requirement in self.match_expressions
        )

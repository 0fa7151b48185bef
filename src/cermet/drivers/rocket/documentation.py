"""The support rules in words, from the first lines of their docstrings."""
from __future__ import annotations

from collections.abc import Sequence

from cermet.drivers.rocket.operations import OPERATIONS
from cermet.drivers.rocket.rules import Rule
from cermet.ir.operation import Kind


def sentence(rule: Rule) -> str:
    """The rule as users read it: the docstring's first paragraph on one line."""
    paragraph = (rule.__doc__ or rule.__name__).strip().split("\n\n")[0]
    return " ".join(paragraph.split())


def rules_of(kind: Kind) -> Sequence[Rule]:
    """Each rule of an operation once, in the order in which they are asked; none for one that never runs here."""
    entry = OPERATIONS.get(kind)
    return list(dict.fromkeys(entry.rules)) if entry else []


def rule_sentence(kind: Kind, name: str) -> str:
    """The sentence of an operation's rule, empty for a name that it does not have."""
    return next((sentence(rule) for rule in rules_of(kind) if rule.__name__ == name), "")

"""The lowest versions that pyproject.toml admits, a line each, as pip takes constraints: ``NAME==VERSION``.

Of the installed package, for this Python; of what it needs to run, and of the tests' own tools.
"""

from __future__ import annotations

from importlib import metadata

from packaging.requirements import Requirement


def lowest(requirement: Requirement) -> str:
    """Return the lower bound of a requirement. Raises StopIteration where it has none, which is a mistake."""
    return next(bound.version for bound in requirement.specifier if bound.operator == ">=")


for requirement in map(Requirement, metadata.requires("tcptop-ops") or []):
    if requirement.marker is None or requirement.marker.evaluate({"extra": "dev"}):
        print(f"{requirement.name}=={lowest(requirement)}")

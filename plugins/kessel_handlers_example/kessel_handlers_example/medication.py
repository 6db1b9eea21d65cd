"""`medication.check`: checks an order for interactions and allergies, using tables in this package.

An example of a look-up job. The tables are small; nothing here is medical advice.
"""

from __future__ import annotations

from functools import cache
from itertools import combinations

import attrs

from kessel_core import Fatal, JsonValue, handler
from kessel_handlers_example.tables import shipped

__all__ = ["MedicationOrder", "check_medication"]


@attrs.frozen
class MedicationOrder:
    """The payload."""

    #: Who it is for; not empty.
    patient: str = attrs.field(validator=attrs.validators.min_len(1))
    #: The ordered substances.
    ordered: list[str] = attrs.field(validator=attrs.validators.min_len(1))
    #: Substances that the patient takes already.
    taking: list[str] = attrs.field(factory=list)
    #: Substances or groups, such as `penicillins`.
    allergies: list[str] = attrs.field(factory=list)


@handler("medication.check", max_attempts=3)
def check_medication(order: MedicationOrder) -> JsonValue:
    """Return whether the order passes, and all findings.

    An order with a contraindicated pair or an allergy does not pass. That is a result, not a
    failure: the job did its work. Only an order without any substance fails.

    Raises:
        Fatal: The order names no substance.
    """
    ordered, taking = _names(order.ordered), _names(order.taking)
    if not ordered:
        raise Fatal("the order names no substance")
    findings: list[JsonValue] = []
    findings.extend(_interactions(ordered, taking))
    findings.extend(_allergies(ordered, _names(order.allergies)))
    stops = [f for f in findings if isinstance(f, dict) and f["severity"] in ("contraindicated", "allergy")]
    return {"patient": order.patient, "passes": not stops, "findings": findings}


def _names(given: list[str]) -> list[str]:
    return sorted({name.strip().lower() for name in given if name.strip()})


def _interactions(ordered: list[str], taking: list[str]) -> list[JsonValue]:
    found: list[JsonValue] = []
    for first, second in combinations(sorted({*ordered, *taking}), 2):
        if first not in ordered and second not in ordered:
            continue  # the patient takes both already
        known = _interaction_table().get(frozenset((first, second)))
        if known is not None:
            severity, effect = known
            found.append({"severity": severity, "substances": [first, second], "effect": effect})
    return found


def _allergies(ordered: list[str], allergies: list[str]) -> list[JsonValue]:
    found: list[JsonValue] = []
    for substance in ordered:
        names = {substance, _group_table().get(substance, substance)}
        found.extend(
            {"severity": "allergy", "substances": [substance], "effect": f"allergic to {allergy}"}
            for allergy in allergies
            if allergy in names
        )
    return found


@cache
def _interaction_table() -> dict[frozenset[str], tuple[str, str]]:
    rows = shipped("interactions.csv")
    return {frozenset((row["first"], row["second"])): (row["severity"], row["effect"]) for row in rows}


@cache
def _group_table() -> dict[str, str]:
    return {row["substance"]: row["group"] for row in shipped("allergy_groups.csv")}

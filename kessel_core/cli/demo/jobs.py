"""The jobs that `kessel demo` requests: the same in every run, of all types in the examples."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from kessel_core.model.job import JobRequest
from kessel_core.model.json import JsonValue

__all__ = ["SHORT_LIFE", "demo_requests"]

EXPIRING: Final = 12
#: How long the jobs live that are meant to expire; no job is worked on before it is over.
SHORT_LIFE: Final = timedelta(milliseconds=300)


def demo_requests() -> Iterator[JobRequest]:
    """Yield the jobs of the demo, the same ones in every run."""
    chance = random.Random(2026)  # noqa: S311  # repeatable, not secret
    # First, so that their short life is over when the work begins.
    for number in range(EXPIRING):
        yield JobRequest(type="addition", payload={"operands": [number, 1]}, expiration=SHORT_LIFE)
    for number in range(140):
        yield JobRequest(
            type=chance.choice(["addition", "multiplication"]),
            payload={"operands": [chance.randrange(100), chance.randrange(100)]},
            priority=chance.choice([0, 100, 65_536, 1_000_000]),
            ref=f"sum-{number}",
        )
    for number in range(60):
        payment = "declined" if number == 33 else "busy-once" if number % 10 == 0 else "accepted"
        yield JobRequest(type="order.process", payload=_order(number, payment, chance), priority=10)
    for number in range(50):
        yield JobRequest(type="medication.check", payload=_medication(number, chance), priority=0)
    for _ in range(24):
        span = timedelta(seconds=chance.uniform(0.5, 3))
        yield JobRequest(type="multiplication", payload={"operands": [chance.randrange(10), 2]}, delay=span)
    for metric in ("precipitation", "wind", "temp_max"):
        payload: JsonValue = {"metric": metric, "by": "year"}
        yield JobRequest(type="report.derive", payload=payload, priority=1_000_000)
    for number in range(12):
        yield JobRequest(type="demo.flaky", payload={"failures": 1 + number % 3}, priority=100)
    yield JobRequest(type="demo.unheard-of", payload={"why": "no handler is mapped to this type"})


def _order(number: int, payment: str, chance: random.Random) -> JsonValue:
    goods = chance.sample([("cup", "4.50"), ("pot", "19.90"), ("tea", "3.25"), ("kettle", "49.00")], 2)
    items: list[JsonValue] = [
        {"sku": sku, "quantity": chance.randrange(1, 5), "price": price} for sku, price in goods
    ]
    return {"order_id": f"A{number:03}", "items": items, "payment": payment}


def _medication(number: int, chance: random.Random) -> JsonValue:
    substances = ["amoxicillin", "aspirin", "ibuprofen", "simvastatin", "warfarin", "metformin"]
    first, *taking = chance.sample(substances, 3)
    allergies: list[JsonValue] = ["penicillins"] if number % 9 == 0 else []
    return {"patient": f"p{number}", "ordered": [first], "taking": [*taking], "allergies": allergies}

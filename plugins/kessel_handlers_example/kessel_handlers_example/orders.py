"""`order.process`: what happens after a purchase: check, charge, prepare the pick list.

The payment service is simulated, and the payload says how it behaves (`payment`). Everything else is
what a shop would do.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Final

import attrs

from kessel_core import Fatal, JobContext, JsonValue, Transient, handler

__all__ = ["Item", "Order", "Payment", "process_order"]


#: Needed because `1e999999` is a valid decimal number, and would be written out in full.
_HIGHEST_PRICE: Final = 1_000_000


class Payment(StrEnum):
    """How the simulated payment service responds."""

    #: Accepts the payment.
    ACCEPTED = "accepted"
    #: Is busy the first time, and accepts the second time.
    BUSY_ONCE = "busy-once"
    #: Declines the card: no retry can help.
    DECLINED = "declined"


def _price(instance: object, attribute: object, value: str) -> None:
    try:
        price = Decimal(value)
    except InvalidOperation:
        raise ValueError(f"price must be a decimal number as text, got {value!r:.40}") from None
    if not price.is_finite() or not 0 <= price <= _HIGHEST_PRICE:
        raise ValueError(f"price must be from 0 to {_HIGHEST_PRICE:,}, got {value:.40}")


@attrs.frozen
class Item:
    """One line of an order."""

    #: The article.
    sku: str = attrs.field(validator=attrs.validators.min_len(1))
    #: Number of pieces, at least 1.
    quantity: int = attrs.field(validator=attrs.validators.ge(1))
    #: Price per piece as a decimal number in text, because floats cannot hold cents exactly.
    price: str = attrs.field(validator=_price)


@attrs.frozen
class Order:
    """The payload."""

    order_id: str = attrs.field(validator=attrs.validators.min_len(1))
    items: list[Item] = attrs.field(validator=attrs.validators.min_len(1))
    currency: str = "EUR"
    payment: Payment = Payment.ACCEPTED


@handler("order.process", max_attempts=5)
def process_order(order: Order, job: JobContext) -> JsonValue:
    """Charge an order, and return what the warehouse and the customer need to know.

    Safe to run twice: a real payment service would use the order's id as the idempotency key.

    Raises:
        Transient: The payment service is busy.
        Fatal: The payment was declined.
    """
    total = sum((Decimal(item.price) * item.quantity for item in order.items), Decimal(0))
    _charge(order, total, job)
    pieces = sum(item.quantity for item in order.items)
    job.logger.debug("order %s charged: %s %s", order.order_id, total, order.currency)
    return {
        "order_id": order.order_id,
        "total": f"{total:.2f}",
        "currency": order.currency,
        "pieces": pieces,
        "pick_list": [*sorted(f"{item.quantity} x {item.sku}" for item in order.items)],
    }


def _charge(order: Order, total: Decimal, job: JobContext) -> None:
    if order.payment is Payment.DECLINED:
        raise Fatal(f"payment of {total:.2f} {order.currency} for order {order.order_id} was declined")
    if order.payment is Payment.BUSY_ONCE and job.attempt == 1:
        raise Transient("the payment service is busy", after=timedelta(seconds=1))

"""The plugin: offers the example handlers."""

from __future__ import annotations

from kessel_core import hookimpl

__all__ = ["kessel_handlers"]


@hookimpl
def kessel_handlers() -> list[object]:
    """Offer `addition`, `multiplication`, `order.process`, `medication.check` and `report.derive`."""
    from kessel_handlers_example import arithmetic, medication, orders, reports

    return [
        arithmetic.addition,
        arithmetic.multiplication,
        orders.process_order,
        medication.check_medication,
        reports.derive_report,
    ]

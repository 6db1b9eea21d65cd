"""The plugin: offers the adapter; loads its parts only when one is opened."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from kessel_beanstalk.options import BeanstalkOptions
from kessel_core.contract import AdapterContext, AdapterSpec
from kessel_core.hooks import hookimpl

if TYPE_CHECKING:
    from kessel_beanstalk.adapter import BeanstalkAdapter

__all__ = ["SPEC", "kessel_adapters"]


def _open(options: BeanstalkOptions, context: AdapterContext) -> BeanstalkAdapter:
    from kessel_beanstalk.adapter import BeanstalkAdapter

    return BeanstalkAdapter(options, context)


SPEC = AdapterSpec(
    name="beanstalk",
    schemes=("beanstalk",),
    options=BeanstalkOptions,
    open=_open,
    summary="beanstalkd: many processes on many machines, durable with its binlog",
)


@hookimpl
def kessel_adapters() -> Iterable[AdapterSpec]:
    """Offer the adapter `beanstalk`, opened by `beanstalk://host:11300`."""
    return [SPEC]

"""Names that no host can have: the adapters over a network must refuse them alike (contract, rule 3)."""

from __future__ import annotations

import pytest

from kessel_core import SystemClock, build_plugins
from kessel_core.contract import AdapterContext, AdapterUnavailable


@pytest.mark.parametrize("host", ["two..dots", "x" * 64 + ".example", "%ff"])
@pytest.mark.parametrize("url", ["beanstalk://{}", "postgresql://u@{}/d", "redis://{}"])
def test_name_that_no_host_can_have_is_unavailable_and_no_fault_of_the_plugin(url: str, host: str) -> None:
    """Python refuses them before anybody is asked, by an error that is none of the network's."""
    adapter = build_plugins().chosen_adapter(url.format(host), {})
    with pytest.raises(AdapterUnavailable):
        adapter.open(AdapterContext(clock=SystemClock()))

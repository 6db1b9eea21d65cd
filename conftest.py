"""Settings of all tests: how fast a machine is says nothing about what is tested."""

from __future__ import annotations

try:
    from hypothesis import HealthCheck, settings
except ImportError:  # the tests of built wheels run without it
    pass
else:
    settings.register_profile("kessel", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("kessel")

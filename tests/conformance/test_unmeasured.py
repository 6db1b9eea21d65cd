"""What is not measured is not slowed down either: `conftest.py` says what that is."""

from __future__ import annotations

import sys

import pytest


def test_these_tests_run_untraced_in_a_measured_run_too(pytestconfig: pytest.Config) -> None:
    if not pytestconfig.pluginmanager.hasplugin("_cov"):
        pytest.skip("nothing is measured in this run")
    assert sys.gettrace() is None

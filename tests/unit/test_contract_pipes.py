"""Waiting for what can be read, as those do who listen to a server (E8)."""

from __future__ import annotations

import fcntl
import os
import resource

from kessel_core.contract import readable


def test_who_listens_may_have_more_than_a_thousand_descriptors_open() -> None:
    """`select` refuses their numbers, and no worker of a large application would be woken any more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2000), hard))
    reading, writing = os.pipe()
    high = fcntl.fcntl(reading, fcntl.F_DUPFD, 1500)
    try:
        os.write(writing, b"x")
        assert readable([high], 5) == {high}
        os.read(high, 1)
        assert readable([high], 0) == set()
    finally:
        for descriptor in (reading, writing, high):
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

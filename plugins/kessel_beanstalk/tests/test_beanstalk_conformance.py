from kessel_beanstalk.plugin import SPEC
from kessel_conformance import AdapterConformance, ServerHarness

URL = "beanstalk://127.0.0.1:{port}?ttr="
COMMAND = ["beanstalkd", "-l", "127.0.0.1", "-p", "{port}", "-b", "{tmp}"]
# It looks again and again in the last millisecond; `deadline_at >= nanoseconds()` leaves the job to nobody.
WHY = "beanstalkd up to 1.13 forgets a lease that it looks at in the very microsecond of its end"
STILL = dict.fromkeys(("lease.holds_and_ends", "lease.extended_from_now", "lease.keeps_priority"), WHY)


class TestBeanstalk(AdapterConformance):
    # Plans have a lease that no plan outlasts, for the same reason.
    harness = ServerHarness(
        SPEC,
        URL + "5s",
        COMMAND,
        variable="BEANSTALKD",
        version_option="-v",
        still=STILL,
        plans_url=URL + "60s",
    )

from kessel_beanstalk.plugin import SPEC
from kessel_conformance import AdapterConformance, ServerHarness

URL = "beanstalk://127.0.0.1:{port}?ttr=2s"
COMMAND = ["beanstalkd", "-l", "127.0.0.1", "-p", "{port}", "-b", "{tmp}"]
# beanstalkd 1.12 loses track of a lease that ends while other connections hold jobs, too.
ALONE = dict.fromkeys(("lease.holds_and_ends", "lease.keeps_priority"), "beanstalkd's own timers")


class TestBeanstalk(AdapterConformance):
    harness = ServerHarness(
        SPEC, URL, COMMAND, variable="BEANSTALKD", alone=ALONE, plans_url=URL.replace("2s", "60s")
    )

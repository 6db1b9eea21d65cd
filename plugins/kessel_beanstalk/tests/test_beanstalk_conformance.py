from kessel_beanstalk.plugin import SPEC
from kessel_conformance import AdapterConformance, ServerHarness

URL = "beanstalk://127.0.0.1:{port}?ttr=8s"
COMMAND = ["beanstalkd", "-l", "127.0.0.1", "-p", "{port}", "-b", "{tmp}"]
WHY = "beanstalkd 1.12 now and then loses the end of a lease while other connections are busy"
OFF = dict.fromkeys(("lease.holds_and_ends", "lease.keeps_priority"), WHY)


class TestBeanstalk(AdapterConformance):
    harness = ServerHarness(SPEC, URL, COMMAND, variable="BEANSTALKD", version_option="-v", disabled=OFF)

from kessel_beanstalk.plugin import SPEC

from kessel_conformance import AdapterConformance, ServerHarness

URL = "beanstalk://127.0.0.1:{port}?ttr=4s"
COMMAND = ["beanstalkd", "-l", "127.0.0.1", "-p", "{port}", "-b", "{tmp}"]


class TestBeanstalk(AdapterConformance):
    harness = ServerHarness(SPEC, URL, COMMAND, variable="BEANSTALKD")

from kessel_beanstalk.plugin import SPEC
from kessel_conformance import AdapterConformance, ServerHarness

# Cases in which nothing answers wait for these timeouts.
URL = "beanstalk://127.0.0.1:{port}?timeout=3s&connect_timeout=3s&ttr="
COMMAND = ["beanstalkd", "-l", "127.0.0.1", "-p", "{port}", "-b", "{tmp}"]
# It looks again and again in the last millisecond; `deadline_at >= nanoseconds()` leaves the job to nobody.
WHY = "beanstalkd up to 1.13 forgets a lease that it looks at in the very microsecond of its end"
STILL = dict.fromkeys(
    (
        "lease.holds_and_ends",
        "lease.extended_from_now",
        "lease.keeps_priority",
        "lease.many_end_together",
        "lease.each_by_its_own",
        "lease.ended_is_ready",
        "lease.ended_at_first_look",
        "peek.at_first_look",
        "stats.at_first_look",
        "purge.at_first_look",
        "lease.ends_after_it_was_extended",
        "lease.extended_beside_another",
        "lease.extended_early",
        "lease.extended_in_full",
        "lease.extended_together",
        "lease.late_calls_refused",
        "lease.late_settle_refused",
        "snooze.late_refused",
        "following.kicks_kept",
        "delete.after_lease",
        "pause.outlasts_leases",
        "reserve.wakes_for_lease_end",
        "reserve.wakes_for_extended_lease_end",
        "settle.and_reserve_what_was_lost",
        "priority.kept_on_every_way",
        "order.tie_after_every_way",
        "delivery.attempts_on_every_way",
        "lost.half_open",
        "lost.extend",
        "lost.reserve",
        "lost.settle",
        "durable.killed_process",
        "clocks.leases",
        "clocks.extensions",
    ),
    WHY,
)


class TestBeanstalk(AdapterConformance):
    # Plans have a lease that no plan outlasts, for the same reason.
    harness = ServerHarness(
        SPEC,
        URL + "5s",
        COMMAND,
        variable="BEANSTALKD",
        version_option="-v",
        still=STILL,
        # Listing the jobs of a queue asks for every number that the server has ever given to a job.
        servers=8,
        plans_url=URL + "60s",
        forks=True,
    )

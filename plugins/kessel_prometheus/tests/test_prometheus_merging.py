"""One page for all processes: what is counted is added up, and never falls when a process is replaced."""

from __future__ import annotations

from datetime import timedelta

from kessel_prometheus.families import of_exporter
from kessel_prometheus.merging import merged
from kessel_prometheus.text import written

from kessel_core.contract import QueueStats

from .conftest import samples

SECOND = timedelta(seconds=1)

PAGE = b"""\
# HELP kessel_attempts_total Attempts.
# TYPE kessel_attempts_total counter
kessel_attempts_total{queue="a",type="x"} 3.0
kessel_attempts_total{queue="b",type="x"} 1.0
# HELP kessel_job_run_seconds Runs.
# TYPE kessel_job_run_seconds histogram
kessel_job_run_seconds_bucket{le="0.5",queue="a"} 2.0
kessel_job_run_seconds_bucket{le="+Inf",queue="a"} 3.0
kessel_job_run_seconds_count{queue="a"} 3.0
kessel_job_run_seconds_sum{queue="a"} 4.5
# HELP kessel_slots Slots.
# TYPE kessel_slots gauge
kessel_slots{state="busy"} 1.0
# HELP kessel_longest_running_seconds Longest.
# TYPE kessel_longest_running_seconds gauge
kessel_longest_running_seconds{type="x"} 30.0
# HELP kessel_queue_jobs Jobs.
# TYPE kessel_queue_jobs gauge
kessel_queue_jobs{queue="a",state="ready"} 7.0
# HELP kessel_queue_up Up.
# TYPE kessel_queue_up gauge
kessel_queue_up 1.0
"""
OTHER = b"""\
# HELP kessel_attempts_total Attempts.
# TYPE kessel_attempts_total counter
kessel_attempts_total{queue="a",type="x"} 10.0
kessel_attempts_total{queue="a",type="_other"} 2.0
# HELP kessel_job_run_seconds Runs.
# TYPE kessel_job_run_seconds histogram
kessel_job_run_seconds_bucket{le="0.5",queue="a"} 0.0
kessel_job_run_seconds_bucket{le="+Inf",queue="a"} 1.0
kessel_job_run_seconds_count{queue="a"} 1.0
kessel_job_run_seconds_sum{queue="a"} 8.0
# HELP kessel_slots Slots.
# TYPE kessel_slots gauge
kessel_slots{state="busy"} 2.0
kessel_slots{state="idle"} 1.0
# HELP kessel_longest_running_seconds Longest.
# TYPE kessel_longest_running_seconds gauge
kessel_longest_running_seconds{type="x"} 5.0
# HELP kessel_queue_up Up.
# TYPE kessel_queue_up gauge
kessel_queue_up 0.0
"""


def test_what_grows_and_slots_are_added_up_and_of_the_rest_the_largest_counts() -> None:
    assert samples(merged([PAGE, OTHER], [])) == {
        'kessel_attempts_total{queue="a",type="x"}': 13,
        'kessel_attempts_total{queue="b",type="x"}': 1,
        'kessel_attempts_total{queue="a",type="_other"}': 2,
        'kessel_job_run_seconds_bucket{le="0.5",queue="a"}': 2,
        'kessel_job_run_seconds_bucket{le="+Inf",queue="a"}': 4,
        'kessel_job_run_seconds_count{queue="a"}': 4,
        'kessel_job_run_seconds_sum{queue="a"}': 12.5,
        'kessel_slots{state="busy"}': 3,
        'kessel_slots{state="idle"}': 1,
        'kessel_longest_running_seconds{type="x"}': 30,
        'kessel_queue_jobs{queue="a",state="ready"}': 7,
        "kessel_queue_up": 1,
    }


def test_queues_and_the_exporter_are_told_once_however_many_processes_tell_of_them() -> None:
    """Each of them asks the same adapter; added up, four processes would show four times the jobs."""
    stats = QueueStats(
        queue="a", ready=7, delayed=5, reserved=3, buried=2, paused=SECOND, oldest_ready=9 * SECOND
    )
    page = written(of_exporter(lambda: [stats], "memory"))
    assert len(samples(page)) > 6
    assert merged([page] * 4, ()) == page


def test_of_processes_that_have_ended_only_what_grows_counts() -> None:
    found = samples(merged([OTHER], [PAGE]))
    assert found['kessel_attempts_total{queue="a",type="x"}'] == 13
    assert found['kessel_attempts_total{queue="b",type="x"}'] == 1
    assert found['kessel_job_run_seconds_sum{queue="a"}'] == 12.5
    assert found['kessel_slots{state="busy"}'] == 2
    assert found['kessel_longest_running_seconds{type="x"}'] == 5
    assert found["kessel_queue_up"] == 0


def test_what_is_left_of_ended_processes_is_a_page_again() -> None:
    left = merged((), [PAGE, OTHER])
    assert {name.partition("{")[0] for name in samples(left)} == {
        "kessel_attempts_total",
        "kessel_job_run_seconds_bucket",
        "kessel_job_run_seconds_count",
        "kessel_job_run_seconds_sum",
    }
    assert merged((), [left]) == left
    assert samples(merged([PAGE], [left]))['kessel_attempts_total{queue="a",type="x"}'] == 16


def test_a_merged_page_is_as_one_of_a_single_process() -> None:
    assert merged([PAGE], ()) == PAGE


def test_nothing_at_all_is_an_empty_page() -> None:
    assert merged((), ()) == b""


def test_a_label_may_contain_whatever_a_name_of_a_queue_may() -> None:
    page = written(of_exporter(lambda: [QueueStats(queue='a "b" \\ {c}', ready=1)], "memory"))
    assert merged([page], ()) == page

"""`kessel demo`: a few hundred jobs of every kind, from request to settlement, in one process.

It uses a queue of its own in a file of its own, so that it can be stopped and started again:
what was requested then is found and finished.
"""

from __future__ import annotations

import random
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
import click

from kessel_core.cli.app import App, as_json, configured, logs_options, pass_app, sigterm_as_ctrl_c
from kessel_core.cli.output import console, emit, preview, table
from kessel_core.contract.promises import Reach
from kessel_core.errors import Transient
from kessel_core.handlers.context import JobContext
from kessel_core.handlers.declare import handler
from kessel_core.hooks.specs import hookimpl
from kessel_core.model.job import JobRequest
from kessel_core.model.json import JsonValue
from kessel_core.model.result import JobResult, Reason
from kessel_core.model.settlement import Bury, Rollback

if TYPE_CHECKING:
    from kessel_core.client.manager import JobManager
    from kessel_core.clock import Clock
    from kessel_core.config.options import Config
    from kessel_core.contract.adapter import QueueAdapter
    from kessel_core.model.settlement import Settlement

__all__ = ["demo"]

QUEUE: Final = "kessel-demo"
DEFAULT_FILE: Final = "sqlite:///kessel-demo.db"
EXAMPLES: Final = "kessel-handlers-example"
SLOTS: Final = 4
EXPIRING: Final = 12
BATCH: Final = 50
#: How long the jobs live that are meant to expire; no job is worked on before it is over.
SHORT_LIFE: Final = timedelta(milliseconds=300)
#: How often the queue is looked at while jobs are worked on.
LOOK_SECONDS: Final = 0.1


@click.command()
@as_json
@logs_options
@configured
@pass_app
def demo(app: App, as_json: bool) -> None:
    """Run a few hundred jobs of every kind, and watch.

    Everything happens in this process, in the queue kessel-demo of kessel-demo.db in this
    directory, or of another adapter with --adapter URL. Ctrl-C or SIGTERM stops it; started
    again, it finishes what is left.
    """
    config = _config(app)
    _start_logging(app)
    watch = Watch()
    plugins = app.plugins_with(demo=watch)
    with sigterm_as_ctrl_c(), app.manager(config=config, plugins=plugins) as manager:
        found = _left_over(manager.adapter)
        if found:
            click.echo(f"found {found:,} jobs of a run that was stopped; finishing them", err=True)
            total = found
        else:
            total = _request_all(manager)
        try:
            _work(manager, watch, total)
        except KeyboardInterrupt:
            manager.stop(timedelta(seconds=5))
            _say_interrupted(manager.adapter)
            raise
        _report(watch, config.adapter, as_json)


def _config(app: App) -> Config:
    if not app.given("adapter"):
        schemes = {scheme for spec in app.any_plugins.adapters().values() for scheme in spec.schemes}
        # Never the configured adapter: nobody wants these jobs among those of an application.
        app.argument("adapter", DEFAULT_FILE if "sqlite" in schemes else "memory://", "kessel demo")
    config = app.config
    return attrs.evolve(
        config,
        queues=(QUEUE,),
        worker=attrs.evolve(config.worker, slots=SLOTS, processes=1),
        # Short pauses, so that retries can be watched.
        jobs=attrs.evolve(
            config.jobs,
            max_attempts=5,
            retry_base=timedelta(milliseconds=200),
            retry_cap=timedelta(seconds=1),
        ),
    )


def _start_logging(app: App) -> None:
    from kessel_core.cli.logs import configure

    # The bar is for watching, and a line for each job would tear it; who asks for lines gets them.
    is_default = app.loaded.origins["logging.level"].layer == "default"
    configure("error" if is_default else app.config.logging.level, app.config.logging.json)


# --- what the demo adds to the examples ------------------------------------------------------


@attrs.frozen
class Outage:
    """What `demo.flaky` is asked to go through."""

    #: How often the service does not answer.
    failures: int


@handler("demo.flaky")
def flaky(outage: Outage, job: JobContext) -> str:
    """Fail as often as the payload says, then succeed: a service that comes back."""
    if job.attempt <= outage.failures:
        raise Transient("the service does not answer yet")
    return "the service is back"


class Watch:
    """A plugin: offers the demo's handlers, and counts what becomes of the jobs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.done: Counter[str] = Counter()
        self.retried: Counter[str] = Counter()
        self.expired: Counter[str] = Counter()
        self.buried: list[tuple[str, str, str, str]] = []
        self.reports: list[JsonValue] = []

    @hookimpl
    def kessel_handlers(self) -> list[Any]:
        """Offer `demo.flaky`."""
        return [flaky]

    @hookimpl
    def kessel_job_settled(self, result: JobResult, settlement: Settlement) -> None:
        """Count one settlement; slots call it, each in its own thread."""
        kind = result.request.type if result.request is not None else "(undecodable)"
        with self._lock:
            if isinstance(settlement, Rollback):
                self.retried[kind] += 1
            elif isinstance(settlement, Bury):
                self.buried.append((result.id, kind, settlement.reason, settlement.message))
            elif result.reason is Reason.EXPIRED:
                self.expired[kind] += 1
            else:
                self.done[kind] += 1
                if kind == "report.derive":
                    self.reports.append(result.value)


# --- requesting ------------------------------------------------------------------------------


def _wishes() -> Iterator[JobRequest]:
    """Yield the jobs of the demo, the same ones in every run."""
    chance = random.Random(2026)  # noqa: S311  # repeatable, not secret
    # First, so that their short life is over when the work begins.
    for number in range(EXPIRING):
        yield JobRequest(type="addition", payload={"operands": [number, 1]}, expiration=SHORT_LIFE)
    for number in range(140):
        yield JobRequest(
            type=chance.choice(["addition", "multiplication"]),
            payload={"operands": [chance.randrange(100), chance.randrange(100)]},
            priority=chance.choice([0, 100, 65_536, 1_000_000]),
            ref=f"sum-{number}",
        )
    for number in range(60):
        payment = "declined" if number == 33 else "busy-once" if number % 10 == 0 else "accepted"
        yield JobRequest(type="order.process", payload=_order(number, payment, chance), priority=10)
    for number in range(50):
        yield JobRequest(type="medication.check", payload=_medication(number, chance), priority=0)
    for _ in range(24):
        span = timedelta(seconds=chance.uniform(0.5, 3))
        yield JobRequest(type="multiplication", payload={"operands": [chance.randrange(10), 2]}, delay=span)
    for metric in ("precipitation", "wind", "temp_max"):
        payload: JsonValue = {"metric": metric, "by": "year"}
        yield JobRequest(type="report.derive", payload=payload, priority=1_000_000)
    for number in range(12):
        yield JobRequest(type="demo.flaky", payload={"failures": 1 + number % 3}, priority=100)
    yield JobRequest(type="demo.unheard-of", payload={"why": "no handler is mapped to this type"})


def _order(number: int, payment: str, chance: random.Random) -> JsonValue:
    goods = chance.sample([("cup", "4.50"), ("pot", "19.90"), ("tea", "3.25"), ("kettle", "49.00")], 2)
    items: list[JsonValue] = [
        {"sku": sku, "quantity": chance.randrange(1, 5), "price": price} for sku, price in goods
    ]
    return {"order_id": f"A{number:03}", "items": items, "payment": payment}


def _medication(number: int, chance: random.Random) -> JsonValue:
    substances = ["amoxicillin", "aspirin", "ibuprofen", "simvastatin", "warfarin", "metformin"]
    first, *taking = chance.sample(substances, 3)
    allergies: list[JsonValue] = ["penicillins"] if number % 9 == 0 else []
    return {"patient": f"p{number}", "ordered": [first], "taking": [*taking], "allergies": allergies}


def _left_over(adapter: QueueAdapter) -> int:
    """Return how many unfinished jobs an earlier run left; buried ones alone are cleared away."""
    count = adapter.stats(QUEUE)
    living = count.ready + count.delayed + count.reserved
    if not living and count.buried:
        adapter.purge(QUEUE)
    return living


def _request_all(manager: JobManager) -> int:
    if "addition" not in manager.registry.types():
        click.echo(
            f"the example handlers are missing, so most jobs will be buried: pip install {EXAMPLES}", err=True
        )
    wishes = [attrs.evolve(wish, queue=QUEUE) for wish in _wishes()]
    with _bar("requesting", len(wishes)) as show:
        for start in range(0, len(wishes), BATCH):
            manager.request_many(wishes[start : start + BATCH])
            show(min(start + BATCH, len(wishes)), "")
        _pause(manager.clock, SHORT_LIFE.total_seconds())
    return len(wishes)


# --- working ---------------------------------------------------------------------------------


def _work(manager: JobManager, watch: Watch, total: int) -> None:
    manager.start(slots=SLOTS, queues=[QUEUE])
    with _bar("working", total) as show:
        while True:
            count = manager.adapter.stats(QUEUE)
            living = count.ready + count.delayed + count.reserved
            retried = watch.retried.total()
            show(total - living, f"{count.delayed} delayed, {retried} retries, {count.buried} buried")
            if not living:
                break
            _pause(manager.clock, LOOK_SECONDS)
    manager.stop(timedelta(seconds=5))


def _pause(clock: Clock, seconds: float) -> None:
    condition = threading.Condition()
    with condition:
        clock.wait(condition, seconds)


@contextmanager
def _bar(what: str, total: int) -> Iterator[Callable[[int, str], None]]:
    """Show progress on standard error: a live bar on a terminal, else one line."""
    target = console(stderr=True)
    if not target.is_terminal:
        click.echo(f"{what} {total:,} jobs", err=True)
        yield lambda done, text: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[text]}"),
    )
    with Progress(*columns, console=target) as bar:
        task = bar.add_task(what, total=total, text="")
        yield lambda done, text: bar.update(task, completed=done, text=text)
        bar.update(task, completed=total)


def _say_interrupted(adapter: QueueAdapter) -> None:
    count = adapter.stats(QUEUE)
    left = count.ready + count.delayed + count.reserved
    if adapter.capabilities.reach is Reach.PROCESS:
        click.echo(f"stopped; {left:,} jobs are gone with this process", err=True)
    else:
        click.echo(f"stopped; {left:,} jobs are left: `kessel demo` finishes them", err=True)


# --- reporting -------------------------------------------------------------------------------


def _report(watch: Watch, adapter: str, as_json: bool) -> None:
    kinds = sorted({*watch.done, *watch.retried, *watch.expired, *(kind for _, kind, _, _ in watch.buried)})
    buried = Counter(kind for _, kind, _, _ in watch.buried)
    if as_json:
        emit(
            {
                "types": {
                    kind: {
                        "done": watch.done[kind],
                        "retries": watch.retried[kind],
                        "expired": watch.expired[kind],
                        "buried": buried[kind],
                    }
                    for kind in kinds
                },
                "buried": [
                    {"id": id_, "type": kind, "reason": reason, "message": message}
                    for id_, kind, reason, message in watch.buried
                ],
                "reports": watch.reports,
            }
        )
        return
    rows: list[tuple[object, ...]] = [
        (kind, watch.done[kind], watch.retried[kind], watch.expired[kind], buried[kind]) for kind in kinds
    ]
    totals = (watch.done.total(), watch.retried.total(), watch.expired.total(), buried.total())
    table(["type", "#done", "#retries", "#expired", "#buried"], [*rows, ("all", *totals)], title="Jobs")
    if watch.buried:
        click.echo()
        table(
            ["type", "reason", "message"],
            [(kind, reason, preview(message, 100)) for _, kind, reason, message in watch.buried],
            title="Buried, until somebody kicks or deletes them",
        )
    for report in watch.reports:
        if isinstance(report, dict) and report.get("metric") == "temp_max":
            click.echo()
            _derived(report)
    if "memory" not in adapter.partition("://")[0]:
        _next_commands(adapter)


def _derived(report: JsonValue) -> None:
    """Print a report of `report.derive`: a table if it has rows of equal fields, else as it is."""
    import json

    rows = report.get("rows") if isinstance(report, dict) else None
    if not (isinstance(report, dict) and isinstance(rows, list) and rows and isinstance(rows[0], dict)):
        click.echo("Derived report")
        click.echo(json.dumps(report, indent=2, ensure_ascii=False))
        return
    columns = list(rows[0])
    numbers = {name for name, value in rows[0].items() if isinstance(value, (int, float))}
    table(
        [f"#{name}" if name in numbers else name for name in columns],
        [[row.get(name) for name in columns] for row in rows if isinstance(row, dict)],
        title=f"Derived report: {report.get('metric')} from {report.get('observations'):,} observations",
    )


def _next_commands(adapter: str) -> None:
    click.echo()
    click.echo("Next:")
    program = _typed()
    proposed = (
        (f"{program} buried list -a {adapter} -q {QUEUE}", "why they are buried"),
        (f"{program} stats -a {adapter}", "what the queues hold"),
        (f"{program} request addition '{{\"operands\": [1, 2]}}'", "your first job, in kessel.db"),
        (f"{program} worker", "work on it; Ctrl-C stops"),
        (f"{program} --help", "everything else"),
    )
    width = max(len(command) for command, _ in proposed)
    for command, why in proposed:
        click.echo(f"  {command:<{width}}  {why}")


def _typed() -> str:
    """Return what to type for this command: `make demo` runs one that is not on the PATH."""
    import shutil

    started = sys.argv[0]
    if Path(started).name != "kessel" or shutil.which("kessel") is not None:
        return "kessel"
    return started

"""`kessel doctor`: looks at configuration, plugins, handlers and the backend, and gives advice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs
import click

from kessel_core.cli.app import App, as_json, configured, pass_app
from kessel_core.cli.doctor_store import advice_on, store_finding, store_trouble
from kessel_core.cli.output import Wrong, emit, table
from kessel_core.contract.doctor import DoctorContext, Finding, Level
from kessel_core.contract.promises import Reach
from kessel_core.errors import (
    ConfigError,
    InvalidConfig,
    KesselError,
    PluginClash,
    Problem,
    UnusablePlugin,
)
from kessel_core.plugins.status import PluginState
from kessel_core.values.raised import raised, said
from kessel_core.values.secrets import without_secrets

if TYPE_CHECKING:
    from kessel_core.contract.adapter import QueueAdapter
    from kessel_core.handlers.registry import HandlerRegistry
    from kessel_core.plugins.registry import Plugins

__all__ = ["doctor"]


@click.command()
@click.option("--strict", is_flag=True, help="Exit with 1 for warnings, too.")
@as_json
@configured
@pass_app
def doctor(app: App, strict: bool, as_json: bool) -> None:
    """Look for what is wrong, and say what to do.

    Exits with 1 if anything is an error.
    """
    # Adapters and plugins say what they were given, as an address with its password.
    findings = [attrs.evolve(f, detail=without_secrets(f.detail)) for f in _findings(app)]
    if as_json:
        emit(
            [
                {"level": f.level.value, "subject": f.subject, "detail": f.detail, "advice": f.advice}
                for f in findings
            ]
        )
    else:
        table(
            ["", "looked at", "found", "what to do"],
            [
                (f.level if f.level is Level.OK else Wrong(f.level), f.subject, f.detail, f.advice)
                for f in findings
            ],
        )
    serious = (Level.ERROR, Level.WARNING) if strict else (Level.ERROR,)
    if any(finding.level in serious for finding in findings):
        raise SystemExit(1)


def _findings(app: App) -> Iterator[Finding]:
    try:
        loaded = app.loaded
    except InvalidConfig as exc:
        for problem in exc.problems:
            yield Finding(
                Level.ERROR, "configuration", str(problem), "correct it; `kessel config` shows all options"
            )
        return
    yield Finding(
        Level.OK, "configuration", f"read from {loaded.file}" if loaded.file else "no file, defaults"
    )
    # First, because it asks all of them, and only then does the report have those that fail.
    clashes = app.any_plugins.clashes(app.config.handlers)
    yield from _plugin_findings(app)
    reported: set[str] = set()
    # A failure is a finding, never a traceback.
    try:
        if (why := _absent(app)) is not None:
            yield from _findings_without_queue(app, why)
        elif (finding := store_trouble(app)) is not None:
            yield finding
            registry = _registry(app)
            yield _handler_finding(registry)
            with app.adapter() as adapter:
                yield from _adapter_findings(adapter, _context(app, registry))
        else:
            with app.manager() as manager:
                yield _handler_finding(manager.registry)
                context = _context(app, manager.registry)
                yield from _adapter_findings(manager.adapter, context)
                yield store_finding(app, manager)
                yield from _findings_of_plugins(manager.plugins, context)
    except InvalidConfig as exc:
        for problem in exc.problems:
            reported.add(problem.message)
            yield Finding(Level.ERROR, "application", *_described(problem))
    except ConfigError as exc:
        yield Finding(Level.ERROR, "application", str(exc), "`kessel plugins` tells more")
    except KesselError as exc:
        yield Finding(Level.ERROR, "adapter", str(exc), advice_on(exc))
    except (Exception, SystemExit) as exc:
        # A plugin that fails in its own way is what a doctor is called for.
        yield Finding(Level.ERROR, "application", said(exc), "`kessel plugins` tells more")
    # What stops nobody today, because neither of them is used.
    for clash in clashes:
        if clash.message not in reported:
            yield Finding(Level.WARNING, "plugins", *_described(clash))


def _described(problem: Problem) -> tuple[str, str]:
    """Return what is wrong, and what to do about it."""
    if isinstance(problem, PluginClash):
        return str(attrs.evolve(problem, advice="")), problem.advice
    advice = "install a plugin that has it" if isinstance(problem, UnusablePlugin) else "correct it there"
    return str(problem), advice


def _plugin_findings(app: App) -> Iterator[Finding]:
    required = app.config.plugins.required
    active = 0
    for status in app.any_plugins.report:
        if status.state is PluginState.ACTIVE:
            active += 1
            for warning in status.warnings:
                yield Finding(Level.WARNING, f"plugin {status.name}", warning, "tell its author")
        elif status.is_broken:
            level = Level.ERROR if status.name in required else Level.WARNING
            owner = f"{status.distribution}: " if status.distribution else ""
            yield Finding(
                level, f"plugin {status.name}", f"{owner}{status.state}, {status.why}",
                "mend or uninstall it, or name it in plugins.disabled",
            )  # fmt: skip
    for problem in app.loaded.located(InvalidConfig(app.any_plugins.warnings)).problems:
        yield Finding(Level.WARNING, "configuration", str(problem), "correct it there")
    yield Finding(Level.OK, "plugins", f"{active} active")


def _absent(app: App) -> str | None:
    """Report that the queue does not exist yet; the doctor creates nothing."""
    try:
        return app.chosen.spec.absent(app.chosen.options)
    except ConfigError:
        return None  # the manager lists it with everything else that is wrong


def _context(app: App, registry: HandlerRegistry) -> DoctorContext:
    return DoctorContext(
        queues=app.config.queues, types=frozenset(registry.types()), grace=app.config.worker.grace
    )


def _findings_without_queue(app: App, why: str) -> Iterator[Finding]:
    yield _handler_finding(_registry(app))
    yield Finding(Level.WARNING, "adapter", why, "right before the first request, which makes it")


def _registry(app: App) -> HandlerRegistry:
    """Check everything without opening anything; return the handlers."""
    from kessel_core.client.manager import JobManager

    app.import_from_here()
    with app.located():
        return JobManager(config=app.config, plugins=app.plugins).check()


def _handler_finding(registry: HandlerRegistry) -> Finding:
    if types := registry.own_types():
        return Finding(Level.OK, "handlers", f"{len(types)}: {', '.join(types)}")
    advice = "map types in [kessel.handlers], or install a plugin with handlers"
    return Finding(
        Level.WARNING, "handlers", "no job type has a handler: a worker would bury every job", advice
    )


def _findings_of_plugins(plugins: Plugins, context: DoctorContext) -> Iterator[Finding]:
    from kessel_core.hooks import specs

    for plugin in reversed(plugins.implementations(specs.kessel_doctor)):
        subject = f"plugin {plugin.owner.name}"
        try:
            for found in plugin(context=context):
                if not isinstance(found, Finding):
                    raise TypeError(f"kessel_doctor gave {type(found).__name__}, not a Finding")
                yield found
        except (Exception, SystemExit) as exc:
            yield Finding(Level.ERROR, subject, f"its doctor failed: {raised(exc)}", "tell its author")


def _adapter_findings(adapter: QueueAdapter, context: DoctorContext) -> Iterator[Finding]:
    yield from adapter.doctor(context)
    if adapter.capabilities.reach is Reach.PROCESS:
        detail = f"the jobs of {adapter.name!r} are seen by one process only"
        advice = "use an adapter that others can reach, such as sqlite:///kessel.db"
        yield Finding(Level.WARNING, "adapter", detail, advice)

"""What the harnesses of adapters and of stores have in common."""

from __future__ import annotations

import copy
import functools
import itertools
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any, ClassVar, Final, Self

from kessel_core import Clock, InvalidConfig, Problem, SystemClock, build_plugins
from kessel_core.contract import AdapterContext, AdapterSpec, Facet, Reach, StoreSpec, redacted, split_url
from kessel_core.testing import VirtualClock

__all__ = ["AnyHarness", "NotShown", "ServerMissing", "filled"]

_BRACES: Final = re.compile(r"\{\w+\}")
#: Where Linux has files in memory, and the bytes that have to be free there; a run needs some ten MB.
_MEMORY: Final = "/dev/shm"  # noqa: S108  # a folder in it has a name that nobody else has
_ROOM: Final = 1_000_000_000


class NotShown(Exception):
    """A case cannot look at what it is for; the message says why, and what to do about it."""


class ServerMissing(Exception):
    """The server that is needed cannot be had here: a skip on a laptop, an error under CI."""


class AnyHarness:
    """Opens one adapter or one store, as often as the suite wants it; arguments as for `Harness`."""

    #: `adapter` or `store`: what is opened, in reports and errors.
    kind: ClassVar[str]

    def __init__(
        self,
        spec: AdapterSpec | StoreSpec | None = None,
        url: str | None = None,
        *,
        options: Mapping[str, Any] | None = None,
        expected_failures: Mapping[str, str] | None = None,
        tolerance: timedelta = timedelta(milliseconds=250),
        real_clock: bool = False,
        version: str | None = None,
        disabled: Mapping[str, str] | None = None,
        still: Mapping[str, str] | None = None,
        servers: int = 1,
    ) -> None:
        if servers < 1:
            raise ValueError(f"a harness needs one server or more, not {servers}")
        self.spec = spec
        self.url = url
        self.options = dict(options or {})
        self.expected_failures = dict(expected_failures or {})
        self.tolerance = tolerance
        self.real_clock = real_clock
        self.version = version
        self.disabled = dict(disabled or {})
        self.still = dict(still or {})
        self.servers = servers
        #: What braces in the URL and the options stand for; `start` may add to it.
        self.values: dict[str, str] = {}
        self._numbers: Iterator[int] = itertools.count(1)
        self._tmp: str | None = None
        self._name: str | None = None
        #: Where the class of what is opened is; known once the harness is up.
        self.module: str | None = None

    # --- for authors to override -------------------------------------------------------------

    def start(self) -> None:
        """Bring up what is needed. Called once, before anything is opened; `stop` follows even if it fails.

        Raises:
            ServerMissing: It cannot be had here.
        """

    def stop(self) -> None:
        """Take down what `start` brought up. Called once, at the end, also after a failure."""

    def restart(self) -> None:
        """Kill the server and bring it up again with its data; without it durability is not shown.

        By SIGKILL, as `docker kill`: what is written in the course of an orderly stop proves nothing.
        """
        raise NotImplementedError

    def another(self, *, still: bool = False) -> Self | None:
        """Return a harness of this kind that brings up a server of its own; None if there can be but one.

        With it, a case that restarts the server runs beside the others.

        Args:
            still: Its server stands still during `sleep`.
        """
        return None

    def sleep(self, seconds: float) -> None:
        """Let real time pass; no call is under way."""
        time.sleep(max(0.0, seconds))

    def open(self, clock: Clock, namespace: str) -> Any:
        """Return a newly opened adapter or store."""
        raise NotImplementedError

    def open_url(self, address: str | None, clock: Clock, namespace: str) -> Any:
        """Open an address, with its braces filled in."""
        url, options = self.address(address, namespace)
        context = AdapterContext(clock=clock)
        if self.spec is None:
            assert url is not None
            return self._open_installed(url, options, context)
        return self.spec.open(self._structured(url, options), context)

    def _structured(self, url: str | None, options: Mapping[str, Any]) -> Any:
        """Return the options of the spec, with what the URL says."""
        from kessel_core.values.options import structure_options

        assert self.spec is not None
        given = dict(self.spec.from_url(split_url(url))) if url is not None else {}
        origin = redacted(url) if url is not None else "options"
        return structure_options(self.spec.options, {**given, **options}, origin)

    def address(self, url: str | None, namespace: str) -> tuple[str | None, dict[str, Any]]:
        """Return a URL and the options, with their braces filled in.

        Raises:
            InvalidConfig: A brace of the URL stands for nothing.
        """
        values = {**self.values, "namespace": namespace, "tmp": self.folder}
        url = filled(url, values) if url is not None else None
        unknown = sorted(set(_BRACES.findall(url or "")))
        if unknown:
            known = ", ".join("{" + name + "}" for name in sorted(values))
            raise InvalidConfig([Problem((self.kind,), f"{', '.join(unknown)} is not known; known: {known}")])
        return url, {key: filled(value, values) for key, value in self.options.items()}

    def _open_installed(self, url: str, options: Mapping[str, Any], context: AdapterContext) -> Any:
        """Open a URL by the installed plugins."""
        raise NotImplementedError

    def purge(self, namespace: str) -> None:
        """Remove what a case left behind. The suite has already emptied its queues, or its spaces."""

    # --- for the suite -----------------------------------------------------------------------

    def through(self, port: int) -> Self:
        """Return this harness with another port of the same server, for opening only."""
        twin = self.in_folder(self.folder)
        twin.values = {**self.values, "port": str(port)}
        return twin

    def in_folder(self, folder: str) -> Self:
        """Return this harness with another folder as `{tmp}`, for opening only."""
        twin = copy.copy(self)
        twin._tmp = folder
        return twin

    def with_option(self, name: str, value: object) -> Self:
        """Return this harness with another value of an option, for opening only."""
        twin = copy.copy(self)
        twin.options = {**self.options, name: value}
        return twin

    def portable(self) -> Self:
        """Return a copy for another process, which only opens the same; it is pickled.

        Override it if `start` keeps what cannot be pickled.
        """
        twin = self.in_folder(self.folder)
        twin._numbers = iter(())
        vars(twin).pop("_installed", None)  # cannot be pickled
        return twin

    @functools.cached_property
    def _installed(self) -> Any:
        """The installed plugins; looked for once, because a run opens hundreds of times."""
        return build_plugins()

    @property
    def folder(self) -> str:
        """A temporary folder, made when it is first asked for; in memory, unless `TMPDIR` says where."""
        if self._tmp is None:
            self._tmp = tempfile.mkdtemp(prefix="kessel-conformance-", dir=_in_memory())
        return self._tmp

    def up(self) -> None:
        """Start, and learn what is declared."""
        try:
            self.start()
            self._probe()
        except BaseException:
            # What a start leaves half done is stopped as well; why it failed is the error to be told.
            with suppress(Exception):
                self.down()
            raise

    def down(self) -> None:
        """Stop, and remove the temporary folder."""
        try:
            self.stop()
        finally:
            if self._tmp is not None:
                shutil.rmtree(self._tmp, ignore_errors=True)
                self._tmp = None

    def _probe(self) -> None:
        # One may take a virtual clock only when it is given one, so that is tried first; nothing but its
        # declaration is read.
        if not self.real_clock:
            self._look(VirtualClock())
            if self._takes_virtual_clock:
                return
        self._look(SystemClock())

    def _look(self, clock: Clock) -> None:
        """Open, learn what is declared, and close."""
        raise NotImplementedError

    @property
    def _takes_virtual_clock(self) -> bool:
        """Whether that was declared when it was opened with one."""
        raise NotImplementedError

    @property
    def capabilities(self) -> Any:
        """What is declared; known once the harness is up."""
        raise NotImplementedError

    @property
    def facets(self) -> frozenset[type[Facet]]:
        """The facets that it has; known once the harness is up."""
        return frozenset()

    def strength(self) -> tuple[int, int]:
        """Return how many planted faults the suite catches, and of how many."""
        raise NotImplementedError

    @property
    def opened_name(self) -> str:
        """The name of what is opened; known once the harness is up."""
        return self._name or "?"

    @property
    def virtual(self) -> bool:
        """Whether cases run on a virtual clock: one is taken, and the harness lets it."""
        return self._takes_virtual_clock and not self.real_clock

    @property
    def can_restart(self) -> bool:
        """Whether `restart` is there."""
        return type(self).restart is not AnyHarness.restart

    @property
    def has_server(self) -> bool:
        """Whether there is something that could be restarted; known once the harness is up."""
        brings_one = type(self).start is not AnyHarness.start
        return brings_one or self.can_restart or self.capabilities.reach is Reach.NETWORK

    def ended(self) -> str | None:
        """Return why what `start` brought up is gone, or None if it is there, or if that is not known.

        Asked after every case: a case whose server is gone has shown nothing about what was opened.
        """
        return None

    def clock(self) -> Clock:
        """Return a clock for one case."""
        return VirtualClock() if self.virtual else SystemClock()

    def namespace(self) -> str:
        """Return a name that was not used before, also not by another process or an earlier run."""
        return f"kc{os.urandom(4).hex()}x{next(self._numbers)}"


def _in_memory() -> str | None:
    """Return where files are in memory, if there is room.

    No run can show what a disk keeps: it kills processes, and cannot cut the power. Syncing thousands of
    times to a disk makes it twice as long.
    """
    try:
        has_room = shutil.disk_usage(_MEMORY).free > _ROOM and os.access(_MEMORY, os.W_OK | os.X_OK)
    except OSError:
        return None
    return _MEMORY if has_room and not os.environ.get("TMPDIR") else None


def filled(value: Any, values: Mapping[str, str]) -> Any:
    """Put values into the braces of a text; other values stay as they are."""
    if not isinstance(value, str):
        return value
    for key, text in values.items():
        value = value.replace("{" + key + "}", text)
    return value

"""The scripts, the keys that they work on, and how a call of one is packed; nothing here runs one."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Final, NamedTuple

import attrs

__all__ = ["LOADS", "OPERATIONS", "PUT", "STEP", "Keys", "Layout", "Script", "packed"]

#: The number of keys that all queues and spaces share, and of those that each has; see `common.lua`.
SHARED: Final = 4
OF_A_QUEUE: Final = 8
OF_A_SPACE: Final = 3
#: How many ways to begin a call are kept; an application has few combinations of queues.
_KEPT: Final = 2_000


@attrs.frozen(eq=False)
class Script:
    """A script as the server knows it."""

    #: The text.
    source: bytes
    #: Its digest, by which it is called.
    digest: bytes


def _script(name: str) -> Script:
    folder = files("kessel_redis")
    source = b"\n".join(folder.joinpath(f"{part}.lua").read_bytes() for part in ("common", name))
    return Script(source, hashlib.sha1(source, usedforsecurity=False).hexdigest().encode())


def packed(*parts: bytes) -> bytes:
    """Return a command as it is sent."""
    return b"*%d\r\n" % len(parts) + arguments(parts)


def arguments(parts: Sequence[bytes]) -> bytes:
    """Return parts of a command as they are sent."""
    return b"".join([b"$%d\r\n%b\r\n" % (len(part), part) for part in parts])


PUT: Final = _script("put")
STEP: Final = _script("step")
OPERATIONS: Final = _script("operations")
#: Loads all of them; each has one answer.
LOADS: Final = [packed(b"SCRIPT", b"LOAD", script.source) for script in (PUT, STEP, OPERATIONS)]
_RIGHTS: Final = files("kessel_redis").joinpath("rights.lua").read_bytes()
#: The commands that they run.
_COMMANDS: Final = sorted(
    set(re.findall(rb"redis\.p?call\('(\w+)'", b"".join(script.source for script in (PUT, STEP, OPERATIONS))))
)


class Layout(NamedTuple):
    """The queues and spaces whose keys a call gets, in this order, and where those of each begin."""

    queues: tuple[str, ...] = ()
    spaces: tuple[str, ...] = ()

    def queue(self, name: str) -> bytes:
        """Return the base of a queue: the index before its first key."""
        return b"%d" % (SHARED + OF_A_QUEUE * self.queues.index(name))

    def space(self, name: str) -> bytes:
        """Return the base of a space."""
        return b"%d" % (SHARED + OF_A_QUEUE * len(self.queues) + OF_A_SPACE * self.spaces.index(name))


class Keys:
    """The keys of one namespace, and the beginnings of calls, which are often the same. Thread-safe.

    All keys have the namespace as their hash tag, so that a cluster keeps them together; and every key is
    declared, because some servers refuse those that are not.

    Args:
        namespace: Checked.
    """

    def __init__(self, namespace: str) -> None:
        self._prefix = f"{{{namespace}}}:".encode()
        self._shared = [self._prefix + part for part in (b"ids", b"seq", b"queues", b"ver")]
        #: The version of the keys.
        self.version = self._prefix + b"v"
        #: The names of all queues.
        self.names = self._shared[2]
        #: The ids of all jobs.
        self.ids = self._shared[0]
        #: The channel on which the processes of this namespace notify each other.
        self.channel = self._prefix + b"wake"
        #: Asks which commands of the scripts the user may not run, packed.
        self.ask_rights = packed(b"EVAL", _RIGHTS, b"1", self.ids, self.channel, *_COMMANDS)
        self._begun: dict[tuple[Script, Layout, int], bytes] = {}

    def call(self, script: Script, layout: Layout, given: Sequence[bytes]) -> bytes:
        """Return the call of a script, packed.

        Args:
            script: What to run.
            layout: The queues and spaces whose keys it gets.
            given: Its arguments.
        """
        begun = self._begun.get((script, layout, len(given)))
        if begun is None:
            begun = self._begin(script, layout, len(given))
        return begun + arguments(given)

    def _begin(self, script: Script, layout: Layout, count: int) -> bytes:
        keys = [*self._shared, *(key for queue in layout.queues for key in self._of_queue(queue))]
        keys += [key for space in layout.spaces for key in self._of_space(space)]
        parts = [b"EVALSHA", script.digest, b"%d" % len(keys), *keys]
        begun = b"*%d\r\n" % (len(parts) + count) + arguments(parts)
        if len(self._begun) >= _KEPT:
            self._begun.clear()
        self._begun[script, layout, count] = begun
        return begun

    def _of_queue(self, queue: str) -> list[bytes]:
        name = queue.encode()
        return [
            self._prefix + part + name for part in (b"r:", b"d:", b"rec:", b"h:", b"n:", b"b:", b"w:", b"p:")
        ]

    def _of_space(self, space: str) -> list[bytes]:
        name = space.encode()
        return [self._prefix + part + name for part in (b"ev:", b"ek:", b"ex:")]

"""The suite for sets of handlers: what a worker relies on, checked with the author's own examples."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import attrs

from kessel_conformance.inprocess import manager_of
from kessel_conformance.suite import SealedSuite
from kessel_core import JobResult, JsonValue, Reason, Status
from kessel_core.model.json import json_problems

__all__ = ["HandlerConformance", "HandlerExample"]


@attrs.frozen(kw_only=True)
class HandlerExample:
    """One payload for a handler, and how it has to end."""

    #: The job type.
    type: str
    #: What is requested.
    payload: JsonValue = None
    #: How it ends.
    status: Status = Status.SUCCESS
    #: Why it fails; None: it does not.
    reason: Reason | None = None
    #: What is returned; left out: anything that is JSON.
    value: Any = ...


class HandlerConformance(SealedSuite):
    """Derive a class named `Test...`, give it `handlers` and `examples`.

    Example:
        >>> class TestMyHandlers(HandlerConformance):
        ...     handlers = {"double": lambda payload: payload * 2}
        ...     examples = [HandlerExample(type="double", payload=21, value=42)]
    """

    #: Mapping type -> handler, or decorated functions: what the hook `kessel_handlers` returns.
    handlers: ClassVar[Mapping[str, object] | Iterable[object]]
    #: At least one for every type.
    examples: ClassVar[Iterable[HandlerExample]]
    _sealed = (
        "test_every_type_has_an_example",
        "test_examples_end_as_they_say",
        "test_odd_payloads_end_in_a_result",
    )

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__name__.startswith("_"):
            return
        for name in ("handlers", "examples"):
            if not hasattr(cls, name):
                raise TypeError(f"{cls.__name__} needs `{name} = ...`")
        # Every test reads them, and a generator gives them once.
        cls.examples = tuple(cls.examples)
        if not isinstance(cls.handlers, Mapping):
            cls.handlers = tuple(cls.handlers)

    def test_every_type_has_an_example(self) -> None:
        """No handler goes untried."""
        with manager_of(self.handlers) as manager:
            missing = set(manager.registry.types()) - {example.type for example in self.examples}
        assert not missing, f"types without an example: {sorted(missing)}"

    def test_examples_end_as_they_say(self) -> None:
        """Each payload survives the wire, the job ends as its example says, the value is JSON (S2, S16)."""
        with manager_of(self.handlers) as manager:
            for example in self.examples:
                given = copy.deepcopy(example.payload)
                result = manager.process_single_job(example.type, given)
                assert result.request is not None
                assert result.request.payload == example.payload, (
                    f"{example.type}: the payload does not survive the wire, or its handler changes it"
                )
                seen, expected = _ending(result), _ending(example)
                assert seen == expected, f"{example.type}: expected {expected}, got {seen}: {result.message}"
                problems = json_problems(result.value)
                assert not problems, f"{example.type}: the value is not a JSON value: {problems}"
                if example.value is not ...:
                    assert result.value == example.value, f"{example.type}: the value"

    def test_odd_payloads_end_in_a_result(self) -> None:
        """Whatever the payload, the job ends in a result; nothing reaches the worker."""
        odd: tuple[JsonValue, ...] = (None, "", -1, [], {"unexpected": [1]})
        with manager_of(self.handlers) as manager:
            for name in manager.registry.types():
                for payload in odd:
                    result = manager.process_single_job(name, payload)
                    assert result.ok or result.message, f"{name} with {payload!r} failed without saying why"


def _ending(of: HandlerExample | JobResult) -> str:
    return str(of.status) if of.reason is None else f"{of.status} ({of.reason})"

"""The page of the contract answers what authors of adapters asked when they had nothing else to go by."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import kessel_core.contract
from kessel_core import errors
from kessel_core.contract import Capabilities

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
PAGE = (REFERENCE / "contract.md").read_text(encoding="utf-8")

#: Question -> the entry that answers it, and how.
ANSWERS = {
    "whose clock counts leases": ("The adapter contract", "the backend's where it is `network`"),
    "a clock that is wrong": ("The adapter contract", "a machine whose clock is an hour ahead"),
    "what an id may hold": ("The adapter contract", "any of Unicode but lone surrogates"),
    "the longest id": ("The adapter contract", "text of 1 to 200 characters"),
    "dedupe by queue or by adapter": ("The adapter contract", "in the whole adapter, not in one queue"),
    "dedupe for how long": ("The adapter contract", "until its job is committed, deleted or purged"),
    "pauses beyond longest_delay": ("Rollback", "The core cuts it to `longest_delay`"),
    "pauses without delays": ("Rollback", "an adapter without delays may make the job ready at once"),
    "delays beyond longest_delay": ("Capabilities", "A job that is delayed by more is refused"),
    "a lease of zero": ("Capabilities", "Length of a lease, more than zero"),
    "cancel and settle_and_reserve": ("Consumer", "`settle_and_reserve` settles and returns None"),
    "jobs of a paused queue in stats": ("QueueAdapter", "its ready jobs are counted as ready"),
    "jobs of a paused queue": ("Pause", "those that are ready stay ready"),
    "a queue without jobs": ("QueueAdapter", "One that holds none, or none any more, may be listed or not"),
    "where results are kept": ("Put", "written in the transaction of a settlement"),
    "the default of from_url": ("AdapterSpec", "Left out, it is `url_options`"),
    "a wrong password": ("AdapterSpec", "one who refuses the user or the password"),
    "how open refuses a value": ("AdapterSpec", "refused with `InvalidConfig`"),
    "kick and delete without a search": ("StoredJob", "finds it again without a search"),
}
#: What no field of `Capabilities` can say; each with the reason.
REASONS = (
    "Jobs survive an orderly restart only",
    "At most the last second is lost",
    "Counts within a bound",
    "How often a waiting consumer looks",
    "Ids are compared for a time",
    "A batch is stored whole or not at all",
    "A longest id",
    "Whose clock counts",
)


def entry(heading: str) -> str:
    found = re.search(rf"^#+ {re.escape(heading)}$(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
    assert found is not None, heading
    return " ".join(found[1].split())


@pytest.mark.parametrize("question", ANSWERS)
def test_contract_answers_the_question(question: str) -> None:
    heading, answer = ANSWERS[question]
    assert answer in entry(heading)


def test_what_cannot_be_declared_has_its_reason() -> None:
    listed = re.findall(r"- \*([^*]+)\*: (.*?)(?= - \*| \*Raises)", entry("Capabilities"))
    assert tuple(name for name, _ in listed) == REASONS
    assert all(len(reason) > 20 for _, reason in listed)


def test_page_says_of_each_method_whether_it_is_to_be_implemented() -> None:
    for name in (
        "QueueAdapter",
        "Consumer",
        "WaitingAdapter",
        "BaseAdapter",
        "Browse",
        "Buried",
        "Find",
        "Store",
    ):
        cls = getattr(kessel_core.contract, name)
        text = entry(name)
        for method, function in vars(cls).items():
            is_abstract = getattr(function, "__isabstractmethod__", False)
            if inspect.isfunction(function) and function.__doc__ and not method.startswith("_"):
                marked = re.search(rf"\*\*`{method}\([^`]*`\*\* \(to implement\)", text) is not None
                assert marked is is_abstract, f"{name}.{method}"


def test_every_error_that_adapters_raise_is_shown_with_its_arguments() -> None:
    api = (REFERENCE / "api.md").read_text(encoding="utf-8")
    for name in kessel_core.contract.__all__:
        kind = getattr(errors, name, None)
        if (
            isinstance(kind, type)
            and issubclass(kind, errors.KesselError)
            and inspect.isfunction(kind.__init__)
        ):
            first = list(inspect.signature(kind.__init__).parameters)[1]
            assert re.search(rf"^`{name}\({first}: ", api, re.M), name


def test_every_capability_says_what_it_means_when_it_is_not_declared() -> None:
    text = entry("Capabilities")
    for field in Capabilities.__slots__:
        if not field.startswith("_"):
            assert f"| `{field}` |" in text

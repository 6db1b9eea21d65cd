"""Makes one page of those of several processes, so that Prometheus sees one target.

What is counted is added up, with what processes have counted that ended since: a sum that falls would look
like a new start, and everything that the others have counted would count twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from kessel_prometheus.text import written

__all__ = ["merged"]

#: Types whose values only grow, so that those of ended processes count as well.
_GROWING: Final = frozenset({"counter", "histogram"})
#: Gauges that are added up; of the others, which tell the same in each process, the largest counts.
_SUMMED: Final = frozenset({"kessel_slots"})

_Key = tuple[str, tuple[tuple[str, str], ...]]


def merged(running: Sequence[bytes], ended: Sequence[bytes]) -> bytes:
    """Merge pages.

    Args:
        running: Pages of the processes that run.
        ended: Pages of processes that have ended; only what grows is taken from them.
    """
    families: dict[str, Metric] = {}
    values: dict[str, dict[_Key, float]] = {}
    for page in running:
        _add(page, families, values, only_growing=False)
    for page in ended:
        _add(page, families, values, only_growing=True)
    return written(_filled(families, values))


def _add(
    page: bytes, families: dict[str, Metric], values: dict[str, dict[_Key, float]], *, only_growing: bool
) -> None:
    for family in text_string_to_metric_families(page.decode("utf-8")):
        is_growing = family.type in _GROWING
        if only_growing and not is_growing:
            continue
        families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
        found = values.setdefault(family.name, {})
        for sample in family.samples:
            key = (sample.name, tuple(sample.labels.items()))
            before = found.get(key)
            if before is None:
                found[key] = sample.value
            elif is_growing or family.name in _SUMMED:
                found[key] = before + sample.value
            else:
                found[key] = max(before, sample.value)


def _filled(families: dict[str, Metric], values: dict[str, dict[_Key, float]]) -> Iterable[Metric]:
    for name, family in families.items():
        for (sample, labels), value in values[name].items():
            family.add_sample(sample, dict(labels), value)
        yield family

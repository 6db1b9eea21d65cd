"""Runs the conformance suite with the harness of a test module, and prints what failed, as JSON.

`python trial_run.py WIRING.py [--all | --naming=CLAUSE]`. The adapter is the one that PYTHONPATH finds first.
It stops at the first failure, fixed cases first and the generated plans last, so that one sees what only luck
finds; `--all` goes on, `--naming` until a failure that names a clause and shows what happened.
On a real clock the one at which it stops must fail twice.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

PLANS: Final = "model.any_plan"
OPENING: Final = "(opening)"


def _harness(wiring: Path) -> Any:
    # By its name, because a harness that is defined there may have to be found again in another process.
    spec = importlib.util.spec_from_file_location(wiring.stem, wiring)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[wiring.stem] = module
    spec.loader.exec_module(module)
    from kessel_conformance import AdapterConformance

    (suite,) = (
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, AdapterConformance)
        and value is not AdapterConformance
    )
    return suite.harness


def takes_time(case: Any) -> bool:
    """Whether it runs aside, or at the end."""
    return bool(case.waits or case.real_time or case.alone or case.id == PLANS)


def _run(arguments: Sequence[str]) -> list[tuple[str, str]]:
    from kessel_conformance import ServerMissing
    from kessel_conformance.outcome import Outcome
    from kessel_conformance.runner import Run, run_case
    from kessel_conformance.settings import Settings

    try:
        harness = _harness(Path(arguments[0]))
    except Exception as exc:
        return [(OPENING, f"{type(exc).__name__}: {exc}")]
    (wanted,) = [one.partition("=")[2] for one in arguments if one.startswith("--naming=")] or [""]

    def stops(outcome: Outcome) -> bool:
        shows = outcome.reason.startswith(f"{wanted}: ") and outcome.example != ""
        return not outcome.ok and "--all" not in arguments and (not wanted or shows)

    settings, failures = Settings(shrink=False, repeats=0), list[tuple[str, str]]()
    cases = sorted(Run(harness, settings).wanted, key=lambda case: (case.id == PLANS, case.alone))
    # Those of real time all begin at once; most mutants are caught before that.
    later = [case for case in cases if takes_time(case)]
    for group in filter(None, ([case for case in cases if case not in later], later)):
        run = Run(harness, settings, [case.id for case in group])
        try:
            run.up()
        except ServerMissing:
            raise
        except Exception as exc:
            return [(OPENING, f"{type(exc).__name__}: {exc}")]
        for case in run.wanted:
            outcome = run.outcome(case.id)
            if stops(outcome) and not harness.virtual:  # a busy machine is no breach
                outcome = run_case(harness, case, settings)
            if not outcome.ok:
                failures.append((case.id, outcome.text))
                if stops(outcome):
                    return failures
        run.down()
    return failures


if __name__ == "__main__":
    logging.disable()
    found = _run(sys.argv[1:])
    sys.stdout.write(f"\n{json.dumps(found)}\n")
    sys.stdout.flush()
    os._exit(0)  # cases may still be waiting for real time; the parent ends their servers

"""Fuzz for a long time: inputs by the hundred thousand into connections of every state and role, and into endpoints;
tickets, tokens and first flights of clients that were here before.

    PYTHONPATH=.:tests python tests/fuzz/run_many.py --count 100000 --seed 1

Each case is one victim and the inputs to it until the case's own choice of an end; a case's seed is printed when it fails and
is all that is needed to see it again (`--seed N --count 1`).
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections import Counter
from random import Random

from helpers.fuzzing import STATES, Attack, EndpointAttack
from helpers.fuzzing_sessions import SessionAttack
from quicio.quic.connection import QuicConnection

TARGETS = [(state, role) for state in STATES for role in (False, True)]
MAX_STEPS = 30


def run_case(seed: int, tally: Counter[str]) -> int:
    """One victim; returns how many inputs it was given."""
    random = Random(seed)
    steps = random.randrange(1, MAX_STEPS)
    attack: Attack | EndpointAttack | SessionAttack
    kind = random.randrange(10)
    if kind == 0:
        name = "endpoint"
        attack = EndpointAttack(random)
    elif kind == 1:
        name = "sessions"
        attack = SessionAttack(random)
    else:
        state, victim_is_client = random.choice(TARGETS)
        name = f"{'client' if victim_is_client else 'server'}, {state}"
        attack = Attack(state, victim_is_client, random)
    for _ in range(steps):
        tally[name] += 1
        attack.step()
    return steps


def main() -> int:
    """Run as many cases as it takes; the exit status is 1 when any failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100_000, help="inputs to feed (default: 100,000)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the first case; the next ones follow")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first failure")
    arguments = parser.parse_args()
    QuicConnection.raise_unexpected = True
    tally: Counter[str] = Counter()
    failures: dict[str, int] = {}
    start = time.monotonic()
    seed = arguments.seed
    cases = 0
    while tally.total() < arguments.count:
        try:
            run_case(seed, tally)
        except Exception:
            report = traceback.format_exc()
            where = "\n".join(report.strip().splitlines()[-4:])
            if where not in failures:
                print(f"seed {seed} fails:\n{report}", file=sys.stderr, flush=True)
            failures[where] = failures.get(where, 0) + 1
            if not arguments.keep_going:
                break
        cases += 1
        seed += 1
    for name, count in sorted(tally.items()):
        print(f"{count:>8} inputs to {name}")
    seconds = time.monotonic() - start
    print(f"{tally.total()} inputs in {cases} cases, {seconds:.0f} s, {len(failures)} kinds of failure")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

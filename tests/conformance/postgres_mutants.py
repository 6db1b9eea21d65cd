"""Mutants by hand of kessel-postgres: what one forgets in statements that are written twice, see `source_mutants`."""

from __future__ import annotations

# ruff: noqa: E501  # source text, as it stands in the adapter
from typing import Final

from source_mutant import SourceMutant

__all__ = ["MUTANTS"]

_SQL: Final = "kessel_postgres:v1.sql"
_FAST: Final = "kessel_postgres:_FAST"
_ADAPTER: Final = "kessel_postgres:PostgresAdapter."
_DELIVERIES: Final = "kessel_postgres:Deliveries."

MUTANTS: Final = (
    SourceMutant(
        "postgres.settle_not_fenced",
        "S7",
        _SQL,
        "DELETE FROM __s__.held WHERE seq = s AND token = t AND due > now_",
        "DELETE FROM __s__.held WHERE seq = s AND due > now_",
        "the number of the job is taken for that of the delivery",
    ),
    SourceMutant(
        "postgres.fast_not_fenced",
        "S7",
        _FAST,
        "DELETE FROM s.held WHERE seq = $1 AND token = $2 AND due",
        "DELETE FROM s.held WHERE seq = $1 AND $2 IS NOT NULL AND due",
        "the usual way was written later, and by hand",
    ),
    SourceMutant(
        "postgres.batch_stops_at_held",
        "S14",
        _ADAPTER + "enqueue_many",
        "            if error is None:\n                continue",
        "            if error is None:\n"
        "                if isinstance(outcomes[chunk[0][0]], IdHeld):\n"
        "                    down = AdapterUnavailable('not tried')\n"
        "                continue",
        "a portion whose first job is refused is one that failed",
    ),
    SourceMutant(
        "postgres.lease_by_the_clients_clock",
        "S7",
        _DELIVERIES + "take",
        "values = (names, self._lease_value, codec.integer(token))",
        "link = __import__('kessel_postgres.link', fromlist=['_'])\n"
        "            asked = Call(link.Statement(b'now', b'SELECT clock_timestamp()', ()))\n"
        "            theirs = codec.to_moment(self._database.call(asked).get_value(0, 0))\n"
        "            assert theirs is not None\n"
        "            ends = codec.span(self._clock.now() + self._lease - theirs)\n"
        "            values = (names, ends, codec.integer(token))",
        "the client says until when it holds the job, by its own clock",
    ),
    SourceMutant(
        "postgres.extend_of_others",
        "S7",
        _SQL,
        "WHERE h.seq = u.s AND h.token = u.t AND h.due > now_ RETURNING h.token",
        "WHERE h.seq = u.s AND h.due > now_ RETURNING u.t",
        "the row is there, so it must be ours",
    ),
    SourceMutant(
        "postgres.follow_ups_of_a_lost_lease",
        "S20",
        _DELIVERIES + "_settle_call",
        'values = (*_ending(settlement, held), b"\\1")',
        'values = (*_ending(settlement, held), b"\\0")',
        "that nothing was settled is an answer, and not an error that ends the transaction",
    ),
    SourceMutant(
        "postgres.skip_locked_without_priority",
        "S6",
        _FAST,
        "      ORDER BY y.priority, y.seq LIMIT 1 FOR UPDATE SKIP LOCKED) END)",
        "      ORDER BY y.seq LIMIT 1 FOR UPDATE SKIP LOCKED) END)",
        "the oldest job that nobody holds, as most examples of SKIP LOCKED take it",
    ),
    SourceMutant(
        "postgres.lifo",
        "S6",
        _FAST,
        "ORDER BY y.priority, y.seq LIMIT 1",
        "ORDER BY y.priority, y.seq DESC LIMIT 1",
        "the last ones are in the cache",
    ),
    SourceMutant(
        "postgres.first_queue_first",
        "S6",
        _SQL,
        "ORDER BY l.priority, l.seq LIMIT 1 FOR UPDATE SKIP LOCKED",
        "ORDER BY l.queue, l.priority, l.seq LIMIT 1 FOR UPDATE SKIP LOCKED",
        "each queue is in order, so the whole is",
    ),
    SourceMutant(
        "postgres.priority_lost_when_due",
        "S6",
        _SQL,
        "SELECT j.queue, j.priority, j.seq, a.attempts, a.snoozes, a.kicks",
        "SELECT j.queue, 65536, j.seq, a.attempts, a.snoozes, a.kicks",
        "what comes back is put like something new, with the default",
    ),
    SourceMutant(
        "postgres.due_ignored_by_settle_and_reserve",
        "S6",
        _FAST,
        "  OR EXISTS (SELECT 1 FROM s.timed x WHERE x.queue = $3 AND x.due <= statement_timestamp())\n",
        "",
        "the usual way has no time for what has become due",
    ),
    SourceMutant(
        "postgres.pause_ignored_by_settle_and_reserve",
        "S9",
        _FAST,
        "EXISTS (SELECT 1 FROM s.pauses p WHERE p.queue = $3 AND p.until > statement_timestamp())\n  OR ",
        "",
        "a busy worker never asks whether the queue is paused",
    ),
    SourceMutant(
        "postgres.delay_cut",
        "S4",
        _ADAPTER + "_values",
        "self.database.due(message.delay)",
        "self.database.due(message.delay.replace(microsecond=0))",
        "a delay is cut to whole seconds",
    ),
    SourceMutant(
        "postgres.retry_pause_cut",
        "S4",
        "kessel_postgres:_ending",
        "return _ROLLBACK, *delivery, codec.span(pause)",
        "return _ROLLBACK, *delivery, codec.span(timedelta(seconds=pause.seconds))",
        "`timedelta.seconds` is taken for the whole span",
    ),
    SourceMutant(
        "postgres.snooze_counts",
        "S21",
        _SQL,
        "h.attempts := h.attempts - 1;",
        "h.attempts := h.attempts;",
        "a snooze is a rollback by another name",
    ),
    SourceMutant(
        "postgres.one_snooze_only",
        "S21",
        _SQL,
        "h.snoozes := h.snoozes + 1;",
        "h.snoozes := 1;",
        "it has been snoozed, whether once or ten times",
    ),
    SourceMutant(
        "postgres.lost_worker_uncounted",
        "S10",
        _SQL,
        "LIMIT 250 FOR UPDATE SKIP LOCKED)) RETURNING seq, attempts, snoozes, kicks\n    ), d AS (",
        "LIMIT 250 FOR UPDATE SKIP LOCKED)) RETURNING seq, attempts - 1 AS attempts, snoozes, kicks\n    ), d AS (",
        "a delivery that never reported is taken for none, and the job kills workers for ever",
    ),
    SourceMutant(
        "postgres.what_is_brought_is_not_told",
        "S9",
        _ADAPTER + "_brought",
        "told = (*(text for _, tell in made for text in tell),)",
        "told: tuple[str, ...] = ()",
        "follow-ups are stored in the transaction, and other processes hear of them when they look",
    ),
    SourceMutant(
        "postgres.return_is_not_told",
        "S9",
        _ADAPTER + "_told_return",
        "if not isinstance(settlement, (Rollback, Snooze)):",
        "if not isinstance(settlement, Snooze) or settlement.pause <= NO_PAUSE:",
        "only a new job is announced, not one that comes back",
    ),
    SourceMutant(
        "postgres.buried_id_is_free",
        "S14",
        _SQL,
        "IF holder IS NOT NULL THEN  -- else that job has just ended",
        "IF holder = 'buried' THEN\n"
        "            DELETE FROM __s__.buried b USING __s__.jobs j WHERE j.seq = b.seq AND j.id = id_;\n"
        "            DELETE FROM __s__.jobs j WHERE j.id = id_;\n"
        "            CONTINUE;\n"
        "        END IF;\n"
        "        IF holder IS NOT NULL THEN",
        "what is buried is as good as gone",
    ),
    SourceMutant(
        "postgres.kick_keeps_attempts",
        "S8",
        _SQL,
        "            RETURNING seq, snoozes, kicks\n    )\n    INSERT INTO __s__.ready\n        SELECT j.queue, j.priority, j.seq, 0, b.snoozes",
        "            RETURNING seq, attempts, snoozes, kicks\n    )\n    INSERT INTO __s__.ready\n        SELECT j.queue, j.priority, j.seq, b.attempts, b.snoozes",
        "a kicked job has no try left",
    ),
    SourceMutant(
        "postgres.kick_is_not_counted",
        "S22",
        _SQL,
        "j.seq, 0, b.snoozes, b.kicks + 1",
        "j.seq, 0, b.snoozes, b.kicks",
        "a kick begins anew, and so its callback has the id of the one before",
    ),
    SourceMutant(
        "postgres.kick_in_any_queue",
        "S8",
        _SQL,
        "(SELECT j.seq FROM __s__.jobs j WHERE j.id = id_ AND j.queue = queue_)\n            RETURNING seq, snoozes",
        "(SELECT j.seq FROM __s__.jobs j WHERE j.id = id_)\n            RETURNING seq, snoozes",
        "an id is unique, so nobody looks at the queue",
    ),
    SourceMutant(
        "postgres.delete_reserved",
        "S9",
        _SQL,
        "h AS (DELETE FROM __s__.held WHERE seq = j.seq AND due <= now_ RETURNING 1)",
        "h AS (DELETE FROM __s__.held WHERE seq = j.seq RETURNING 1)",
        "a delete does not look who holds the job",
    ),
    SourceMutant(
        "postgres.expired_dropped",
        "S5",
        _ADAPTER + "_put",
        "        call, tell = self._put_call(message)\n",
        "        if message.expiration is not None and (message.expiration - self.clock.now()).total_seconds() < 1:\n"
        "            return None\n"
        "        call, tell = self._put_call(message)\n",
        "what expires soon is not worth sending, thinks the adapter",
    ),
    SourceMutant(
        "postgres.unsure_is_done",
        "S7",
        _DELIVERIES + "_refuse_if_lost",
        "if is_over or held.unsure != settlement:",
        "if is_over or held.unsure is None:",
        "a commit that was not answered excuses the burial that comes after it",
    ),
)

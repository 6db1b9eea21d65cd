"""Mutants by hand of kessel-redis, most of them in its scripts, see `source_mutants`."""

from __future__ import annotations

# ruff: noqa: E501  # source text, as it stands in the adapter
from typing import Final

from source_mutant import SourceMutant

__all__ = ["MUTANTS"]

_COMMON: Final = "kessel_redis:common.lua"
_STEP: Final = "kessel_redis:step.lua"
_OPERATIONS: Final = "kessel_redis:operations.lua"
_DELIVERIES: Final = "kessel_redis:Deliveries."

MUTANTS: Final = (
    SourceMutant(
        "redis.not_fenced",
        "S7",
        _DELIVERIES + "_reserve",
        'b"%x" % token',
        'b"%x" % id(self)',
        "a token for each worker, and not for each delivery",
    ),
    SourceMutant(
        "redis.lease_by_the_clients_clock",
        "S7",
        _DELIVERIES + "_reserve",
        'return b"%d" % len(queues), self._lease_value,',
        "seconds, micros = self._database.run(b'*1\\r\\n$4\\r\\nTIME\\r\\n')\n"
        "        ends = int(1e6 * (self._clock.now().timestamp() + self._lease_seconds))\n"
        '        span = b"%d" % (ends - 1_000_000 * int(seconds) - int(micros))\n'
        '        return b"%d" % len(queues), span,',
        "the client says until when it holds the job, by its own clock",
    ),
    SourceMutant(
        "redis.time_in_whole_seconds",
        "S4",
        _COMMON,
        "local now = time[1] * 1000000 + time[2]",
        "local now = time[1] * 1000000",
        "the time of the server is told in two parts, and the second looks like nothing",
    ),
    SourceMutant(
        "redis.extend_only_local",
        "S7",
        _OPERATIONS,
        "redis.call('ZADD', held, text(now + lease), member)",
        "redis.call('ZADD', held, ends, member)",
        "the holder believes in a longer lease than the server",
    ),
    SourceMutant(
        "redis.pause_ignored_by_settle_and_reserve",
        "S9",
        _STEP,
        "if paused and tonumber(paused) > now then",
        "if what == '' and paused and tonumber(paused) > now then",
        "a busy worker never asks whether the queue is paused",
    ),
    SourceMutant(
        "redis.priority_reversed_across_queues",
        "S6",
        _STEP,
        "(not found or score < priority or",
        "(not found or score > priority or",
        "a comparison the wrong way round",
    ),
    SourceMutant(
        "redis.equals_of_queues_by_name",
        "S6",
        _STEP,
        "or (score == priority and first[1] < found)",
        "or (score == priority and index < best)",
        "among equals the first queue goes first",
    ),
    SourceMutant(
        "redis.number_without_zeros",
        "S6",
        _COMMON,
        "local number = string.format('%016.0f', redis.call('INCR', KEYS[2]))",
        "local number = string.format('%-16.0f', redis.call('INCR', KEYS[2]))",
        "numbers sort as text, and nobody thought of the zeros",
    ),
    SourceMutant(
        "redis.priority_lost_on_rollback",
        "S6",
        _STEP,
        "redis.call('ZADD', KEYS[settled + READY], priority_of(member), number)",
        "redis.call('ZADD', KEYS[settled + READY], 65536, number)",
        "what comes back is put like something new, with the default",
    ),
    SourceMutant(
        "redis.first_portion_only",
        "S6",
        _COMMON,
        "return #due == 200 or #lost == 200",
        "return false",
        "who takes the first two hundred forgets that the most urgent may be in the rest",
    ),
    SourceMutant(
        "redis.delay_cut",
        "S4",
        "kessel_redis:Database.span_until",
        "codec.micros(moment - self.clock.now())",
        "codec.micros(moment.replace(microsecond=0) - self.clock.now())",
        "a delay is cut to whole seconds",
    ),
    SourceMutant(
        "redis.retry_pause_cut",
        "S4",
        "kessel_redis:_settled",
        'return b"rollback", base, held.member, job_id, codec.micros(pause), b""',
        'return b"rollback", base, held.member, job_id, b"%d" % (pause.seconds * 1_000_000), b""',
        "`timedelta.seconds` is taken for the whole span",
    ),
    SourceMutant(
        "redis.snooze_counts",
        "S21",
        _STEP,
        "if what == 'snooze' then count(settled, number, 0, 1)",
        "if what == 'snooze' then count(settled, number, 1, 1)",
        "a snooze is a rollback by another name",
    ),
    SourceMutant(
        "redis.lost_worker_uncounted",
        "S10",
        _COMMON,
        "  for _, member in ipairs(lost) do count(base, number_of(member), 1, 0) end\n",
        "",
        "a delivery that never reported is taken for none, and the job kills workers for ever",
    ),
    SourceMutant(
        "redis.burial_uncounted",
        "S10",
        _STEP,
        "    redis.call('HSET', KEYS[settled + NOTES], number, ARGV[6])\n    count(settled, number, 1, 0)\n",
        "    redis.call('HSET', KEYS[settled + NOTES], number, ARGV[6])\n",
        "what is buried needs no count any more, until somebody looks",
    ),
    SourceMutant(
        "redis.what_is_brought_is_not_told",
        "S9",
        _DELIVERIES + "_brought",
        "            *told_of(zip(queues, spans, strict=True)),\n",
        "",
        "follow-ups are stored by the script, and other processes hear of them when they look",
    ),
    SourceMutant(
        "redis.return_is_not_told",
        "S9",
        _DELIVERIES + "_brought",
        'return database.keys.channel, b"0", b"0", database.message(text)',
        'return database.keys.channel, b"0", b"0", *([database.message(text)] if pause > NO_PAUSE else ())',
        "only a new job is announced, not one that comes back",
    ),
    SourceMutant(
        "redis.nothing_brought_by_a_burial",
        "S20",
        _STEP,
        "if ARGV[10] ~= '' then",
        "if ARGV[10] ~= '' and what ~= 'bury' then",
        "who has failed has nothing to bring along",
    ),
    SourceMutant(
        "redis.buried_id_is_free",
        "S14",
        _COMMON,
        "if holder then return holder end",
        "if holder and not redis.call('ZSCORE', KEYS[base + BURIED], string.sub(holder, 1, 27)) then return holder end",
        "what is buried is as good as gone",
    ),
    SourceMutant(
        "redis.id_held_for_ever",
        "S14",
        _STEP,
        "    redis.call('HDEL', KEYS[1], ARGV[4])\n  elseif what == 'end'",
        "  elseif what == 'end'",
        "a second place where a job is noted, which the usual way forgets",
    ),
    SourceMutant(
        "redis.kick_keeps_attempts",
        "S8",
        _OPERATIONS,
        "set_counts(BASE, number, 0, snoozes, kicks + 1)",
        "set_counts(BASE, number, _, snoozes, kicks + 1)",
        "a kicked job has no try left",
    ),
    SourceMutant(
        "redis.purge_takes_held",
        "S9",
        _OPERATIONS,
        "  for _, set in ipairs({READY, DELAYED, BURIED}) do\n    local members = left",
        "  for _, set in ipairs({READY, DELAYED, HELD, BURIED}) do\n    local members = left",
        "to purge is to empty",
    ),
    SourceMutant(
        "redis.lease_end_wakes_nobody",
        "S9",
        _STEP,
        "    look_again(redis.call('ZRANGE', KEYS[base + HELD], 0, 0, 'WITHSCORES')[2])\n",
        "",
        "the jobs of the dead are not among those that one waits for",
    ),
    SourceMutant(
        "redis.expired_dropped",
        "S5",
        "kessel_redis:RedisAdapter.put",
        "        refuse_large(message, self.options.max_body_bytes)\n",
        "        refuse_large(message, self.options.max_body_bytes)\n"
        "        if message.expiration is not None and (message.expiration - self.clock.now()).total_seconds() < 1:\n"
        "            return\n",
        "what expires soon is not worth sending, thinks the adapter",
    ),
    SourceMutant(
        "redis.unsure_is_done",
        "S7",
        _DELIVERIES + "_sent",
        "if is_over or held.unsure != settlement:",
        "if is_over or held.unsure is None:",
        "a commit that was not answered excuses the burial that comes after it",
    ),
)

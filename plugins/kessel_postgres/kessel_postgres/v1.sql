-- Version 1 of the schema. `__s__` stands for its quoted name; every name is qualified, because the path of
-- a role says nothing here. A small table for each state beside `jobs`, whose rows are never updated:
-- a claim then neither rewrites a body nor leaves one behind for vacuum.
--
-- What was just claimed is looked up with `= (SELECT ..)` or `= ANY (ARRAY(..))`, never by a join alone: a plan
-- that is made while the tables are empty may join by reading a whole index, and is kept when there are millions.

CREATE TABLE __s__.meta (key text PRIMARY KEY, value text NOT NULL);

CREATE TABLE __s__.jobs (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    priority bigint NOT NULL,
    enqueued_at timestamptz NOT NULL,
    queue text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    body bytea NOT NULL
);
ALTER TABLE __s__.jobs ALTER COLUMN body SET STORAGE EXTERNAL;
CREATE UNIQUE INDEX jobs_id ON __s__.jobs (id);

CREATE TABLE __s__.ready (
    queue text COLLATE "C" NOT NULL,
    priority bigint NOT NULL,
    seq bigint NOT NULL,
    attempts int NOT NULL DEFAULT 0,
    snoozes int NOT NULL DEFAULT 0,
    kicks int NOT NULL DEFAULT 0,
    PRIMARY KEY (queue, priority, seq)
);

CREATE TABLE __s__.timed (
    seq bigint PRIMARY KEY,
    queue text COLLATE "C" NOT NULL,
    due timestamptz NOT NULL,
    attempts int NOT NULL DEFAULT 0,
    snoozes int NOT NULL DEFAULT 0,
    kicks int NOT NULL DEFAULT 0
);
CREATE INDEX timed_due ON __s__.timed (queue, due);

CREATE TABLE __s__.held (
    seq bigint PRIMARY KEY,
    token bigint NOT NULL,
    queue text COLLATE "C" NOT NULL,
    due timestamptz NOT NULL,
    attempts int NOT NULL,
    snoozes int NOT NULL,
    kicks int NOT NULL
);
CREATE INDEX held_due ON __s__.held (queue, due);

CREATE TABLE __s__.buried (
    seq bigint PRIMARY KEY,
    queue text COLLATE "C" NOT NULL,
    buried_at timestamptz NOT NULL,
    reason text NOT NULL,
    message text NOT NULL,
    attempts int NOT NULL,
    snoozes int NOT NULL,
    kicks int NOT NULL
);
CREATE INDEX buried_at ON __s__.buried (queue, buried_at, seq);

CREATE TABLE __s__.pauses (queue text COLLATE "C" PRIMARY KEY, until timestamptz NOT NULL);

CREATE TABLE __s__.entries (
    space text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    value bytea NOT NULL,
    expires_at timestamptz,
    PRIMARY KEY (space, key)
);
CREATE INDEX entries_end ON __s__.entries (expires_at) WHERE expires_at IS NOT NULL;
CREATE SEQUENCE __s__.versions AS bigint;

-- Rows live for moments: vacuum by number and not by share, without pauses, and never with the lock that
-- cutting a table short would take.
DO $do$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['jobs', 'ready', 'timed', 'held', 'entries'] LOOP
        EXECUTE format(
            'ALTER TABLE __s__.%I SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,'
            ' autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off)', t);
    END LOOP;
END
$do$;

-- The state of the job that holds an id; NULL if none does.
CREATE FUNCTION __s__.state_v1(id_ text, now_ timestamptz) RETURNS text LANGUAGE plpgsql AS $f$
DECLARE found_ text;
BEGIN
    SELECT CASE
            WHEN h.due > now_ THEN 'reserved'
            WHEN t.due > now_ THEN 'delayed'
            WHEN b.seq IS NOT NULL THEN 'buried'
            ELSE 'ready'
        END INTO found_
        FROM __s__.jobs j
        LEFT JOIN __s__.held h ON h.seq = j.seq
        LEFT JOIN __s__.timed t ON t.seq = j.seq
        LEFT JOIN __s__.buried b ON b.seq = j.seq
        WHERE j.id = id_;
    RETURN found_;
END
$f$;

-- Store one job; NULL if it is stored, else the state of the job that holds its id.
CREATE FUNCTION __s__.put_one_v1(
    id_ text, queue_ text, priority_ bigint, span interval, body_ bytea
) RETURNS text LANGUAGE plpgsql AS $f$
DECLARE
    now_ timestamptz := clock_timestamp();
    s bigint;
    holder text;
BEGIN
    LOOP
        INSERT INTO __s__.jobs (priority, enqueued_at, queue, id, body)
            VALUES (priority_, now_, queue_, id_, body_) ON CONFLICT (id) DO NOTHING RETURNING seq INTO s;
        IF s IS NOT NULL THEN
            IF span IS NULL THEN
                INSERT INTO __s__.ready (queue, priority, seq) VALUES (queue_, priority_, s);
            ELSE
                INSERT INTO __s__.timed (seq, queue, due) VALUES (s, queue_, now_ + span);
            END IF;
            RETURN NULL;
        END IF;
        holder := __s__.state_v1(id_, now_);
        IF holder IS NOT NULL THEN  -- else that job has just ended
            RETURN holder;
        END IF;
    END LOOP;
END
$f$;

-- Store many jobs of different ids, in their order; returns position (from 1) and state of the job that
-- holds the id, for those that are not stored.
CREATE FUNCTION __s__.put_many_v1(
    ids text[], queues text[], priorities bigint[], spans interval[], bodies bytea[]
) RETURNS TABLE (place bigint, holder text) LANGUAGE plpgsql AS $f$
DECLARE
    now_ timestamptz := clock_timestamp();
    stored text[];
BEGIN
    WITH i AS MATERIALIZED (
        SELECT * FROM unnest(ids, queues, priorities, spans, bodies)
            WITH ORDINALITY AS u (id, queue, priority, span, body, o)
    ), j AS (
        INSERT INTO __s__.jobs (priority, enqueued_at, queue, id, body)
            SELECT i.priority, now_, i.queue, i.id, i.body FROM i ORDER BY i.o
            ON CONFLICT (id) DO NOTHING RETURNING jobs.seq, jobs.id, jobs.queue, jobs.priority
    ), r AS (
        INSERT INTO __s__.ready (queue, priority, seq)
            SELECT j.queue, j.priority, j.seq FROM j JOIN i USING (id) WHERE i.span IS NULL
    ), t AS (
        INSERT INTO __s__.timed (seq, queue, due)
            SELECT j.seq, j.queue, now_ + i.span FROM j JOIN i USING (id) WHERE i.span IS NOT NULL
    )
    SELECT array_agg(j.id) INTO stored FROM j;
    IF coalesce(cardinality(stored), 0) = cardinality(ids) THEN
        RETURN;
    END IF;
    FOR place IN SELECT u.o FROM unnest(ids) WITH ORDINALITY AS u (id, o)
        WHERE NOT (u.id = ANY (coalesce(stored, '{}'))) ORDER BY u.o
    LOOP
        holder := __s__.put_one_v1(
            ids[place], queues[place], priorities[place], spans[place], bodies[place]);
        IF holder IS NOT NULL THEN
            RETURN NEXT;
        END IF;
    END LOOP;
END
$f$;

-- End a delivery: 1 commit, 2 rollback, 3 snooze, 4 bury. False if it holds its job no more; with `strict`
-- that is an error, which ends the transaction.
CREATE FUNCTION __s__.settle_v1(
    what int, s bigint, t bigint, pause interval, reason_ text, message_ text, strict_ boolean
) RETURNS boolean LANGUAGE plpgsql AS $f$
DECLARE
    now_ timestamptz := clock_timestamp();
    h record;
BEGIN
    DELETE FROM __s__.held WHERE seq = s AND token = t AND due > now_
        RETURNING queue, attempts, snoozes, kicks INTO h;
    IF NOT FOUND THEN
        IF strict_ THEN
            RAISE EXCEPTION 'lease lost' USING ERRCODE = 'KS001';
        END IF;
        RETURN false;
    END IF;
    IF what = 1 THEN
        DELETE FROM __s__.jobs WHERE seq = s;
        RETURN true;
    END IF;
    IF what = 4 THEN
        INSERT INTO __s__.buried VALUES (s, h.queue, now_, reason_, message_, h.attempts, h.snoozes, h.kicks);
        RETURN true;
    END IF;
    IF what = 3 THEN
        h.attempts := h.attempts - 1;
        h.snoozes := h.snoozes + 1;
    END IF;
    IF pause > interval '0' THEN
        INSERT INTO __s__.timed VALUES (s, h.queue, now_ + pause, h.attempts, h.snoozes, h.kicks);
    ELSE
        INSERT INTO __s__.ready
            SELECT h.queue, j.priority, s, h.attempts, h.snoozes, h.kicks FROM __s__.jobs j WHERE j.seq = s;
    END IF;
    RETURN true;
END
$f$;

-- Make at most 500 jobs ready whose delay or lease is over; returns how many.
CREATE FUNCTION __s__.promote_v1(qs text[], now_ timestamptz) RETURNS int LANGUAGE plpgsql AS $f$
DECLARE n int;
BEGIN
    WITH e AS (
        DELETE FROM __s__.held WHERE ctid = ANY (ARRAY(
            SELECT x.ctid FROM __s__.held x WHERE x.queue = ANY (qs) AND x.due <= now_
                LIMIT 250 FOR UPDATE SKIP LOCKED)) RETURNING seq, attempts, snoozes, kicks
    ), d AS (
        DELETE FROM __s__.timed WHERE ctid = ANY (ARRAY(
            SELECT x.ctid FROM __s__.timed x WHERE x.queue = ANY (qs) AND x.due <= now_
                LIMIT 250 FOR UPDATE SKIP LOCKED)) RETURNING seq, attempts, snoozes, kicks
    )
    INSERT INTO __s__.ready
        SELECT j.queue, j.priority, j.seq, a.attempts, a.snoozes, a.kicks
            FROM (SELECT * FROM e UNION ALL SELECT * FROM d) a JOIN __s__.jobs j ON j.seq = a.seq
                AND j.seq = ANY (ARRAY(SELECT seq FROM e UNION ALL SELECT seq FROM d));
    GET DIAGNOSTICS n = ROW_COUNT;
    RETURN n;
END
$f$;

-- Hold the next job for one lease. Without one, `again` says after which span to look again: zero at once,
-- because more is due than was made ready; NULL never, as far as time alone is concerned.
CREATE FUNCTION __s__.take_v1(
    qs text[], lease interval, tok bigint,
    OUT again interval, OUT r_seq bigint, OUT r_id text, OUT r_queue text, OUT r_body bytea,
    OUT r_attempts int, OUT r_snoozes int, OUT r_kicks int
) LANGUAGE plpgsql AS $f$
DECLARE
    now_ timestamptz := clock_timestamp();
    q_ text := qs[1];
    open_ text[];
    overdue boolean;
    next_ timestamptz;
BEGIN
    IF cardinality(qs) = 1 THEN
        SELECT CASE WHEN EXISTS (SELECT 1 FROM __s__.pauses p WHERE p.queue = q_ AND p.until > now_)
                    THEN NULL ELSE qs END,
               EXISTS (SELECT 1 FROM __s__.timed x WHERE x.queue = q_ AND x.due <= now_)
               OR EXISTS (SELECT 1 FROM __s__.held x WHERE x.queue = q_ AND x.due <= now_)
            INTO open_, overdue;
    ELSE
        SELECT array_agg(u) FILTER (WHERE NOT EXISTS (
                   SELECT 1 FROM __s__.pauses p WHERE p.queue = u AND p.until > now_)),
               bool_or(EXISTS (SELECT 1 FROM __s__.timed x WHERE x.queue = u AND x.due <= now_)
                   OR EXISTS (SELECT 1 FROM __s__.held x WHERE x.queue = u AND x.due <= now_))
            INTO open_, overdue FROM unnest(qs) u;
    END IF;
    IF overdue AND __s__.promote_v1(qs, now_) >= 250 THEN
        again := interval '0';  -- the most urgent of all may be among the rest
        RETURN;
    END IF;
    IF open_ IS NOT NULL THEN
        IF cardinality(qs) = 1 THEN
            WITH c AS (
                DELETE FROM __s__.ready r WHERE r.ctid = ANY (ARRAY(
                    SELECT y.ctid FROM __s__.ready y WHERE y.queue = q_
                        ORDER BY y.priority, y.seq LIMIT 1 FOR UPDATE SKIP LOCKED))
                    RETURNING r.seq, r.queue, r.attempts, r.snoozes, r.kicks
            ), n AS (
                INSERT INTO __s__.held
                    SELECT c.seq, tok, c.queue, now_ + lease, c.attempts + 1, c.snoozes, c.kicks FROM c
            )
            SELECT j.seq, j.id, j.queue, j.body, c.attempts + 1, c.snoozes, c.kicks
                INTO r_seq, r_id, r_queue, r_body, r_attempts, r_snoozes, r_kicks
                FROM c JOIN __s__.jobs j ON j.seq = (SELECT o.seq FROM c o);
        ELSE
            -- The best of each queue is read without locks: whoever locked the first of each, and took one,
            -- would hide the others from those who look meanwhile.
            WITH c AS (
                DELETE FROM __s__.ready r WHERE r.ctid = ANY (ARRAY(
                    SELECT l.ctid FROM __s__.ready l WHERE l.ctid = ANY (ARRAY(
                        SELECT x.ctid FROM unnest(open_) u CROSS JOIN LATERAL (
                            SELECT y.ctid, y.priority, y.seq FROM __s__.ready y WHERE y.queue = u
                                ORDER BY y.priority, y.seq LIMIT 16) x
                            ORDER BY x.priority, x.seq LIMIT 16))
                        ORDER BY l.priority, l.seq LIMIT 1 FOR UPDATE SKIP LOCKED))
                    RETURNING r.seq, r.queue, r.attempts, r.snoozes, r.kicks
            ), n AS (
                INSERT INTO __s__.held
                    SELECT c.seq, tok, c.queue, now_ + lease, c.attempts + 1, c.snoozes, c.kicks FROM c
            )
            SELECT j.seq, j.id, j.queue, j.body, c.attempts + 1, c.snoozes, c.kicks
                INTO r_seq, r_id, r_queue, r_body, r_attempts, r_snoozes, r_kicks
                FROM c JOIN __s__.jobs j ON j.seq = (SELECT o.seq FROM c o);
        END IF;
        IF r_seq IS NOT NULL THEN
            RETURN;
        END IF;
        IF EXISTS (SELECT 1 FROM unnest(open_) u WHERE EXISTS (SELECT 1 FROM __s__.ready y WHERE y.queue = u)) THEN
            again := interval '10 milliseconds';  -- only jobs that others are taking just now
            RETURN;
        END IF;
    END IF;
    SELECT min(least(
            (SELECT min(x.due) FROM __s__.timed x WHERE x.queue = u),
            (SELECT min(x.due) FROM __s__.held x WHERE x.queue = u),
            (SELECT p.until FROM __s__.pauses p WHERE p.queue = u AND p.until > now_)))
        INTO next_ FROM unnest(qs) u;
    -- What is overdue by now, and was not made ready, is in the hands of others.
    again := CASE WHEN next_ IS NOT NULL THEN greatest(next_ - now_, interval '10 milliseconds') END;
END
$f$;

-- Settle, then take the next job: one round trip and one transaction for each job.
CREATE FUNCTION __s__.step_v1(
    what int, s bigint, t bigint, pause interval, reason_ text, message_ text,
    qs text[], lease interval, tok bigint,
    OUT settled boolean, OUT again interval, OUT r_seq bigint, OUT r_id text, OUT r_queue text,
    OUT r_body bytea, OUT r_attempts int, OUT r_snoozes int, OUT r_kicks int
) LANGUAGE plpgsql AS $f$
BEGIN
    settled := __s__.settle_v1(what, s, t, pause, reason_, message_, false);
    IF settled THEN
        SELECT * INTO again, r_seq, r_id, r_queue, r_body, r_attempts, r_snoozes, r_kicks
            FROM __s__.take_v1(qs, lease, tok);
    END IF;
END
$f$;

-- Renew leases; returns the tokens of those that are renewed.
CREATE FUNCTION __s__.renew_v1(seqs bigint[], tokens bigint[], lease interval)
RETURNS SETOF bigint LANGUAGE plpgsql AS $f$
DECLARE now_ timestamptz := clock_timestamp();
BEGIN
    RETURN QUERY UPDATE __s__.held h SET due = now_ + lease FROM unnest(seqs, tokens) AS u (s, t)
        WHERE h.seq = u.s AND h.token = u.t AND h.due > now_ RETURNING h.token;
END
$f$;

-- Each queue: end of its pause, whether it has a ready job, when the next one becomes due; as spans from now.
CREATE FUNCTION __s__.outlook_v1(qs text[])
RETURNS TABLE (name text, paused interval, is_ready boolean, due interval) LANGUAGE plpgsql AS $f$
DECLARE now_ timestamptz := clock_timestamp();
BEGIN
    RETURN QUERY SELECT u,
        (SELECT p.until - now_ FROM __s__.pauses p WHERE p.queue = u AND p.until > now_),
        EXISTS (SELECT 1 FROM __s__.ready y WHERE y.queue = u)
            OR EXISTS (SELECT 1 FROM __s__.timed x WHERE x.queue = u AND x.due <= now_)
            OR EXISTS (SELECT 1 FROM __s__.held x WHERE x.queue = u AND x.due <= now_),
        least((SELECT min(x.due) FROM __s__.timed x WHERE x.queue = u AND x.due > now_),
              (SELECT min(x.due) FROM __s__.held x WHERE x.queue = u AND x.due > now_)) - now_
        FROM unnest(qs) u;
END
$f$;

-- Make a buried job ready again; false if there is none.
CREATE FUNCTION __s__.kick_v1(queue_ text, id_ text) RETURNS boolean LANGUAGE plpgsql AS $f$
BEGIN
    WITH b AS (
        DELETE FROM __s__.buried WHERE seq = (SELECT j.seq FROM __s__.jobs j WHERE j.id = id_ AND j.queue = queue_)
            RETURNING seq, snoozes, kicks
    )
    INSERT INTO __s__.ready
        SELECT j.queue, j.priority, j.seq, 0, b.snoozes, b.kicks + 1
            FROM b JOIN __s__.jobs j ON j.seq = (SELECT o.seq FROM b o);
    RETURN FOUND;
END
$f$;

-- Remove a job that nobody holds; false if there is none.
CREATE FUNCTION __s__.delete_v1(queue_ text, id_ text) RETURNS boolean LANGUAGE plpgsql AS $f$
DECLARE
    now_ timestamptz := clock_timestamp();
    j record;
    n bigint;
BEGIN
    SELECT seq, priority INTO j FROM __s__.jobs WHERE id = id_ AND queue = queue_;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    -- Twice: the first time may wait for another who makes the job ready just now, and not see it there.
    FOR _ IN 1..2 LOOP
        WITH r AS (DELETE FROM __s__.ready WHERE queue = queue_ AND priority = j.priority AND seq = j.seq RETURNING 1),
            t AS (DELETE FROM __s__.timed WHERE seq = j.seq RETURNING 1),
            b AS (DELETE FROM __s__.buried WHERE seq = j.seq RETURNING 1),
            h AS (DELETE FROM __s__.held WHERE seq = j.seq AND due <= now_ RETURNING 1)
        SELECT (SELECT count(*) FROM r) + (SELECT count(*) FROM t) + (SELECT count(*) FROM b)
            + (SELECT count(*) FROM h) INTO n;
        EXIT WHEN n > 0;
    END LOOP;
    IF n = 0 THEN
        RETURN false;
    END IF;
    DELETE FROM __s__.jobs WHERE seq = j.seq;
    RETURN true;
END
$f$;

-- Remove up to `most` jobs of each state that nobody holds; returns how many.
CREATE FUNCTION __s__.purge_v1(queue_ text, most int) RETURNS bigint LANGUAGE plpgsql AS $f$
DECLARE
    now_ timestamptz := clock_timestamp();
    gone bigint[];
BEGIN
    WITH r AS (DELETE FROM __s__.ready WHERE ctid = ANY (ARRAY(
            SELECT x.ctid FROM __s__.ready x WHERE x.queue = queue_ LIMIT most FOR UPDATE SKIP LOCKED)) RETURNING seq),
        t AS (DELETE FROM __s__.timed WHERE ctid = ANY (ARRAY(
            SELECT x.ctid FROM __s__.timed x WHERE x.queue = queue_ LIMIT most FOR UPDATE SKIP LOCKED)) RETURNING seq),
        b AS (DELETE FROM __s__.buried WHERE ctid = ANY (ARRAY(
            SELECT x.ctid FROM __s__.buried x WHERE x.queue = queue_ LIMIT most FOR UPDATE SKIP LOCKED)) RETURNING seq),
        h AS (DELETE FROM __s__.held WHERE ctid = ANY (ARRAY(
            SELECT x.ctid FROM __s__.held x WHERE x.queue = queue_ AND x.due <= now_
                LIMIT most FOR UPDATE SKIP LOCKED)) RETURNING seq)
    SELECT array_agg(a.seq) INTO gone FROM (
        SELECT * FROM r UNION ALL SELECT * FROM t UNION ALL SELECT * FROM b UNION ALL SELECT * FROM h) a;
    DELETE FROM __s__.jobs WHERE seq = ANY (gone);
    RETURN coalesce(cardinality(gone), 0);
END
$f$;

CREATE FUNCTION __s__.pause_v1(queue_ text, span interval) RETURNS void LANGUAGE plpgsql AS $f$
DECLARE now_ timestamptz := clock_timestamp();
BEGIN
    IF span > interval '0' THEN
        INSERT INTO __s__.pauses VALUES (queue_, now_ + span)
            ON CONFLICT (queue) DO UPDATE SET until = excluded.until;
    ELSE
        DELETE FROM __s__.pauses WHERE queue = queue_;
    END IF;
END
$f$;

-- Write an entry if it has the expected version (NULL: whatever is there). Returns the new version, or what
-- is there instead. Who writes an entry does so alone, so that its versions only grow.
CREATE FUNCTION __s__.entry_put_v1(
    space_ text, key_ text, value_ bytea, expect bigint, ttl interval,
    OUT written bigint, OUT version_ bigint, OUT there bytea, OUT ends timestamptz
) LANGUAGE plpgsql AS $f$
DECLARE now_ timestamptz;
BEGIN
    PERFORM pg_advisory_xact_lock(1800959852, hashtext(space_ || chr(1) || key_));
    now_ := clock_timestamp();  -- not before the wait for the lock, which another transaction may hold for long
    IF expect IS NOT NULL THEN
        SELECT e.version, e.value, e.expires_at INTO version_, there, ends FROM __s__.entries e
            WHERE e.space = space_ AND e.key = key_ AND (e.expires_at IS NULL OR e.expires_at > now_);
        IF coalesce(version_, 0) <> expect THEN
            version_ := coalesce(version_, 0);
            RETURN;
        END IF;
    END IF;
    written := nextval('__s__.versions');
    INSERT INTO __s__.entries VALUES (space_, key_, written, value_, now_ + ttl)
        ON CONFLICT (space, key) DO UPDATE
            SET version = excluded.version, value = excluded.value, expires_at = excluded.expires_at;
END
$f$;

-- Remove an entry; `written` is 1 if there was one and it is removed, 0 if there was none, NULL if it has
-- another version than the expected one.
CREATE FUNCTION __s__.entry_delete_v1(
    space_ text, key_ text, expect bigint,
    OUT written bigint, OUT version_ bigint, OUT there bytea, OUT ends timestamptz
) LANGUAGE plpgsql AS $f$
DECLARE now_ timestamptz;
BEGIN
    PERFORM pg_advisory_xact_lock(1800959852, hashtext(space_ || chr(1) || key_));
    now_ := clock_timestamp();  -- not before the wait for the lock, which another transaction may hold for long
    SELECT e.version, e.value, e.expires_at INTO version_, there, ends FROM __s__.entries e
        WHERE e.space = space_ AND e.key = key_ AND (e.expires_at IS NULL OR e.expires_at > now_);
    version_ := coalesce(version_, 0);
    IF version_ <> expect AND version_ > 0 THEN
        RETURN;
    END IF;
    DELETE FROM __s__.entries e WHERE e.space = space_ AND e.key = key_;
    written := least(version_, 1);
END
$f$;

-- Remove up to 100 entries whose time is over.
CREATE FUNCTION __s__.entry_sweep_v1() RETURNS int LANGUAGE plpgsql AS $f$
DECLARE
    now_ timestamptz := clock_timestamp();
    n int;
BEGIN
    DELETE FROM __s__.entries WHERE ctid = ANY (ARRAY(
        SELECT x.ctid FROM __s__.entries x WHERE x.expires_at <= now_
            ORDER BY x.expires_at LIMIT 100 FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS n = ROW_COUNT;
    RETURN n;
END
$f$

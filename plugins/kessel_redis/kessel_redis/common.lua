-- What all scripts begin with. `now` is the server's time in microseconds; nobody else's clock is asked.
--
-- KEYS: the ids, the counter of jobs, the names of queues, the counter of versions; then eight of each queue,
-- and three of each space of the store. A queue or space is known by its base: the index before its first key.
--
-- A job is known by its number in 16 digits, so that numbers sort as text: in `ready` the score is the
-- priority, and Redis orders equal scores by the member. Elsewhere the member is its place, NUMBER:PRIORITY, and
-- in `held` NUMBER:PRIORITY:TOKEN, so that removing it tells whether this very delivery held the job.
--
-- An error in the middle of a script would leave half of its work. So nothing is written before all that can
-- fail is over; and what must work at the limit of memory begins by removing, because there Redis refuses only
-- a script whose first write needs memory. Which commands the user may run was asked when it connected.

local READY, DELAYED, RECORDS, HELD, COUNTS, BURIED, NOTES, PAUSE = 1, 2, 3, 4, 5, 6, 7, 8
local VALUES, INDEX, ENDS = 1, 2, 3

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

-- A number as text, whole: `..` and `tostring` would keep 14 digits.
local function text(number) return string.format('%.0f', number) end

local moment = text(now)

local function number_of(member) return string.sub(member, 1, 16) end

local function priority_of(member) return string.sub(member, 18, 27) end

-- Tell other processes of what is done by now. A user who may not publish must not hear of an error: nothing would
-- be undone, and others find out when they look.
local function tell(channel, message) redis.pcall('PUBLISH', channel, message) end

-- Attempts, snoozes and kicks of a job; one that was delivered for the first time has no entry.
local function counts(base, number)
  local found = redis.call('HGET', KEYS[base + COUNTS], number)
  if not found then return 0, 0, 0 end
  local attempts, snoozes, kicks = string.match(found, '(%d+):(%d+):(%d+)')
  return tonumber(attempts), tonumber(snoozes), tonumber(kicks)
end

local function set_counts(base, number, attempts, snoozes, kicks)
  redis.call('HSET', KEYS[base + COUNTS], number, string.format('%.0f:%.0f:%.0f', attempts, snoozes, kicks))
end

local function count(base, number, more_attempts, more_snoozes)
  local attempts, snoozes, kicks = counts(base, number)
  set_counts(base, number, attempts + more_attempts, snoozes + more_snoozes, kicks)
end

-- Make jobs ready whose delay or lease is over; whether there may be more of them. Two hundred at once, because
-- nobody else is served meanwhile.
local function promote(base)
  local ready, delayed, held = KEYS[base + READY], KEYS[base + DELAYED], KEYS[base + HELD]
  local due = redis.call('ZRANGEBYSCORE', delayed, '-inf', moment, 'LIMIT', 0, 200)
  local lost = redis.call('ZRANGEBYSCORE', held, '-inf', moment, 'LIMIT', 0, 200)
  if #due == 0 and #lost == 0 then return false end
  local added = {}
  if #due > 0 then redis.call('ZREM', delayed, unpack(due)) end
  if #lost > 0 then redis.call('ZREM', held, unpack(lost)) end
  for _, members in ipairs({due, lost}) do
    for _, member in ipairs(members) do
      added[#added + 1] = priority_of(member)
      added[#added + 1] = number_of(member)
    end
  end
  redis.call('ZADD', ready, unpack(added))
  for _, member in ipairs(lost) do count(base, number_of(member), 1, 0) end
  return #due == 200 or #lost == 200
end

-- Store one job; the place and queue of the one that holds its id, if there is one.
local function store(base, name, id, span, priority, body)
  local holder = redis.call('HGET', KEYS[1], id)
  if holder then return holder end
  local number = string.format('%016.0f', redis.call('INCR', KEYS[2]))
  local place = number .. ':' .. string.format('%010.0f', priority)
  redis.call('HSET', KEYS[1], id, place .. ':' .. name)
  redis.call('HSET', KEYS[base + RECORDS], number, string.format('%016.0f%04d', now, #id) .. id .. body)
  if span == '0' then
    redis.call('ZADD', KEYS[base + READY], priority, number)
  else
    redis.call('ZADD', KEYS[base + DELAYED], text(now + span), place)
  end
  redis.call('SADD', KEYS[3], name)
  return ''
end

-- Remove all that is known of a job, once it is in none of the sets.
local function forget(base, number, id)
  redis.call('HDEL', KEYS[base + RECORDS], number)
  redis.call('HDEL', KEYS[1], id)
  redis.call('HDEL', KEYS[base + COUNTS], number)
  redis.call('HDEL', KEYS[base + NOTES], number)
end

-- An entry whose time is not over: its version, its end and its value in one text; or false.
local function entry(base, key)
  local found = redis.call('HGET', KEYS[base + VALUES], key)
  if not found then return false end
  local ends = tonumber(string.sub(found, 21, 40))
  if ends > 0 and ends <= now then return false end
  return found
end

local function version_of(found) return found and tonumber(string.sub(found, 1, 20)) or 0 end

-- Remove some entries whose time is over.
local function sweep(base, most)
  local over = redis.call('ZRANGEBYSCORE', KEYS[base + ENDS], '-inf', moment, 'LIMIT', 0, most)
  if #over == 0 then return end
  redis.call('ZREM', KEYS[base + ENDS], unpack(over))
  redis.call('HDEL', KEYS[base + VALUES], unpack(over))
  redis.call('ZREM', KEYS[base + INDEX], unpack(over))
end

-- Write an entry; its version.
local function put_entry(base, key, value, ttl)
  local version = redis.call('INCR', KEYS[4])
  local ends = ttl == '' and 0 or now + ttl
  redis.call('HSET', KEYS[base + VALUES], key, string.format('%020.0f%020.0f', version, ends) .. value)
  redis.call('ZADD', KEYS[base + INDEX], 0, key)
  if ends > 0 then
    redis.call('ZADD', KEYS[base + ENDS], text(ends), key)
  else
    redis.call('ZREM', KEYS[base + ENDS], key)
  end
  sweep(base, 20)
  return version
end

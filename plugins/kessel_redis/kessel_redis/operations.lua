-- What is asked less often than once a job. ARGV: the name of the operation, then its arguments.
-- Where an operation makes jobs ready first and there may be more of them, it answers 'more': ask again.

local BASE = 4  -- of the first queue
local operations = {}

local function first_score(key) return redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2] end

-- The number and place of a job of the first queue, whose name is given, by its id.
local function placed(name, id)
  local found = redis.call('HGET', KEYS[1], id)
  if not found or string.sub(found, 29) ~= name then return nil end
  return string.sub(found, 1, 16), string.sub(found, 1, 27)
end

-- Renew leases: each by the base of its queue and its member in `held`; for each whether it holds its job.
function operations.renew(lease, ...)
  local pairs_of, renewed = {...}, {}
  for index = 1, #pairs_of, 2 do
    local held, member = KEYS[pairs_of[index] + HELD], pairs_of[index + 1]
    local ends = redis.call('ZSCORE', held, member)
    local holds = ends and tonumber(ends) > now
    if holds then
      redis.call('ZREM', held, member)  -- so that it works at the limit of memory
      redis.call('ZADD', held, text(now + lease), member)
    end
    renewed[#renewed + 1] = holds and 1 or 0
  end
  return renewed
end

-- Make ready what is held under tokens, as if it had not been taken: the answers of those reserves were lost.
-- Of each queue the base, and the message if something was found there; for each that was found its token, and the
-- place of its queue from 0. There are as many members in `held` as running jobs.
function operations.give_back(channel, count, ...)
  local given, wanted, found = {...}, {}, {}
  for index = 1, tonumber(count) do wanted[given[index]] = true end
  for index = count + 1, #given, 2 do
    local base = tonumber(given[index])
    for _, member in ipairs(redis.call('ZRANGE', KEYS[base + HELD], 0, -1)) do
      local token = string.sub(member, 29)
      if wanted[token] then
        redis.call('ZREM', KEYS[base + HELD], member)
        redis.call('ZADD', KEYS[base + READY], priority_of(member), number_of(member))
        tell(channel, given[index + 1])
        found[#found + 1] = token
        found[#found + 1] = (base - BASE) / 8
      end
    end
  end
  return found
end

-- Of each queue: what is left of a pause, whether a job is ready, and the span until one becomes ready.
function operations.outlook()
  local found = {}
  for base = BASE, #KEYS - 1, 8 do
    local paused = tonumber(redis.call('GET', KEYS[base + PAUSE]) or 0) - now
    local due = tonumber(first_score(KEYS[base + DELAYED]) or -1)
    local lost = tonumber(first_score(KEYS[base + HELD]) or -1)
    if due < 0 or (lost >= 0 and lost < due) then due = lost end
    local is_ready = redis.call('EXISTS', KEYS[base + READY])
    if due >= 0 and due <= now then is_ready = 1 end
    found[#found + 1] = {text(math.max(0, paused)), is_ready, due < 0 and '-1' or text(math.max(0, due - now))}
  end
  return found
end

function operations.stats()
  local future = '(' .. text(now)
  local ready = redis.call('ZCARD', KEYS[BASE + READY])
  local delayed = redis.call('ZCOUNT', KEYS[BASE + DELAYED], future, '+inf')
  local held = redis.call('ZCOUNT', KEYS[BASE + HELD], future, '+inf')
  local over = redis.call('ZCARD', KEYS[BASE + DELAYED]) - delayed
    + redis.call('ZCARD', KEYS[BASE + HELD]) - held
  local paused = tonumber(redis.call('GET', KEYS[BASE + PAUSE]) or 0) - now
  return {
    ready + over, delayed, held, redis.call('ZCARD', KEYS[BASE + BURIED]), text(math.max(0, paused)),
  }
end

-- The names of the queues, of which KEYS has the keys: those that hold a job or are paused; the others are
-- forgotten.
function operations.used(...)
  local used = {}
  for index, name in ipairs({...}) do
    local base = BASE + 8 * (index - 1)
    if tonumber(redis.call('GET', KEYS[base + PAUSE]) or 0) <= now then
      redis.call('DEL', KEYS[base + PAUSE])
    end
    local count = redis.call('EXISTS', KEYS[base + READY], KEYS[base + DELAYED], KEYS[base + HELD],
      KEYS[base + BURIED], KEYS[base + PAUSE])
    if count > 0 then used[#used + 1] = name else redis.call('SREM', KEYS[3], name) end
  end
  return used
end

-- Of jobs by their numbers: record, counts and note, or false where there is no such job any more.
function operations.records(...)
  local found = {}
  for _, number in ipairs({...}) do
    local record = redis.call('HGET', KEYS[BASE + RECORDS], number)
    found[#found + 1] = record and {
      record, redis.call('HGET', KEYS[BASE + COUNTS], number) or '',
      redis.call('HGET', KEYS[BASE + NOTES], number) or '',
    } or false
  end
  return found
end

-- The first members of one of the sets, and their scores.
function operations.list(set, limit)
  if promote(BASE) then return 'more' end
  return redis.call('ZRANGE', KEYS[BASE + set], 0, limit - 1, 'WITHSCORES')
end

-- In which set a job is, by its place: the set's number, its score, record, counts and note; or false.
function operations.find(id, place)
  if promote(BASE) then return 'more' end
  local number = number_of(place)
  if string.sub(redis.call('HGET', KEYS[1], id) or '', 1, 27) ~= place then return false end
  local set, score = READY, '0'
  for _, other in ipairs({DELAYED, BURIED}) do
    local found = redis.call('ZSCORE', KEYS[BASE + other], place)
    if found then set, score = other, found end
  end
  if set == READY and not redis.call('ZSCORE', KEYS[BASE + READY], number) then
    -- The member in `held` has a token; there are as many as running jobs.
    local held = redis.call('ZRANGE', KEYS[BASE + HELD], 0, -1, 'WITHSCORES')
    for index = 1, #held, 2 do
      if string.sub(held[index], 1, 27) == place then set, score = HELD, held[index + 1] end
    end
  end
  return {
    set, score, redis.call('HGET', KEYS[BASE + RECORDS], number),
    redis.call('HGET', KEYS[BASE + COUNTS], number) or '', redis.call('HGET', KEYS[BASE + NOTES], number) or '',
  }
end

function operations.kick(channel, message, name, id)
  local number, place = placed(name, id)
  if not number or redis.call('ZREM', KEYS[BASE + BURIED], place) == 0 then return 0 end
  redis.call('ZADD', KEYS[BASE + READY], priority_of(place), number)
  local _, snoozes, kicks = counts(BASE, number)
  set_counts(BASE, number, 0, snoozes, kicks + 1)
  redis.call('HDEL', KEYS[BASE + NOTES], number)
  tell(channel, message)
  return 1
end

function operations.delete(name, id)
  if promote(BASE) then return 'more' end
  local number, place = placed(name, id)
  if not number then return 0 end
  local removed = redis.call('ZREM', KEYS[BASE + READY], number)
    + redis.call('ZREM', KEYS[BASE + DELAYED], place) + redis.call('ZREM', KEYS[BASE + BURIED], place)
  if removed > 0 then forget(BASE, number, id) end
  return removed
end

function operations.delete_buried(name, id)
  local number, place = placed(name, id)
  if not number or redis.call('ZREM', KEYS[BASE + BURIED], place) == 0 then return 0 end
  forget(BASE, number, id)
  return 1
end

-- Remove some of what nobody holds; how many.
function operations.purge(most)
  if promote(BASE) then return 'more' end
  local left, removed = tonumber(most), 0
  for _, set in ipairs({READY, DELAYED, BURIED}) do
    local members = left > 0 and redis.call('ZRANGE', KEYS[BASE + set], 0, left - 1) or {}
    for _, member in ipairs(members) do
      local number = number_of(member)
      local record = redis.call('HGET', KEYS[BASE + RECORDS], number)
      redis.call('ZREM', KEYS[BASE + set], member)
      local id = record and string.sub(record, 21, 20 + string.sub(record, 17, 20)) or ''
      forget(BASE, number, id)
    end
    left, removed = left - #members, removed + #members
  end
  return removed
end

function operations.pause(channel, message, name, span)
  if span == '0' then
    redis.call('DEL', KEYS[BASE + PAUSE])
  else
    redis.call('SADD', KEYS[3], name)
    redis.call('SET', KEYS[BASE + PAUSE], text(now + span))
  end
  tell(channel, message)
  return 1
end

-- The store: of one space.

function operations.get(key) return entry(BASE, key) end

-- {1, version} of the new entry, or {0, what is there or empty}.
function operations.put(channel, message, key, value, expect, ttl)
  local found = entry(BASE, key)
  if expect ~= '' and version_of(found) ~= tonumber(expect) then return {0, found or ''} end
  local version = put_entry(BASE, key, value, ttl)
  tell(channel, message)
  return {1, version}
end

-- {1, whether there was one}, or {0, what is there}.
function operations.remove(channel, message, key, expect)
  local found = entry(BASE, key)
  if found and expect ~= '' and version_of(found) ~= tonumber(expect) then return {0, found} end
  redis.call('HDEL', KEYS[BASE + VALUES], key)
  redis.call('ZREM', KEYS[BASE + INDEX], key)
  redis.call('ZREM', KEYS[BASE + ENDS], key)
  sweep(BASE, 20)
  if found then tell(channel, message) end
  return {1, found and 1 or 0}
end

-- Key and entry of some, in the order of the keys.
function operations.scan(least, most, limit)
  sweep(BASE, 1000)
  local found = {}
  while true do
    local keys = redis.call('ZRANGEBYLEX', KEYS[BASE + INDEX], least, most, 'LIMIT', 0, 200)
    for _, key in ipairs(keys) do
      local one = entry(BASE, key)
      if one then
        found[#found + 1] = key
        found[#found + 1] = one
        if #found == 2 * limit then return found end
      end
    end
    if #keys < 200 then return found end
    least = '(' .. keys[#keys]
  end
end

return operations[ARGV[1]](unpack(ARGV, 2))

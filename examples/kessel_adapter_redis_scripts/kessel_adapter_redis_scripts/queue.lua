-- All operations on queues: each call runs as one step, which nobody sees half done.
--
-- KEYS: the ids, the last number, the names of all queues; then of each queue in question the sets `ready`
-- (by priority), `waiting` (by the end of the delay), `held` (by the end of the lease) and `buried` (by the
-- time of burial), the hash `jobs` (fields `NUMBER:what`) and the end of its pause.
-- ARGV: the name of the operation, then its arguments.
-- A job is known by its number, in 16 digits, so that numbers sort as text. Times are the server's, in
-- microseconds; nobody else's clock is asked.

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local ids, last, names = KEYS[1], KEYS[2], KEYS[3]
local sets = {'ready', 'waiting', 'held', 'buried'}
local fields = {'id', 'body', 'priority', 'attempts', 'snoozes', 'delivery', 'enqueued', 'reason', 'message'}

local function queue_at(index)
  local first = 3 + (index - 1) * 6
  return {
    ready = KEYS[first + 1], waiting = KEYS[first + 2], held = KEYS[first + 3], buried = KEYS[first + 4],
    jobs = KEYS[first + 5], paused = KEYS[first + 6],
  }
end

-- A number as text, whole: `..` would keep 14 digits.
local function text(number) return string.format('%.0f', number) end

local function get(queue, number, what) return redis.call('HGET', queue.jobs, number .. ':' .. what) end

-- Put a job into one of the sets, out of all others.
local function place(queue, number, set, score)
  for _, other in ipairs(sets) do redis.call('ZREM', queue[other], number) end
  redis.call('ZADD', queue[set], text(score), number)
end

local function make_ready(queue, number) place(queue, number, 'ready', get(queue, number, 'priority')) end

local function remove(queue, number)
  redis.call('HDEL', ids, get(queue, number, 'id'))
  for _, set in ipairs(sets) do redis.call('ZREM', queue[set], number) end
  for _, what in ipairs(fields) do redis.call('HDEL', queue.jobs, number .. ':' .. what) end
end

-- Do what time alone does: delays and leases end.
local function catch_up(queue)
  for _, set in ipairs({'waiting', 'held'}) do
    local over = redis.call('ZRANGEBYSCORE', queue[set], '-inf', text(now))
    for _, number in ipairs(over) do make_ready(queue, number) end
  end
end

local function is_in(queue, set, number) return redis.call('ZSCORE', queue[set], number) ~= false end

-- Whether this very delivery still holds its job.
local function holds(queue, number, delivery)
  catch_up(queue)
  return is_in(queue, 'held', number) and get(queue, number, 'delivery') == delivery
end

-- The number of a job by its id, if it is in this queue.
local function find(queue, id)
  local number = string.sub(redis.call('HGET', ids, id) or '', 1, 16)
  catch_up(queue)
  return get(queue, number, 'id') == id and number or nil
end

local queue = queue_at(1)
local operations = {}

function operations.put(name, id, priority, delay, body)
  local holder = redis.call('HGET', ids, id)
  if holder then return holder end
  local number = string.format('%016.0f', redis.call('INCR', last))
  redis.call('HSET', ids, id, number .. ' ' .. name)
  redis.call('SADD', names, name)
  local values = {id, body, priority, 0, 0, 0, text(now), '', ''}
  for index, what in ipairs(fields) do redis.call('HSET', queue.jobs, number .. ':' .. what, values[index]) end
  if tonumber(delay) > 0 then
    place(queue, number, 'waiting', now + delay)
  else
    make_ready(queue, number)
  end
  return false
end

function operations.state(number)
  catch_up(queue)
  for _, set in ipairs(sets) do
    if is_in(queue, set, number) then return set end
  end
  return false
end

function operations.take(lease)
  local best = nil
  for index = 1, (#KEYS - 3) / 6 do
    local one = queue_at(index)
    catch_up(one)
    if tonumber(redis.call('GET', one.paused) or 0) <= now then
      local first = redis.call('ZRANGE', one.ready, 0, 0, 'WITHSCORES')
      local number, priority = first[1], tonumber(first[2])
      if number and (not best or priority < best.priority
          or (priority == best.priority and number < best.number)) then
        best = {queue = one, index = index, number = number, priority = priority}
      end
    end
  end
  if not best then return false end
  local number, jobs = best.number, best.queue.jobs
  place(best.queue, number, 'held', now + lease)
  local attempts = redis.call('HINCRBY', jobs, number .. ':attempts', 1)
  local delivery = redis.call('HINCRBY', jobs, number .. ':delivery', 1)
  local id, body = get(best.queue, number, 'id'), get(best.queue, number, 'body')
  return {best.index, number, delivery, id, body, attempts, tonumber(get(best.queue, number, 'snoozes'))}
end

function operations.commit(number, delivery)
  if not holds(queue, number, delivery) then return 0 end
  remove(queue, number)
  return 1
end

function operations.release(number, delivery, pause, counts)
  if not holds(queue, number, delivery) then return 0 end
  if counts == '0' then
    redis.call('HINCRBY', queue.jobs, number .. ':attempts', -1)
    redis.call('HINCRBY', queue.jobs, number .. ':snoozes', 1)
  end
  if tonumber(pause) > 0 then
    place(queue, number, 'waiting', now + pause)
  else
    make_ready(queue, number)
  end
  return 1
end

function operations.bury(number, delivery, reason, message)
  if not holds(queue, number, delivery) then return 0 end
  redis.call('HSET', queue.jobs, number .. ':reason', reason, number .. ':message', message)
  place(queue, number, 'buried', now)
  return 1
end

function operations.renew(number, delivery, lease)
  if not holds(queue, number, delivery) then return 0 end
  place(queue, number, 'held', now + lease)
  return 1
end

function operations.stats()
  catch_up(queue)
  local counts = {}
  for _, set in ipairs(sets) do table.insert(counts, redis.call('ZCARD', queue[set])) end
  table.insert(counts, math.max(0, (redis.call('GET', queue.paused) or 0) - now))
  return counts
end

function operations.peek(set, limit)
  catch_up(queue)
  local found = {}
  for _, number in ipairs(redis.call('ZRANGE', queue[set], 0, limit - 1)) do
    local job = {redis.call('ZSCORE', queue[set], number)}
    for _, what in ipairs(fields) do table.insert(job, get(queue, number, what)) end
    table.insert(found, job)
  end
  return found
end

function operations.purge()
  catch_up(queue)
  local count = 0
  for _, set in ipairs({'ready', 'waiting', 'buried'}) do
    for _, number in ipairs(redis.call('ZRANGE', queue[set], 0, -1)) do
      remove(queue, number)
      count = count + 1
    end
  end
  return count
end

function operations.kick(id)
  local number = find(queue, id)
  if not number or not is_in(queue, 'buried', number) then return 0 end
  redis.call('HSET', queue.jobs, number .. ':attempts', 0)
  make_ready(queue, number)
  return 1
end

function operations.delete(id)
  local number = find(queue, id)
  if not number or is_in(queue, 'held', number) then return 0 end
  remove(queue, number)
  return 1
end

function operations.pause(duration)
  redis.call('DEL', queue.paused)
  if tonumber(duration) > 0 then redis.call('SET', queue.paused, text(now + duration)) end
  return 1
end

return operations[ARGV[1]](unpack(ARGV, 2))

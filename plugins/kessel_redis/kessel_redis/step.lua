-- Settle a delivery with all that it brings along, then take the next job: one call for each job.
--
-- ARGV: 1 what (see below, empty: nothing is settled) 2 base of the queue 3 member in `held` 4 id of the job
-- 5 pause 6 note of a burial 7 from how many queues to take, the first ones 8 lease 9 token of the new delivery
-- 10 channel, or empty: that is all 11 how many follow-ups 12 how many entries; then six of each follow-up, as
-- in `put`, four of each entry (base, key, value, time to live), and messages.
-- Answers 0 if the delivery does not hold its job, then nothing is done; 1 if no job was to be taken; {span} if
-- none is ready, and time alone changes that after a span (0: look again at once, -1: never). Else one text, which
-- costs a client less than a list: index of the queue from 0, member and counts, each with a blank, and the record.

local what, settled, queues = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[7])

-- First, because then nobody holds a job whose lease is over.
local more = false
for index = 0, queues - 1 do
  if promote(4 + 8 * index) then more = true end
end

if what ~= '' then
  local held, member = KEYS[settled + HELD], ARGV[3]
  if more or settled >= 4 + 8 * queues then
    local ends = redis.call('ZSCORE', held, member)
    if ends and tonumber(ends) <= now then return 0 end
  end
  if redis.call('ZREM', held, member) == 0 then return 0 end
  local number = number_of(member)
  if what == 'commit' then
    redis.call('HDEL', KEYS[settled + RECORDS], number)
    redis.call('HDEL', KEYS[1], ARGV[4])
  elseif what == 'end' then  -- a commit of a job that has counts
    forget(settled, number, ARGV[4])
  elseif what == 'bury' then
    redis.call('ZADD', KEYS[settled + BURIED], moment, string.sub(member, 1, 27))
    redis.call('HSET', KEYS[settled + NOTES], number, ARGV[6])
    count(settled, number, 1, 0)
  else
    if ARGV[5] == '0' then
      redis.call('ZADD', KEYS[settled + READY], priority_of(member), number)
    else
      redis.call('ZADD', KEYS[settled + DELAYED], text(now + ARGV[5]), string.sub(member, 1, 27))
    end
    if what == 'snooze' then count(settled, number, 0, 1) else count(settled, number, 1, 0) end
  end
  if ARGV[10] ~= '' then
    local index = 13
    for _ = 1, tonumber(ARGV[11]) do
      store(tonumber(ARGV[index]), ARGV[index + 1], ARGV[index + 2], ARGV[index + 3], ARGV[index + 4],
        ARGV[index + 5])
      index = index + 6
    end
    for _ = 1, tonumber(ARGV[12]) do
      put_entry(tonumber(ARGV[index]), ARGV[index + 1], ARGV[index + 2], ARGV[index + 3])
      index = index + 4
    end
    for message = index, #ARGV do tell(ARGV[10], ARGV[message]) end
  end
end

if queues == 0 then return 1 end
if more then return {0} end  -- the most urgent of all may be among the rest

local again = nil
local function look_again(moment)
  if moment and (not again or tonumber(moment) < again) then again = tonumber(moment) end
end

local found, priority, best = nil, nil, nil
for index = 0, queues - 1 do
  local base = 4 + 8 * index
  local paused = redis.call('GET', KEYS[base + PAUSE])
  if paused and tonumber(paused) > now then
    look_again(paused)
  elseif queues == 1 then
    local first = redis.call('ZPOPMIN', KEYS[base + READY])
    if first[1] then found, priority, best = first[1], tonumber(first[2]), index end
  else
    local first = redis.call('ZRANGE', KEYS[base + READY], 0, 0, 'WITHSCORES')
    local score = tonumber(first[2])
    if score and (not found or score < priority or (score == priority and first[1] < found)) then
      found, priority, best = first[1], score, index
    end
  end
end

if not found then
  for index = 0, queues - 1 do
    local base = 4 + 8 * index
    look_again(redis.call('ZRANGE', KEYS[base + DELAYED], 0, 0, 'WITHSCORES')[2])
    look_again(redis.call('ZRANGE', KEYS[base + HELD], 0, 0, 'WITHSCORES')[2])
  end
  return {again and text(again - now) or -1}
end

local base = 4 + 8 * best
if queues > 1 then redis.call('ZREM', KEYS[base + READY], found) end
local member = found .. ':' .. string.format('%010.0f', priority) .. ':' .. ARGV[9]
redis.call('ZADD', KEYS[base + HELD], text(now + ARGV[8]), member)
local counted = redis.call('HGET', KEYS[base + COUNTS], found) or ''
return best .. ' ' .. member .. ' ' .. counted .. ' ' .. redis.call('HGET', KEYS[base + RECORDS], found)

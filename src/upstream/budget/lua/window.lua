-- What the scripts of a budget have in common.
-- KEYS[1]: the slots, by when they free (a sorted set). KEYS[2]: the pause, its probe, and the count of words (a hash).
-- KEYS[3]: the replicas that have told all they know, by when they were last heard of (a sorted set).
-- ARGV[1]: the channel. ARGV[2]: the budget's name. ARGV[3]: for how long, in milliseconds, a slot is held of which
-- nothing more is heard. ARGV[4]: the limit, where it matters.
local slots, pause, told = KEYS[1], KEYS[2], KEYS[3]
local week = 604800000
local hold = tonumber(ARGV[3])
local time = redis.call('TIME')
-- A slot is held a fraction of a millisecond too long rather than too short: set by `later`, looked at by `now`.
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local later = time[1] * 1000 + math.ceil(time[2] / 1000)

-- Where any of it was lost, by eviction or by hand, everybody has to tell it again: what is left is not known before. The
-- words are counted anew, so that what is said meanwhile is taken for old.
local last = tonumber(redis.call('HGET', pause, 'last') or 0)
if not redis.call('HGET', pause, 'word') or (now <= last and redis.call('EXISTS', slots) == 0) then
  redis.call('DEL', told)
  redis.call('HDEL', pause, 'last', 'word')
end

-- A clock that was ahead when this was written has left times that cannot be: nothing lasts longer from now on than it
-- may last at all.
local longest = { ['until'] = 300000, probing = hold }
for field, most in pairs(longest) do
  local over = redis.call('HGET', pause, field)
  if over and not (tonumber(over) and tonumber(over) <= now + most) then
    redis.call('HSET', pause, field, string.format('%.0f', now + most))
  end
end
for _, slot in ipairs(redis.call('ZRANGEBYSCORE', slots, '(' .. string.format('%.0f', later + hold), '+inf')) do
  redis.call('ZADD', slots, string.format('%.0f', later + hold), slot)
end

local function prune()
  redis.call('ZREMRANGEBYSCORE', slots, '-inf', now)
end

-- Nothing is left for good: the slots go with the last of them, the rest after a week without a word.
local function expire()
  local last = redis.call('ZRANGE', slots, -1, -1, 'WITHSCORES')
  if last[2] then
    redis.call('PEXPIREAT', slots, string.format('%.0f', last[2] + 1000))
    redis.call('HSET', pause, 'last', last[2])
  else
    redis.call('HDEL', pause, 'last')
  end
  redis.call('PEXPIRE', pause, week)
  redis.call('PEXPIRE', told, week)
end

local function put(slot, free)
  redis.call('ZADD', slots, string.format('%.0f', free), slot)
end

-- Tells everybody what is left. Returns that, and which word it is.
local function say()
  local limit = tonumber(redis.call('HGET', pause, 'limit') or 0)
  local left = math.max(0, limit - redis.call('ZCARD', slots))
  local word = redis.call('HINCRBY', pause, 'word', 1)
  expire()
  redis.call('PUBLISH', ARGV[1], ARGV[2] .. ' ' .. word .. ' ' .. left)
  return left, word
end

local function pause_for(ms)
  local before = tonumber(redis.call('HGET', pause, 'until') or 0)
  if now + ms > before then
    redis.call('HSET', pause, 'until', string.format('%.0f', now + ms))
  end
  redis.call('HDEL', pause, 'probe', 'probing')
end

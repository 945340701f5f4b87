-- Takes a slot. ARGV[5]: how many are left alone. ARGV[6]: the slot. ARGV[7]: the replica.
local limit, reserve, slot = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]
prune()
if not redis.call('ZSCORE', told, ARGV[7]) then
  return { 'unknown' }
end
redis.call('ZADD', told, now, ARGV[7])
redis.call('HSET', pause, 'limit', ARGV[4])
if not redis.call('ZSCORE', slots, slot) then
  local over = tonumber(redis.call('HGET', pause, 'until') or 0)
  if now < over then
    expire()
    return { 'paused', over - now }
  end
  if over > 0 and now < tonumber(redis.call('HGET', pause, 'probing') or 0) then
    expire()
    return { 'probing' }
  end
  local free = limit - redis.call('ZCARD', slots)
  if free < 1 + reserve then
    local nth = 1 + reserve - free
    local score = redis.call('ZRANGE', slots, nth - 1, nth - 1, 'WITHSCORES')[2]
    -- What has no answer yet frees a minute from now at the earliest, and hardly as late as it would by itself.
    local wait = math.min((score or now + 60000) - now, 60000)
    expire()
    return { 'full', math.max(wait, 1), math.max(free, 0), redis.call('HGET', pause, 'word') or 0 }
  end
  if over > 0 then
    -- If its holder dies, another goes ahead.
    redis.call('HSET', pause, 'probe', slot, 'probing', string.format('%.0f', now + hold - 60000))
  end
  put(slot, later + hold)
end
local left, word = say()
if redis.call('HGET', pause, 'probe') == slot then
  return { 'probe', left, word }
end
return { 'granted', left, word }

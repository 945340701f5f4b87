-- Adds what counts. ARGV[5]: what is left of a pause. ARGV[6]: the replica, where it begins to tell all it knows; else
-- empty. From ARGV[7] on, in pairs: a slot, and how long until it frees; 'aloft' where that is not known.
prune()
redis.call('ZREMRANGEBYSCORE', told, '-inf', now - week)
if ARGV[6] ~= '' then
  redis.call('ZADD', told, now, ARGV[6])
end
redis.call('HSET', pause, 'limit', ARGV[4])
if tonumber(ARGV[5]) > 0 then
  pause_for(tonumber(ARGV[5]))
end
for at = 7, #ARGV, 2 do
  local frees = ARGV[at + 1] == 'aloft' and hold or tonumber(ARGV[at + 1])
  put(ARGV[at], later + frees)
end
return { say() }

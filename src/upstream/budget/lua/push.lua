-- Adds what counts. ARGV[5]: what is left of a pause. From ARGV[6] on, in pairs: a slot, and how long until it frees;
-- 'aloft' where that is not known.
prune()
redis.call('HSET', pause, 'limit', ARGV[4])
if tonumber(ARGV[5]) > 0 then
  pause_for(tonumber(ARGV[5]))
end
for at = 6, #ARGV, 2 do
  local frees = ARGV[at + 1] == 'aloft' and hold or tonumber(ARGV[at + 1])
  put(ARGV[at], later + frees)
end
return { say() }

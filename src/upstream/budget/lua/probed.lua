-- The one that went ahead ended. ARGV[4]: its slot. ARGV[5]: '1' where its answer was no 429.
prune()
if redis.call('HGET', pause, 'probe') == ARGV[4] then
  redis.call('HDEL', pause, 'probe', 'probing')
  if ARGV[5] == '1' then
    redis.call('HDEL', pause, 'until')
  end
  say()
end
return {}

-- A request never left. ARGV[4]: its slot.
prune()
redis.call('ZREM', slots, ARGV[4])
say()
return {}

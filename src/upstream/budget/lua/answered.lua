-- An answer began. ARGV[4]: its slot. ARGV[5]: how long ago.
prune()
local frees = 60000 - tonumber(ARGV[5])
if frees > 0 then
  put(ARGV[4], later + frees)
else
  redis.call('ZREM', slots, ARGV[4])
end
expire()
return {}

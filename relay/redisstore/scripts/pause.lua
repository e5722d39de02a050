-- Holds or releases a destination.
-- KEYS: source
-- ARGV: 1 destination, 2 1 to hold
tick()
relieve()
save()
redis.call('HSETNX', META, 'd:' .. ARGV[1], 0)
if ARGV[2] == '1' then
  redis.call('HSET', META, 'p:' .. ARGV[1], 1)
else
  redis.call('HDEL', META, 'p:' .. ARGV[1])
end
return 1

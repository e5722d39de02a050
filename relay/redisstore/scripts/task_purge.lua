-- Deletes tasks that have ended, past their retention.
-- KEYS: source; those of tasks
-- ARGV: 1 retention, 2 most
-- Returns how many
tick()
relieve()
save()
local names = redis.call('ZRANGEBYSCORE', XENDED, '-inf', text(run - ARGV[1]), 'LIMIT', 0, ARGV[2])
for _, name in ipairs(names) do
  redis.call('ZREM', XENDED, name)
  redis.call('ZREM', XLIST, name)
  redis.call('HDEL', XTASKS, name)
end
return #names

-- Deletes dedupe records past their window.
-- KEYS: source
-- ARGV: 1 window, 2 most
-- Returns {how many, run}
tick()
relieve()
save()
local keys = redis.call('ZRANGEBYSCORE', WINDOW, '-inf', run - ARGV[1], 'LIMIT', 0, ARGV[2])
for _, key in ipairs(keys) do
  redis.call('ZREM', WINDOW, key)
  redis.call('HDEL', SEEN, key)
end
return { #keys, run }

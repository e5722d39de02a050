-- Deletes dedupe records past their window.
-- KEYS: source
-- ARGV: 1 window, 2 most
-- Returns {how many, run}
tick()
relieve()
save()
local window, most = tonumber(ARGV[1]), tonumber(ARGV[2])

-- forget deletes what still has its value of the acceptance that is past; nil where that is in WINDOW. A key that was accepted
-- anew has a later one.
local function forget(keys, at)
  for i, value in ipairs(keys[1] and redis.call('HMGET', SEEN, unpack(keys)) or {}) do
    if value and accepted_of(value) == at[i] then
      redis.call('HDEL', SEEN, keys[i])
    end
  end
  return #keys
end

local former = redis.call('ZRANGEBYSCORE', WINDOW, '-inf', run - window, 'LIMIT', 0, most)
local n = forget(former, {})
if n > 0 then
  redis.call('ZREM', WINDOW, unpack(former))
end

local keys, at = {}, {}
for i, entry in ipairs(n < most and redis.call('LRANGE', RECENT, 0, most - n - 1) or {}) do
  local accepted = string.sub(entry, 33)
  if run - accepted < window then
    break
  end
  keys[i], at[i] = string.sub(entry, 1, 32), accepted
end
if forget(keys, at) > 0 then
  redis.call('LPOP', RECENT, #keys)
end
return { n + #keys, run }

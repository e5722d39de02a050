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

-- An entry of RECENT is run, in 16 digits, and the keys that were accepted then: up to two for each accept of a script.
while n < most do
  local entry = redis.call('LINDEX', RECENT, 0)
  local accepted = entry and string.sub(entry, 1, 16)
  if not entry or run - accepted < window then
    break
  end
  local keys, at = {}, {}
  for i = 17, #entry, 32 do
    keys[#keys + 1], at[#at + 1] = string.sub(entry, i, i + 31), accepted
  end
  n = n + forget(keys, at)
  redis.call('LPOP', RECENT)
end
return { n, run }

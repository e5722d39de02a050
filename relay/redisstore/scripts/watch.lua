-- Moves the source's clock on, ends leases that have expired, and counts.
-- KEYS: source; six per destination
-- ARGV: destinations
-- Returns {run, now, all destinations of the source, per destination: pending, leased, dead, delivered, 1 if paused,
--          age of the oldest that is not settled, time until the next is due (0 if one is, -1 if none waits),
--          leases that had expired}
tick()
relieve()
save()
local known, meta = {}, redis.call('HGETALL', META)
for i = 1, #meta, 2 do
  if string.sub(meta[i], 1, 2) == 'd:' then
    known[#known + 1] = string.sub(meta[i], 3)
  end
end
local reply, left = { run, now, known }, MAX_TOUCHED
-- What is behind a delivery that was settled or went, with nobody to free it then, is freed here, oldest first.
local queues = {}
for i, name in ipairs(ARGV) do
  queues[name] = queue(9 + (i - 1) * 6)
end
for _, name in ipairs(ARGV) do
  local q = queues[name]
  local ids = redis.call('ZRANGEBYSCORE', q.due, text(HELD), '+inf', 'LIMIT', 0, MAX_TOUCHED / 2)
  local states = #ids > 0 and redis.call('HMGET', q.state, unpack(ids)) or {}
  for i, id in ipairs(ids) do
    local awaited = states[i] and decode(states[i]).reason or ''
    local other = queues[awaited]
    local gone = not other and redis.call('HEXISTS', META, 'd:' .. awaited) == 0
    if gone or other and not redis.call('ZSCORE', other.pending, id) then
      free(q, id)
    end
  end
end

local function add(v)
  reply[#reply + 1] = tonumber(v)
end
for i, name in ipairs(ARGV) do
  local q = queues[name]
  local expired = reclaim(q, left) -- the rest is for the next look
  left = left - expired
  local leased = redis.call('ZCARD', q.leased)
  add(redis.call('ZCARD', q.pending) - leased)
  add(leased)
  add(redis.call('ZCARD', q.dead))
  local flags = redis.call('HMGET', META, 'd:' .. name, 'p:' .. name)
  add(flags[1] or 0)
  add(flags[2] or 0)
  local oldest = redis.call('ZRANGE', q.pending, 0, 0, 'WITHSCORES')
  add(oldest[2] and math.max(0, run - oldest[2]) or 0)
  local due, lease = redis.call('ZRANGE', q.due, 0, 0, 'WITHSCORES'), redis.call('ZRANGE', q.leased, 0, 0, 'WITHSCORES')
  local at = math.min(tonumber(due[2] or HELD), tonumber(lease[2] or HELD))
  add(at >= HELD and -1 or math.max(0, at - now))
  add(expired)
end
return reply

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
  queues[name] = queue(SOURCE_KEYS + 1 + (i - 1) * 6)
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

-- When the oldest was accepted of the deliveries that are leased in their events' records. Those whose lease ends first are
-- looked at: leases have ends as old as they are.
local held_since = {}
local ids = ARGV[1] and redis.call('ZRANGE', HELD_PACKS, 0, 99) or {}
for i, r in ipairs(ids[1] and redis.call('HMGET', PACKS, unpack(ids)) or {}) do
  local e = r and parse_pack(r, ids[i])
  for _, name in ipairs(e and ARGV or {}) do
    local _, letter = place_of(e, name)
    if letter == LETTER_LEASED then
      held_since[name] = math.min(held_since[name] or HELD, tonumber(e.accepted))
    end
  end
end

local function add(v)
  reply[#reply + 1] = tonumber(v)
end
for i, name in ipairs(ARGV) do
  local q = queues[name]
  local expired = reclaim(q, name, left) -- the rest is for the next look
  left = left - expired
  local leased = redis.call('ZCARD', q.leased)
  add(redis.call('ZCARD', q.pending) - leased)
  local flags = redis.call('HMGET', META, 'd:' .. name, 'p:' .. name, 'f:' .. name)
  add(leased + (flags[3] or 0))
  add(redis.call('ZCARD', q.dead))
  add(flags[1] or 0)
  add(flags[2] or 0)
  local oldest = redis.call('ZRANGE', q.pending, 0, 0, 'WITHSCORES')
  local since = math.min(tonumber(oldest[2] or HELD), held_since[name] or HELD)
  add(since >= HELD and 0 or math.max(0, run - since))
  local at = math.min(next_due(q, name, held_since[name]))
  add(at >= HELD and -1 or math.max(0, at - now))
  add(expired)
end
return reply

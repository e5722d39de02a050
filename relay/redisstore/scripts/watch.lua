-- Moves the source's clock on, ends leases that have expired, and counts.
-- KEYS: source; six per destination
-- ARGV: destinations
-- Returns {run, now, all destinations of the source, per destination: pending, leased, dead, delivered, 1 if paused,
--          age of the oldest that is not settled, time until the next is due (0 if one is, -1 if none waits),
--          leases that had expired}
tick()
if not fresh or redis.call('EXISTS', FORMER) == 1 then -- else the source is one that somebody has mistyped
  relieve()
  save()
end
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

-- first_of returns the first events of a set that have a record. All destinations have the same ones that are held: a set is read
-- once.
local firsts = {}
local function first_of(set)
  if not firsts[set] then
    local ids, events = redis.call('ZRANGE', set, 0, 99), {}
    for i, r in ipairs(ids[1] and redis.call('HMGET', PACKS, unpack(ids)) or {}) do
      events[#events + 1] = r and parse_pack(r, ids[i]) or nil
    end
    firsts[set] = events
  end
  return firsts[set]
end

-- oldest_of returns when the oldest was accepted of the deliveries of a destination that have a letter in the records of the first
-- events of a set; HELD if none has. It goes by when leases end, or deliveries are due: these are as old as they are.
local function oldest_of(set, name, wanted)
  local since = HELD
  for _, e in ipairs(first_of(set)) do
    local _, letter = place_of(e, name)
    if letter == wanted then
      since = math.min(since, tonumber(e.accepted))
    end
  end
  return since
end

-- recount corrects what a field of META counts, and returns it. A script that Redis has refused midway, and a record that it has
-- lost, leave a number that no other script puts right.
local function recount(field, counted, is)
  if is ~= counted then
    redis.call('HSET', META, field, text(is))
  end
  return is
end

local function add(v)
  reply[#reply + 1] = tonumber(v)
end
for i, name in ipairs(ARGV) do
  local q = queues[name]
  local expired = reclaim(q, name, left) -- the rest is for the next look
  left = left - expired
  local flags = redis.call('HMGET', META, 'd:' .. name, 'p:' .. name, 'f:' .. name, 'w:' .. name)
  local leased, pending = redis.call('ZCARD', q.leased), redis.call('ZCARD', q.pending)
  local held, waiting = tonumber(flags[3] or 0), tonumber(flags[4] or 0)
  if redis.call('ZCARD', HELD_PACKS) == 0 then
    held = recount('f:' .. name, held, 0)
  end
  -- What is due or leased is among the pending ones, or waits. Only behind its task's turn a delivery is pending and neither.
  local queued = redis.call('ZCARD', q.due) + leased - pending
  if queued >= 0 and redis.call('ZCARD', q.order) == 0 then
    waiting = recount('w:' .. name, waiting, queued)
  end
  add(pending + waiting - leased)
  add(leased + held)
  add(redis.call('ZCARD', q.dead))
  add(flags[1] or 0)
  add(flags[2] or 0)
  local since = tonumber(redis.call('ZRANGE', q.pending, 0, 0, 'WITHSCORES')[2] or HELD)
  if held > 0 then
    since = math.min(since, oldest_of(HELD_PACKS, name, LETTER_LEASED))
  end
  if waiting > 0 then
    since = math.min(since, oldest_of(q.due, name, LETTER_WAITING), oldest_of(q.leased, name, LETTER_WAITING))
  end
  add(since >= HELD and 0 or math.max(0, run - since))
  local at = math.min(next_due(q, name, held > 0))
  add(at >= HELD and -1 or math.max(0, at - now))
  add(expired)
end
return reply

-- Leases due deliveries of one destination.
-- KEYS: source; destination
-- ARGV: 1 destination, 2 most, 3 duration, 4 1 for a probe
-- Returns {1 if paused, leases that had expired, time until the next is due or -1,
--          per delivery: id, token, tries, used, replay, variant, age, seq}
local most, q = tonumber(ARGV[2]), queue(SOURCE_KEYS + 1)
local flags = tick('p:' .. ARGV[1], 'f:' .. ARGV[1])
local paused = flags[4]
relieve()
if paused then
  save()
  return { 1, 0, -1 }
end

local expired = reclaim(q, ARGV[1], MAX_TOUCHED - most)

local ids = {}
if ARGV[4] == '1' then
  -- Those never tried go first. Nothing but a bounded look at the head of the queue can tell.
  local head, tried = redis.call('ZRANGEBYSCORE', q.due, '-inf', '(' .. text(HELD), 'LIMIT', 0, MAX_TOUCHED), {}
  local states = #head > 0 and redis.call('HMGET', q.state, unpack(head)) or {}
  for i, id in ipairs(head) do
    local fresh = not states[i] or tonumber((string.match(states[i], '^%a %d+ (%d+)'))) == 0
    table.insert(fresh and ids or tried, id)
  end
  for _, id in ipairs(tried) do
    table.insert(ids, id)
  end
  ids = { unpack(ids, 1, math.min(most, #ids)) }
else
  ids = redis.call('ZRANGEBYSCORE', q.due, '-inf', now_text, 'LIMIT', 0, most)
end

local reply = { 0, expired, -1 }
if #ids > 0 then
  local states, leases, records = redis.call('HMGET', q.state, unpack(ids)), {}, {}
  local ends = text(now + ARGV[3])
  for i, id in ipairs(ids) do
    local d = states[i] and decode(states[i]) or new_delivery(run, now, nil)
    d.status, d.token = LEASED, next_seq()
    leases[2 * i - 1], leases[2 * i] = ends, id
    records[2 * i - 1], records[2 * i] = id, encode(d)
    reply[#reply + 1] = id
    for _, v in ipairs({ d.token, d.tries, d.used, d.replay, d.variant, math.max(0, run - d.accepted), d.seq }) do
      reply[#reply + 1] = tonumber(v)
    end
  end
  redis.call('ZREM', q.due, unpack(ids))
  redis.call('ZADD', q.leased, unpack(leases))
  redis.call('HSET', q.state, unpack(records))
end

local due, lease = next_due(q, ARGV[1], tonumber(flags[5] or 0) > 0)
if due <= now then
  reply[3] = 0
elseif math.min(due, lease) < HELD then
  reply[3] = math.max(1, math.min(due, lease) - now)
end
save()
return reply

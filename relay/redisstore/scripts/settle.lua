-- Ends a lease.
-- KEYS: source; 9 event; 10-15 destination
-- ARGV: 1 id, 2 destination, 3 token, 4 outcome (relay.Outcome), 5 delay, 6 1 if it used up a
--       retry, 7 attempt or '', 8 reason
-- Returns {1, 1 if another delivery of the task got its turn}, or {0} where the lease is lost
local id, name, outcome, event, q = ARGV[1], ARGV[2], ARGV[4], KEYS[9], queue(10)
local counted = 'd:' .. name
local delivered = tick(counted)[4]
local s = redis.call('HGET', q.state, id)
local d = s and decode(s)
if not d or tonumber(d.token) ~= tonumber(ARGV[3]) then
  return { 0 }
end
if d.status ~= LEASED and d.status ~= EXPIRED then
  relieve()
  save() -- a write, so that WAIT covers the first one
  return { 1, 0 } -- done before; the answer was lost
end

-- What follows begins with ZREM: it passes at maxmemory without relieve().
local attempt = {}
if ARGV[7] ~= '' then
  attempt = { 'a:' .. name .. ':' .. d.tries, ARGV[7] }
  d.tries = d.tries + 1
end
d.used = d.used + ARGV[6]

if outcome == OUTCOME_DEAD then
  local passed = bury(q, event, id, d, ARGV[8], unpack(attempt))
  save()
  return { 1, passed }
end
if outcome == OUTCOME_DELIVERED then
  local passed = leave(q, id, d)
  d.status, d.reason = DELIVERED, ''
  if closed(event, id, false, unpack(attempt)) then
    redis.call('HSET', q.state, id, encode(d))
    save(counted, text((delivered or 0) + 1))
  else
    redis.call('HDEL', q.state, id)
    save()
  end
  return { 1, passed }
end
redis.call('ZREM', q.leased, id)
redis.call('ZREM', q.due, id)
d.status = PENDING
redis.call('HSET', q.state, id, encode(d))
if attempt[1] and redis.call('EXISTS', event) == 1 then
  redis.call('HSET', event, unpack(attempt))
end
-- What is released keeps its place: it is as old as its event.
enqueue(q, id, d, outcome == OUTCOME_RETRY and now + ARGV[5] or math.min(tonumber(d.seq), now))
save()
return { 1, d.task and 1 or 0 }

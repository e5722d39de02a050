-- Ends a lease.
-- KEYS: source; 9 event; 10-15 destination
-- ARGV: 1 id, 2 destination, 3 token, 4 outcome (1 delivered, 2 retry, 3 dead, 4 release), 5 delay, 6 1 if it used up a
--       retry, 7 attempt or '', 8 reason
-- Returns {1, 1 if another delivery of the task got its turn}, or {0} where the lease is lost
local id, name, outcome, event, q = ARGV[1], ARGV[2], ARGV[4], KEYS[9], queue(10)
tick()
local s = redis.call('HGET', q.state, id)
local d = s and decode(s)
if not d or tonumber(d.token) ~= tonumber(ARGV[3]) then
  return { 0 }
end
relieve()
save()
if d.status ~= 'L' and d.status ~= 'E' then
  return { 1, 0 } -- done before; the answer was lost
end

if ARGV[7] ~= '' then
  if redis.call('EXISTS', event) == 1 then
    redis.call('HSET', event, 'a:' .. name .. ':' .. d.tries, ARGV[7])
  end
  d.tries = d.tries + 1
end
d.used = d.used + ARGV[6]

if outcome == '3' then
  return { 1, bury(q, event, id, d, ARGV[8]) }
end
if outcome == '1' then
  d.status, d.reason = 'D', ''
  local passed = leave(q, id, d)
  closed(event, id, false)
  if redis.call('EXISTS', event) == 1 then
    redis.call('HSET', q.state, id, encode(d))
    redis.call('HINCRBY', META, 'd:' .. name, 1)
  else
    redis.call('HDEL', q.state, id)
  end
  return { 1, passed }
end
d.status = 'P'
redis.call('ZREM', q.leased, id)
redis.call('ZREM', q.due, id)
redis.call('HSET', q.state, id, encode(d))
-- What is released keeps its place: it is as old as its event.
enqueue(q, id, d, outcome == '2' and now + ARGV[5] or math.min(tonumber(d.seq), now))
return { 1, d.task and 1 or 0 }

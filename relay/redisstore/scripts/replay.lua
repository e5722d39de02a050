-- Makes settled deliveries of an event pending anew.
-- KEYS: source; 9 event; six per destination
-- ARGV: 1 id, 2 variant or 0; destinations
-- Returns {1 if event and variant are there, replayed, skipped}
local id, variant, event = ARGV[1], ARGV[2], KEYS[9]
tick()
local e = redis.call('HMGET', event, 's', 'd')
if not e[1] or variant ~= '0' and redis.call('HEXISTS', NOTES, id .. ':' .. variant .. ':b') == 0 then
  return { 0, 0, 0 }
end
relieve()
save()
local replayed, skipped, names = 0, 0, e[2]
for i = 3, #ARGV do
  local name, q = ARGV[i], queue(10 + (i - 3) * 6)
  local s = redis.call('HGET', q.state, id)
  local d = s and decode(s) or new_delivery(run, e[1], nil)
  if s and d.status ~= DELIVERED and d.status ~= DEAD then
    skipped = skipped + 1
  else
    if d.status == DELIVERED then
      redis.call('HINCRBY', META, 'd:' .. name, -1)
    elseif d.status == DEAD then
      redis.call('ZREM', q.dead, id)
    end
    if not string.find(' ' .. names .. ' ', ' ' .. name .. ' ', 1, true) then
      names = names == '' and name or names .. ' ' .. name
      redis.call('HSET', event, 'd', names)
    end
    redis.call('HSETNX', META, 'd:' .. name, 0)
    reopened(event, id, d.status == DEAD)
    d.status, d.token, d.used, d.replay, d.variant, d.dead, d.reason = PENDING, 0, 0, d.replay + 1, variant, 0, ''
    d.accepted = run
    redis.call('HSET', q.state, id, encode(d))
    redis.call('ZADD', q.pending, run_text, id)
    enqueue(q, id, d, now)
    replayed = replayed + 1
  end
end
return { 1, replayed, skipped }

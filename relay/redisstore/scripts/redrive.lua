-- Makes dead letters of a destination pending anew. What is no dead letter any more is left alone.
-- KEYS: source; 9-14 destination; events
-- ARGV: per event: id, delay until it is due
-- Returns how many
local q, n = queue(9), 0
tick()
relieve()
save()
for i = 1, #ARGV, 2 do
  local id = ARGV[i]
  local s = redis.call('HGET', q.state, id)
  local d = s and decode(s)
  if d and d.status == DEAD then
    redis.call('ZREM', q.dead, id)
    reopened(KEYS[15 + (i - 1) / 2], id, true)
    d.status, d.token, d.used, d.replay, d.dead, d.reason = PENDING, 0, 0, d.replay + 1, 0, ''
    d.accepted = run + ARGV[i + 1]
    redis.call('HSET', q.state, id, encode(d))
    redis.call('ZADD', q.pending, text(d.accepted), id)
    enqueue(q, id, d, now + ARGV[i + 1])
    n = n + 1
  end
end
return n

-- Deletes dead letters of a destination, and where ARGV says so pending deliveries too.
-- KEYS: source; destination; events
-- ARGV: 1 destination, 2 1 for pending ones too; ids
-- Returns how many
local q, n = queue(SOURCE_KEYS + 1), 0
tick()
relieve()
save()
for i = 3, #ARGV do
  local id = ARGV[i]
  local e, d = delivery_of(q, ARGV[1], id, KEYS[SOURCE_KEYS + 4 + i])
  if d and d.status == DEAD then
    redis.call('ZREM', q.dead, id)
    redis.call('HDEL', q.state, id)
    -- Of an event that is gone other destinations may hold dead letters: it stays listed, for their retention.
    if e then
      e.dead = e.dead - 1
      keep(e)
      local since = e.dead <= 0 and redis.call('ZSCORE', BURIED, id)
      if since then
        redis.call('ZREM', BURIED, id)
        redis.call('ZADD', SETTLED, since, id)
      end
    end
    n = n + 1
  elseif d and waits(d) and ARGV[2] == '1' then
    leave(q, id, d)
    redis.call('HDEL', q.state, id)
    closed(e, id, false)
    n = n + 1
  end
end
return n

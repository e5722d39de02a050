-- Makes dead letters of a destination pending anew. What is no dead letter any more is left alone.
-- KEYS: source; destination; events
-- ARGV: 1 how long ago it was asked for; per event: id, delay until it is due
-- Returns how many
local q, n = queue(SOURCE_KEYS + 1), 0
tick()
relieve()
save()
for i = 2, #ARGV, 2 do
  local id = ARGV[i]
  local s = redis.call('HGET', q.state, id)
  local d = s and decode(s)
  if d and d.status == DEAD and not replayed_since(d, ARGV[1]) then
    again(q, event_of(id, KEYS[SOURCE_KEYS + 7 + (i - 2) / 2]), id, d, d.variant, ARGV[i + 1])
    n = n + 1
  end
end
return n

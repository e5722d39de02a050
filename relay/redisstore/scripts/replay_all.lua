-- Makes settled deliveries of a destination pending anew, with the first body, and makes those that their events do not have.
-- KEYS: source; 9-14 destination; events
-- ARGV: 1 destination, 2 how long ago it was asked for; per event: id, delay until it is due
-- Returns how many
local q, name, n = queue(9), ARGV[1], 0
tick()
relieve()
save()
for i = 3, #ARGV, 2 do
  local id, event = ARGV[i], KEYS[15 + (i - 3) / 2]
  local e = redis.call('HMGET', event, 's', 'd')
  if e[1] then
    local s = redis.call('HGET', q.state, id)
    local d = s and decode(s) or new_delivery(run, e[1], nil)
    if not replayed_since(d, ARGV[2]) and replay(q, name, event, id, s, d, 0, ARGV[i + 1], e[2]) then
      n = n + 1
    end
  end
end
return n

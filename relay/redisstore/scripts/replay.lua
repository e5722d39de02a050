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
  local with = replay(q, name, event, id, s, d, variant, 0, names)
  if with then
    names, replayed = with, replayed + 1
  else
    skipped = skipped + 1
  end
end
return { 1, replayed, skipped }

-- Makes settled deliveries of an event pending anew.
-- KEYS: source; event; six per destination
-- ARGV: 1 id, 2 variant or 0; destinations
-- Returns {1 if event and variant are there, replayed, skipped}
local id, variant = ARGV[1], ARGV[2]
tick()
local e = event_of(id, KEYS[SOURCE_KEYS + 1])
if not e or variant ~= '0' and redis.call('HEXISTS', NOTES, id .. ':' .. variant .. ':b') == 0 then
  return { 0, 0, 0 }
end
relieve()
save()
local replayed = 0
for i = 3, #ARGV do
  if replay(queue(SOURCE_KEYS + 2 + (i - 3) * 6), ARGV[i], e, variant, 0) then
    replayed = replayed + 1
  end
end
return { 1, replayed, #ARGV - 2 - replayed }

-- Makes settled deliveries of a destination pending anew, with the first body, and makes those that their events do not have.
-- KEYS: source; destination; events
-- ARGV: 1 destination, 2 how long ago it was asked for; per event: id, delay until it is due
-- Returns how many
local q, n = queue(SOURCE_KEYS + 1), 0
tick()
relieve()
save()
for i = 3, #ARGV, 2 do
  local e = event_of(ARGV[i], KEYS[SOURCE_KEYS + 7 + (i - 3) / 2])
  if e and replay(q, ARGV[1], e, 0, ARGV[i + 1], ARGV[2]) then
    n = n + 1
  end
end
return n

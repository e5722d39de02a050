-- Makes pending deliveries that are too old dead letters.
-- KEYS: source; destination; events
-- ARGV: 1 destination, 2 age, 3 reason; ids
-- Returns per dead letter: id, tries
local q, reply = queue(SOURCE_KEYS + 1), {}
tick()
relieve()
save()
for i = 4, #ARGV do
  local id = ARGV[i]
  local e, d = delivery_of(q, ARGV[1], id, KEYS[SOURCE_KEYS + 3 + i])
  if d and waits(d) and run - d.accepted >= tonumber(ARGV[2]) then
    d.token = 0 -- whose lease had expired comes too late now
    bury(q, e, id, d, ARGV[3])
    reply[#reply + 1] = id
    reply[#reply + 1] = tonumber(d.tries)
  end
end
return reply

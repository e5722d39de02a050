-- Makes pending deliveries that are too old dead letters.
-- KEYS: source; destination; events
-- ARGV: 1 age, 2 reason; ids
-- Returns per dead letter: id, tries
local q, reply = queue(SOURCE_KEYS + 1), {}
tick()
relieve()
save()
for i = 3, #ARGV do
  local id = ARGV[i]
  local s = redis.call('HGET', q.state, id)
  local d = s and decode(s)
  if d and waits(d) and run - d.accepted >= tonumber(ARGV[1]) then
    d.token = 0 -- whose lease had expired comes too late now
    bury(q, event_of(id, KEYS[SOURCE_KEYS + 4 + i]), id, d, ARGV[2])
    reply[#reply + 1] = id
    reply[#reply + 1] = tonumber(d.tries)
  end
end
return reply

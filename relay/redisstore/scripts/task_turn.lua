-- Says whether it is a gateway's turn to lease tasks of a source that has several partitions. Only one of them is asked.
-- KEYS: source
-- ARGV: 1 least time between two turns
-- Returns the time until the next turn, 0 if this is one
local every, last = tonumber(ARGV[1]), tick('x')[4]
local pause = tonumber(last or 0) + every - now
relieve()
if pause > 0 and pause <= every then -- or Redis's clock was set back
  save()
  return pause
end
save('x', now_text)
return 0

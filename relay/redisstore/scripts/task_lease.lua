-- Leases due tasks, to be polled.
-- KEYS: source; those of tasks
-- ARGV: 1 most, 2 duration, 3 least time between two leases of the source
-- Returns {time until the next lease may be taken (-1 if no task is expected), counts of tasks,
--          per task: name, API, token, polls, age}
local c = tick('x')
local every = tonumber(ARGV[3])
local pause = tonumber(c[4] or 0) + every - now
relieve()
local leased = {}
if pause <= 0 or pause > every then -- or Redis's clock was set back
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', XDUE, '-inf', now_text, 'LIMIT', 0, ARGV[1])) do
    local t, n = task_of(name), #leased
    if t then
      t.token, t.polls, t.polled = text(next_seq()), text(t.polls + 1), now_text
      redis.call('ZADD', XDUE, text(now + ARGV[2]), name)
      keep_task(name, t)
      leased[n + 1], leased[n + 2], leased[n + 3] = name, t.api, tonumber(t.token)
      leased[n + 4], leased[n + 5] = tonumber(t.polls), math.max(0, run - t.run)
    else -- Redis has lost its record
      close_task(name)
      redis.call('ZREM', XLIST, name)
    end
  end
  pause = 0
end
if #leased > 0 then
  pause = every
  save('x', now_text)
else
  save()
end
local reply = task_counts({ 0 })
reply[1] = reply[4] < 0 and -1 or math.max(pause, reply[4])
for _, v in ipairs(leased) do
  reply[#reply + 1] = v
end
return reply

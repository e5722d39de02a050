-- Stores an event with its deliveries, as accept.lua does, and ends its task.
-- KEYS: as in accept.lua; then those of tasks
-- ARGV: as in accept.lua; then what the event says of its task's end, 1 if it is a recovered one
-- Returns what accept.lua does, and the counts of tasks
local name, id, t = ARGV[5], ARGV[1], task_of(ARGV[5])
if RECOVERED and (not t or t.state ~= TASK_OPEN and t.event ~= id) then
  tick()
  save()
  return task_counts({ UNEXPECTED, '', 0, 0, '' })
end
if not RECOVERED and t and t.state == TASK_RECOVERED and t.ending == ENDING then
  -- The recovered event has said the same: this one is accepted under its key.
  tick()
  local key = unhex(t.key)
  local since = redis.call('HEXISTS', SEEN, key) == 1 and redis.call('ZSCORE', WINDOW, key)
  if since and run - since < tonumber(ARGV[4]) then
    ARGV[2], ARGV[11] = key, ''
  end
end
local key, separate = ARGV[2], ARGV[11]
local reply = accept()
local result = reply[1]
local ends = result == ACCEPTED or result == ACCEPTED_BEFORE or result == DUPLICATE or result == CONFLICT or RECOVERED
if t and ends and (t.state == TASK_OPEN or not RECOVERED and t.state == TASK_GIVEN_UP) then
  t.event, t.key, t.ending = reply[2], hex(reply[5] ~= '' and separate or key), ENDING
  end_task(name, t, RECOVERED and (result == ACCEPTED or result == ACCEPTED_BEFORE) and TASK_RECOVERED or TASK_CALLED_BACK)
end
return task_counts(reply)

-- Registers a task as expected.
-- KEYS: source; those of tasks
-- ARGV: 1 task, 2 API, 3 when, 4 delay until it is overdue, 5 how many may be expected,
--       6 id of a final event of the task or empty, 7 its key, 8 how many events of the task were looked at to say so
-- Returns {0, or 1 if too many are expected, or 2 if the events of the task must be looked at again; counts of tasks}
local name, api = ARGV[1], ARGV[2]
tick()
local t = task_of(name)
if t and t.state ~= TASK_GIVEN_UP and (api == '' or api == t.api) then
  save() -- a write, so that WAIT covers the first one
  return task_counts({ 0 })
end
if (not t or t.state ~= TASK_OPEN) and redis.call('ZCARD', XLATE) >= tonumber(ARGV[5]) then
  return task_counts({ 1 })
end
-- Of another API's task the events say nothing.
local look = not t or t.state == TASK_GIVEN_UP
if look and redis.call('ZLEXCOUNT', TASKS, '[' .. name .. '\0', '(' .. name .. '\1') ~= tonumber(ARGV[8]) then
  return task_counts({ 2 })
end
local at = now + math.max(1, ARGV[4])
redis.call('ZADD', XLIST, 'NX', text(next_seq()), name)
redis.call('ZREM', XENDED, name)
redis.call('ZADD', XDUE, text(at), name)
redis.call('ZADD', XLATE, text(at), name)
t = { api = api, at = ARGV[3], run = run_text, late = text(at), state = TASK_OPEN, polls = '0' }
if look and ARGV[6] ~= '' then
  t.event, t.key, t.ending = ARGV[6], hex(ARGV[7]), '0'
  end_task(name, t, TASK_CALLED_BACK)
else
  keep_task(name, t)
end
save()
return task_counts({ 0 })

-- Ends the lease of a task that was polled without a result.
-- KEYS: source; those of tasks
-- ARGV: 1 task, 2 token, 3 reason, 4 delay until the next poll, 5 1 if the task is given up
-- Returns {1, or 0 if the lease is lost; counts of tasks}
local name = ARGV[1]
tick()
relieve()
save()
local t = task_of(name)
if not t or t.state ~= TASK_OPEN or t.token ~= ARGV[2] then
  return task_counts({ 0 })
end
t.reason = ARGV[3]
if ARGV[5] == '1' then
  end_task(name, t, TASK_GIVEN_UP)
else
  t.token = ''
  redis.call('ZADD', XDUE, text(now + ARGV[4]), name)
  keep_task(name, t)
end
return task_counts({ 1 })

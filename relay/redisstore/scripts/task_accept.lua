-- Stores events with their deliveries, as accept.lua does, and ends the tasks of those with flag e.
-- KEYS: as in accept.lua; then those of tasks
-- Returns what accept.lua does, and the counts of tasks
local function accept_ending(a)
  if not a.ending then
    return accept(a)
  end
  local name, id, t = a.task, a.id, task_of(a.task)
  if a.recovered and (not t or t.state ~= TASK_OPEN and t.event ~= id) then
    return { UNEXPECTED, '', 0, 0, '' }
  end
  if not a.recovered and t and t.state == TASK_RECOVERED and t.ending == a.ending then
    -- The recovered event has said the same: this one is accepted under its key.
    local key = unhex(t.key)
    if remembered(key, a.route.window) then
      a.key, a.separate = key, nil
    end
  end
  local key, separate = a.key, a.separate
  local reply = accept(a)
  local plain = type(reply) ~= 'table'
  local result = plain and ACCEPTED or reply[1]
  local ends = result == ACCEPTED or result == ACCEPTED_BEFORE or result == DUPLICATE or result == CONFLICT or a.recovered
  if t and ends and (t.state == TASK_OPEN or not a.recovered and t.state == TASK_GIVEN_UP) then
    flush()
    save() -- at maxmemory the script ends here: what follows would pass
    t.event, t.key, t.ending = plain and id or reply[2], hex(not plain and reply[5] ~= '' and separate or key), a.ending
    end_task(name, t, a.recovered and (result == ACCEPTED or result == ACCEPTED_BEFORE) and TASK_RECOVERED or TASK_CALLED_BACK)
  end
  return reply
end
return task_counts(accept_all(accept_ending))

-- What scripts begin with, after the prelude, that work on the expected tasks of a source. The five keys of these are the
-- last of KEYS, and are taken out of it.
--
-- A task's record is JSON, all of whose values are texts: Lua would round a large number. Times are microseconds: `run` is the
-- source's clock at the registration, `late` Redis's own when the task is overdue.
local XTASKS, XDUE, XLATE, XLIST, XENDED = unpack(KEYS, #KEYS - 4, #KEYS)
for i = 1, 5 do
  table.remove(KEYS)
end

local function task_of(name)
  local s = redis.call('HGET', XTASKS, name)
  return s and cjson.decode(s)
end

local function keep_task(name, t)
  redis.call('HSET', XTASKS, name, cjson.encode(t))
end

-- close_task takes a task from those that are expected.
local function close_task(name)
  redis.call('ZREM', XDUE, name)
  redis.call('ZREM', XLATE, name)
end

-- end_task ends a task that is open, or was given up.
local function end_task(name, t, state)
  close_task(name)
  redis.call('ZADD', XENDED, run_text, name)
  t.state, t.token, t.ended = state, '', now_text
  keep_task(name, t)
end

-- task_counts appends how many tasks are expected in time, and overdue, and the time until the next is due (-1 if none is
-- expected).
local function task_counts(reply)
  local late, due = redis.call('ZCOUNT', XLATE, '-inf', now_text), redis.call('ZRANGE', XDUE, 0, 0, 'WITHSCORES')
  local n = #reply
  reply[n + 1], reply[n + 2] = redis.call('ZCARD', XLATE) - late, late
  reply[n + 3] = due[2] and math.max(0, due[2] - now) or -1
  return reply
end

local function hex(s)
  return (string.gsub(s, '.', function(c) return string.format('%02x', string.byte(c)) end))
end

local function unhex(s)
  return (string.gsub(s, '%x%x', function(c) return string.char(tonumber(c, 16)) end))
end

-- What every script begins with.
--
-- KEYS begin with the source's block (keys.go has the order). Destinations come as blocks of six keys, events as one key
-- each. Every key that a script touches is in KEYS: a Cluster refuses an undeclared key of a moving slot halfway through.
--
-- Times are microseconds. Two clocks: `now` is Redis's own, for what is due and for leases. `run` is the source's: it
-- follows Redis's but never goes back, and never more than two minutes at once, so that a stepped clock neither purges
-- nor forgets. Ages, retention and dedupe windows are measured by it.
--
-- Scripts check everything first and write after. Those that free memory, or must run at maxmemory for the queue to
-- drain, begin their writes with relieve(): Redis refuses a script there whose first write needs memory, and no later one.

local META, SEEN, WINDOW, EVENTS, TASKS, NOTES, SETTLED, BURIED = unpack(KEYS, 1, 8)

local now, run, seq

-- text writes a whole number. Redis would write one that it is given as a number with all digits of a fraction, which takes
-- longer than most commands do.
local function text(n)
  return string.format('%d', n)
end

local now_text, run_text

-- tick reads the clocks, and gives further fields of META from the fourth on.
local function tick(...)
  local t = redis.call('TIME')
  local c = redis.call('HMGET', META, 'wall', 'run', 'seq', ...)
  now = t[1] * 1e6 + t[2]
  run = tonumber(c[2] or now) + math.max(0, math.min(now - tonumber(c[1] or now), 120e6))
  seq = math.max(tonumber(c[3] or 0), now)
  now_text, run_text = text(now), text(run)
  return c
end

-- next_seq gives a number that ascends within the source, for events and lease tokens.
local function next_seq()
  seq = seq + 1
  return seq
end

-- save writes the clocks, with further fields of META.
local function save(...)
  redis.call('HSET', META, 'wall', now_text, 'run', run_text, 'seq', text(seq), ...)
end

local function relieve()
  redis.call('ZREM', SETTLED, '')
end

local function queue(first)
  return {
    due = KEYS[first], leased = KEYS[first + 1], pending = KEYS[first + 2],
    state = KEYS[first + 3], dead = KEYS[first + 4], order = KEYS[first + 5],
  }
end

-- A delivery's record. A replay counts as its acceptance. The token outlives its lease: the holder of an expired one may still settle, and a settle that was done and
-- is sent again is known.
local function decode(s)
  local d = {}
  local task
  d.status, d.token, d.tries, d.used, d.replay, d.variant, d.accepted, d.seq, d.dead, task, d.rest =
    string.match(s, '^(%a) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%-?%d+) (.*)$')
  task = tonumber(task)
  if task >= 0 then
    d.task, d.rest = string.sub(d.rest, 1, task), string.sub(d.rest, task + 1)
  end
  d.reason = d.rest
  return d
end

local function encode(d)
  return d.status .. string.format(' %d %d %d %d %d %d %d %d %d ', d.token, d.tries, d.used, d.replay,
    d.variant, d.accepted, d.seq, d.dead, d.task and #d.task or -1) .. (d.task or '') .. d.reason
end

local function new_delivery(accepted, number, task)
  return {
    status = PENDING, token = 0, tries = 0, used = 0, replay = 0, variant = 0,
    accepted = accepted, seq = number, dead = 0, task = task, reason = '',
  }
end

-- Ordered deliveries of a task stand in the queue's `order`, by sequence. One of them has the turn: only that one is due
-- or leased. Who has it stands in `state`, under '@' and the task.

local function place(d, id)
  return d.task .. '\0' .. string.format('%016d', d.seq) .. id
end

local function first_of(q, task)
  local m = redis.call('ZRANGEBYLEX', q.order, '[' .. task .. '\0', '(' .. task .. '\1', 'LIMIT', 0, 1)[1]
  return m and string.sub(m, #task + 18)
end

-- A delivery behind another one of its event stands in `due` at HELD, whether or not it has its task's turn, until it is
-- freed: later than any time, and still exact as a double. Its record's reason is the destination that it waits for.

-- held says that a delivery is behind another one.
local function held(q, id)
  return tonumber(redis.call('ZSCORE', q.due, id) or 0) >= HELD
end

-- enqueue makes a pending delivery due at `at`, or lets it wait for its turn.
local function enqueue(q, id, d, at)
  if not d.task then
    redis.call('ZADD', q.due, text(at), id)
    return
  end
  redis.call('ZADD', q.order, 0, place(d, id))
  local first, turn = first_of(q, d.task), redis.call('HGET', q.state, '@' .. d.task)
  if turn and turn ~= id then
    local other = redis.call('HGET', q.state, turn)
    if first ~= id or other and string.sub(other, 1, 1) == LEASED then
      return
    end
    if not held(q, turn) then
      redis.call('ZREM', q.due, turn)
    end
  end
  redis.call('HSET', q.state, '@' .. d.task, first)
  redis.call('ZADD', q.due, text(first == id and at or now), first)
end

-- leave takes a delivery out of its queue that is about to be settled or discarded, and says whether another one got its
-- turn.
local function leave(q, id, d)
  redis.call('ZREM', d.status == LEASED and q.leased or q.due, id)
  redis.call('ZREM', q.pending, id)
  if not d.task then
    return 0
  end
  redis.call('ZREM', q.order, place(d, id))
  local turn = redis.call('HGET', q.state, '@' .. d.task)
  if turn and turn ~= id then
    return 0
  end
  local first = first_of(q, d.task)
  if not first then
    redis.call('HDEL', q.state, '@' .. d.task)
    return 0
  end
  redis.call('HSET', q.state, '@' .. d.task, first)
  redis.call('ZADD', q.due, 'NX', now_text, first) -- what is held stands there already, and stays so
  return 1
end

-- hold lets a new delivery wait for another one.
local function hold(q, id, d, awaited)
  d.reason = awaited
  redis.call('ZADD', q.due, text(HELD), id)
  if d.task then
    redis.call('ZADD', q.order, 0, place(d, id))
    redis.call('HSETNX', q.state, '@' .. d.task, id)
  end
end

-- free makes a delivery due, or lets it wait for its turn, if it is behind another one, and says whether it was.
local function free(q, id)
  if not held(q, id) then
    return false
  end
  local s = redis.call('HGET', q.state, id)
  local d = s and decode(s)
  if d and d.task and redis.call('HGET', q.state, '@' .. d.task) ~= id then
    redis.call('ZREM', q.due, id)
  else
    redis.call('ZADD', q.due, now_text, id)
  end
  return true
end

-- An event's hash counts its open deliveries in `o`, its dead ones in `x`. With none open its retention runs.

-- closed counts one less open, sets further fields of the event, and says whether that is there.
local function closed(event, id, dead, ...)
  local e = redis.call('HMGET', event, 'o', 'x')
  if not e[1] then
    if dead then
      redis.call('ZADD', BURIED, run_text, id)
    end
    return false
  end
  local open, x = e[1] - 1, (e[2] or 0) + (dead and 1 or 0)
  redis.call('HSET', event, 'o', text(open), 'x', text(x), ...)
  if open <= 0 then
    redis.call('ZADD', x > 0 and BURIED or SETTLED, run_text, id)
  end
  return true
end

-- reopened undoes closed, where a delivery is pending anew. Where the event is gone there is nothing to undo.
local function reopened(event, id, was_dead)
  redis.call('ZREM', SETTLED, id)
  redis.call('ZREM', BURIED, id)
  if redis.call('EXISTS', event) == 1 then
    redis.call('HINCRBY', event, 'o', 1)
    if was_dead then
      redis.call('HINCRBY', event, 'x', -1)
    end
  end
end

-- again makes a settled delivery pending anew, or one that is new, due after a delay. The caller has taken it out of what is
-- counted as delivered.
local function again(q, event, id, d, variant, delay)
  if d.status == DEAD then
    redis.call('ZREM', q.dead, id)
  end
  reopened(event, id, d.status == DEAD)
  d.status, d.token, d.used, d.replay, d.variant, d.dead, d.reason = PENDING, 0, 0, d.replay + 1, variant, 0, ''
  d.accepted = run + delay
  redis.call('HSET', q.state, id, encode(d))
  redis.call('ZADD', q.pending, text(d.accepted), id)
  enqueue(q, id, d, now + delay)
end

-- replayed_since says whether a delivery was replayed in so much time before now.
local function replayed_since(d, ago)
  local at = tonumber(d.accepted)
  return tonumber(d.replay) > 0 and at > run - ago and at <= run
end

-- replay makes a delivery pending anew, or one that its event does not have yet, unless it is not settled. `names` are the
-- destinations of the event, and `s` is the delivery's record or nil. It gives the destinations then, or nil.
local function replay(q, name, event, id, s, d, variant, delay, names)
  if s and d.status ~= DELIVERED and d.status ~= DEAD then
    return nil
  end
  if d.status == DELIVERED then
    redis.call('HINCRBY', META, 'd:' .. name, -1)
  end
  if not string.find(' ' .. names .. ' ', ' ' .. name .. ' ', 1, true) then
    names = names == '' and name or names .. ' ' .. name
    redis.call('HSET', event, 'd', names)
  end
  redis.call('HSETNX', META, 'd:' .. name, 0)
  again(q, event, id, d, variant, delay)
  return names
end

-- bury makes a delivery a dead letter, sets further fields of its event, and says whether another one of its task got its
-- turn.
local function bury(q, event, id, d, reason, ...)
  local passed = leave(q, id, d)
  d.status, d.dead, d.reason = DEAD, now, reason
  redis.call('HSET', q.state, id, encode(d))
  redis.call('ZADD', q.dead, d.seq, id)
  closed(event, id, true, ...)
  return passed
end

-- reclaim makes up to `most` deliveries whose lease has expired due again, and says how many.
local function reclaim(q, most)
  local expired = redis.call('ZRANGEBYSCORE', q.leased, '-inf', now_text, 'WITHSCORES', 'LIMIT', 0, most)
  for i = 1, #expired, 2 do
    local id = expired[i]
    local s = redis.call('HGET', q.state, id)
    redis.call('ZREM', q.leased, id)
    redis.call('ZADD', q.due, expired[i + 1], id)
    if s then
      redis.call('HSET', q.state, id, EXPIRED .. string.sub(s, 2))
    end
  end
  return #expired / 2
end

-- waits says that a delivery is neither leased nor settled.
local function waits(d)
  return d.status == PENDING or d.status == EXPIRED
end

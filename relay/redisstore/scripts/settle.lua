-- Ends leases: settles of one source, in their order.
-- KEYS: source; six per destination; events
-- ARGV: number of destinations; their names; number of events; their ids;
--       per settle: indexes of its event and of its destination, token, 1 if it used up a retry, attempt or '',
--         1 if it is delivered, no other delivery may wait for it, and it has stored no file; else 0 and
--         outcome (relay.Outcome), delay, reason, number of destinations that may wait for this delivery; their indexes;
--         number of files that the attempt has stored; per file: how its line begins that has its field, its line
-- Returns per settle 1 where nothing else came of it, or {1, 1 if another delivery of the task got its turn, destinations whose
-- delivery was freed}, or {0} where the lease is lost
--
-- The common settle waits for flush(), by which all are written at once. Any other one is done by itself, after a flush.
local at = 0
local function arg()
  at = at + 1
  return ARGV[at]
end

local names, queues, counted = {}, {}, {}
for i = 1, tonumber(arg()) do
  names[i], queues[i], counted[i] = arg(), queue(3 + i * 6), 'd:' .. ARGV[at]
end
local delivered = tick(unpack(counted))
for i, q in ipairs(queues) do
  q.name, q.delivered, q.asked, q.unleased, q.undue, q.unpended, q.records = names[i], 0, {}, {}, {}, {}, {}
end

-- load reads how many deliveries of an event are open, and dead.
local function load(e)
  local c = redis.call('HMGET', e.key, 'o', 'x')
  e.open, e.dead, e.fields = tonumber(c[1] or nil), tonumber(c[2] or 0), nil
end

local events = {}
for i = 1, tonumber(arg()) do
  events[i] = { id = arg(), key = KEYS[8 + #names * 6 + i] }
  load(events[i])
end

local settles = {}
while at < #ARGV do
  local s = {
    e = events[tonumber(ARGV[at + 1])], q = queues[tonumber(ARGV[at + 2])], token = ARGV[at + 3], used = ARGV[at + 4],
    attempt = ARGV[at + 5], plain = ARGV[at + 6] == '1',
  }
  at = at + 6
  s.q.asked[#s.q.asked + 1] = s.e.id
  if not s.plain then
    s.outcome, s.delay, s.reason, s.waiters, s.files = arg(), arg(), arg(), {}, {}
    for i = 1, tonumber(arg()) do
      s.waiters[i] = tonumber(arg())
    end
    for i = 1, 2 * tonumber(arg()) do
      s.files[i] = arg()
    end
  end
  settles[#settles + 1] = s
end

for _, q in ipairs(queues) do
  q.state_of = {}
  if q.asked[1] then
    for i, record in ipairs(redis.call('HMGET', q.state, unpack(q.asked))) do
      q.state_of[q.asked[i]] = record
    end
  end
end

-- dirty are events whose deliveries were closed and are not written yet.
local dirty, written = {}, false

local function take(command, key, list)
  if list[1] then
    redis.call(command, key, unpack(list))
    written = true
    return {}
  end
  return list
end

-- flush writes what is still to be written. It begins with what frees memory, and what may be done twice.
local function flush()
  for _, q in ipairs(queues) do
    q.unleased, q.undue = take('ZREM', q.leased, q.unleased), take('ZREM', q.due, q.undue)
    q.unpended = take('ZREM', q.pending, q.unpended)
  end
  for _, q in ipairs(queues) do
    q.records = take('HSET', q.state, q.records)
  end
  local to_settled, to_buried = {}, {}
  for _, e in ipairs(dirty) do
    redis.call('HSET', e.key, 'o', text(e.open), unpack(e.fields))
    e.fields = nil
    if e.open <= 0 then
      local list = e.dead > 0 and to_buried or to_settled
      list[#list + 1], list[#list + 2] = run_text, e.id
    end
  end
  dirty = {}
  take('ZADD', SETTLED, to_settled)
  take('ZADD', BURIED, to_buried)
end

-- A record that neither has a task nor is for more than one event: what settle_plain needs of it, and the rest.
local UNORDERED = '^(%a) (%d+) (%d+) (%d+) (%d+ %d+ %d+ %d+ %d+ %-1 )'

-- settle_plain notes that a delivery which keeps no order is delivered, and says whether it has.
local function settle_plain(s)
  local q, e = s.q, s.e
  local record = q.state_of[e.id]
  if not record or not e.open then
    return false
  end
  local status, token, tries, used, rest = string.match(record, UNORDERED)
  if token ~= s.token or status ~= LEASED and status ~= EXPIRED then
    return false
  end
  if not e.fields then
    e.fields, dirty[#dirty + 1] = {}, e
  end
  local list = status == LEASED and q.unleased or q.undue
  list[#list + 1] = e.id
  q.unpended[#q.unpended + 1] = e.id
  if s.attempt ~= '' then
    local n = #e.fields
    e.fields[n + 1], e.fields[n + 2] = 'a:' .. q.name .. ':' .. tries, s.attempt
    tries = text(tries + 1)
  end
  if s.used == '1' then
    used = text(used + 1)
  end
  record = DELIVERED .. ' ' .. token .. ' ' .. tries .. ' ' .. used .. ' ' .. rest
  q.state_of[e.id] = record
  local n = #q.records
  q.records[n + 1], q.records[n + 2] = e.id, record
  q.delivered, e.open = q.delivered + 1, e.open - 1
  return true
end

-- with_files gives the lines of an event's files with those of an attempt.
local function with_files(event, files)
  local lines, of, n = {}, {}, 0
  local function keep(begins, line)
    if not of[begins] then
      if n >= MAX_FILES then
        return
      end
      n = n + 1
      of[begins] = n
    end
    lines[of[begins]] = line
  end
  for line in string.gmatch(redis.call('HGET', event, 'f') or '', '[^\n]+') do
    local length, rest = string.match(line, '^(%d+) (.*)$')
    keep(string.sub(rest, 1, length), line)
  end
  for i = 1, #files, 2 do
    keep(files[i], #files[i] .. ' ' .. files[i + 1])
  end
  return table.concat(lines, '\n')
end

-- write ends the lease of a delivery and gives the reply.
local function write(s, d)
  local q, e, event = s.q, s.e, s.e.key
  local id, outcome, attempt = e.id, s.outcome, {}
  if s.attempt ~= '' then
    attempt = { 'a:' .. q.name .. ':' .. d.tries, s.attempt }
    d.tries = d.tries + 1
  end
  if s.files[1] then
    attempt[#attempt + 1], attempt[#attempt + 2] = 'f', with_files(event, s.files)
  end
  d.used = d.used + s.used

  if outcome ~= OUTCOME_DEAD and outcome ~= OUTCOME_DELIVERED then
    redis.call('ZREM', q.leased, id)
    redis.call('ZREM', q.due, id)
    d.status = PENDING
    redis.call('HSET', q.state, id, encode(d))
    if attempt[1] and e.open then
      redis.call('HSET', event, unpack(attempt))
    end
    -- What is released keeps its place: it is as old as its event.
    enqueue(q, id, d, outcome == OUTCOME_RETRY and now + s.delay or math.min(tonumber(d.seq), now))
    return { 1, d.task and 1 or 0 }
  end

  local passed
  if outcome == OUTCOME_DEAD then
    passed = bury(q, event, id, d, s.reason, unpack(attempt))
  else
    passed = leave(q, id, d)
    d.status, d.reason = DELIVERED, ''
    if closed(event, id, false, unpack(attempt)) then
      redis.call('HSET', q.state, id, encode(d))
      q.delivered = q.delivered + 1
    else
      redis.call('HDEL', q.state, id)
    end
  end
  local reply = { 1, passed }
  for _, waiter in ipairs(s.waiters) do
    if free(queues[waiter], id) then
      reply[#reply + 1] = names[waiter]
    end
  end
  return reply
end

-- settle_other does a settle by itself.
local function settle_other(s)
  local q, e = s.q, s.e
  local id = e.id
  local record = q.state_of[id]
  if record == nil then
    record = redis.call('HGET', q.state, id)
  end
  local d = record and decode(record)
  if not d or d.token ~= s.token then
    return { 0 }
  end
  s.outcome, s.waiters, s.files = s.outcome or OUTCOME_DELIVERED, s.waiters or {}, s.files or {}
  if d.status ~= LEASED and d.status ~= EXPIRED then
    local reply = { 1, 0 } -- done before; the answer was lost
    for _, waiter in ipairs(s.waiters) do
      reply[#reply + 1] = names[waiter]
    end
    return reply
  end
  flush()
  written = true -- what follows begins with ZREM
  now = now + 1 -- what settles make due comes in their order; each takes longer
  now_text = text(now)
  local reply = write(s, d)
  q.state_of[id] = nil
  load(e)
  return reply
end

local replies = {}
for i, s in ipairs(settles) do
  replies[i] = s.plain and settle_plain(s) and 1 or settle_other(s)
end
flush()
if not written then
  relieve()
end
local counts = {}
for i, q in ipairs(queues) do
  if q.delivered > 0 then
    counts[#counts + 1], counts[#counts + 2] = counted[i], text((delivered[3 + i] or 0) + q.delivered)
  end
end
save(unpack(counts)) -- a write, so that WAIT covers what an earlier script has done
return replies

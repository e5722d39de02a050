-- Stores events with their deliveries, unless their keys are known: accepts of one source, in their order.
-- KEYS: source; six per destination; an event per accept
-- ARGV: number of destinations; their names; number of routes; per route: window, number of deliveries, per delivery: index of
--       its destination, lease duration or 0, 1 if ordered, index of the destination that it waits for or 0;
--       per accept: index of its route, flags, id, dedupe key, fingerprint (32 bytes), task, meta, headers, body; and by flags
--         a  an earlier try may have stored it and taken its leases with it
--         p  its proof
--         s  it is to be an event of its own beside the first of its key: key and meta of that, key of the proof there or empty
--         e  what it says of its task's end
--         r  it is a recovered one
-- Returns per accept {result, first id, seq, age, id of the event that it conflicts with or empty,
--           per delivery: token, or 0 if it is pending, or -1 if this try has left it alone};
--         without deliveries where the result is not ACCEPTED, and with them where it is ACCEPTED_BEFORE and flag a is set
--
-- What accepts share is read once, and what can wait is written at once by flush(). Whatever an accept needs of an earlier one
-- is in `seen`, `made` and the queues' `ahead`, or is flushed before.
local at = 0
local function arg()
  at = at + 1
  return ARGV[at]
end

local names, queues, fields = {}, {}, {}
for i = 1, tonumber(arg()) do
  local name = arg()
  names[i], queues[i] = name, queue(3 + i * 6)
  fields[2 * i - 1], fields[2 * i] = 'd:' .. name, 'p:' .. name
end
local first_event = 9 + #names * 6
local flags = tick(unpack(fields))
for i, q in ipairs(queues) do
  q.known, q.paused = flags[2 + i * 2], flags[3 + i * 2]
  q.add_pending, q.add_due, q.add_leased, q.add_state = {}, {}, {}, {}
end

local routes = {}
for i = 1, tonumber(arg()) do
  local route, to, waiters = { window = tonumber(arg()) }, {}, {}
  for j = 1, tonumber(arg()) do
    local n = tonumber(arg())
    local v = { q = queues[n], lease = tonumber(arg()), ordered = arg() == '1', awaited = names[tonumber(arg())] }
    v.at_once = v.lease > 0 and not v.awaited and not v.q.paused
    v.lease_end = text(now + v.lease)
    route[j], to[j], route.ordered = v, names[n], route.ordered or v.ordered
    if v.awaited then
      waiters[#waiters + 1] = names[n] .. ' ' .. v.awaited
    end
  end
  route.open = text(#route)
  route.names, route.waiters = table.concat(to, ' '), waiters[1] and table.concat(waiters, ' ')
  routes[i] = route
end

local accepts, keys = {}, {}
while at < #ARGV do
  local a = {
    event = KEYS[first_event + #accepts], route = routes[tonumber(ARGV[at + 1])], id = ARGV[at + 3], key = ARGV[at + 4],
    fingerprint = ARGV[at + 5], task = ARGV[at + 6], meta = ARGV[at + 7], headers = ARGV[at + 8], body = ARGV[at + 9],
  }
  local flags = ARGV[at + 2]
  at = at + 9
  keys[#keys + 1] = a.key
  if flags ~= '' then
    a.again, a.recovered = string.find(flags, 'a', 1, true), string.find(flags, 'r', 1, true)
    a.proof = string.find(flags, 'p', 1, true) and arg()
    if string.find(flags, 's', 1, true) then
      a.separate, a.separate_meta, a.proof_key = arg(), arg(), arg()
      keys[#keys + 1] = a.separate
      if a.proof_key == '' then
        a.proof_key = nil
      end
    end
    a.ending = string.find(flags, 'e', 1, true) and arg()
  end
  accepts[#accepts + 1] = a
end

local seen, since = {}, {}
for i, value in ipairs(redis.call('HMGET', SEEN, unpack(keys))) do
  seen[keys[i]] = value
end

-- stored reads of an event what a repeated accept needs; nil if there is no event.
local function stored(a)
  return redis.call('EXISTS', a.event) == 1 and redis.call('HMGET', a.event, 's', 'g') or nil
end

if redis.call('EXISTS', unpack(KEYS, first_event, first_event + #accepts - 1)) > 0 then
  for _, a in ipairs(accepts) do
    a.before = stored(a) ~= nil
  end
end

-- made are when the deliveries of events are due, by id, that this script has stored. What is still to be written of them, and of all else:
local made, events, to_events, to_tasks, to_window, to_seen, to_settled, to_notes = {}, {}, {}, {}, {}, {}, {}, {}

local function append(list, a, b)
  local n = #list
  list[n + 1], list[n + 2] = a, b
end

local function write(command, key, list)
  if list[1] then
    redis.call(command, key, unpack(list))
  end
end

-- flush writes what is still to be written. An event, and its key, come after its deliveries: were one of them refused, the
-- event would not pass for stored.
local function flush()
  for i, q in ipairs(queues) do
    if q.add_state[1] then
      if not q.known then
        redis.call('HSET', META, 'd:' .. names[i], 0)
        q.known = true
      end
      write('ZADD', q.pending, q.add_pending)
      write('ZADD', q.leased, q.add_leased)
      write('ZADD', q.due, q.add_due)
      write('HSET', q.state, q.add_state)
      q.add_pending, q.add_due, q.add_leased, q.add_state = {}, {}, {}, {}
    end
  end
  for _, a in ipairs(events) do
    local route = a.route
    if route.waiters then
      redis.call('HSET', a.event, 'm', a.meta, 'h', a.headers, 'b', a.body, 'k', a.task, 'd', route.names, 's', a.number,
        'o', route.open, 'w', route.waiters)
    else
      redis.call('HSET', a.event, 'm', a.meta, 'h', a.headers, 'b', a.body, 'k', a.task, 'd', route.names, 's', a.number,
        'o', route.open)
    end
  end
  if events[1] then
    redis.call('ZADD', EVENTS, unpack(to_events))
    redis.call('ZADD', TASKS, unpack(to_tasks))
    redis.call('ZADD', WINDOW, unpack(to_window))
    redis.call('HSET', SEEN, unpack(to_seen))
    write('ZADD', SETTLED, to_settled)
    events, to_events, to_tasks, to_window, to_seen, to_settled = {}, {}, {}, {}, {}, {}
  end
  for field, n in pairs(to_notes) do
    redis.call('HINCRBY', NOTES, field, n)
  end
  to_notes = {}
end

-- note counts something with an event, where that is still there, and says whether it is.
local function note(id, what)
  if not made[id] and not redis.call('ZSCORE', EVENTS, id) then
    return false
  end
  to_notes[id .. what] = (to_notes[id .. what] or 0) + 1
  return true
end

-- remember lets a key stand for an event.
local function remember(k, a)
  seen[k], since[k] = a.fingerprint .. a.id, run
  append(to_window, run_text, k)
  append(to_seen, k, seen[k])
end

-- remembered gives the fingerprint and the event that a key stands for.
local function remembered(k, window)
  local s = seen[k]
  if s == nil then
    s = redis.call('HGET', SEEN, k)
    seen[k] = s
  end
  if not s then
    return nil
  end
  local from = since[k] or redis.call('ZSCORE', WINDOW, k)
  if from and run - from < window then
    return string.sub(s, 1, 32), string.sub(s, 33)
  end
end

-- What becomes due at once does so by its number, so that what is released keeps its place (settle.lua), but by this clock:
-- the numbers are ahead of one that was set back.
local first_number = seq
local function due_at(number)
  return now + number - first_number
end

-- ahead says whether something of a queue is due.
local function ahead(q)
  if q.ahead == nil then
    q.ahead = redis.call('ZCOUNT', q.due, '-inf', text(due_at(seq))) > 0
  end
  return q.ahead
end

-- accept_again repeats an accept that an earlier try has stored.
local function accept_again(a)
  flush()
  local id, open, before = a.id, #a.route, stored(a)
  local reply, held = { ACCEPTED_BEFORE, id, tonumber(before[1]) or 0, 0, '' }, {}
  if a.separate then
    reply[5] = string.match(redis.call('HGET', a.event, 'h') or '', '"' .. CONFLICT_HEADER_PATTERN .. '":"(%w+)"') or ''
  end
  if a.again then
    -- The leases of an accept have the numbers right after its event's, or after `g` where a later try was given them.
    local base = tonumber(before[2] or reply[3])
    for i, v in ipairs(a.route) do
      local s = redis.call('HGET', v.q.state, id)
      local d = s and decode(s)
      reply[5 + i] = -1
      if d and d.status == LEASED and tonumber(d.token) > base and tonumber(d.token) <= base + open then
        held[i] = d
      end
    end
  end
  if next(held) then
    redis.call('HSET', a.event, 'g', text(seq))
  end
  for i, v in ipairs(a.route) do
    local d, token, q = held[i], next_seq(), v.q
    if d then
      redis.call('ZREM', q.leased, id)
      if v.lease > 0 and not q.paused then
        d.token = token
        redis.call('ZADD', q.leased, v.lease_end, id)
        redis.call('HSET', q.state, id, encode(d))
      else
        d.status, d.token = PENDING, 0
        redis.call('HSET', q.state, id, encode(d))
        enqueue(q, id, d, math.min(tonumber(d.seq), made[id] or now))
        q.ahead = nil
      end
      reply[4], reply[5 + i] = math.max(0, run - d.accepted), d.token
    end
  end
  return reply
end

-- accept_other answers an accept whose key stands for another event, or for its own that is gone.
local function accept_other(a, said, first)
  local id, fingerprint = a.id, a.fingerprint
  if first == id then
    return { ACCEPTED_BEFORE, id, 0, 0, '' }
  end
  if said == fingerprint then
    note(first, ':u')
    return { DUPLICATE, first, 0, 0, '' }
  end
  if not made[first] and not redis.call('ZSCORE', EVENTS, first) then
    return { UNKEPT, first, 0, 0, '' }
  end
  local kept = tonumber(redis.call('HGET', NOTES, first .. ':n') or 0)
  local known, replayed = false, false
  for i = 1, kept do
    local v = first .. ':' .. i
    known = known or redis.call('HGET', NOTES, v .. ':f') == fingerprint
    replayed = replayed or a.proof and string.find(redis.call('HGET', NOTES, v .. ':h') or '', '"' .. PROOF_HEADER .. '":"' .. a.proof .. '"', 1, true)
  end
  if not known then
    if replayed then
      return { REPLAYED, first, 0, 0, '' }
    elseif kept >= MAX_VARIANTS then
      return { UNKEPT, first, 0, 0, '' }
    end
  end
  note(first, ':c')
  if not known then
    flush()
    local v = first .. ':' .. kept + 1
    redis.call('HSET', NOTES, first .. ':n', kept + 1, v .. ':f', fingerprint, v .. ':m', a.meta, v .. ':h', a.headers, v .. ':b', a.body)
  end
  return { CONFLICT, first, 0, 0, '' }
end

-- accept does one accept.
local function accept(a)
  local id, task, route, beside = a.id, a.task, a.route, ''
  if a.before or made[id] then
    return accept_again(a)
  end

  local said, first
  if a.separate then
    said, first = remembered(a.separate, route.window)
  end
  if not first then
    said, first = remembered(a.key, route.window)
  end
  if first and a.separate and first ~= id and said ~= a.fingerprint then
    local used = a.proof_key and remembered(a.proof_key, route.window)
    if used and used ~= a.fingerprint then
      return { REPLAYED, first, 0, 0, '' }
    end
    beside, a.key, a.meta = first, a.separate, a.separate_meta
    a.headers = '{"' .. CONFLICT_HEADER .. '":"' .. first .. '"' .. (a.headers == '' and '}' or ',' .. string.sub(a.headers, 2))
  elseif first then
    return accept_other(a, said, first)
  end

  local in_order = route.ordered and task ~= ''
  if in_order then
    flush() -- what is before it is looked at
  end
  local leased = {}
  for i, v in ipairs(route) do
    leased[i] = v.at_once and not ahead(v.q) and not (in_order and v.ordered and first_of(v.q, task))
  end

  local number = next_seq()
  local due = due_at(number)
  a.number = string.format('%016d', number)
  made[id], events[#events + 1] = due, a
  append(to_events, a.number, id)
  append(to_tasks, '0', task .. '\0' .. a.number .. id)
  remember(a.key, a)
  if a.proof_key then
    remember(a.proof_key, a)
  end
  if beside ~= '' then
    note(beside, ':c')
  end
  if not route[1] then
    append(to_settled, run_text, id)
  end

  local reply, rest = { ACCEPTED, id, number, 0, beside }, ' 0 0 0 0 ' .. run_text .. ' ' .. text(number) .. ' 0 -1 '
  for i, v in ipairs(route) do
    local q, token = v.q, next_seq() -- also where it is not used: so no later one is among those of this accept
    append(q.add_pending, run_text, id)
    if leased[i] then
      append(q.add_leased, v.lease_end, id)
    else
      token = 0
    end
    reply[5 + i] = token
    if in_order and v.ordered then
      local d = new_delivery(run, number, task)
      if leased[i] then
        d.status, d.token = LEASED, token
        redis.call('ZADD', q.order, 0, place(d, id))
        redis.call('HSET', q.state, '@' .. task, id)
      elseif v.awaited then
        hold(q, id, d, v.awaited)
      else
        enqueue(q, id, d, due)
        q.ahead = nil
      end
      append(q.add_state, id, encode(d))
    elseif leased[i] then
      append(q.add_state, id, LEASED .. ' ' .. text(token) .. rest)
    else
      append(q.add_state, id, PENDING .. ' 0' .. rest .. (v.awaited or ''))
      append(q.add_due, text(v.awaited and HELD or due), id)
      q.ahead = q.ahead or not v.awaited or nil
    end
  end
  if in_order then
    flush()
  end
  return reply
end

-- accept_all does all accepts by a function.
local function accept_all(accept)
  local replies = {}
  for i, a in ipairs(accepts) do
    replies[i] = accept(a)
  end
  flush()
  save() -- a write, so that WAIT covers what an earlier script has stored
  return replies
end

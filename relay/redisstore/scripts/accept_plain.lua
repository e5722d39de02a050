-- Stores events with their deliveries, unless their keys are known: accepts of one source, in their order.
-- KEYS: source; six per destination; the payload of the event of each accept; the hash that the event of each accept with
--       flag a may have in the earlier layout
-- ARGV: number of destinations; their names; number of routes; per route: window, number of deliveries, per delivery: index of
--       its destination, lease duration or 0, 1 if ordered, index of the destination that it waits for or 0;
--       per accept: index of its route and flags; dedupe key (32 bytes), fingerprint (32 bytes) and id; task; payload; and by flags
--         a  an earlier try may have stored it and taken its leases with it
--         s  it is to be an event of its own beside the first of its key: key and beginning of the payload of that, key of the
--            proof there or empty
--         e  what it says of its task's end
--         k  an earlier accept of these has its key
--         r  it is a recovered one
-- Returns per accept its seq, where all its deliveries were leased with the numbers that follow, or the letters of its deliveries
--         and its seq in 16 digits, where some wait, or
--         {result, first id, seq, age, id of the event that it conflicts with or empty,
--           per delivery: token, negative if it is leased in its event's record, or 0 if it is pending, or -1 if this try has
--           left it alone};
--         without deliveries where the result is not ACCEPTED, and with them where it is ACCEPTED_BEFORE and flag a is set
--
-- Where all accepts are of new events whose deliveries keep no order and wait for no other, they are stored right here, which is
-- the common case.
--
-- What accepts share is read once, and what can wait is written at once by flush(). Whatever an accept needs of an earlier one
-- is in `seen`, `made` and the queues' `ahead`, or is flushed before.
local names, queues, by_name = read_queues()
for _, q in ipairs(queues) do
  q.add_pending, q.add_due, q.add_leased, q.add_state = {}, {}, {}, {}
end
-- A route is plain if all its deliveries can be in their event's record.
local routes = {}
for i = 1, tonumber(arg()) do
  local route, to, lasts, waited = { window = tonumber(arg()), plain = true }, {}, {}, {}
  for j = 1, tonumber(arg()) do
    local n = tonumber(arg())
    local v = { q = queues[n], name = names[n], lease = tonumber(arg()), ordered = arg() == '1', awaited = names[tonumber(arg())] }
    v.at_once = v.lease > 0 and not v.awaited and not v.q.paused
    route[j], to[j], lasts[j], route.ordered = v, names[n], text(v.lease), route.ordered or v.ordered
    if v.awaited then
      waited[v.awaited] = true
    end
    route.plain = route.plain and not v.ordered and not v.awaited
  end
  for _, v in ipairs(route) do
    v.waited = waited[v.name]
  end
  route.open = text(#route)
  route.rest = ' ' .. run_text .. ' ' .. (route[1] and now_text or run_text) .. ' ' .. table.concat(lasts, ',') .. ' ' .. table.concat(to, ' ')
  routes[text(i)] = route
end

-- What accepts need of what is there: keys are those that may be remembered.
local count = 0
local keys, ids, values, plain = {}, {}, {}, true
local heads = {} -- where the arguments of each begin, before
while at < #ARGV do
  local head, mark = ARGV[at + 1], ARGV[at + 2]
  count = count + 1
  heads[count], keys[#keys + 1], values[count], ids[count] = at, string.sub(mark, 1, 32), string.sub(mark, 33), string.sub(mark, 65)
  at = at + 4
  if routes[head] then
    plain = plain and routes[head].plain
  else
    local flags = string.match(head, '%a+$')
    plain = false
    if string.find(flags, 's', 1, true) then
      keys[#keys + 1] = ARGV[at + 1]
      at = at + 3
    end
    at = at + (string.find(flags, 'e', 1, true) and 1 or 0)
  end
end
local known, before = redis.call('HMGET', SEEN, unpack(keys)), redis.call('ZMSCORE', EVENTS, unpack(ids))
local payloads = SOURCE_KEYS + #names * 6

-- ahead says whether something of a queue is due, or becomes so in this script before what has a number. turns counts how often
-- that was found to be otherwise since.
local first_number, turns = seq, 0
local function ahead(q, number)
  if q.ahead == nil then
    q.ahead = redis.call('ZCOUNT', q.due, '-inf', text(now + number - first_number)) > 0
  end
  return q.ahead
end

local function turn(q, ahead)
  if q.ahead ~= ahead then
    q.ahead, turns = ahead, turns + 1
  end
end

-- What becomes due at once does so by its number, so that what is released keeps its place (settle.lua), but by this clock:
-- the numbers are ahead of one that was set back.
local function due_at(number)
  return now + number - first_number
end

-- append puts two values at the end of a list.
local function append(list, a, b)
  local n = #list
  list[n + 1], list[n + 2] = a, b
end

-- What is still to be written, but for deliveries.
local to_payloads, to_packs, to_held, to_events, to_tasks, to_recent, to_seen, to_done = {}, {}, {}, {}, {}, {}, {}, {}

-- assign decides which deliveries of a plain route are leased and which wait, those of the event with a number and of later
-- ones, until something of a queue becomes due.
local function assign(route, number)
  local letters, first_end, leased, waiting = {}, HELD, {}, {}
  for i, v in ipairs(route) do
    if v.at_once and not ahead(v.q, number - 1) then
      letters[i], leased[#leased + 1], first_end = LETTER_LEASED, v.q, math.min(first_end, now + v.lease)
    else
      letters[i], waiting[#waiting + 1] = LETTER_WAITING, v.q
    end
  end
  for _, q in ipairs(waiting) do
    turn(q, true)
  end
  route.letters, route.leased, route.waiting, route.turns = table.concat(letters), leased, waiting, turns
  route.begins, route.first_end = route.letters .. ' ' .. route.open .. ' 0 ', first_end < HELD and text(first_end)
end

-- enter stores the deliveries of an event with a plain route and its record, and returns what the accept does.
local function enter(route, id, number)
  if route.turns ~= turns then
    assign(route, number)
  end
  local number_text = string.format('%016d', number)
  append(to_packs, id, route.begins .. number_text .. route.rest)
  seq = number + #route
  if route.first_end then
    append(to_held, route.first_end, id)
    for _, q in ipairs(route.leased) do
      q.held, q.changed = q.held + 1, true
    end
  elseif not route[1] then
    to_done[#to_done + 1] = run_text .. ' ' .. id
  end
  if not route.waiting[1] then
    return number
  end
  local due = first_number == now and number_text or text(due_at(number)) -- the same, as long as fewer than one comes each microsecond
  for _, q in ipairs(route.waiting) do
    append(q.add_due, due, id)
    q.waiting, q.changed = q.waiting + 1, true
  end
  return route.letters .. number_text
end

-- write_all writes what is still to be written. Were a command refused, as one that its user may not use any more, what comes
-- before it would stay. So a delivery becomes due after what is sent of it is there, and an event passes for stored, and its key
-- for known, after its deliveries.
local function write_all()
  if to_events[1] then
    redis.call('HSET', PACKS, unpack(to_packs))
    redis.call('MSET', unpack(to_payloads))
  end
  for i, q in ipairs(queues) do
    local added = q.add_due[1] or q.add_state[1]
    if (q.changed or added) and not q.known then
      redis.call('HSET', META, 'd:' .. names[i], 0)
      q.known = true
    end
    if added then
      q.add_state = write('HSET', q.state, q.add_state)
      q.add_pending, q.add_leased, q.add_due = add(q.pending, q.add_pending), add(q.leased, q.add_leased), add(q.due, q.add_due)
    end
  end
  if to_events[1] then
    add(HELD_PACKS, to_held)
    redis.call('ZADD', TASKS, unpack(to_tasks))
    redis.call('ZADD', EVENTS, unpack(to_events))
    redis.call('RPUSH', RECENT, run_text .. table.concat(to_recent))
    redis.call('HSET', SEEN, unpack(to_seen))
    write('RPUSH', DONE, to_done)
  end
  to_payloads, to_packs, to_held, to_events, to_tasks, to_recent, to_seen, to_done = {}, {}, {}, {}, {}, {}, {}, {}
end

-- save_all writes the clocks and what is counted: a write, so that WAIT covers what an earlier script has stored.
local function save_all()
  local counts = {}
  for i, q in ipairs(queues) do
    if q.changed then
      append(counts, 'f:' .. names[i], text(q.held))
      append(counts, 'w:' .. names[i], text(q.waiting))
    end
  end
  save(unpack(counts))
end

for i = 1, plain and count or 0 do
  plain = plain and not known[i] and not before[i]
end
if plain then
  local replies, since = {}, ' ' .. run_text
  for i = 1, count do
    local from, id, key, number = heads[i], ids[i], keys[i], seq + 1
    local number_text = string.format('%016d', number)
    local n = i * 2
    to_payloads[n - 1], to_payloads[n] = KEYS[payloads + i], ARGV[from + 4]
    to_events[n - 1], to_events[n] = number_text, id
    to_tasks[n - 1], to_tasks[n] = '0', ARGV[from + 3] .. '\0' .. number_text .. id
    to_seen[n - 1], to_seen[n] = key, values[i] .. since
    to_recent[i] = key
    replies[i] = enter(routes[ARGV[from + 1]], id, number)
  end
  write_all()
  save_all()
  return replies
end

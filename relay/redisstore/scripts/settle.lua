-- Does the settles that settle_packed.lua has not.
--
-- A settle is: indexes of its event and of its destination (two bytes each), flags (a byte), token and attempt, if there is one;
--   without flag PLAIN also outcome (relay.Outcome), delay, reason, number of destinations that may wait for this delivery; their
--   indexes; number of files that the attempt has stored; per file: how its line begins that has its field, its line.
-- Flag USED: it used up a retry. PLAIN: it is delivered, no other delivery may wait for it, and it has stored no file.
-- Returns per settle 1 where nothing else came of it, or {1, 1 if another delivery of the task got its turn, destinations whose
-- delivery was freed}, or {0} where the lease is lost
--
-- The common settle waits for flush(), by which all are written at once. Any other one is done by itself, after a flush.
change_held = function(name, n)
  by_name[name].held, by_name[name].changed = by_name[name].held + n, true
end
change_waiting = function(name, n)
  by_name[name].waiting, by_name[name].changed = by_name[name].waiting + n, true
end

local events = {}
local function event(i)
  local key = KEYS[SOURCE_KEYS + #names * 6 + i]
  events[i] = packs[i] and parse_pack(packs[i], ids[i], key) or event_of(ids[i], key) or false
end
for _, i in ipairs(left) do
  event(i)
end
for i = #heads + 1, #ids do
  event(i)
end

-- letter_of returns the letter of a settle's delivery in its event's record, if its lease may be the first one.
local function letter_of(s)
  return s.place and string.sub(s.e.letters, s.place, s.place)
end

-- locate finds the delivery of a settle in its event's record, or asks for its own.
local function locate(s)
  if s.e and s.e.pack then
    local n = s.token - s.e.seq
    local place = math.abs(n)
    local letter = places_of(s.e.names)[place] == s.q.name and string.sub(s.e.letters, place, place)
    if letter == LETTER_DELIVERED or letter == LETTER_LEASED and n > 0 or letter == LETTER_WAITING and n < 0 then
      s.place = place
    end
  end
  if not s.place then
    s.q.asked[#s.q.asked + 1] = s.id
  end
  return s
end

-- settles_of returns the settles of an event that settle_packed.lua has left.
local function settles_of(i)
  local head, e, list = heads[i], events[i], {}
  local n = string.byte(head)
  local attempts = string.sub(head, n * 3 + 2)
  for k = 1, n do
    local place, d1, d2 = string.byte(head, k * 3 - 1, k * 3 + 1)
    local used, attempt = string.match(attempts, '\n' .. place .. ' (%d)([^\n]*)')
    local token = e and text(d1 < 128 and e.seq + place or e.seq - place)
    list[k] = locate({ id = ids[i], e = e, q = queues[d1 % 128 * 256 + d2], token = token, used = tonumber(used or 0), attempt = attempt or '', plain = true })
  end
  return list
end

local settles, packed_settles = {}, {}
for k, i in ipairs(left) do
  packed_settles[k] = settles_of(i)
end
while at < #ARGV do
  local head = arg()
  local e1, e2, d1, d2, flags = string.byte(head, 1, 5)
  local token, attempt = string.match(head, '^(%d+)(.*)$', 6)
  local n = e1 * 256 + e2
  local s = locate({ id = ids[n], e = events[n], q = queues[d1 * 256 + d2], token = token, used = flags % 2, attempt = attempt, plain = flags >= PLAIN })
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
  if q.asked[1] then
    for i, record in ipairs(redis.call('HMGET', q.state, unpack(q.asked))) do
      q.state_of[q.asked[i]] = record
    end
  end
end

-- dirty are events whose deliveries were closed and are not written yet.
local dirty = {}

-- flush writes what is still to be written. It begins with what may be done twice.
local function flush()
  for _, e in ipairs(dirty) do
    if e.pack and e.fields[1] then
      redis.call('HSET', e.key, unpack(e.fields))
    end
  end
  for _, q in ipairs(queues) do
    q.unleased, q.undue = write('ZREM', q.leased, q.unleased), write('ZREM', q.due, q.undue)
    q.unpended, q.records = write('ZREM', q.pending, q.unpended), write('HSET', q.state, q.records)
  end
  local unheld, to_packs, to_done, to_buried, to_settled = {}, {}, {}, {}, {}
  for _, e in ipairs(dirty) do
    if e.open <= 0 then
      if e.dead > 0 or not e.pack then
        local list = e.dead > 0 and to_buried or to_settled
        list[#list + 1], list[#list + 2] = run_text, e.id
      else
        e.at = run_text
        to_done[#to_done + 1] = run_text .. ' ' .. e.id
      end
    end
    if e.pack then
      local n = #to_packs
      to_packs[n + 1], to_packs[n + 2] = e.id, pack_of(e)
      if e.unheld and not string.find(e.letters, LETTER_LEASED, 1, true) then
        unheld[#unheld + 1] = e.id
      end
    end
    if not e.pack then
      redis.call('HSET', e.key, 'o', text(e.open), unpack(e.fields))
    end
    e.fields = nil
  end
  dirty = {}
  write('ZREM', HELD_PACKS, unheld)
  write('HSET', PACKS, to_packs)
  write('RPUSH', DONE, to_done)
  write('ZADD', SETTLED, to_settled)
  write('ZADD', BURIED, to_buried)
end

-- close counts one less open.
local function close(q, e)
  if not e.fields then
    e.fields, dirty[#dirty + 1] = {}, e
  end
  q.delivered, q.changed, e.open = q.delivered + 1, true, e.open - 1
end

-- settle_leased notes in its event's record that a delivery is delivered that was leased there, and says whether it is there.
local function settle_leased(s)
  local e, place, letter = s.e, s.place, letter_of(s)
  if letter ~= LETTER_LEASED then
    return letter == LETTER_DELIVERED -- done before; the answer was lost
  end
  set_letter(e, place, LETTER_DELIVERED)
  if s.attempt ~= '' or s.used == 1 then
    e.attempts = e.attempts .. '\n' .. place .. ' ' .. s.used .. s.attempt
  end
  e.unheld, s.q.held = true, s.q.held - 1
  close(s.q, e)
  return true
end

-- A record that neither has a task nor is for more than one event: what settle_plain needs of it, and the rest.
local UNORDERED = '^(%a) (%d+) (%d+) (%d+) (%d+ %d+ %d+ %d+ %d+ %-1 )'

-- settle_plain notes that a delivery which keeps no order is delivered, and says whether it has.
local function settle_plain(s)
  local q, e, id = s.q, s.e, s.id
  local record = q.state_of[id]
  if not record or not e then
    return false
  end
  local status, token, tries, used, rest = string.match(record, UNORDERED)
  if token ~= s.token or status ~= LEASED and status ~= EXPIRED then
    return false
  end
  close(q, e)
  local list = status == LEASED and q.unleased or q.undue
  list[#list + 1] = id
  q.unpended[#q.unpended + 1] = id
  if s.attempt ~= '' then
    local n = #e.fields
    e.fields[n + 1], e.fields[n + 2] = 'a:' .. q.name .. ':' .. tries, s.attempt
    tries = text(tries + 1)
  end
  record = DELIVERED .. ' ' .. token .. ' ' .. tries .. ' ' .. text(used + s.used) .. ' ' .. rest
  q.state_of[id] = record
  local n = #q.records
  q.records[n + 1], q.records[n + 2] = id, record
  return true
end

-- with_files gives the lines of an event's files with those of an attempt.
local function with_files(key, files)
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
  for line in string.gmatch(redis.call('HGET', key, 'f') or '', '[^\n]+') do
    local length, rest = string.match(line, '^(%d+) (.*)$')
    keep(string.sub(rest, 1, length), line)
  end
  for i = 1, #files, 2 do
    keep(files[i], #files[i] .. ' ' .. files[i + 1])
  end
  return table.concat(lines, '\n')
end

-- end_lease ends the lease of a delivery and gives the reply.
local function end_lease(s, d)
  local q, e = s.q, s.e
  local id, outcome, attempt = s.id, s.outcome, {}
  if s.attempt ~= '' then
    attempt = { 'a:' .. q.name .. ':' .. d.tries, s.attempt }
    d.tries = d.tries + 1
  end
  if s.files[1] and e then
    attempt[#attempt + 1], attempt[#attempt + 2] = 'f', with_files(e.key, s.files)
  end
  d.used = d.used + s.used

  if outcome ~= OUTCOME_DEAD and outcome ~= OUTCOME_DELIVERED then
    redis.call('ZREM', q.leased, id)
    redis.call('ZREM', q.due, id)
    d.status = PENDING
    redis.call('HSET', q.state, id, encode(d))
    if attempt[1] and e then
      redis.call('HSET', e.key, unpack(attempt))
    end
    -- What is released keeps its place: it is as old as its event.
    enqueue(q, id, d, outcome == OUTCOME_RETRY and now + s.delay or math.min(tonumber(d.seq), now))
    return { 1, d.task and 1 or 0 }
  end

  local passed
  if outcome == OUTCOME_DEAD then
    passed = bury(q, e, id, d, s.reason, unpack(attempt))
  else
    passed = leave(q, id, d)
    d.status, d.reason = DELIVERED, ''
    if closed(e, id, false, unpack(attempt)) then
      redis.call('HSET', q.state, id, encode(d))
      q.delivered, q.changed = q.delivered + 1, true
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
  local q, e, id = s.q, s.e, s.id
  local record = q.state_of[id]
  local letter = letter_of(s)
  if letter == LETTER_LEASED or letter == LETTER_WAITING then
    flush()
    record = record_of(q, q.name, e)
  elseif record == nil then
    record = redis.call('HGET', q.state, id)
  end
  local d = record and decode(record)
  if letter ~= LETTER_DELIVERED and (not d or d.token ~= s.token) then
    return { 0 }
  end
  s.outcome, s.waiters, s.files = s.outcome or OUTCOME_DELIVERED, s.waiters or {}, s.files or {}
  if letter == LETTER_DELIVERED or d.status ~= LEASED and d.status ~= EXPIRED then
    local reply = { 1, 0 } -- done before; the answer was lost
    for _, waiter in ipairs(s.waiters) do
      reply[#reply + 1] = names[waiter]
    end
    return reply
  end
  flush()
  now = now + 1 -- what settles make due comes in their order; each takes longer
  now_text = text(now)
  local reply = end_lease(s, d)
  q.state_of[id] = nil
  return reply
end

local function settle(s)
  return s.plain and (settle_leased(s) or settle_plain(s)) and 1 or settle_other(s)
end
for k, i in ipairs(left) do
  replies[i] = {}
  for n, s in ipairs(packed_settles[k]) do
    replies[i][n] = settle(s)
  end
end
for i, s in ipairs(settles) do
  replies[#heads + i] = settle(s)
end
flush()
save_all()
return replies

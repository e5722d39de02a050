-- Stores what accept_plain.lua has not: accepts of events some of which may be known, or have deliveries that keep an order or wait
-- for others.

change_held = function(name, n)
  by_name[name].held, by_name[name].changed = by_name[name].held + n, true
end
change_waiting = function(name, n)
  by_name[name].waiting, by_name[name].changed = by_name[name].waiting + n, true
end

local accepts, seen = {}, {}
local formers = payloads + count
for i = 1, count do
  local from = heads[i]
  local head, mark = ARGV[from + 1], ARGV[from + 2]
  local a = {
    route = routes[head], key = string.sub(mark, 1, 32), value = values[i], id = ids[i], at = KEYS[payloads + i],
    task = ARGV[from + 3], payload = ARGV[from + 4], before = before[i],
  }
  at = from + 4
  if not a.route then
    local number, flags = string.match(head, '^(%d+)(%a+)$')
    a.route = routes[number]
    a.again, a.recovered = string.find(flags, 'a', 1, true), string.find(flags, 'r', 1, true)
    if string.find(flags, 's', 1, true) then
      a.separate, a.separate_begins, a.proof_key = arg(), arg(), arg()
      if a.proof_key == '' then
        a.proof_key = nil
      end
    end
    a.ending = string.find(flags, 'e', 1, true) and arg()
    if a.again then
      formers = formers + 1
      a.former = KEYS[formers]
    end
  end
  accepts[i] = a
end
for i, value in ipairs(known) do
  seen[keys[i]] = value
end

-- made are when the deliveries of events are due, by id, that this script has stored.
local made, to_notes = {}, {}

-- flush writes what is still to be written.
local function flush()
  write_all()
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
  seen[k] = a.value .. ' ' .. run_text
  to_recent[#to_recent + 1] = k
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
  local from = accepted_of(s) or redis.call('ZSCORE', WINDOW, k)
  if from and run - from < window then
    return string.sub(s, 1, 32), string.match(s, '^%S+', 33)
  end
end

local function fingerprint_of(a)
  return string.sub(a.value, 1, 32)
end

-- parts gives of a payload what only Go reads of its beginning, the headers, and the body.
local function parts(payload)
  local size, from = string.match(payload, '^(%d+) ()')
  return string.match(payload, '^([^\n]*)\n([^\n]*)\n(.*)$', from + size)
end

-- accept_again repeats an accept that an earlier try has stored.
local function accept_again(a)
  flush()
  local id, open, e = a.id, #a.route, a.again and event_of(a.id, a.former) or nil
  local reply, held = { ACCEPTED_BEFORE, id, tonumber(a.before or redis.call('ZSCORE', EVENTS, id)), 0, '' }, {}
  if a.separate then
    local known = redis.call('GET', a.at) or a.former and redis.call('HGET', a.former, 'h') or ''
    reply[5] = string.match(known, '"' .. CONFLICT_HEADER_PATTERN .. '":"(%w+)"') or ''
  end
  if a.again then
    -- The leases of an accept have the numbers right after its event's, or after `g` where a later try was given them.
    local base = tonumber(redis.call('HGET', NOTES, id .. ':g') or reply[3])
    for i, v in ipairs(a.route) do
      local _, letter = place_of(e, v.name)
      local s = letter == LETTER_UNPACKED and redis.call('HGET', v.q.state, id)
      local d = s and decode(s)
      reply[5 + i] = -1
      held[i] = letter == LETTER_LEASED or d and d.status == LEASED and tonumber(d.token) > base and tonumber(d.token) <= base + open or nil
    end
  end
  if next(held) then
    redis.call('HSET', NOTES, id .. ':g', text(seq))
  end
  for i, v in ipairs(a.route) do
    local token, q = next_seq(), v.q
    if held[i] then
      local d = decode(record_of(q, v.name, e))
      redis.call('ZREM', q.leased, id)
      if v.lease > 0 and not q.paused then
        d.token = token
        redis.call('ZADD', q.leased, text(now + v.lease), id)
        redis.call('HSET', q.state, id, encode(d))
      else
        d.status, d.token = PENDING, 0
        redis.call('HSET', q.state, id, encode(d))
        enqueue(q, id, d, math.min(tonumber(d.seq), made[id] or now))
        turn(q, nil)
      end
      reply[4], reply[5 + i] = math.max(0, run - d.accepted), d.token
    end
  end
  return reply
end

-- accept_other answers an accept whose key stands for another event, or for its own that is gone.
local function accept_other(a, said, first)
  local id, fingerprint = a.id, fingerprint_of(a)
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
  local _, headers = parts(a.payload)
  local proof = string.match(headers, '"' .. PROOF_HEADER_PATTERN .. '":"[^"]*"')
  local known, replayed = false, false
  for i = 1, kept do
    local v = first .. ':' .. i
    known = known or redis.call('HGET', NOTES, v .. ':f') == fingerprint
    replayed = replayed or proof and string.find(redis.call('HGET', NOTES, v .. ':h') or '', proof, 1, true)
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
    local v, meta, headers, body = first .. ':' .. kept + 1, parts(a.payload)
    redis.call('HSET', NOTES, first .. ':n', kept + 1, v .. ':f', fingerprint, v .. ':m', meta, v .. ':h', headers, v .. ':b', body)
  end
  return { CONFLICT, first, 0, 0, '' }
end

-- store stores an event under its next number, and what leads to it, but for its deliveries.
local function store(a)
  local number = next_seq()
  a.number = string.format('%016d', number)
  made[a.id] = due_at(number)
  append(to_payloads, a.at, a.payload)
  append(to_events, a.number, a.id)
  append(to_tasks, '0', a.task .. '\0' .. a.number .. a.id)
  remember(a.key, a)
  if a.proof_key then
    remember(a.proof_key, a)
  end
  return number
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
  if first and a.separate and first ~= id and said ~= fingerprint_of(a) then
    local used = a.proof_key and remembered(a.proof_key, route.window)
    if used and used ~= fingerprint_of(a) then
      return { REPLAYED, first, 0, 0, '' }
    end
    beside, a.key = first, a.separate
    local _, headers, body = parts(a.payload)
    headers = '{"' .. CONFLICT_HEADER .. '":"' .. first .. '"' .. (headers == '' and '}' or ',' .. string.sub(headers, 2))
    a.payload = a.separate_begins .. headers .. '\n' .. body
  elseif first then
    return accept_other(a, said, first)
  end

  if route.plain and beside == '' then
    return enter(route, id, store(a))
  end

  local in_order = route.ordered and task ~= ''
  if in_order then
    flush() -- what is before it is looked at
  end
  local leased = {}
  for i, v in ipairs(route) do
    leased[i] = v.at_once and not ahead(v.q, seq) and not (in_order and v.ordered and first_of(v.q, task))
  end

  local number = store(a)
  local due = made[id]
  if beside ~= '' then
    note(beside, ':c')
  end
  if not route[1] then
    to_done[#to_done + 1] = run_text .. ' ' .. id
  end

  local letters, first_end, rest = '', nil, ' 0 0 0 0 ' .. run_text .. ' ' .. a.number .. ' 0 -1 '
  local reply = { ACCEPTED, id, number, 0, beside }
  for i, v in ipairs(route) do
    local q, token = v.q, next_seq() -- also where it is not used: a token is the event's number plus the delivery's place
    local ordered = in_order and v.ordered
    if not leased[i] then
      token = 0
    end
    reply[5 + i] = token
    if leased[i] and not ordered and not v.waited then
      letters, first_end = letters .. LETTER_LEASED, math.min(first_end or HELD, now + v.lease)
      reply[5 + i] = -token
      q.held, q.changed = q.held + 1, true
    elseif not leased[i] and not ordered and not v.awaited and not v.waited then
      letters = letters .. LETTER_WAITING
      q.waiting, q.changed = q.waiting + 1, true
      append(q.add_due, text(due), id)
      turn(q, true)
    else
      letters = letters .. LETTER_UNPACKED
      append(q.add_pending, run_text, id)
      if leased[i] then
        append(q.add_leased, text(now + v.lease), id)
      end
      if ordered then
        local d = new_delivery(run, number, task)
        if leased[i] then
          d.status, d.token = LEASED, token
          redis.call('ZADD', q.order, 0, place(d, id))
          redis.call('HSET', q.state, '@' .. task, id)
        elseif v.awaited then
          hold(q, id, d, v.awaited)
        else
          enqueue(q, id, d, due)
          turn(q, nil)
        end
        append(q.add_state, id, encode(d))
      elseif leased[i] then
        append(q.add_state, id, LEASED .. ' ' .. text(token) .. rest)
      else
        append(q.add_state, id, PENDING .. ' 0' .. rest .. (v.awaited or ''))
        append(q.add_due, text(v.awaited and HELD or due), id)
        if not v.awaited then
          turn(q, true)
        end
      end
    end
  end
  append(to_packs, id, letters .. ' ' .. route.open .. ' 0 ' .. a.number .. route.rest)
  if first_end then
    append(to_held, text(first_end), id)
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
  save_all()
  return replies
end

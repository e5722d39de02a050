-- Leases due deliveries of some destinations.
-- KEYS: source; six per destination
-- ARGV: per destination: its name, most, duration, 1 for a probe
-- Returns per destination {1 if paused, leases that had expired, time until the next is due or -1,
--           per delivery: id, token (negative if it is in its event's record), tries, used, replay, variant, age, seq}
--         or {FIRST_LEASES, 0, time until the next is due or -1, run, per delivery: id, place in its event's record, its seq and
--           when it was accepted, in 16 digits each},
--         or nil if it is to be asked by itself, to see why it fails
--
-- Where all that is leased of a destination is in events' records, which is the common case, it is done right here.
local leases, fields, left = {}, {}, MAX_TOUCHED
for i = 1, #ARGV / 4 do
  local name, most = ARGV[i * 4 - 3], tonumber(ARGV[i * 4 - 2])
  leases[i] = { name = name, most = most, last = ARGV[i * 4 - 1], probe = ARGV[i * 4] == '1', q = queue(SOURCE_KEYS - 5 + i * 6) }
  fields[2 * i - 1], fields[2 * i] = 'p:' .. name, 'f:' .. name
  left = left - most
end
local flags = tick(unpack(fields))

-- wait_of returns how long it is until the next delivery is due or the next lease ends.
local function wait_of(due, lease)
  if due <= now then
    return 0
  end
  return math.min(due, lease) < HELD and math.max(1, math.min(due, lease) - now) or -1
end

local lapsed = redis.call('ZCOUNT', HELD_PACKS, '-inf', now_text) > 0

-- first_ids returns what is due of a lease, with one more if there is; nil if it is paused, or not only what is due has to be looked at.
local function first_ids(l)
  local q = l.q
  if l.paused or l.probe or lapsed or redis.call('ZCOUNT', q.leased, '-inf', now_text) > 0 then
    return nil
  end
  local ids = redis.call('ZRANGEBYSCORE', q.due, '-inf', now_text, 'LIMIT', 0, l.most + 1)
  l.more = #ids > l.most
  ids[l.most + 1] = nil
  return (l.more or not l.held) and ids or nil -- when those end that are in events' records, is for lease_other to say
end

-- Destinations mostly lease the same events: each one's record is read once.
local read, wanted = {}, {}
local function want(ids)
  for _, id in ipairs(ids) do
    if not read[id] then
      read[id], wanted[#wanted + 1] = {}, id
    end
  end
end

-- read_records reads what leases need of the records of events that are wanted.
local function read_records()
  for i, r in ipairs(wanted[1] and redis.call('HMGET', PACKS, unpack(wanted)) or {}) do
    if r then
      local counts, from, _, way = cut_pack(r)
      if counts then
        local e = read[wanted[i]]
        e.letters, e.numbers, e.places = counts, string.sub(r, from, from + 32), places_in(way)
      end
    end
  end
end

-- plan returns what a lease gives that is of deliveries in events' records, and sets what is to be written of it; nil if others
-- are due.
local function plan(l)
  local reply, entries, ends = { FIRST_LEASES, 0, 0, run_text }, {}, text(now + l.last)
  for i, id in ipairs(l.ids) do
    local e = read[id]
    local place = e.places and e.places[l.name]
    if not place or string.sub(e.letters, place, place) ~= LETTER_WAITING then
      return nil
    end
    local n = i * 3
    reply[n + 2], reply[n + 3], reply[n + 4] = id, place, e.numbers
    entries[2 * i - 1], entries[2 * i] = ends, id
  end
  l.entries = entries
  return reply
end

local replies, others, planned = {}, {}, {}
for i, l in ipairs(leases) do
  l.paused, l.held = flags[2 + i * 2], tonumber(flags[3 + i * 2] or 0) > 0
  l.ids = not planned[l.name] and first_ids(l) or nil -- another one of the same destination goes by what is written of the first
  planned[l.name] = true
  want(l.ids or {})
end
read_records()
for i, l in ipairs(leases) do
  replies[i] = l.ids and plan(l)
end
relieve()
for i, l in ipairs(leases) do
  if not replies[i] then
    others[#others + 1] = i
  elseif l.ids[1] then
    redis.call('ZREMRANGEBYRANK', l.q.due, 0, #l.ids - 1)
    add(l.q.leased, l.entries)
  end
  if replies[i] and not l.more then
    replies[i][3] = wait_of(next_in(l.q))
  end
end
if not others[1] then
  save()
  return replies
end

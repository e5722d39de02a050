-- What scripts go on with that work on queues and events' records.

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

-- An event's record in PACKS: a letter per delivery, how many are open, how many dead, sequence, run at its acceptance, `at`,
-- per delivery the duration of its lease (joined by commas), the names of the destinations; then per delivery that was
-- delivered by its first lease a line: its place, 1 if it used up a retry, and the attempt, if there was one.
--
-- A delivery that was leased as it was accepted is nowhere else (LETTER_LEASED) until it is delivered (LETTER_DELIVERED). Its
-- token is the event's sequence plus its place. One that was not is due or leased at its destination, but neither among the pending
-- ones there nor with a record (LETTER_WAITING). The token of its first lease is the event's sequence minus its place. What becomes
-- of either, if it is not delivered by its first lease, unpacks it: its record is among those of its destination then
-- (LETTER_UNPACKED). `at` is Redis's time of the leases while there are any, and later the source's when nothing was open any more,
-- or 0 where SETTLED or BURIED has that.
--
-- HELD_PACKS has the events with leases in their records, by when the first of them ends, or earlier.
--
-- An event of the earlier layout has a hash of its own instead, which counts its open deliveries in `o` and its dead ones in
-- `x`, and names its destinations in `d`. All its deliveries are unpacked.

local PACK = '^(%S*) (%-?%d+) (%-?%d+) (%d+) (%d+) (%d+) (%S*) ([^\n]*)(.*)$'

-- parse_pack reads an event's record; nil if it cannot be read, as if there were none.
local function parse_pack(r, id, key)
  local e = { id = id, key = key, pack = true }
  e.letters, e.open, e.dead, e.seq, e.accepted, e.at, e.lasts, e.names, e.attempts = string.match(r, PACK)
  e.open, e.dead = tonumber(e.open), tonumber(e.dead)
  return e.letters and e or nil
end

-- change_held counts the deliveries that are leased in their events' records, by destination, and change_waiting those that have no
-- record but their events' and were not.
local change_held = function(name, n)
  redis.call('HINCRBY', META, 'f:' .. name, n)
end
local change_waiting = function(name, n)
  redis.call('HINCRBY', META, 'w:' .. name, n)
end

-- pack_event reads an event's record; false or nil if there is none.
local function pack_event(id, key)
  local r = redis.call('HGET', PACKS, id)
  return r and parse_pack(r, id, key)
end

-- event_of reads an event; nil if it is gone.
local function event_of(id, key)
  local e = pack_event(id, key)
  if e then
    return e
  end
  local h = redis.call('HMGET', key, 's', 'o', 'x', 'd')
  if h[1] then
    return { id = id, key = key, seq = h[1], open = tonumber(h[2] or 0), dead = tonumber(h[3] or 0), names = h[4] or '' }
  end
end

local function pack_of(e)
  return e.letters .. ' ' .. text(e.open) .. ' ' .. text(e.dead) .. ' ' .. e.seq .. ' ' .. e.accepted .. ' ' .. e.at .. ' ' .. e.lasts .. ' ' ..
    e.names .. e.attempts
end

-- keep writes what an event counts, and its destinations, with further fields of its hash.
local function keep(e, ...)
  if e.pack then
    redis.call('HSET', PACKS, e.id, pack_of(e))
    if ... then
      redis.call('HSET', e.key, ...)
    end
  else
    redis.call('HSET', e.key, 'o', text(e.open), 'x', text(e.dead), 'd', e.names, ...)
  end
end

-- place_of returns the place of a destination among those of an event, and its letter; nil if it is none of them, or there is no
-- event.
local function place_of(e, name)
  local i = e and places_of(e.names)[name]
  if i then
    return i, e.pack and string.sub(e.letters, i, i) or LETTER_UNPACKED
  end
end

local function set_letter(e, i, letter)
  e.letters = string.sub(e.letters, 1, i - 1) .. letter .. string.sub(e.letters, i + 1)
end

-- lease_end returns when the lease ends of a delivery in an event's record.
local function lease_end(e, i)
  local n = 0
  for last in string.gmatch(e.lasts, '%d+') do
    n = n + 1
    if n == i then
      return e.at + last
    end
  end
  return tonumber(e.at)
end

-- hold_pack notes when the first of the leases ends that an event's record has, or that it has none.
local function hold_pack(e)
  local first
  for i = 1, #e.letters do
    if string.sub(e.letters, i, i) == LETTER_LEASED then
      first = math.min(first or HELD, lease_end(e, i))
    end
  end
  if first then
    redis.call('ZADD', HELD_PACKS, text(first), e.id)
  else
    redis.call('ZREM', HELD_PACKS, e.id)
  end
end

-- packed says whether a delivery is in its event's record.
local function packed(e, name)
  local _, letter = place_of(e, name)
  return letter ~= nil and letter ~= LETTER_UNPACKED
end

-- unpack_delivery lets a delivery have a record of its own that is in its event's record, which the caller keeps. Its lease goes
-- on. It gives the delivery's record; nil if the event's has no such delivery.
local function unpack_delivery(q, name, e)
  if not packed(e, name) then
    return nil
  end
  local i, letter = place_of(e, name)
  local d = new_delivery(e.accepted, e.seq, nil)
  d.token = e.seq + i
  set_letter(e, i, LETTER_UNPACKED)
  if letter == LETTER_LEASED then
    hold_pack(e)
    d.status = LEASED
    redis.call('ZADD', q.leased, text(lease_end(e, i)), e.id)
    redis.call('ZADD', q.pending, e.accepted, e.id)
    change_held(name, -1)
  elseif letter == LETTER_WAITING then
    local leased = redis.call('ZSCORE', q.leased, e.id)
    d.status, d.token = leased and LEASED or PENDING, leased and e.seq - i or 0
    redis.call('ZADD', q.pending, e.accepted, e.id)
    change_waiting(name, -1)
  else
    local used, attempt = string.match(e.attempts, '\n' .. i .. ' (%d)([^\n]*)')
    d.status, d.used, d.tries = DELIVERED, used or 0, attempt and attempt ~= '' and 1 or 0
  end
  redis.call('HSET', q.state, e.id, encode(d))
  return d
end

-- record_of reads a delivery's record, and has it unpacked.
local function record_of(q, name, e)
  local d = unpack_delivery(q, name, e)
  if d then
    keep(e)
    return encode(d)
  end
  return redis.call('HGET', q.state, e.id)
end

-- delivery_of reads an event, and its delivery to a destination, which it unpacks; each nil if it is gone.
local function delivery_of(q, name, id, key)
  local e = event_of(id, key)
  local s
  if e then
    s = record_of(q, name, e)
  else
    s = redis.call('HGET', q.state, id)
  end
  return e, s and decode(s)
end

-- closed counts one less open, sets further fields of the event's hash, and says whether that is there. With none open its
-- retention runs.
local function closed(e, id, dead, ...)
  if not e then
    if dead then
      redis.call('ZADD', BURIED, run_text, id)
    end
    return false
  end
  e.open, e.dead = e.open - 1, e.dead + (dead and 1 or 0)
  if e.open <= 0 then
    if e.pack and e.dead <= 0 then
      e.at = run_text
      redis.call('RPUSH', DONE, run_text .. ' ' .. id)
    else
      redis.call('ZADD', e.dead > 0 and BURIED or SETTLED, run_text, id)
    end
  end
  keep(e, ...)
  return true
end

-- reopened undoes closed, where a delivery is pending anew. Where the event is gone there is nothing to undo.
local function reopened(e, id, was_dead)
  redis.call('ZREM', SETTLED, id)
  redis.call('ZREM', BURIED, id)
  if e then
    if e.open <= 0 then
      e.at = '0'
    end
    e.open, e.dead = e.open + 1, e.dead - (was_dead and 1 or 0)
    keep(e)
  end
end

-- again makes a settled delivery pending anew, or one that is new, due after a delay. The caller has taken it out of what is
-- counted as delivered.
local function again(q, e, id, d, variant, delay)
  if d.status == DEAD then
    redis.call('ZREM', q.dead, id)
  end
  reopened(e, id, d.status == DEAD)
  d.status, d.token, d.used, d.replay, d.variant, d.dead, d.reason = PENDING, 0, 0, d.replay + 1, variant, 0, ''
  d.accepted = run + delay
  redis.call('HSET', q.state, id, encode(d))
  redis.call('ZADD', q.pending, text(d.accepted), id)
  enqueue(q, id, d, now + delay)
end

-- accepted_of returns run at the acceptance that a value of SEEN has after fingerprint and event id; nil in the earlier layout,
-- which had it in WINDOW.
local function accepted_of(value)
  return string.match(value, '^%S+ (%d+)$', 33)
end

-- replayed_since says whether a delivery was replayed in so much time before now.
local function replayed_since(d, ago)
  local at = tonumber(d.accepted)
  return tonumber(d.replay) > 0 and at > run - ago and at <= run
end

-- replay makes a delivery pending anew, or one that its event does not have yet, unless it is not settled or was replayed
-- less than so much time before now. It says whether it has.
local function replay(q, name, e, variant, delay, ago)
  local _, letter = place_of(e, name)
  if letter == LETTER_LEASED or letter == LETTER_WAITING then
    return false
  end
  local s = record_of(q, name, e)
  local d = s and decode(s) or new_delivery(run, e.seq, nil)
  if ago and replayed_since(d, ago) or s and d.status ~= DELIVERED and d.status ~= DEAD then
    return false
  end
  if d.status == DELIVERED then
    redis.call('HINCRBY', META, 'd:' .. name, -1)
  end
  if not place_of(e, name) then
    e.names = e.names == '' and name or e.names .. ' ' .. name
    e.letters = e.pack and e.letters .. LETTER_UNPACKED
  end
  redis.call('HSETNX', META, 'd:' .. name, 0)
  again(q, e, e.id, d, variant, delay)
  return true
end

-- bury makes a delivery a dead letter, sets further fields of its event's hash, and says whether another one of its task got
-- its turn.
local function bury(q, e, id, d, reason, ...)
  local passed = leave(q, id, d)
  d.status, d.dead, d.reason = DEAD, now, reason
  redis.call('HSET', q.state, id, encode(d))
  redis.call('ZADD', q.dead, d.seq, id)
  closed(e, id, true, ...)
  return passed
end

-- unpack_expired unpacks deliveries of a destination whose lease has expired, of up to `most` events. Those of other
-- destinations stay: their keys are not this script's.
local function unpack_expired(q, name, most)
  local ids = redis.call('ZRANGEBYSCORE', HELD_PACKS, '-inf', now_text, 'LIMIT', 0, most)
  for i, r in ipairs(ids[1] and redis.call('HMGET', PACKS, unpack(ids)) or {}) do
    local e = r and parse_pack(r, ids[i])
    local at, letter = place_of(e, name)
    if not e then
      redis.call('ZREM', HELD_PACKS, ids[i])
    end
    if letter == LETTER_LEASED and lease_end(e, at) <= now then
      unpack_delivery(q, name, e)
      keep(e)
    elseif e then
      hold_pack(e) -- the lease that ended first may have been settled
    end
  end
end

-- reclaim makes up to `most` deliveries whose lease has expired due again, and says how many. They had their turn: they do not
-- wait for it anew behind all that was accepted until then.
local function reclaim(q, name, most)
  unpack_expired(q, name, most)
  local expired = redis.call('ZRANGEBYSCORE', q.leased, '-inf', now_text, 'WITHSCORES', 'LIMIT', 0, most)
  for i = 1, #expired, 2 do
    local id = expired[i]
    local s = redis.call('HGET', q.state, id)
    if not s then
      local e = pack_event(id)
      s = e and record_of(q, name, e)
    end
    redis.call('ZREM', q.leased, id)
    redis.call('ZADD', q.due, s and text(math.min(expired[i + 1], decode(s).accepted)) or expired[i + 1], id)
    if s then
      redis.call('HSET', q.state, id, EXPIRED .. string.sub(s, 2))
    end
  end
  return #expired / 2
end

-- next_pack returns when the next lease of a destination ends that is in an event's record; HELD if there is none. Of many
-- events only those are looked at whose first lease ends first: it may be none of these, but not earlier than theirs.
local function next_pack(name)
  local list, first = redis.call('ZRANGE', HELD_PACKS, 0, 15, 'WITHSCORES'), HELD
  for i = 1, #list, 2 do
    local score = tonumber(list[i + 1])
    if score >= first then
      return first
    end
    local e = pack_event(list[i])
    local at, letter = place_of(e, name)
    if letter == LETTER_LEASED and lease_end(e, at) > now then -- else the next look at the source unpacks it
      first = math.min(first, lease_end(e, at))
    end
  end
  return #list == 32 and math.min(first, math.max(tonumber(list[32]), now + 1)) or first
end

-- next_due returns what next_in does, with the leases in events' records if `held` says that there are any.
local function next_due(q, name, held)
  local due, lease = next_in(q)
  return due, math.min(lease, held and next_pack(name) or HELD)
end

-- waits says that a delivery is neither leased nor settled.
local function waits(d)
  return d.status == PENDING or d.status == EXPIRED
end

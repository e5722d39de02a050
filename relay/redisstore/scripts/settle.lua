-- Ends a lease.
-- KEYS: source; 9 event; 10-15 destination; six per destination that may wait for this delivery
-- ARGV: 1 id, 2 destination, 3 token, 4 outcome (relay.Outcome), 5 delay, 6 1 if it used up a
--       retry, 7 attempt or '', 8 reason, 9 number of destinations that may wait for this delivery; their names; per file that
--       the attempt has stored: how its line begins that has its field, its line
-- Returns {1, 1 if another delivery of the task got its turn, destinations whose delivery was freed}, or {0} where the lease
-- is lost
local id, name, outcome, event, q = ARGV[1], ARGV[2], ARGV[4], KEYS[9], queue(10)
local waiters = tonumber(ARGV[9])

-- settled frees what waits for the delivery, and gives the reply.
local function settled(passed)
  local reply = { 1, passed }
  for i = 1, waiters do
    if free(queue(10 + i * 6), id) then
      reply[#reply + 1] = ARGV[9 + i]
    end
  end
  return reply
end

-- with_files gives the lines of the event's files with those of the attempt.
local function with_files()
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
  for i = 10 + waiters, #ARGV, 2 do
    keep(ARGV[i], #ARGV[i] .. ' ' .. ARGV[i + 1])
  end
  return table.concat(lines, '\n')
end

local counted = 'd:' .. name
local delivered = tick(counted)[4]
local s = redis.call('HGET', q.state, id)
local d = s and decode(s)
if not d or tonumber(d.token) ~= tonumber(ARGV[3]) then
  return { 0 }
end
if d.status ~= LEASED and d.status ~= EXPIRED then
  relieve()
  save() -- a write, so that WAIT covers the first one
  return { 1, 0, unpack(ARGV, 10, 9 + waiters) } -- done before; the answer was lost
end

-- What follows begins with ZREM: it passes at maxmemory without relieve().
local attempt = {}
if ARGV[7] ~= '' then
  attempt = { 'a:' .. name .. ':' .. d.tries, ARGV[7] }
  d.tries = d.tries + 1
end
if ARGV[10 + waiters] then
  attempt[#attempt + 1], attempt[#attempt + 2] = 'f', with_files()
end
d.used = d.used + ARGV[6]

if outcome == OUTCOME_DEAD then
  local passed = bury(q, event, id, d, ARGV[8], unpack(attempt))
  local reply = settled(passed)
  save()
  return reply
end
if outcome == OUTCOME_DELIVERED then
  local passed = leave(q, id, d)
  d.status, d.reason = DELIVERED, ''
  local reply = settled(passed)
  if closed(event, id, false, unpack(attempt)) then
    redis.call('HSET', q.state, id, encode(d))
    save(counted, text((delivered or 0) + 1))
  else
    redis.call('HDEL', q.state, id)
    save()
  end
  return reply
end
redis.call('ZREM', q.leased, id)
redis.call('ZREM', q.due, id)
d.status = PENDING
redis.call('HSET', q.state, id, encode(d))
if attempt[1] and redis.call('EXISTS', event) == 1 then
  redis.call('HSET', event, unpack(attempt))
end
-- What is released keeps its place: it is as old as its event.
enqueue(q, id, d, outcome == OUTCOME_RETRY and now + ARGV[5] or math.min(tonumber(d.seq), now))
save()
return { 1, d.task and 1 or 0 }

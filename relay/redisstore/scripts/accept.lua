-- Stores an event with its deliveries, unless its key is known.
-- KEYS: source; 9 event; six per delivery
-- ARGV: 1 id, 2 dedupe key, 3 fingerprint (32 bytes), 4 window, 5 task, 6 meta, 7 headers, 8 body;
--       per delivery: destination, lease duration or 0, 1 if ordered
-- Returns {1 accepted | 2 duplicate | 3 conflict | 4 accepted before, first id, seq, per delivery: token or 0}
local id, key, fingerprint, task, event = ARGV[1], ARGV[2], ARGV[3], ARGV[5], KEYS[9]
local fields, count = {}, 0
for i = 9, #ARGV, 3 do
  fields[count + 1], fields[count + 2], count = 'd:' .. ARGV[i], 'p:' .. ARGV[i], count + 2
end
local flags = tick(unpack(fields))

if redis.call('EXISTS', event) == 1 then
  save() -- a write, so that WAIT covers the first one
  return { 4, id, tonumber(redis.call('HGET', event, 's')) }
end

local seen = redis.call('HGET', SEEN, key)
local since = seen and redis.call('ZSCORE', WINDOW, key)
if seen and since and run - since < tonumber(ARGV[4]) then
  local first = string.sub(seen, 33)
  save()
  if first == id then
    return { 4, id, 0 }
  end
  local there = redis.call('ZSCORE', EVENTS, first)
  if string.sub(seen, 1, 32) == fingerprint then
    if there then
      redis.call('HINCRBY', NOTES, first .. ':u', 1)
    end
    return { 2, first, 0 }
  end
  if there then
    redis.call('HINCRBY', NOTES, first .. ':c', 1)
    local kept = tonumber(redis.call('HGET', NOTES, first .. ':n') or 0)
    for i = 1, kept do
      if redis.call('HGET', NOTES, first .. ':' .. i .. ':f') == fingerprint then
        return { 3, first, 0 } -- this body is kept already
      end
    end
    if kept < 8 then
      local v = first .. ':' .. kept + 1
      redis.call('HSET', NOTES, first .. ':n', kept + 1, v .. ':f', fingerprint, v .. ':m', ARGV[6], v .. ':h', ARGV[7], v .. ':b', ARGV[8])
    end
  end
  return { 3, first, 0 }
end

local deliveries, names, open = {}, {}, 0
for i = 9, #ARGV, 3 do
  local name, q, known, paused = ARGV[i], queue(10 + open * 6), flags[4 + open * 2], flags[5 + open * 2]
  local d = { name = name, q = q, known = known, lease = tonumber(ARGV[i + 1]), ordered = ARGV[i + 2] == '1' and task ~= '' }
  if d.lease > 0 and (paused or redis.call('ZCOUNT', q.due, '-inf', now_text) > 0 or d.ordered and first_of(q, task)) then
    d.lease = 0
  end
  open = open + 1
  deliveries[open], names[open] = d, name
end

local number = next_seq()
local number_text = string.format('%016d', number)
redis.call('HSET', event, 'm', ARGV[6], 'h', ARGV[7], 'b', ARGV[8], 'k', task, 'd', table.concat(names, ' '),
  's', number_text, 'o', open)
redis.call('HSET', SEEN, key, fingerprint .. id)
redis.call('ZADD', WINDOW, run_text, key)
redis.call('ZADD', EVENTS, number_text, id)
redis.call('ZADD', TASKS, 0, task .. '\0' .. number_text .. id)
if open == 0 then
  redis.call('ZADD', SETTLED, run_text, id)
end

local reply = { 1, id, number }
for i, d in ipairs(deliveries) do
  local q, record = d.q, new_delivery(run, number, d.ordered and task or nil)
  if not d.known then
    redis.call('HSET', META, 'd:' .. d.name, 0)
  end
  redis.call('ZADD', q.pending, run_text, id)
  if d.lease > 0 then
    record.status, record.token = 'L', next_seq()
    redis.call('ZADD', q.leased, text(now + d.lease), id)
    if d.ordered then
      redis.call('ZADD', q.order, 0, place(record, id))
      redis.call('HSET', q.state, '@' .. task, id)
    end
  else
    enqueue(q, id, record, now)
  end
  redis.call('HSET', q.state, id, encode(record))
  reply[3 + i] = record.token
end
save()
return reply

-- Stores an event with its deliveries, unless its key is known.
-- KEYS: source; 9 event; six per delivery
-- ARGV: 1 id, 2 dedupe key, 3 fingerprint (32 bytes), 4 window, 5 task, 6 meta, 7 headers, 8 body,
--       9 1 if an earlier try may have stored it and taken its leases with it, 10 proof or empty;
--       11 key and 12 meta if it is to be an event of its own beside the first of its key, else empty; 13 key of the proof
--       there, or empty;
--       per delivery: destination, lease duration or 0, 1 if ordered, the destination that it waits for or empty
-- Returns {result, first id, seq, age, id of the event that it conflicts with or empty,
--         per delivery: token, or 0 if it is pending, or -1 if this try has left it alone};
--         without deliveries where the result is not ACCEPTED, and with them where it is ACCEPTED_BEFORE and ARGV 9 is 1
local id, key, fingerprint, task, proof, event = ARGV[1], ARGV[2], ARGV[3], ARGV[5], ARGV[10], KEYS[9]
local meta, headers, separate, proof_key, beside = ARGV[6], ARGV[7], ARGV[11], ARGV[13], ''
local fields, count = {}, 0
for i = 14, #ARGV, 4 do
  fields[count + 1], fields[count + 2], count = 'd:' .. ARGV[i], 'p:' .. ARGV[i], count + 2
end
local flags = tick(unpack(fields))

local deliveries, names, waiters, open = {}, {}, {}, 0
for i = 14, #ARGV, 4 do
  deliveries[open + 1] = {
    q = queue(10 + open * 6), known = flags[4 + open * 2], paused = flags[5 + open * 2],
    lease = tonumber(ARGV[i + 1]), ordered = ARGV[i + 2] == '1' and task ~= '', awaited = ARGV[i + 3],
  }
  open = open + 1
  names[open] = ARGV[i]
  if ARGV[i + 3] ~= '' then
    waiters[#waiters + 1] = ARGV[i] .. ' ' .. ARGV[i + 3]
  end
end

if redis.call('EXISTS', event) == 1 then
  local e = redis.call('HMGET', event, 's', 'g')
  local reply, held = { ACCEPTED_BEFORE, id, tonumber(e[1]) or 0, 0, '' }, {}
  if separate ~= '' then
    reply[5] = string.match(redis.call('HGET', event, 'h') or '', '"' .. CONFLICT_HEADER_PATTERN .. '":"(%w+)"') or ''
  end
  if ARGV[9] == '1' then
    -- The leases of an accept have the numbers right after its event's, or after `g` where a later try was given them.
    local base = tonumber(e[2] or reply[3])
    for i, v in ipairs(deliveries) do
      local s = redis.call('HGET', v.q.state, id)
      local d = s and decode(s)
      reply[5 + i] = -1
      if d and d.status == LEASED and tonumber(d.token) > base and tonumber(d.token) <= base + open then
        held[i] = d
      end
    end
  end
  if next(held) then
    redis.call('HSET', event, 'g', text(seq))
  end
  for i, v in ipairs(deliveries) do
    local d, token = held[i], next_seq()
    if d then
      redis.call('ZREM', v.q.leased, id)
      if v.lease > 0 and not v.paused then
        d.token = token
        redis.call('ZADD', v.q.leased, text(now + v.lease), id)
        redis.call('HSET', v.q.state, id, encode(d))
      else
        d.status, d.token = PENDING, 0
        redis.call('HSET', v.q.state, id, encode(d))
        enqueue(v.q, id, d, math.min(tonumber(d.seq), now))
      end
      reply[4], reply[5 + i] = math.max(0, run - d.accepted), d.token
    end
  end
  save() -- a write, so that WAIT covers the first one
  return reply
end

-- remembered gives the fingerprint and the event that a key stands for.
local function remembered(k)
  local seen = redis.call('HGET', SEEN, k)
  local since = seen and redis.call('ZSCORE', WINDOW, k)
  if seen and since and run - since < tonumber(ARGV[4]) then
    return string.sub(seen, 1, 32), string.sub(seen, 33)
  end
end

local said, first
if separate ~= '' then
  said, first = remembered(separate)
end
if not first then
  said, first = remembered(key)
end
if first and separate ~= '' and first ~= id and said ~= fingerprint then
  local used = proof_key ~= '' and remembered(proof_key)
  if used and used ~= fingerprint then
    save()
    return { REPLAYED, first, 0, 0, '' }
  end
  beside, key, meta = first, separate, ARGV[12]
  headers = '{"' .. CONFLICT_HEADER .. '":"' .. first .. '"' .. (headers == '' and '}' or ',' .. string.sub(headers, 2))
elseif first then
  save()
  if first == id then
    return { ACCEPTED_BEFORE, id, 0, 0, '' }
  end
  local there = redis.call('ZSCORE', EVENTS, first)
  if said == fingerprint then
    if there then
      redis.call('HINCRBY', NOTES, first .. ':u', 1)
    end
    return { DUPLICATE, first, 0, 0, '' }
  end
  if not there then
    return { UNKEPT, first, 0, 0, '' }
  end
  local kept = tonumber(redis.call('HGET', NOTES, first .. ':n') or 0)
  local known, replayed = false, false
  for i = 1, kept do
    local v = first .. ':' .. i
    known = known or redis.call('HGET', NOTES, v .. ':f') == fingerprint
    replayed = replayed or proof ~= '' and string.find(redis.call('HGET', NOTES, v .. ':h') or '', '"' .. PROOF_HEADER .. '":"' .. proof .. '"', 1, true)
  end
  if not known then
    if replayed then
      return { REPLAYED, first, 0, 0, '' }
    elseif kept >= MAX_VARIANTS then
      return { UNKEPT, first, 0, 0, '' }
    end
  end
  redis.call('HINCRBY', NOTES, first .. ':c', 1)
  if not known then
    local v = first .. ':' .. kept + 1
    redis.call('HSET', NOTES, first .. ':n', kept + 1, v .. ':f', fingerprint, v .. ':m', ARGV[6], v .. ':h', ARGV[7], v .. ':b', ARGV[8])
  end
  return { CONFLICT, first, 0, 0, '' }
end

for _, v in ipairs(deliveries) do
  if v.lease > 0 and (v.awaited ~= '' or v.paused or redis.call('ZCOUNT', v.q.due, '-inf', now_text) > 0 or v.ordered and first_of(v.q, task)) then
    v.lease = 0
  end
end

local number = next_seq()
local number_text = string.format('%016d', number)
redis.call('HSET', event, 'm', meta, 'h', headers, 'b', ARGV[8], 'k', task, 'd', table.concat(names, ' '),
  's', number_text, 'o', open)
if #waiters > 0 then
  redis.call('HSET', event, 'w', table.concat(waiters, ' '))
end
redis.call('HSET', SEEN, key, fingerprint .. id)
redis.call('ZADD', WINDOW, run_text, key)
if proof_key ~= '' then
  redis.call('HSET', SEEN, proof_key, fingerprint .. id)
  redis.call('ZADD', WINDOW, run_text, proof_key)
end
if beside ~= '' and redis.call('ZSCORE', EVENTS, beside) then
  redis.call('HINCRBY', NOTES, beside .. ':c', 1)
end
redis.call('ZADD', EVENTS, number_text, id)
redis.call('ZADD', TASKS, 0, task .. '\0' .. number_text .. id)
if open == 0 then
  redis.call('ZADD', SETTLED, run_text, id)
end

local reply = { ACCEPTED, id, number, 0, beside }
for i, v in ipairs(deliveries) do
  local q, d = v.q, new_delivery(run, number, v.ordered and task or nil)
  if not v.known then
    redis.call('HSET', META, 'd:' .. names[i], 0)
  end
  redis.call('ZADD', q.pending, run_text, id)
  local token = next_seq() -- also where it is not used: so no later one is among those of this accept
  if v.lease > 0 then
    d.status, d.token = LEASED, token
    redis.call('ZADD', q.leased, text(now + v.lease), id)
    if v.ordered then
      redis.call('ZADD', q.order, 0, place(d, id))
      redis.call('HSET', q.state, '@' .. task, id)
    end
  elseif v.awaited ~= '' then
    hold(q, id, d, v.awaited)
  else
    enqueue(q, id, d, now)
  end
  redis.call('HSET', q.state, id, encode(d))
  reply[5 + i] = d.token
end
save()
return reply

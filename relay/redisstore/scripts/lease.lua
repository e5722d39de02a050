-- Leases what lease_plain.lua has not.

-- heads returns the ids that a probe leases: those never tried go first. Nothing but a bounded look at the head of the queue can
-- tell.
local function heads(l)
  local head, untried, tried = redis.call('ZRANGEBYSCORE', l.q.due, '-inf', '(' .. text(HELD), 'LIMIT', 0, MAX_TOUCHED), {}, {}
  local states = head[1] and redis.call('HMGET', l.q.state, unpack(head)) or {}
  for i, id in ipairs(head) do
    local fresh = not states[i] or tonumber((string.match(states[i], '^%a %d+ (%d+)'))) == 0
    table.insert(fresh and untried or tried, id)
  end
  for _, id in ipairs(tried) do
    table.insert(untried, id)
  end
  return { unpack(untried, 1, math.min(l.most, #untried)) }
end

-- first_lease returns a delivery that is in its event's record, as it is leased; nil if it is not there.
local function first_lease(l, id)
  local e = pack_event(id)
  local place, letter = place_of(e, l.name)
  if letter == LETTER_WAITING then
    local d = new_delivery(e.accepted, e.seq, nil)
    d.token = place - e.seq
    return d
  end
end

-- lease_other returns what a lease gives.
local function lease_other(l)
  local q = l.q
  if l.paused then
    return { 1, 0, -1 }
  end
  local expired = reclaim(q, l.name, left)
  left = left - expired
  local ids = l.probe and heads(l) or redis.call('ZRANGEBYSCORE', q.due, '-inf', now_text, 'LIMIT', 0, l.most)
  local reply = { 0, expired, 0 }
  if ids[1] then
    local states, entries, records, ends = redis.call('HMGET', q.state, unpack(ids)), {}, {}, text(now + l.last)
    for i, id in ipairs(ids) do
      local d = not states[i] and first_lease(l, id)
      if not d then
        d = states[i] and decode(states[i])
        if not d then -- its event is gone, which had its record
          d = new_delivery(run, now, nil)
          redis.call('ZADD', q.pending, run_text, id)
          change_waiting(l.name, -1)
        end
        d.status, d.token = LEASED, next_seq()
        records[#records + 1], records[#records + 2] = id, encode(d)
      end
      entries[2 * i - 1], entries[2 * i] = ends, id
      reply[#reply + 1] = id
      for _, v in ipairs({ d.token, d.tries, d.used, d.replay, d.variant, math.max(0, run - d.accepted), d.seq }) do
        reply[#reply + 1] = tonumber(v)
      end
    end
    redis.call('ZREM', q.due, unpack(ids))
    redis.call('ZADD', q.leased, unpack(entries))
    if records[1] then
      redis.call('HSET', q.state, unpack(records))
    end
  end
  reply[3] = wait_of(next_due(q, l.name, l.held))
  return reply
end

-- One of several that fails must not take the others with it: their leases would be made, and nobody would know.
for _, i in ipairs(others) do
  if leases[2] then
    local done, reply = pcall(lease_other, leases[i])
    replies[i] = done and reply
  else
    replies[i] = lease_other(leases[i])
  end
end
save()
return replies

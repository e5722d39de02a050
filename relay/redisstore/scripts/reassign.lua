-- Hands deliveries of a destination to another one. What is leased stays, what waits behind that in its task's order, what
-- is behind another delivery of its event, and what the other destination has a delivery of.
-- KEYS: source; destination; the other one; events
-- ARGV: 1 destination, 2 the other one; ids, oldest event first
-- Returns {moved, left}
local from, to, old, new = queue(SOURCE_KEYS + 1), queue(SOURCE_KEYS + 7), ARGV[1], ARGV[2]
tick()
relieve()
save()

local function behind(d)
  local turn = d.task and redis.call('HGET', from.state, '@' .. d.task)
  local other = turn and redis.call('HGET', from.state, turn)
  return other and string.sub(other, 1, 1) == LEASED
end

-- rename tells the event. A place stays where it is, since tokens are made of it.
local function rename(e, tries)
  if not e then
    return -- it is gone
  end
  local renamed, i = {}, 0
  for name in string.gmatch(e.names, '%S+') do
    i = i + 1
    if name == new then
      name = e.pack and NOBODY or nil
    elseif name == old then
      name = new
    end
    renamed[#renamed + 1] = name
  end
  e.names = table.concat(renamed, ' ')
  keep(e)
  for n = 0, tries - 1 do
    local attempt = redis.call('HGET', e.key, 'a:' .. old .. ':' .. n)
    if attempt then
      redis.call('HSET', e.key, 'a:' .. new .. ':' .. n, attempt)
      redis.call('HDEL', e.key, 'a:' .. old .. ':' .. n)
    end
  end
end

local moved, left = 0, 0
for i = 3, #ARGV do
  local id = ARGV[i]
  local e = event_of(id, KEYS[SOURCE_KEYS + 10 + i])
  local s
  if not e then
    s = redis.call('HGET', from.state, id)
  elseif not packed(e, new) then
    s = record_of(from, old, e)
  elseif packed(e, old) or redis.call('HEXISTS', from.state, id) == 1 then
    left = left + 1
  end
  local d = s and decode(s)
  if d and (d.status == LEASED or redis.call('HEXISTS', to.state, id) == 1 or waits(d) and (behind(d) or held(from, id))) then
    left = left + 1
  elseif d then
    if waits(d) then
      local due, since = redis.call('ZSCORE', from.due, id), redis.call('ZSCORE', from.pending, id)
      leave(from, id, d)
      d.status, d.token = PENDING, 0
      redis.call('HSET', to.state, id, encode(d))
      redis.call('ZADD', to.pending, since or d.accepted, id)
      enqueue(to, id, d, due or now)
    else
      if d.status == DEAD then
        redis.call('ZREM', from.dead, id)
        redis.call('ZADD', to.dead, d.seq, id)
      else
        redis.call('HINCRBY', META, 'd:' .. old, -1)
        redis.call('HINCRBY', META, 'd:' .. new, 1)
      end
      redis.call('HSET', to.state, id, s)
    end
    redis.call('HDEL', from.state, id)
    rename(e, d.tries)
    moved = moved + 1
  end
end
redis.call('HSETNX', META, 'd:' .. new, 0)
return { moved, left }

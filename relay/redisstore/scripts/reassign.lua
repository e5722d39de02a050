-- Hands deliveries of a destination to another one. What is leased stays, what waits behind that in its task's order, what
-- is behind another delivery of its event, and what the other destination has a delivery of.
-- KEYS: source; 9-14 destination; 15-20 the other one; events
-- ARGV: 1 destination, 2 the other one; ids, oldest event first
-- Returns {moved, left}
local from, to, old, new = queue(9), queue(15), ARGV[1], ARGV[2]
tick()
relieve()
save()

local function behind(d)
  local turn = d.task and redis.call('HGET', from.state, '@' .. d.task)
  local other = turn and redis.call('HGET', from.state, turn)
  return other and string.sub(other, 1, 1) == LEASED
end

-- rename tells the event.
local function rename(event, id, tries)
  local names = redis.call('HGET', event, 'd')
  if not names then
    return -- the event is gone
  end
  local renamed = {}
  for name in string.gmatch(names, '%S+') do
    if name ~= new then
      renamed[#renamed + 1] = name == old and new or name
    end
  end
  redis.call('HSET', event, 'd', table.concat(renamed, ' '))
  for n = 0, tries - 1 do
    local attempt = redis.call('HGET', event, 'a:' .. old .. ':' .. n)
    if attempt then
      redis.call('HSET', event, 'a:' .. new .. ':' .. n, attempt)
      redis.call('HDEL', event, 'a:' .. old .. ':' .. n)
    end
  end
end

local moved, left = 0, 0
for i = 3, #ARGV do
  local id, event = ARGV[i], KEYS[18 + i]
  local s = redis.call('HGET', from.state, id)
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
    rename(event, id, d.tries)
    moved = moved + 1
  end
end
redis.call('HSETNX', META, 'd:' .. new, 0)
return { moved, left }

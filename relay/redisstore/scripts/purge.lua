-- Deletes events past their retention. It is looked up anew: an event may have been replayed since it was listed.
-- KEYS: source; six per destination; per event: its hash, its payload
-- ARGV: 1 number of destinations, 2 retention, 3 retention with dead letters, 4 how many entries DONE begins with;
--       these; destinations; ids
-- Returns {events, per destination: deliveries, dead letters}
local count, most_settled, most_buried, listed = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
tick()
relieve()
save()

-- Entries of events that were replayed since name no time of theirs, and go too.
local done, same = {}, listed > 0
if same then
  local heads = redis.call('LRANGE', DONE, 0, listed - 1)
  for i = 1, listed do
    local at, id = string.match(ARGV[4 + i], '^(%d+) (.*)$')
    if id then
      done[id] = at
    end
    same = same and heads[i] == ARGV[4 + i]
  end
end

local reply = { 0 }
for i = 1, count * 2 do
  reply[1 + i] = 0
end
local function gone(n, dead)
  reply[n * 2] = reply[n * 2] + 1
  if dead then
    reply[n * 2 + 1] = reply[n * 2 + 1] + 1
  else
    redis.call('HINCRBY', META, 'd:' .. ARGV[4 + listed + n], -1)
  end
end

-- task_of reads the task of an event from its payload, or from its hash of the earlier layout.
local function task_of(key, payload)
  local size, from = string.match(redis.call('GETRANGE', payload, 0, 15), '^(%d+) ()')
  return size and redis.call('GETRANGE', payload, from - 1, from + size - 2) or redis.call('HGET', key, 'k')
end

local queues = {}
for n = 1, count do
  queues[n] = queue(SOURCE_KEYS + 1 + (n - 1) * 6)
end
local first = 4 + listed + count
for i = first + 1, #ARGV do
  local id, key = ARGV[i], SOURCE_KEYS + count * 6 + 2 * (i - first) - 1
  local e = event_of(id, KEYS[key])
  local settled, buried, number = redis.call('ZSCORE', SETTLED, id), redis.call('ZSCORE', BURIED, id), redis.call('ZSCORE', EVENTS, id)
  -- What is left of an event whose record is lost goes by its entry, of which there are several where it was replayed.
  if e and e.pack and e.open <= 0 and done[id] == e.at or not e and number and same then
    settled = done[id] or settled
  end
  if settled and run - settled >= most_settled or buried and run - buried >= most_buried then
    for n = 1, count do
      local q = queues[n]
      local _, letter = place_of(e, ARGV[4 + listed + n])
      local s = letter ~= LETTER_DELIVERED and redis.call('HGET', q.state, id)
      if letter == LETTER_DELIVERED then
        gone(n)
      elseif s then
        local status = string.sub(s, 1, 1)
        redis.call('HDEL', q.state, id)
        if status == DEAD then
          redis.call('ZREM', q.dead, id)
          gone(n, true)
        elseif status == DELIVERED then
          gone(n)
        else
          reply[n * 2] = reply[n * 2] + 1
        end
      end
    end
    local task = task_of(KEYS[key], KEYS[key + 1])
    if number and task then
      redis.call('ZREM', TASKS, task .. '\0' .. string.format('%016d', number) .. id)
    end
    local variants = tonumber(redis.call('HGET', NOTES, id .. ':n') or 0)
    redis.call('HDEL', NOTES, id .. ':u', id .. ':c', id .. ':n', id .. ':g')
    for v = 1, variants do
      local field = id .. ':' .. v
      redis.call('HDEL', NOTES, field .. ':f', field .. ':m', field .. ':h', field .. ':b')
    end
    redis.call('ZREM', EVENTS, id)
    redis.call('ZREM', SETTLED, id)
    redis.call('ZREM', BURIED, id)
    redis.call('HDEL', PACKS, id)
    redis.call('UNLINK', KEYS[key], KEYS[key + 1])
    reply[1] = reply[1] + 1
  end
end
if same then -- or another gateway has purged them; last, so that none is lost should an event stop this script
  redis.call('LPOP', DONE, listed)
end
return reply

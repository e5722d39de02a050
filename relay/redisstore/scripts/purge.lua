-- Deletes events past their retention. It is looked up anew: an event may have been replayed since it was listed.
-- KEYS: source; six per destination; events
-- ARGV: 1 number of destinations, 2 retention, 3 retention with dead letters; destinations; ids
-- Returns {events, per destination: deliveries, dead letters}
local count, most_settled, most_buried = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
tick()
relieve()
save()
local reply = { 0 }
for i = 1, count * 2 do
  reply[1 + i] = 0
end
for i = 4 + count, #ARGV do
  local id, event = ARGV[i], KEYS[8 + count * 6 + i - 3 - count]
  local settled, buried = redis.call('ZSCORE', SETTLED, id), redis.call('ZSCORE', BURIED, id)
  if settled and run - settled >= most_settled or buried and run - buried >= most_buried then
    for n = 1, count do
      local q = queue(9 + (n - 1) * 6)
      local s = redis.call('HGET', q.state, id)
      if s then
        local status = string.sub(s, 1, 1)
        redis.call('HDEL', q.state, id)
        reply[n * 2] = reply[n * 2] + 1
        if status == DEAD then
          redis.call('ZREM', q.dead, id)
          reply[n * 2 + 1] = reply[n * 2 + 1] + 1
        elseif status == DELIVERED then
          redis.call('HINCRBY', META, 'd:' .. ARGV[3 + n], -1)
        end
      end
    end
    local number, task = redis.call('ZSCORE', EVENTS, id), redis.call('HGET', event, 'k')
    if number and task then
      redis.call('ZREM', TASKS, task .. '\0' .. string.format('%016d', number) .. id)
    end
    local variants = tonumber(redis.call('HGET', NOTES, id .. ':n') or 0)
    redis.call('HDEL', NOTES, id .. ':u', id .. ':c', id .. ':n')
    for v = 1, variants do
      local field = id .. ':' .. v
      redis.call('HDEL', NOTES, field .. ':f', field .. ':m', field .. ':h', field .. ':b')
    end
    redis.call('ZREM', EVENTS, id)
    redis.call('ZREM', SETTLED, id)
    redis.call('ZREM', BURIED, id)
    redis.call('UNLINK', event)
    reply[1] = reply[1] + 1
  end
end
return reply

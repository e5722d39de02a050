-- Notes deliveries as delivered that are in their events' records: settles of one source for which nothing waits.
-- KEYS: source
-- ARGV: number of destinations; their names; per event: id; number of deliveries (a byte), per delivery: place (a byte), index of
--       its destination (two bytes); then what goes to the record of them
-- Returns per event 1, or 0 if not all of these deliveries are leased there: then nothing was changed of it
local names, counted, fields = {}, {}, {}
local count = tonumber(ARGV[1])
for i = 1, count do
  names[i], counted[i] = ARGV[1 + i], 0
  fields[2 * i - 1], fields[2 * i] = 'd:' .. ARGV[1 + i], 'f:' .. ARGV[1 + i]
end
local known = tick(unpack(fields))

local ids = {}
for i = count + 2, #ARGV, 2 do
  ids[#ids + 1] = ARGV[i]
end

local splits = setmetatable({}, { __index = function(t, names)
  local list = {}
  for name in string.gmatch(names, '%S+') do
    list[#list + 1] = name
  end
  t[names] = list
  return list
end })

local LEASED_BYTE = string.byte(LETTER_LEASED)
local all_leased = setmetatable({}, { __index = function(t, n)
  t[n] = string.rep(LETTER_LEASED, n)
  return t[n]
end })

-- settle returns the letters of an event with deliveries as delivered, which come by their places; nil if one of them is not leased.
local function settle(letters, destinations, head, n)
  local last = 0
  for i = 1, n do
    local place, d1, d2 = string.byte(head, i * 3 - 1, i * 3 + 1)
    if place <= last or string.byte(letters, place) ~= LEASED_BYTE or destinations[place] ~= names[d1 * 256 + d2] then
      return nil
    end
    last = place
  end
  local all = letters == all_leased[n]
  for i = 1, n do
    local place, d1, d2 = string.byte(head, i * 3 - 1, i * 3 + 1)
    local d = d1 * 256 + d2
    counted[d] = counted[d] + 1
    if not all then
      letters = string.sub(letters, 1, place - 1) .. LETTER_DELIVERED .. string.sub(letters, place + 1)
    end
  end
  return all and string.gsub(letters, LETTER_LEASED, LETTER_DELIVERED) or letters
end

local replies, unheld, packs, done, k = {}, {}, {}, {}, 0
for i, r in ipairs(redis.call('HMGET', PACKS, unpack(ids))) do
  local id, head = ids[i], ARGV[count + 1 + 2 * i]
  local n = string.byte(head)
  replies[i] = 0
  if r then
    local letters, open, dead, numbers, at, lasts, names, attempts = string.match(r, '^(%S*) (%-?%d+) (%-?%d+) (%d+ %d+) (%d+) (%S*) ([^\n]*)(.*)$')
    letters = dead == '0' and settle(letters, splits[names], head, n)
    if letters then
      replies[i], open = 1, open - n
      if open <= 0 then
        at = run_text
        done[#done + 1] = run_text .. ' ' .. id
        unheld[#unheld + 1] = id
      elseif not string.find(letters, LETTER_LEASED, 1, true) then
        unheld[#unheld + 1] = id
      end
      packs[k + 1] = id
      packs[k + 2] = letters .. ' ' .. open .. ' 0 ' .. numbers .. ' ' .. at .. ' ' .. lasts .. ' ' .. names .. attempts .. string.sub(head, n * 3 + 2)
      k = k + 2
    end
  end
end

relieve()
if unheld[1] then
  redis.call('ZREM', HELD_PACKS, unpack(unheld))
end
if packs[1] then
  redis.call('HSET', PACKS, unpack(packs))
end
if done[1] then
  redis.call('RPUSH', DONE, unpack(done))
end
local counts = {}
for i, n in ipairs(counted) do
  if n > 0 then
    local k = #counts
    counts[k + 1], counts[k + 2] = 'd:' .. names[i], text((known[2 + i * 2] or 0) + n)
    counts[k + 3], counts[k + 4] = 'f:' .. names[i], text((known[3 + i * 2] or 0) - n)
  end
end
save(unpack(counts)) -- a write, so that WAIT covers what an earlier script has done
return replies

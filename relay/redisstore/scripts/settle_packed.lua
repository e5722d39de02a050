-- Ends leases: settles of one source.
-- KEYS: source; six per destination; hashes of events
-- ARGV: number of destinations; their names; number of events of which all that is settled is delivered by first leases, and stored
--         no file, and nothing waits for it; per such event: number of deliveries (a byte); per delivery: place (a byte), index of
--         its destination (two bytes, the highest bit set where it has waited); then what goes to the record of them;
--       then settles of further events, as settle.lua has them, in their order
-- Returns per event 1, or what settle.lua returns of each of its deliveries; then what that returns of the further settles
--
-- An event of which all these deliveries are in its record is written right here, which is the common case.
local names, queues, by_name = read_queues()
for _, q in ipairs(queues) do
  q.asked, q.leases, q.unleased, q.undue, q.unpended, q.records, q.state_of = {}, {}, {}, {}, {}, {}, {}
end

local ids = {}
for i = SOURCE_KEYS + #names * 6 + 1, #KEYS do
  ids[#ids + 1] = string.sub(KEYS[i], #META - 1) -- both begin alike, and go on with `head` and `e:`
end
local packs = ids[1] and redis.call('HMGET', PACKS, unpack(ids)) or {}

-- heads are the events of which all is delivered, by their places among the ids. A destination's `leases` has those that are
-- leased of what has waited for it.
local heads = {}
for i = 1, tonumber(arg()) do
  local head = arg()
  heads[i] = head
  for n = 1, string.byte(head) do
    local d = string.byte(head, n * 3)
    if d >= 128 then
      local asked = queues[(d - 128) * 256 + string.byte(head, n * 3 + 1)].asked
      asked[#asked + 1] = ids[i]
    end
  end
end
for _, q in ipairs(queues) do
  for i, score in ipairs(q.asked[1] and redis.call('ZMSCORE', q.leased, unpack(q.asked)) or {}) do
    q.leases[q.asked[i]] = score
  end
  q.asked = {}
end

-- settle_packed returns the letters of an event with deliveries as delivered, and whether a lease in its record has ended; nil if one
-- of them is not leased.
local function settle_packed(id, letters, places, head, n)
  for i = 1, n do
    local place, d1, d2 = string.byte(head, i * 3 - 1, i * 3 + 1)
    local letter = LETTER_LEASED
    if d1 >= 128 then
      d1, letter = d1 - 128, LETTER_WAITING
    end
    local q = queues[d1 * 256 + d2]
    if string.sub(letters, place, place) ~= letter or places[place] ~= q.name or letter == LETTER_WAITING and not q.leases[id] then
      return nil
    end
  end
  local ended = false
  for i = 1, n do
    local place, d1, d2 = string.byte(head, i * 3 - 1, i * 3 + 1)
    if d1 < 128 then
      local q = queues[d1 * 256 + d2]
      q.held, q.delivered, q.changed, ended = q.held - 1, q.delivered + 1, true, true
    else
      local q = queues[(d1 - 128) * 256 + d2]
      local k = #q.unleased + 1
      q.delivered, q.changed, q.unleased[k], q.unpended[k] = q.delivered + 1, true, id, id
    end
    letters = string.sub(letters, 1, place - 1) .. LETTER_DELIVERED .. string.sub(letters, place + 1)
  end
  return letters, ended
end

-- digits are small numbers as text.
local digits = setmetatable({}, { __index = function(t, n)
  t[n] = text(n)
  return t[n]
end })

-- Captures of long texts that differ are most of what this costs.
local HEAD, TAIL = '^(%S*) (%-?%d+) (%-?%d+) ()%S+ %S+ %S+ %S* ([^\n]*)', '^(%S+ %S+) %S+(.*)$'
local replies, left, unheld, to_packs, to_done, k = {}, {}, {}, {}, {}, 0
for i, head in ipairs(heads) do
  local r, id, n = packs[i], ids[i], string.byte(head)
  if r then
    local letters, open, dead, rest, names = string.match(r, HEAD)
    local settled, ended
    if dead == '0' then
      settled, ended = settle_packed(id, letters, places_of(names), head, n)
    end
    if settled then
      replies[i], open = 1, open - n
      if ended and not string.find(settled, LETTER_LEASED, 1, true) then
        unheld[#unheld + 1] = id
      end
      if open > 0 then
        rest = string.sub(r, rest)
      else
        local numbers, tail = string.match(r, TAIL, rest)
        rest = numbers .. ' ' .. run_text .. tail
        to_done[#to_done + 1] = run_text .. ' ' .. id
      end
      to_packs[k + 1], to_packs[k + 2] = id, settled .. ' ' .. digits[open] .. ' 0 ' .. rest .. string.sub(head, n * 3 + 2)
      k = k + 2
    end
  end
  if not replies[i] then
    left[#left + 1] = i
  end
end

relieve()
for _, q in ipairs(queues) do
  q.unleased, q.unpended = write('ZREM', q.leased, q.unleased), write('ZREM', q.pending, q.unpended)
end
write('ZREM', HELD_PACKS, unheld)
write('HSET', PACKS, to_packs)
write('RPUSH', DONE, to_done)

-- save_all writes the clocks and what is counted: a write, so that WAIT covers what an earlier script has done.
local function save_all()
  local counts = {}
  for _, q in ipairs(queues) do
    if q.changed then
      local n = #counts
      counts[n + 1], counts[n + 2], counts[n + 3], counts[n + 4] = 'd:' .. q.name, text(q.delivered), 'f:' .. q.name, text(q.held)
    end
  end
  save(unpack(counts))
end
save_all() -- now: Redis may refuse what follows
if at == #ARGV and not left[1] then
  return replies
end

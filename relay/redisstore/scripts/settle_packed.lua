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
  q.asked, q.unleased, q.undue, q.unpended, q.records, q.state_of = {}, {}, {}, {}, {}, {}
end

local ids = {}
for i = SOURCE_KEYS + #names * 6 + 1, #KEYS do
  ids[#ids + 1] = string.sub(KEYS[i], #META - 1) -- both begin alike, and go on with `head` and `e:`
end
local packs = ids[1] and redis.call('HMGET', PACKS, unpack(ids)) or {}

-- heads are the events of which all is delivered, by their places among the ids.
local heads = {}
for i = 1, tonumber(arg()) do
  heads[i] = arg()
end

-- new_plan returns what becomes of an event: how its record begins then, of which destinations deliveries are settled that were
-- leased in it (`held`) or have waited, whether nothing is open any more (`closed`) and nothing leased (`unheld`). It returns false if
-- one of these deliveries is not in the record, or something is dead.
local function new_plan(counts, whom, way)
  local letters, open, dead = string.match(counts, '^(%S*) (%S+) (%S+)$')
  local places, n, plan = places_in(way), string.byte(whom), { times = 0, held = {}, waited = {} }
  for i = 1, n do
    local place, d1, d2 = string.byte(whom, i * 3 - 1, i * 3 + 1)
    local letter, list = LETTER_LEASED, plan.held
    if d1 >= 128 then
      d1, letter, list = d1 - 128, LETTER_WAITING, plan.waited
    end
    local q = queues[d1 * 256 + d2]
    if dead ~= '0' or string.sub(letters, place, place) ~= letter or places[place] ~= q.name then
      return false
    end
    list[#list + 1] = q
    letters = string.sub(letters, 1, place - 1) .. LETTER_DELIVERED .. string.sub(letters, place + 1)
  end
  plan.begins, plan.closed = letters .. ' ' .. text(open - n) .. ' 0 ', open - n <= 0
  plan.unheld = plan.held[1] and not string.find(letters, LETTER_LEASED, 1, true)
  return plan
end

-- plan_of returns the plan of an event. Most events of a script have the same.
local plans = {}
local function plan_of(counts, whom, way)
  local key = counts .. whom .. way
  local plan = plans[key]
  if plan == nil then
    plan = new_plan(counts, whom, way)
    plans[key] = plan
  end
  return plan
end

local replies, left, unheld, to_packs, to_done, k = {}, {}, {}, {}, {}, 0
for i, head in ipairs(heads) do
  local r, id, last = packs[i], ids[i], string.byte(head) * 3 + 1
  local counts, from, ends, way = cut_pack(r or '')
  local plan = counts and plan_of(counts, string.sub(head, 1, last), way)
  if plan then
    replies[i], plan.times = 1, plan.times + 1
    if plan.unheld then
      unheld[#unheld + 1] = id
    end
    for _, q in ipairs(plan.waited) do
      q.unleased[#q.unleased + 1] = id
    end
    local rest
    if plan.closed then
      rest = string.sub(r, from, from + 33) .. run_text .. string.sub(r, ends)
      to_done[#to_done + 1] = run_text .. ' ' .. id
    else
      rest = string.sub(r, from)
    end
    to_packs[k + 1], to_packs[k + 2] = id, plan.begins .. rest .. string.sub(head, last + 1)
    k = k + 2
  else
    left[#left + 1] = i
  end
end
for _, plan in pairs(plans) do
  for _, q in ipairs(plan and plan.held or {}) do
    q.held, q.delivered, q.changed = q.held - plan.times, q.delivered + plan.times, true
  end
  for _, q in ipairs(plan and plan.waited or {}) do
    q.waiting, q.delivered, q.changed = q.waiting - plan.times, q.delivered + plan.times, true
  end
end

relieve()
for _, q in ipairs(queues) do
  -- What is not leased waits again, since Redis has lost the lease: it is delivered all the same.
  if q.unleased[1] and redis.call('ZREM', q.leased, unpack(q.unleased)) < #q.unleased then
    redis.call('ZREM', q.due, unpack(q.unleased))
  end
  q.unleased = {}
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
      counts[n + 5], counts[n + 6] = 'w:' .. q.name, text(q.waiting)
    end
  end
  save(unpack(counts))
end
save_all() -- now: Redis may refuse what follows
if at == #ARGV and not left[1] then
  return replies
end

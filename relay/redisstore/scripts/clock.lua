-- What every script begins with.
--
-- KEYS begin with the source's block (keys.go has the order). Destinations come as blocks of six keys, events as one key
-- each. Every key that a script touches is in KEYS: a Cluster refuses an undeclared key of a moving slot halfway through.
--
-- Times are microseconds. Two clocks: `now` is Redis's own, for what is due and for leases. `run` is the source's: it
-- follows Redis's but never goes back, and never more than two minutes at once, so that a stepped clock neither purges
-- nor forgets. Ages, retention and dedupe windows are measured by it.
--
-- Scripts check everything first and write after. Those that free memory, or must run at maxmemory for the queue to
-- drain, begin their writes with relieve(): Redis refuses a script there whose first write needs memory, and no later one.

local META, SEEN, WINDOW, EVENTS, TASKS, NOTES, SETTLED, BURIED, PACKS, HELD_PACKS, RECENT, DONE, FORMER = unpack(KEYS, 1, SOURCE_KEYS)

local now, run, seq

-- An earlier layout kept the clocks under FORMER, whose gateways cannot read packs. They are taken over from there, and what is
-- left there makes every script of such a gateway fail before it writes.
local fresh = false

local function adopt()
  fresh = redis.call('TYPE', FORMER).ok ~= 'hash'
  if not fresh then
    redis.call('RENAME', FORMER, META)
    redis.call('SET', FORMER, LAYOUT)
  end
  return not fresh
end

-- text writes a whole number. Redis would write one that it is given as a number with all digits of a fraction, which takes
-- longer than most commands do.
local function text(n)
  return string.format('%d', n)
end

local now_text, run_text

-- tick reads the clocks, and gives further fields of META from the fourth on.
local function tick(...)
  local t = redis.call('TIME')
  local c = redis.call('HMGET', META, 'wall', 'run', 'seq', ...)
  if not c[1] and adopt() then
    c = redis.call('HMGET', META, 'wall', 'run', 'seq', ...)
  end
  now = t[1] * 1e6 + t[2]
  run = tonumber(c[2] or now) + math.max(0, math.min(now - tonumber(c[1] or now), 120e6))
  seq = math.max(tonumber(c[3] or 0), now)
  now_text, run_text = text(now), string.format('%016d', run) -- as RECENT has it
  return c
end

-- next_seq gives a number that ascends within the source, for events and lease tokens.
local function next_seq()
  seq = seq + 1
  return seq
end

-- save writes the clocks, with further fields of META.
local function save(...)
  redis.call('HSET', META, 'wall', now_text, 'run', run_text, 'seq', text(seq), ...)
  if fresh then
    redis.call('SET', FORMER, LAYOUT)
    fresh = false
  end
end

local function relieve()
  redis.call('ZREM', SETTLED, '')
end

local function queue(first)
  return {
    due = KEYS[first], leased = KEYS[first + 1], pending = KEYS[first + 2],
    state = KEYS[first + 3], dead = KEYS[first + 4], order = KEYS[first + 5],
  }
end

-- next_in returns when the next delivery of a queue is due, and when the next lease ends; each HELD or later where there is none.
local function next_in(q)
  local due, lease = redis.call('ZRANGE', q.due, 0, 0, 'WITHSCORES'), redis.call('ZRANGE', q.leased, 0, 0, 'WITHSCORES')
  return tonumber(due[2] or HELD), tonumber(lease[2] or HELD)
end

-- places_of returns the places of destinations in an event's record, by their names, and the names by their places. Most events
-- of a script have the same.
local known_places = {}
local function places_of(names)
  local places = known_places[names]
  if not places then
    places = {}
    for name in string.gmatch(names, '%S+') do
      local n = #places + 1
      places[n], places[name] = name, n
    end
    known_places[names] = places
  end
  return places
end

-- cut_pack returns of an event's record (prelude.lua) what it counts, which its letters begin, where its numbers do, where `at` ends,
-- and what follows that in all records of events which went the same way; nil if it cannot be read. Captures of long texts that
-- differ are most of what scripts cost.
local function cut_pack(r)
  local counts, from = string.match(r, '^(%S* %-?%d+ %-?%d+) ()')
  local ends = from and string.find(r, ' ', from + 34, true) -- behind two numbers of 16 digits
  if ends then
    local line = string.find(r, '\n', ends, true) or 0
    return counts, from, ends, string.sub(r, ends + 1, line - 1)
  end
end

-- places_in returns places_of the names in what cut_pack returns last.
local places_of_way = {}
local function places_in(way)
  local places = places_of_way[way]
  if not places then
    places = places_of(string.match(way, '^%S* (.*)$'))
    places_of_way[way] = places
  end
  return places
end

-- arg returns the next argument.
local at = 0
local function arg()
  at = at + 1
  return ARGV[at]
end

-- read_queues reads the clocks, how many destinations there are, and their names. It returns the names, their queues, and these by name.
local function read_queues()
  local names, queues, by_name, fields = {}, {}, {}, {}
  for i = 1, tonumber(arg()) do
    local name, q = arg(), queue(SOURCE_KEYS - 5 + i * 6)
    names[i], queues[i], by_name[name], q.name = name, q, q, name
    local n = i * 4
    fields[n - 3], fields[n - 2], fields[n - 1], fields[n] = 'd:' .. name, 'p:' .. name, 'f:' .. name, 'w:' .. name
  end
  local flags = tick(unpack(fields))
  for i, q in ipairs(queues) do
    local n = i * 4
    q.known, q.paused = flags[n], flags[n + 1]
    q.delivered, q.held, q.waiting = tonumber(q.known or 0), tonumber(flags[n + 2] or 0), tonumber(flags[n + 3] or 0)
  end
  return names, queues, by_name
end

-- write does a command with the values of a list, if there are any, and returns an empty list.
local function write(command, key, list)
  if list[1] then
    redis.call(command, key, unpack(list))
  end
  return {}
end

-- add does ZADD with the scores and members of a list, if there are any, and returns an empty list. Redis keeps up to 128 members of a
-- set without an index, and goes through all of them, twice, for each that is added. One that is longer than 64 bytes has it make an
-- index, and keep that until the set is empty.
local LONG = string.rep('-', 65)
local function add(key, list)
  if #list < 16 then
    return write('ZADD', key, list)
  end
  redis.call('ZADD', key, '0', LONG, unpack(list))
  redis.call('ZREM', key, LONG)
  return {}
end

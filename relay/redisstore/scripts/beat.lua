-- Says that a node lives, and who else does.
-- KEYS: 1 nodes
-- ARGV: 1 node, 2 what it says of itself, 3 how long a node lives without another beat, 4 1 to leave
-- Returns what each living node says
local t = redis.call('TIME')
local now = t[1] * 1e6 + t[2]
redis.call('HDEL', KEYS[1], ARGV[4] == '1' and ARGV[1] or '')
local reply, nodes = {}, redis.call('HGETALL', KEYS[1])
for i = 1, #nodes, 2 do
  local at, text = string.match(nodes[i + 1], '^(%d+) (.*)$')
  -- A beat from the future is from before Redis's clock was set back.
  if not at or math.abs(now - at) > tonumber(ARGV[3]) then
    redis.call('HDEL', KEYS[1], nodes[i])
  elseif nodes[i] ~= ARGV[1] then
    reply[#reply + 1] = text
  end
end
if ARGV[4] ~= '1' then
  redis.call('HSET', KEYS[1], ARGV[1], string.format('%d ', now) .. ARGV[2])
  reply[#reply + 1] = ARGV[2]
end
return reply

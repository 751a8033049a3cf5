-- Takes sessions out of a channel's members: one session, if it is still this node's, or all of one incarnation.
-- KEYS[1]: members.
-- ARGV[2..]: SPUBLISH or PUBLISH, the topic, the node, the session ('' for all of an incarnation), the incarnation.
-- Returns how many went.
local publish, topic, node, session, incarnation = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local gone = {}
if session ~= '' then
  local before = redis.call('HGET', KEYS[1], session)
  -- An incarnation is '<node>.<8 characters>'.
  if before and string.sub(before, 1, string.find(before, '\n', 1, true) - 10) == node then
    gone = { session }
  end
else
  local all = redis.call('HGETALL', KEYS[1])
  local mark = incarnation .. '\n'
  for at = 1, #all, 2 do
    if string.sub(all[at + 1], 1, #mark) == mark then
      gone[#gone + 1] = all[at]
    end
  end
  table.sort(gone)
end
for _, name in ipairs(gone) do
  redis.call('HDEL', KEYS[1], name)
  redis.call(publish, topic, 'l\n' .. name)
end
if #gone > 0 and redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call(publish, topic, 'v\n')
end
return #gone

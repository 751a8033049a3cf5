-- Adds a session to a channel's members, or changes its state.
-- KEYS[1]: members (hash of session to '<incarnation>\n<member>').
-- ARGV[2..]: SPUBLISH or PUBLISH, the topic, the session, the incarnation of its node, the member.
local session, incarnation, member = ARGV[4], ARGV[5], ARGV[6]
local before = redis.call('HGET', KEYS[1], session)
local value = incarnation .. '\n' .. member
if before == value then
  return 0
end
redis.call('HSET', KEYS[1], session, value)
-- A member that only comes back under another incarnation of its node has not changed.
if before and string.sub(before, string.find(before, '\n', 1, true) + 1) == member then
  return 0
end
redis.call(ARGV[2], ARGV[3], 'j\n' .. member)
return 1

-- Renews a node's lease by the server's clock. A lease that ran out stays so: its node comes back under another
-- incarnation, and whoever sweeps the old one can't meet the new one's members.
-- KEYS[1]: the leases (sorted set of incarnations by when they run out, in ms).
-- ARGV[2..]: the incarnation, the lease in ms, 1 if the incarnation is new.
-- Returns 1 if the lease stands, for how many seconds the server has been up, which incarnations have run out.
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local ends = redis.call('ZSCORE', KEYS[1], ARGV[2])
local stands = ARGV[4] == '1' or (ends and tonumber(ends) > now)
if stands then
  redis.call('ZADD', KEYS[1], string.format('%d', now + tonumber(ARGV[3])), ARGV[2])
end
local up = string.match(redis.call('INFO', 'server'), 'uptime_in_seconds:(%d+)')
local over = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%d', now), 'LIMIT', 0, 64)
return { stands and 1 or 0, tonumber(up), over }

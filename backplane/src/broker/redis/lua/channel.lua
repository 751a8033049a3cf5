-- What every script of a channel begins with: the channel's state, checked against the server's run.
-- KEYS: meta (the state, a string), log (stream), latest (hash), order (sorted set of latest's keys by version).
-- ARGV: run id ('' in a cluster), an epoch to take if one is needed, then the retention: messages, bytes, age in ms.
-- A call of a command from Lua costs more than the command itself: that is why the state is one string.
local meta, log, latest, order = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local call, format, match = redis.call, string.format, string.match
local max_messages, max_bytes, max_age = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])

-- The state outlives what it describes, so that an epoch ends only with the history that it names.
local IDLE = 7 * 24 * 3600 * 1000
-- What has never taken a message names no history: whoever reads channels of made-up names must not fill the server.
local UNUSED = 5 * 60 * 1000
-- What a message counts beside its frame, as in the embedded broker.
local OVERHEAD = 128

local run = ARGV[1]
if run == '' then
  run = match(call('INFO', 'server'), 'run_id:(%w+)')
end
local clock = call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)

-- `total` counts the bytes ever taken in this epoch, `base` those before the oldest retained message, `values`
-- those of class latest; `touched` is when the keys' times to live were last renewed.
local epoch, offset, version, total, base, values, touched
local kept = call('GET', meta)
local of
if kept then
  of, epoch, offset, version, total, base, values, touched =
    match(kept, '^(%S+) (%S+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+)$')
end
if of == run then
  offset, version, total, base = tonumber(offset), tonumber(version), tonumber(total), tonumber(base)
  values, touched = tonumber(values), tonumber(touched)
else
  -- Another run of the server may have come up with an older state of this channel.
  call('DEL', meta, log, latest, order)
  epoch, offset, total, base, values, touched = ARGV[2], 0, 0, 0, 0, 0
  -- Versions go on rising across epochs, so that a client never takes a new value for an old one.
  version = now
end

local function unused()
  return offset == 0 and total == 0 and values == 0
end
local was_unused = unused()

-- Writes the state; renews the times to live at most once a minute, and with the first message.
local function save()
  local every = math.min(max_age, 60000)
  local first = was_unused and not unused()
  local due = touched == 0 or first or now < touched or now - touched >= every
  if due then
    touched = now
    for _, key in ipairs({ log, latest, order }) do
      call('PEXPIRE', key, format('%d', max_age + every + 1))
    end
  end
  local state = format('%s %s %d %d %d %d %d %d',
    run, epoch, offset, version, total, base, values, touched)
  if due then
    call('SET', meta, state, 'PX', format('%d', unused() and UNUSED or IDLE + max_age))
  elseif state ~= kept then
    call('SET', meta, state, 'KEEPTTL')
  end
end

-- Takes from the log what retention no longer covers, and returns the offset before the oldest that is left.
local function trim()
  call('XTRIM', log, 'MAXLEN', max_messages)
  local count = 1
  while true do
    local oldest = call('XRANGE', log, '-', '+', 'COUNT', count)
    if #oldest == 0 then
      base = total
      return offset
    end
    local place, time, before
    for at, entry in ipairs(oldest) do
      place, time, before = match(entry[2][2], '^%S+ %S+ (%d+) %d+ (%d+) (%d+)')
      place, base = tonumber(place), tonumber(before)
      if total - base <= max_bytes and tonumber(time) >= now - max_age then
        if at > 1 then
          call('XTRIM', log, 'MINID', entry[1])
        end
        return place - 1
      end
    end
    call('XTRIM', log, 'MINID', format('%d-0', place + 1))
    count = 16
  end
end


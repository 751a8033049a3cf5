-- Takes a message: a place, the log or its key's value, and the publication, in one step.
-- KEYS[5], if there is one: the idempotency key.
-- ARGV[6..]: SPUBLISH or PUBLISH, the topic, the class (r, v or l), the body, the key of class latest,
-- the dedup window in ms.
-- Returns epoch, offset, and 1 if the idempotency key had been used.
local class, body, key = ARGV[8], ARGV[9], ARGV[10]

if KEYS[5] then
  local first = call('GET', KEYS[5])
  if first then
    local in_epoch, at = match(first, '^(%S+) (%d+)$')
    return { in_epoch, tonumber(at), 1 }
  end
end

if class == 'r' then
  offset = offset + 1
elseif class == 'v' then
  version = version + 1
end
-- The line that a frame begins with: class, epoch, newest offset, version, time, bytes taken before.
local frame = format('m%s %s %d %d %d %d\n', class, epoch, offset, version, now, total) .. body

if class == 'r' then
  call('XADD', log, format('%d-0', offset), 'f', frame)
  total = total + OVERHEAD + #body
  -- Reading trims exactly; here it is done by the batch.
  if offset % 16 == 0 or total - base > max_bytes then
    trim()
  end
elseif class == 'v' then
  values = values + #frame - call('HSTRLEN', latest, key)
  call('HSET', latest, key, frame)
  call('ZADD', order, format('%d', version), key)
  local count = call('ZCARD', order)
  if count == 1 then
    values = #frame
  end
  -- The bound on keys is that of the embedded broker.
  while count > 1 and (count > 1024 or values > max_bytes) do
    local oldest = call('ZPOPMIN', order)[1]
    values = math.max(values - call('HSTRLEN', latest, oldest), 0)
    call('HDEL', latest, oldest)
    count = count - 1
  end
end
save()

if KEYS[5] then
  call('SET', KEYS[5], format('%s %d', epoch, offset), 'PX', ARGV[11])
end
call(ARGV[6], ARGV[7], frame)
return { epoch, offset, 0 }

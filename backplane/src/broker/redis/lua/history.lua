-- Reads a page of the log.
-- ARGV[6..]: the epoch to go on in ('' reads from the oldest), the offset to go on after, the most messages.
-- Returns epoch, offset, version, why the position can't be gone on from ('' if it can), the entries.
local since_epoch, since, limit = ARGV[6], tonumber(ARGV[7]), tonumber(ARGV[8])

if limit == 0 then
  save()
  return { epoch, offset, version, '', {} }
end
local floor = trim()
save()

local reset = ''
if since_epoch == '' then
  since = floor
elseif since_epoch ~= epoch then
  reset = 'epoch'
elseif since > offset then
  reset = 'ahead'
elseif since < floor then
  reset = 'expired'
end
local entries = {}
if reset == '' and since < offset then
  entries = call('XRANGE', log, format('%d-0', since + 1), '+', 'COUNT', limit)
end
return { epoch, offset, version, reset, entries }

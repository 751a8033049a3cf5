-- Reads the newest value of each key.
-- Returns epoch, version, the time in ms, the values as they were published.
save()
return { epoch, version, now, call('HVALS', latest) }

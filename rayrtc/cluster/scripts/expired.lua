#!lua flags=no-writes
-- Workers whose lease has ended.
--
-- KEYS  1 leases
--
-- Returns their ids.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))

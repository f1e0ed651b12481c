#!lua flags=no-writes
-- How long the workers still have to return their connections after Redis was empty.
--
-- KEYS  1 epoch
-- ARGV  1 ms after the epoch before the registry is complete
--
-- Returns ms, 0 when it is complete; all of them when no worker has come yet.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local settle = tonumber(ARGV[1])
local epoch = tonumber(redis.call('GET', KEYS[1]) or nil)
if not epoch then return settle end
return math.max(0, epoch + settle - now)

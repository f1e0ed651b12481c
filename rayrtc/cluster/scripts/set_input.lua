#!lua
-- Keeps the last inputs of a connection.
--
-- KEYS  1 the connection's inputs
-- ARGV  1 encoded arguments  2 ms that they live
--
-- Returns their number: above the last one, and above all that an emptied Redis gave out before.

local time = redis.call('TIME')
local seq = time[1] * 1000 + math.floor(time[2] / 1000)
local last = tonumber(redis.call('HGET', KEYS[1], 'seq') or nil)
if last and last >= seq then seq = last + 1 end
redis.call('HSET', KEYS[1], 'seq', string.format('%.0f', seq), 'args', ARGV[1])
redis.call('PEXPIRE', KEYS[1], tonumber(ARGV[2]))
return seq

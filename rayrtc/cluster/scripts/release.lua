#!lua flags=allow-oom
-- Ends a connection: its slots are free and its record says why, for a while.
--
-- KEYS  1 the connection's record
-- ARGV  1 what all registry keys begin with  2 connection id  3 session  4 reason
--       5 ms that an ended connection's record lives
--
-- Returns 1, or 0 when that session is not the current one or has ended already.

local base, cid = ARGV[1], ARGV[2]
local record = redis.call('HMGET', KEYS[1], 'session', 'state', 'worker', 'stream')
if tonumber(record[1] or nil) ~= tonumber(ARGV[3]) or record[2] == 'closed' then return 0 end
redis.call('ZREM', base .. ':worker:' .. record[3], cid)
redis.call('ZREM', base .. ':stream:' .. record[4], cid)
redis.call('HSET', KEYS[1], 'state', 'closed', 'reason', ARGV[4])
redis.call('PEXPIRE', KEYS[1], tonumber(ARGV[5]))
return 1

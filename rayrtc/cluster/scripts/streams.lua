#!lua flags=no-writes
-- Counts the connections of streams.
--
-- KEYS  the streams
-- ARGV  1 what all registry keys begin with
--
-- Returns live connections, reserved slots, ... in the order of KEYS.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local unexpired = '(' .. string.format('%.0f', now)

local counts = {}
for _, stream in ipairs(KEYS) do
  local slots = redis.call('ZRANGEBYSCORE', stream, unexpired, '+inf')
  local reserved = 0
  for _, cid in ipairs(slots) do
    if redis.call('HGET', ARGV[1] .. ':conn:' .. cid, 'state') == 'reserved' then
      reserved = reserved + 1
    end
  end
  table.insert(counts, #slots - reserved)
  table.insert(counts, reserved)
end
return counts

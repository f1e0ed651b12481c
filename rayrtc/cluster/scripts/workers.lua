#!lua flags=no-writes
-- Lists the workers whose lease has not ended.
--
-- KEYS  1 leases
-- ARGV  1 what all registry keys begin with
--
-- Returns lease JSON, live connections, reserved slots, ...

local base = ARGV[1]

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local unexpired = '(' .. string.format('%.0f', now)

local listed = {}
for _, worker in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], unexpired, '+inf')) do
  local lease = redis.call('HGET', base .. ':lease:' .. worker, 'lease')
  if lease then
    local slots = redis.call('ZRANGEBYSCORE', base .. ':worker:' .. worker, unexpired, '+inf')
    local reserved = 0
    for _, cid in ipairs(slots) do
      if redis.call('HGET', base .. ':conn:' .. cid, 'state') == 'reserved' then
        reserved = reserved + 1
      end
    end
    table.insert(listed, lease)
    table.insert(listed, #slots - reserved)
    table.insert(listed, reserved)
  end
end
return listed

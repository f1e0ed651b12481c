#!lua flags=allow-oom
-- Removes lost workers: their leases go, their connections end.
--
-- KEYS  1 leases
-- ARGV  1 what all registry keys begin with  2 reason
--       3 ms that an ended connection's record lives
--       4 ms that a worker which is gone may not come back, 0: only those whose lease has ended
--       5... the workers
--
-- Returns a list of records, each as HGETALL gives it after 'id', ID.

local base, reason, tomb, banned = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local lost = {}
for i = 5, #ARGV do
  local worker = ARGV[i]
  local expiry = redis.call('ZSCORE', KEYS[1], worker)
  local gone = banned > 0 or expiry and tonumber(expiry) <= now
  if banned > 0 then
    -- Its node may only have been out of reach. Then it runs until the node learns that it was given
    -- up, and must not get calls meanwhile.
    redis.call('SET', base .. ':drain:' .. worker, string.format('%.0f 1', now), 'PX', banned)
  end
  local slots = base .. ':worker:' .. worker
  for _, cid in ipairs(gone and redis.call('ZRANGE', slots, 0, -1) or {}) do
    local key = base .. ':conn:' .. cid
    local record = redis.call('HMGET', key, 'worker', 'state', 'stream')
    -- A connection that moved on has another worker in its record.
    if record[1] == worker and (record[2] == 'live' or record[2] == 'reserved') then
      redis.call('ZREM', base .. ':stream:' .. record[3], cid)
      redis.call('HSET', key, 'state', 'closed', 'reason', reason)
      redis.call('PEXPIRE', key, tomb)
      local fields = redis.call('HGETALL', key)
      table.insert(fields, 1, cid)
      table.insert(fields, 1, 'id')
      table.insert(lost, fields)
    end
  end
  if gone then
    redis.call('DEL', slots, base .. ':lease:' .. worker)
    redis.call('ZREM', KEYS[1], worker)
  end
end
return lost

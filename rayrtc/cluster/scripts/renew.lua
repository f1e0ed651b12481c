#!lua flags=allow-oom
-- Renews a worker's lease and the slots and records of its connections; makes those that are missing.
--
-- KEYS  1 epoch  2 leases  3 the worker's lease  4 the worker's connections
-- ARGV  1 what all registry keys begin with  2 worker id  3 lease JSON  4 address
--       5 ms until the lease ends  6 ms that keys live beyond their last use
--       7 ms that an ended connection's record lives
--       8... connection id, session, stream of each connection
--
-- Returns ms until the worker has to be empty (-1: it is not asked to drain), 1 if its clients are
-- to connect again at once, then connection id, reason, ... of those that it must close.

local base, worker, address = ARGV[1], ARGV[2], ARGV[4]
local ttl, keep, tomb = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function text(number) return string.format('%.0f', number) end

redis.call('SET', KEYS[1], text(now), 'NX')
redis.call('PEXPIRE', KEYS[1], keep)

local conflicts = {}
local live = 0

local function close(cid, key, reason)
  redis.call('HSET', key, 'state', 'closed', 'reason', reason)
  redis.call('PEXPIRE', key, tomb)
end

-- Whether the connection may go on; else the reason why not.
local function refused(cid, session, stream, key)
  local record = redis.call('HMGET', key, 'session', 'state', 'reason', 'limit')
  local known = tonumber(record[1] or nil)
  if not known or known < session then return nil end -- Redis lost it, or all but an older one
  if known > session then return 'replaced' end
  if record[2] == 'closed' then return record[3] end
  -- A worker that stood still past its lease had its slots freed. Where others took them, its
  -- connection has to go: the limit is exact.
  local score = tonumber(redis.call('ZSCORE', stream, cid) or nil)
  local limit = tonumber(record[4] or nil)
  if limit and (not score or score <= now)
    and redis.call('ZCOUNT', stream, '(' .. text(now), '+inf') >= limit then
    close(cid, key, 'worker_lost')
    return 'worker_lost'
  end
  return nil
end

for i = 8, #ARGV, 3 do
  local cid, session, name = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2]
  local key, stream = base .. ':conn:' .. cid, base .. ':stream:' .. name
  local reason = refused(cid, session, stream, key)
  if reason then
    table.insert(conflicts, cid)
    table.insert(conflicts, reason)
    if redis.call('HGET', key, 'worker') ~= worker
      or redis.call('HGET', key, 'state') == 'closed' then
      redis.call('ZREM', KEYS[4], cid)
    end
  else
    live = live + 1
    if tonumber(redis.call('HGET', key, 'session') or nil) ~= session then
      redis.call('DEL', key)
      redis.call('HSET', key, 'session', text(session), 'created', text(session), 'stream', name)
    end
    redis.call('HSET', key, 'worker', worker, 'address', address, 'state', 'live')
    redis.call('PEXPIRE', key, keep)
    redis.call('ZADD', KEYS[4], text(now + ttl), cid)
    redis.call('ZADD', stream, text(now + ttl), cid)
    redis.call('PEXPIRE', stream, keep)
  end
end

-- What this worker no longer lists and nobody released (Redis was away then) has ended unseen.
for _, cid in ipairs(redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', text(now))) do
  local key = base .. ':conn:' .. cid
  local record = redis.call('HMGET', key, 'worker', 'state')
  if record[1] == worker and record[2] == 'live' then close(cid, key, 'expired') end
  redis.call('ZREM', KEYS[4], cid)
end

redis.call('ZADD', KEYS[2], text(now + ttl), worker)
redis.call('PEXPIRE', KEYS[2], keep)
redis.call('HSET', KEYS[3], 'lease', ARGV[3], 'address', address, 'live', live)
redis.call('PEXPIRE', KEYS[3], keep)
redis.call('PEXPIRE', KEYS[4], keep)

local left, reconnect = -1, 0
local drain = base .. ':drain:'
for _, asked in ipairs(redis.call('MGET', drain .. worker, drain .. cjson.decode(ARGV[3]).node)) do
  if asked then
    local deadline, now_too = string.match(asked, '^(%d+) (%d)$')
    local remaining = math.max(0, deadline - now)
    if left < 0 or remaining < left then left = remaining end
    reconnect = math.max(reconnect, tonumber(now_too))
  end
end
return {left, reconnect, unpack(conflicts)}

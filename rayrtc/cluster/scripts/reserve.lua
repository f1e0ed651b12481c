#!lua
-- Reserves a slot for a connection: on a worker, in its stream, and under its id, or nothing at all.
--
-- KEYS  1 epoch  2 leases  3 the stream  4 the connection's record
-- ARGV  1 what all registry keys begin with  2 connection id  3 stream
--       4 the stream's limit (for a move: ignored, the record has it)
--       5 the session to move, or 0  6 token of this call: a repeated call gets the same answer
--       7 ms after the epoch before anything is reserved  8 ms until the reservation ends
--       9 ms that keys live beyond their last use  10 random integer
--       11 the session that the new one may take the place of, or 0  12... workers to leave out
--
-- Returns {'reserved', session, worker, address, and the same three of the session whose place it
-- took, or 0, '', ''}, {'exists'}, {'limit'}, {'gone'}, {'no_worker'} or {'settling', ms}. Nothing
-- has changed but with the first: a connection that cannot be replaced goes on.

local base, cid, stream = ARGV[1], ARGV[2], ARGV[3]
local limit, moved, token = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]
local settle, hold, keep = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local resumed = tonumber(ARGV[11])

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function text(number) return string.format('%.0f', number) end
local unexpired = '(' .. text(now)

-- After Redis came back empty the workers need a moment to return what they run. Until then a
-- stream's count is too low, so nothing is admitted.
local epoch = tonumber(redis.call('GET', KEYS[1]) or nil)
if not epoch then return {'no_worker'} end
if now < epoch + settle then return {'settling', epoch + settle - now} end

local record = redis.call('HMGET', KEYS[4],
  'session', 'state', 'worker', 'token', 'address', 'limit', 'stream',
  'replaced', 'replaced_worker', 'replaced_address')
local last, state = tonumber(record[1] or nil), record[2]
local holds = false -- whether this connection's own slots are among those counted below
local replaced = {0, '', ''}

if state == 'reserved' and record[4] == token then
  return {'reserved', last, record[3], record[5],
    tonumber(record[8] or 0), record[9] or '', record[10] or ''}
end
if moved ~= 0 then
  if not last then return {'gone'} end
  if last ~= moved or record[7] ~= stream then return {'exists'} end
  holds = state ~= 'closed'
  limit = tonumber(record[6])
elseif state == 'reserved' or state == 'live' then
  if last ~= resumed or record[7] ~= stream then return {'exists'} end
  holds = true
  replaced = {last, record[3], record[5]}
end

redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', text(now))
local taken = redis.call('ZCARD', KEYS[3])
if holds and redis.call('ZSCORE', KEYS[3], cid) then taken = taken - 1 end
if taken >= limit then return {'limit'} end

local excluded = {}
for i = 12, #ARGV do excluded[ARGV[i]] = true end

-- The worker as a candidate, or nil when it cannot take this connection.
local function candidate(worker)
  local stored = redis.call('HMGET', base .. ':lease:' .. worker, 'lease', 'live')
  if not stored[1] then return nil end
  local lease = cjson.decode(stored[1])
  if lease.state ~= 'ready' then return nil end
  local drain = base .. ':drain:'
  if redis.call('EXISTS', drain .. worker, drain .. lease.node) > 0 then return nil end
  local serves = false
  for _, name in ipairs(lease.streams) do serves = serves or name == stream end
  if not serves then return nil end
  local slots = base .. ':worker:' .. worker
  local used = redis.call('ZCOUNT', slots, unexpired, '+inf')
  if holds and record[3] == worker then used = used - 1 end
  if used >= lease.slots then return nil end
  -- The load was measured before the connections that came since the last renewal; each of them
  -- counts as its share of a full worker, or a burst would all go to one. Tenths: less is noise.
  local unseen = math.max(0, used - tonumber(stored[2])) / lease.slots
  return {
    id = worker,
    address = lease.address,
    slots = slots,
    load = math.floor((lease.load + unseen) * 10 + 0.5),
    ratio = used / lease.slots,
    spare = lease.spare,
  }
end

-- Workers are drawn at random until two can take it, and the less loaded of the two does. The
-- first one drawn wins a tie, so ties are broken at random. One that the pool could do without does
-- only if no other can, so that it becomes idle and may leave.
local workers = redis.call('ZRANGEBYSCORE', KEYS[2], unexpired, '+inf')
math.randomseed(tonumber(ARGV[10]))
local best, spare, found = nil, nil, 0
for left = #workers, 1, -1 do
  local draw = math.random(left)
  local worker = workers[draw]
  workers[draw] = workers[left]
  local other = not excluded[worker] and candidate(worker) or nil
  if other and other.spare then
    spare = spare or other
  elseif other then
    if not best or other.load < best.load
      or (other.load == best.load and other.ratio < best.ratio) then
      best = other
    end
    found = found + 1
    if found == 2 then break end
  end
end
best = best or spare
if not best then return {'no_worker'} end

-- A session is the time of its reservation and above the last one of the id, even when the clock
-- went back: output ids must grow.
local session = now
if last and last >= now then session = last + 1 end
if holds then redis.call('ZREM', base .. ':worker:' .. record[3], cid) end
redis.call('ZADD', best.slots, text(now + hold), cid)
redis.call('PEXPIRE', best.slots, keep)
redis.call('ZADD', KEYS[3], text(now + hold), cid)
redis.call('PEXPIRE', KEYS[3], keep)
redis.call('DEL', KEYS[4])
redis.call('HSET', KEYS[4], 'session', text(session), 'worker', best.id, 'address', best.address,
  'stream', stream, 'state', 'reserved', 'created', text(now), 'limit', text(limit), 'token', token)
if replaced[1] ~= 0 then
  redis.call('HSET', KEYS[4], 'replaced', text(replaced[1]), 'replaced_worker', replaced[2],
    'replaced_address', replaced[3])
end
redis.call('PEXPIRE', KEYS[4], hold)
return {'reserved', session, best.id, best.address, replaced[1], replaced[2], replaced[3]}

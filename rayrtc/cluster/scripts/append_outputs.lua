#!lua
-- Appends outputs of one connection and announces them.
--
-- KEYS  1 the connection's outputs, also the channel
-- ARGV  1 session  2 entries to keep  3 ms that they live
--       4... number, kind, data of each entry, and ms of this server's clock when it was put out,
--            or ''; numbers grow, 0 is the one after the last
--
-- Entries that are there already are left out, so a call can be repeated; so are all entries of a
-- session that has ended or has been followed by another. Returns how many were new.

local key, session = KEYS[1], tonumber(ARGV[1])

local last = 0
local top = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
if top then
  local dash = string.find(top[1], '-', 1, true)
  local current = tonumber(string.sub(top[1], 1, dash - 1))
  if current > session then return 0 end
  if current == session then
    if top[2][2] == 'end' then return 0 end
    last = tonumber(string.sub(top[1], dash + 1))
  end
end

local id
local added = 0
for i = 4, #ARGV, 4 do
  local number = tonumber(ARGV[i])
  if number == 0 then number = last + 1 end
  if number > last then
    id = ARGV[1] .. '-' .. string.format('%.0f', number)
    local entry = {'kind', ARGV[i + 1], 'data', ARGV[i + 2]}
    if ARGV[i + 3] ~= '' then entry[5], entry[6] = 'at', ARGV[i + 3] end
    redis.call('XADD', key, 'MAXLEN', ARGV[2], id, unpack(entry))
    last = number
    added = added + 1
  end
end
if id then
  redis.call('PEXPIRE', key, tonumber(ARGV[3]))
  redis.call('PUBLISH', key, id)
end
return added

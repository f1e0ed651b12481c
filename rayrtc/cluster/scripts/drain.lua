#!lua flags=allow-oom
-- Asks workers or nodes to take no new connections and to end.
--
-- KEYS  what is to drain
-- ARGV  1 ms until what is left is closed  2 1 to close at once, so that clients connect again
--       3 ms that the request lives

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for _, key in ipairs(KEYS) do
  redis.call('SET', key, string.format('%.0f', now + ARGV[1]) .. ' ' .. ARGV[2], 'PX', ARGV[3])
end
return #KEYS

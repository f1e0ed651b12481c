#!lua
-- Notes where a reader of a connection's outputs stopped.
--
-- KEYS  1 the connection's places
-- ARGV  1 the output's id  2 places kept, the newest  3 s that they live

redis.call('LPUSH', KEYS[1], ARGV[1])
redis.call('LTRIM', KEYS[1], 0, ARGV[2] - 1)
redis.call('EXPIRE', KEYS[1], tonumber(ARGV[3]))

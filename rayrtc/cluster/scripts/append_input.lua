#!lua
-- Appends an entry to a worker's input stream.
--
-- KEYS  1 the stream
-- ARGV  1 the entry  2 entries kept, about  3 ms that the stream lives

redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', 'entry', ARGV[1])
redis.call('PEXPIRE', KEYS[1], tonumber(ARGV[3]))

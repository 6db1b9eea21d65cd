-- Store jobs, in their order; for each an empty text, or the place and queue of the one that holds its id.
-- ARGV: the channel, how many messages, the messages; then of each job its queue's base and name, its id, the
-- span until it is due (0: at once), its priority and its body.

local stored = {}
local first = 3 + ARGV[2]
for index = first, #ARGV, 6 do
  stored[#stored + 1] = store(
    tonumber(ARGV[index]), ARGV[index + 1], ARGV[index + 2], ARGV[index + 3], ARGV[index + 4], ARGV[index + 5])
end
for index = 3, first - 1 do tell(ARGV[1], ARGV[index]) end
return stored

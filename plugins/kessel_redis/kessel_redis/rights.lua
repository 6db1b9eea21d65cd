-- Which commands of the other scripts this user may not run. KEYS: one of the namespace. ARGV: the channel, then the
-- commands. A server before version 7 cannot tell.

local refused = {}
for index = 2, redis.acl_check_cmd and #ARGV or 0 do
  local on = ARGV[index] == 'PUBLISH' and ARGV[1] or KEYS[1]
  if not redis.acl_check_cmd(ARGV[index], on) then refused[#refused + 1] = ARGV[index] end
end
return refused

"""The Lua scripts that run inside Redis.

Nothing comes between the commands of one, and their time is Redis's own. Numbers in Lua are exact up to
2**53: whatever may be larger stays a string.
"""

from dataclasses import dataclass
from hashlib import sha1
from typing import Final

_COMMON: Final = """
local MAX_OFFSET, MAX_TAG = 9007199254740991, 1099511627775

local function whole(number)  -- tostring() would round microseconds
  return string.format('%.0f', number)
end

local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

local function time_of(entry)
  local time = entry[2][3] == 'time' and tonumber(entry[2][4])
  return time and time < MAX_OFFSET and time or 0
end

local function renew(key, seconds)  -- at most hourly: each renewal also goes to replicas and the AOF
  seconds = tonumber(seconds)
  if redis.call('TTL', key) < seconds then redis.call('EXPIRE', key, whole(seconds + 3600)) end
end

-- Return offset, tag and time of the newest entry; a log without a sound one begins anew.
local function newest(log, genesis, ttl)
  if redis.call('TYPE', log).ok == 'stream' then
    local entry = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1]
    if entry then
      local offset, tag = string.match(entry[1], '^(%d+)-(%d+)$')
      if tonumber(offset) < MAX_OFFSET and tonumber(tag) <= MAX_TAG then
        return tonumber(offset), tag, time_of(entry)
      end
    end
  end
  local now = clock()
  redis.call('DEL', log)
  redis.call('XADD', log, '0-' .. genesis, 'previous', '0', 'time', whole(now), 'name', '', 'text', '')
  renew(log, ttl)
  return 0, genesis, now
end

-- Return an entry as a head, '<id> <previous> <time> <bytes of name> <bytes of text>', then name and text.
-- The head of a damaged one is its id alone. Nested answers would take clients far longer to parse.
local function packed(entry)
  local id, f = entry[1], entry[2]
  if #f == 8 and f[1] == 'previous' and f[3] == 'time' and f[5] == 'name' and f[7] == 'text'
    and string.find(f[2], '^%d+$') and string.find(f[4], '^%d+$') then
    return table.concat({id, f[2], f[4], #f[6], #f[8]}, ' '), f[6] .. f[8]
  end
  return id, ''
end

-- Return offset and tag of the last entry until a moment, nil where the oldest is younger.
local function last_until(log, moment)
  local oldest = redis.call('XRANGE', log, '-', '+', 'COUNT', 1)[1]
  if time_of(oldest) > moment then return nil, oldest end
  local best, low = oldest, tonumber(string.match(oldest[1], '^%d+'))
  local high = tonumber(string.match(redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1][1], '^%d+')) + 1
  while high - low > 1 do  -- offsets are consecutive, so they can be halved
    local middle = math.floor((low + high) / 2)
    local entry = redis.call('XREVRANGE', log, whole(middle), '-', 'COUNT', 1)[1]
    if time_of(entry) <= moment then best, low = entry, middle else high = middle end
  end
  return best
end
"""

_APPEND: Final = """
local log, keys = KEYS[1], KEYS[2]
local tag, genesis, name, text, limits = unpack(ARGV, 1, 5)
local made, key, version = ARGV[6] or '', ARGV[7] or '', ARGV[8]
local length, age, ttl, key_age, key_ttl = string.match(limits, '^(%d+) (%d+) (%d+) (%d+) (%d+)$')
length, age, key_age = tonumber(length), tonumber(age), tonumber(key_age)
local offset, previous, now = newest(log, genesis, ttl)
now = math.max(now, clock())  -- a clock that was set back must not disorder positions in time

-- A record is '<place in its queue> <time> <value>'. Queues are fields, oldest first, with holes.
local function recall(kind, name)
  local record = redis.call('HGET', keys, kind .. name) or ''
  local place, time, value = string.match(record, '^(%d+) (%d+) (%S+)$')
  return value, place, tonumber(time)
end

local function remember(kind, name, value)
  local state = redis.call('HMGET', keys, kind .. '<', kind .. '>', kind .. '#')
  local first, last, count = tonumber(state[1]) or 0, tonumber(state[2]) or 0, tonumber(state[3]) or 0
  local _, place = recall(kind, name)
  if place then redis.call('HDEL', keys, kind .. ':' .. place) else count = count + 1 end
  last = last + 1
  redis.call('HSET', keys, kind .. name, whole(last) .. ' ' .. whole(now) .. ' ' .. value,
    kind .. ':' .. whole(last), name)
  for _ = 1, 1000 do  -- what is left over is forgotten by later appends
    if first >= last - 1 then break end
    local head = kind .. ':' .. whole(first + 1)
    local oldest = redis.call('HGET', keys, head)
    if oldest then
      local _, _, time = recall(kind, oldest)
      if count <= length and time and time >= now - key_age then break end
      redis.call('HDEL', keys, head, kind .. oldest)
      count = count - 1
    end
    first = first + 1
  end
  redis.call('HSET', keys, kind .. '<', whole(first), kind .. '>', whole(last), kind .. '#', whole(count))
  renew(keys, key_ttl)
end

if made ~= '' or key ~= '' then
  local type = redis.call('TYPE', keys).ok
  if type ~= 'hash' and type ~= 'none' then redis.call('DEL', keys) end
end
if made ~= '' then
  local id = recall('i', made)
  if id then
    local entry = redis.call('XRANGE', log, id, id)[1]
    return entry and {packed(entry)} or false
  end
end
if key ~= '' then
  local last = recall('v', key)
  if last and last >= version then return false end  -- strings of one length
end

-- By age before the append: whoever stands at the newest entry can go on from it.
if offset > 0 then
  local old = last_until(log, now - age - 1)
  if old then
    local first = math.min(tonumber(string.match(old[1], '^%d+')) + 1, offset)
    redis.call('XTRIM', log, 'MINID', '=', whole(first))
  end
end
offset = offset + 1
local id = whole(offset) .. '-' .. tag
local function add()
  return redis.pcall('XADD', log, id, 'previous', previous, 'time', whole(now), 'name', name, 'text', text)
end
local added = add()
if type(added) == 'table' and added.err and string.find(added.err, 'equal or smaller', 1, true) then
  -- The newest entry was deleted by hand, and Redis remembers its id: nobody can be told what was lost.
  redis.call('DEL', log)
  offset, previous = newest(log, genesis, ttl)
  offset, id = offset + 1, '1-' .. tag
  added = add()
end
if type(added) == 'table' and added.err then return added end
if offset > length then redis.call('XTRIM', log, 'MAXLEN', '=', whole(length)) end
renew(log, ttl)
if made ~= '' then remember('i', made, id) end
if key ~= '' then remember('v', key, version) end
return whole(offset) .. ' ' .. previous .. ' ' .. whole(now)
"""

_READ: Final = """
local log, last, limit = KEYS[1], ARGV[1], tonumber(ARGV[2])
local sound = redis.call('TYPE', log).ok == 'stream' and redis.call('XRANGE', log, last, last)[1]
local offset, tag = newest(log, ARGV[3], ARGV[4])
local tail = whole(offset) .. '-' .. tag
if not sound then return {tail} end
local heads, bodies, bytes = {}, {}, 0
while true do
  local slice = redis.call('XRANGE', log, '(' .. last, '+', 'COUNT', math.min(16, limit - #heads + 1))
  for _, entry in ipairs(slice) do
    if #heads == limit or bytes > tonumber(ARGV[5]) then
      return {tail, table.concat(heads, ','), table.concat(bodies), 1}
    end
    last = entry[1]
    local index = #heads + 1
    heads[index], bodies[index] = packed(entry)
    bytes = bytes + #bodies[index]
  end
  if #slice == 0 then return {tail, table.concat(heads, ','), table.concat(bodies), 0} end
end
"""

_TAIL: Final = """
local tails = {}
for index, log in ipairs(KEYS) do
  local offset, tag = newest(log, ARGV[1], ARGV[2])
  renew(log, ARGV[2])
  tails[index] = whole(offset) .. '-' .. tag
end
return tails
"""

_AT: Final = """
local moment, positions = clock() - tonumber(ARGV[3]), {}
for index, log in ipairs(KEYS) do
  local offset, tag, time = newest(log, ARGV[1], ARGV[2])
  positions[index] = whole(offset) .. '-' .. tag
  if time > moment then
    local entry, oldest = last_until(log, moment)
    positions[index] = entry and entry[1] or oldest[1]
    offset = tonumber(string.match(positions[index], '^%d+'))
    if not entry and offset > 0 then  -- the one before it is trimmed: its position is answered by Gone
      positions[index] = whole(offset - 1) .. '-' .. (string.match(oldest[2][2] or '', '^%d+$') or '0')
    end
  end
end
return positions
"""

_NEXT_VERSION: Final = """
local last = tonumber(redis.pcall('GET', KEYS[1])) or 0
local version = whole(math.max(last < MAX_OFFSET and last + 1 or 0, clock()))
redis.call('SET', KEYS[1], version)
return version
"""


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script, and the name by which Redis keeps it."""

    text: str
    sha: str


def _script(body: str) -> Script:
    text = _COMMON + body
    return Script(text=text, sha=sha1(text.encode(), usedforsecurity=False).hexdigest())


APPEND: Final = _script(_APPEND)
READ: Final = _script(_READ)
TAIL: Final = _script(_TAIL)
AT: Final = _script(_AT)
NEXT_VERSION: Final = _script(_NEXT_VERSION)

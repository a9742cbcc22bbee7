"""The scripts that run inside Redis: each reads or changes the history of one channel at once.

A history is a stream and a hash. An entry of the stream has the id `<offset>-0` and two fields:
`t`, the server's time in milliseconds, and `m`, the publish in its envelope (`protocol.envelopes`).
The hash has the `epoch` and the `offset` of the newest publish. Other programs may write to both,
so nothing about them is taken for granted.

Source: Redis documentation, "Scripting with Lua", "Redis Streams".
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Script:
    """A script and the hash that EVALSHA names it by."""

    text: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        digest = hashlib.sha1(self.text.encode(), usedforsecurity=False)
        object.__setattr__(self, "sha", digest.hexdigest())


_POSITION = """
local call, pcall = redis.call, redis.pcall
local stream, position = KEYS[1], KEYS[2]
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local found = call('HMGET', position, 'epoch', 'offset', 'due')
local epoch, top, due = found[1], tonumber(found[2]), tonumber(found[3])
local fresh = ARGV[1] .. string.format('%x%05x', time[1], time[2])
if not (epoch and #epoch <= 64 and string.find(epoch, '^%w+$')
    and top and top >= 0 and top < 1e14 and top % 1 == 0) then
  call('XLEN', stream)
  epoch, top, due = fresh, 0, nil
  call('HSET', position, 'epoch', epoch, 'offset', top)
  call('DEL', stream)
end
"""
# Finds the position of the channel, or begins a history. ARGV[1] makes the epoch `fresh` unique.
# XLEN raises if the key is of another type, so that DEL removes no other program's value. Numbers
# up to 1e14 become text without an exponent.

_EXPIRY = """
if not due or due < now then
  local ttl = math.ceil(ARGV[2] * 1.125)
  call('HSET', position, 'due', now + math.floor(ARGV[2] * 0.125))
  call('PEXPIRE', position, ttl + 86400000)
  call('PEXPIRE', stream, ttl)
end
"""
# Lets the history expire after the time of ARGV[2], and its position a day later: with a new epoch
# before that, offsets would begin anew for clients that recover. Both are given an eighth more, so
# that most publishes need not do this.

PUBLISH = Script(
    _POSITION
    + """
local size, command, channel, last = ARGV[3], ARGV[4], ARGV[5], #ARGV
local head, pack = string.char(193, 2, 16 + #epoch), struct.pack
local names, failed, trimmed = #KEYS > 2, false, false
local offset, done, message, id = top, 0, nil, nil
local function add(payload, trim)
  message = head .. pack('>I8I8', offset, top) .. epoch .. payload
  id = offset .. '-0'
  if trim then
    trimmed = true
    return pcall('XADD', stream, 'MAXLEN', size, id, 't', now, 'm', message)
  end
  return pcall('XADD', stream, id, 't', now, 'm', message)
end
for i = 6, last do
  local name = names and KEYS[i - 3] ~= position and KEYS[i - 3]
  if not name or call('SET', name, '', 'PX', 300000, 'NX') then
    offset = offset + 1
    local added = add(ARGV[i], i == last)
    if type(added) == 'table' and string.find(added.err, 'equal or smaller', 1, true) then
      local info = call('XINFO', 'STREAM', stream)
      for n = 1, #info, 2 do
        if info[n] == 'last-generated-id' then
          offset = tonumber(string.match(info[n + 1], '^%d+')) + 1
        end
      end
      if offset < 1e14 then
        added = add(ARGV[i], i == last)
      end
    end
    failed = type(added) == 'table' and added
    if not failed then
      local sent = pcall(command, channel, message)
      if type(sent) == 'table' then
        failed = sent
        call('XDEL', stream, id)
      end
    end
    if failed then
      if name then
        call('DEL', name)
      end
      break
    end
    top = offset
  end
  done = done + 1
end
if done == 0 then
  return failed
end
if not trimmed then
  call('XTRIM', stream, 'MAXLEN', size)
end
call('HSET', position, 'offset', top)
"""
    + _EXPIRY
    + "return {done, failed and failed.err}"
)
"""Store and send publishes of one channel, in order.

KEYS: the stream, the hash; if any publish has an id, for each publish the key of its id, or the
hash for one without. ARGV: a part of a new epoch, the milliseconds that a publish is kept, the
size, the command that publishes, the channel, the payloads.

Returns the number of publishes that are done, and the error of the next one if it failed; the error
alone if that is the first. A program that wrote to the stream made its ids higher: the offsets go
on above them. A publish that was refused after it was stored is removed.
"""

HISTORY = Script(
    _POSITION
    + _EXPIRY
    + """
local since, offset, limit, reverse = ARGV[3], ARGV[4], tonumber(ARGV[5]), ARGV[6] == '1'
local oldest, messages, room, rest = now - ARGV[2], {}, tonumber(ARGV[7]), 0
local start = reverse and '+' or '-'
if since == epoch then
  start = offset
end

local function time_of(entry)
  local fields = entry[2]
  return #fields == 4 and fields[1] == 't' and fields[3] == 'm' and tonumber(fields[2])
end

local function read(count)
  if reverse then
    return call('XREVRANGE', stream, start, '-', 'COUNT', count)
  end
  return call('XRANGE', stream, start, '+', 'COUNT', count)
end

local function number_of(entry)
  return tonumber(string.match(entry[1], '^%d+'))
end

local function skip_expired(low, high)
  while low < high do
    local middle = math.floor((low + high) / 2)
    local first = call('XRANGE', stream, middle, '+', 'COUNT', 1)[1]
    if first and (time_of(first) or 0) <= oldest then
      low = math.max(middle, number_of(first)) + 1
    else
      high = middle
    end
  end
  start = low
end

if limit > 0 then
  local entries = read(limit)
  if not reverse and entries[1] and (time_of(entries[1]) or now) <= oldest then
    skip_expired(number_of(entries[1]), top + 1)
    entries = read(limit)
  end
  for _, entry in ipairs(entries) do
    if not time_of(entry) then
      entries = read(1000000)
      break
    end
  end
  for _, entry in ipairs(entries) do
    local stored = time_of(entry)
    if stored and stored > oldest then
      messages[#messages + 1] = entry[2][4]
      room = room - #entry[2][4]
      if room <= 0 or #messages == limit then
        rest = number_of(entry) + (reverse and -1 or 1)
        break
      end
    end
  end
end
return {epoch, top, messages, rest}
"""
)
"""Read a part of a history.

KEYS: the stream, the hash. ARGV: a part of a new epoch, the milliseconds that a publish may be
read, the epoch and the first offset to read, the limit, '1' for reading backwards, the bytes of
envelopes after which to stop. In another epoch it reads from the oldest entry, or from the newest
one backwards. Expired entries are the first ones, so a search by halves finds their end. Entries of
other programs do not count.

Returns the epoch, the offset of the newest publish, the envelopes, and the offset where to go on; 0
if nothing is left.
"""

RENEW = Script(
    _POSITION
    + """
if epoch == ARGV[3] and top < tonumber(ARGV[4]) then
  epoch = fresh
  call('HSET', position, 'epoch', epoch, 'offset', top)
end
"""
    + _EXPIRY
    + "return {epoch, top}"
)
"""Give a channel another epoch if it is in the one that was seen, before the offset that was seen.

KEYS: the stream, the hash. ARGV: a part of a new epoch, the milliseconds that a publish is kept,
the epoch and the offset that were seen. Returns the epoch and the offset. The publishes that are
still there belong to the new epoch.
"""

TAKE = Script(
    """
local value = redis.call('GET', KEYS[1])
if value then
  redis.call('DEL', KEYS[1])
end
return value
"""
)
"""Remove a value and return it. KEYS: its key. GETDEL needs Redis 6.2."""

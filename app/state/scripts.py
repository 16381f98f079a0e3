"""What runs inside Redis, where a script is one step that nothing comes between.

Every reservation has a mark, a key of its own: the nano-dollars it holds, later `done`. By it each
script can be sent twice and counts once, and a reservation that Redis carries out late, after it
was given up, finds `done` and leaves everything alone. Rates and leases run by Redis' clock, so the
gateways' need not agree. Amounts stay below 2^53, where Lua's numbers are exact.

KEYS[1] is the mark, the rest are counters. ARGV[1] describes them, a JSON list with three for each:
kind, ceiling, and when it may be forgotten (0: never). What follows, the head of each script says.
An answer is one string of numbers: clients read many short replies slowly.
"""

RESERVE = """
-- ARGV: how ('new', 'more' or 'force'), id, usd, tokens, mark's seconds, lease's milliseconds.
-- Gives 1 if it was granted, 0 if not, -1 if it was given up before; and for each counter whether
-- it has room, what is used, what of it is held, and in how many milliseconds it would have room.
local described = cjson.decode(ARGV[1])
local how, id, usd, tokens = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local held = redis.call('GET', KEYS[1])
if held == 'done' then
  return '-1'
end
local more = usd - tonumber(held or '0')
local again = held and how == 'new'
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local answer, used, fits = {1}, {}, true
for i = 2, #KEYS do
  local at = (i - 2) * 3 + 1
  local key, kind, ceiling = KEYS[i], described[at], described[at + 1]
  local taken, reserved, wait, ok = 0, 0, 0, true
  if kind == 'usd' then
    local row = redis.call('HMGET', key, 't', 'h')
    taken, reserved = tonumber(row[1] or '0'), tonumber(row[2] or '0')
    ok = more < 0 or taken + math.max(more, 1) <= ceiling
  elseif kind == 'parallel' then
    redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
    taken = redis.call('ZCARD', key)
    ok = taken < ceiling
    wait = ok and 0 or 1000
  else
    local row = redis.call('HMGET', key, 'u', 'at')
    local since = math.max(now - tonumber(row[2] or now), 0)
    taken = math.max(tonumber(row[1] or '0') - since * ceiling / 60000, 0)
    local amount = kind == 'requests' and 1 or tokens
    local over = taken + math.max(amount, 1) - ceiling
    ok = over <= 0
    if not ok then
      wait = amount > ceiling and -1 or math.ceil(over * 60000 / ceiling)
    end
  end
  used[i] = taken
  fits = fits and ok
  local first = (i - 2) * 4 + 2
  answer[first], answer[first + 1] = ok and 1 or 0, string.format('%.3f', taken)
  answer[first + 2], answer[first + 3] = string.format('%.0f', reserved), wait
end
if again then
  for i = 2, #KEYS do
    answer[(i - 2) * 4 + 2] = 1
  end
  return table.concat(answer, ' ')
end
if not fits and how ~= 'force' then
  answer[1] = 0
  return table.concat(answer, ' ')
end
redis.call('SET', KEYS[1], ARGV[4], 'EX', ARGV[6])
for i = 2, #KEYS do
  local at = (i - 2) * 3 + 1
  local key, kind, ceiling, forget = KEYS[i], described[at], described[at + 1], described[at + 2]
  local first = (i - 2) * 4 + 2
  answer[first] = 1
  if kind == 'usd' then
    local by = string.format('%.0f', more)
    local total = redis.call('HINCRBY', key, 't', by)
    answer[first + 1] = string.format('%.0f', total)
    answer[first + 2] = string.format('%.0f', redis.call('HINCRBY', key, 'h', by))
    if forget > 0 and used[i] == 0 then
      redis.call('EXPIREAT', key, forget)
    end
  elseif kind == 'parallel' then
    answer[first + 1] = used[i] + redis.call('ZADD', key, now + ARGV[7], id)
    redis.call('PEXPIRE', key, ARGV[7] * 2)
  else
    local after = used[i] + (kind == 'requests' and 1 or tokens)
    redis.call('HSET', key, 'u', string.format('%.6f', after), 'at', now)
    redis.call('PEXPIRE', key, math.ceil(after * 60000 / ceiling) + 1000)
    answer[first + 1] = string.format('%.3f', after)
  end
end
return table.concat(answer, ' ')
"""

SETTLE = """
-- ARGV: how ('true', or 'undo' for a reservation that may never have been made), id, true usd, true
-- tokens, tokens that were asked, done's seconds. Gives total and held of each sum of money.
local described = cjson.decode(ARGV[1])
local how, id, usd = ARGV[2], ARGV[3], tonumber(ARGV[4])
local held = redis.call('GET', KEYS[1])
if held == 'done' then
  return ''
end
redis.call('SET', KEYS[1], 'done', 'EX', ARGV[7])
if how == 'undo' and not held then
  return ''
end
local answer = {}
local reserved = tonumber(held or '0')
if how == 'undo' then
  usd = 0
end
for i = 2, #KEYS do
  local at = (i - 2) * 3 + 1
  local key, kind, ceiling, forget = KEYS[i], described[at], described[at + 1], described[at + 2]
  if kind == 'usd' then
    local by = string.format('%.0f', usd - reserved)
    answer[#answer + 1] = string.format('%.0f', redis.call('HINCRBY', key, 't', by))
    by = string.format('%.0f', held and 0 - reserved or 0)
    answer[#answer + 1] = string.format('%.0f', redis.call('HINCRBY', key, 'h', by))
    if forget > 0 and not held then
      redis.call('EXPIREAT', key, forget)
    end
  elseif kind == 'parallel' then
    redis.call('ZREM', key, id)
  elseif redis.call('EXISTS', key) == 1 then
    if kind == 'tokens' then
      local change = tonumber(ARGV[5]) - (held and tonumber(ARGV[6]) or 0)
      local after = tonumber(redis.call('HGET', key, 'u')) + change
      redis.call('HSET', key, 'u', string.format('%.6f', math.max(after, 0)))
      local ms = math.ceil(math.max(after, 0) * 60000 / ceiling) + 1000
      redis.call('PEXPIRE', key, ms + 60000)
    elseif how == 'undo' then
      local after = tonumber(redis.call('HGET', key, 'u')) - 1
      redis.call('HSET', key, 'u', string.format('%.6f', math.max(after, 0)))
    end
  end
end
return table.concat(answer, ' ')
"""

CARRY = """
-- Here counters are sums of money alone, and the three of each are: what a gateway has seen
-- settled, what it has spent by itself meanwhile, and when it may be forgotten.
-- ARGV[2]: the mark's seconds. Gives total and held of each.
local described = cjson.decode(ARGV[1])
local first = redis.call('SET', KEYS[1], 'done', 'NX', 'EX', ARGV[2])
local answer = {}
for i = 2, #KEYS do
  local at = (i - 2) * 3 + 1
  local key, seen, more, forget = KEYS[i], described[at], described[at + 1], described[at + 2]
  local row = redis.call('HMGET', key, 't', 'h')
  local total, held = tonumber(row[1] or '0'), tonumber(row[2] or '0')
  if first then
    -- What is settled never grows less, unless Redis has lost what it knew.
    more = math.max(seen - (total - held), 0) + more
    total = redis.call('HINCRBY', key, 't', string.format('%.0f', more))
    if forget > 0 then
      redis.call('EXPIREAT', key, forget)
    end
  end
  answer[#answer + 1] = string.format('%.0f', total)
  answer[#answer + 1] = string.format('%.0f', held)
end
return table.concat(answer, ' ')
"""

RENEW = """
-- KEYS: one set of leases, or of processes. ARGV: milliseconds, 'XX' to renew only what is there
-- or 'CH' for all, then ids. Gives how many there are.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
for i = 3, #ARGV do
  redis.call('ZADD', KEYS[1], ARGV[2], now + ARGV[1], ARGV[i])
end
redis.call('PEXPIRE', KEYS[1], ARGV[1] * 2)
return redis.call('ZCARD', KEYS[1])
"""

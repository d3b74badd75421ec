-- Lifts the fields that a decision needs from the top level of a JSON body.
-- json_to_metadata can do this too, but parses the whole prompt; this skips over it from quote to quote.

local byte, char, find, match, sub = string.byte, string.char, string.find, string.match, string.sub
local QUOTE, COLON, COMMA, BACKSLASH, N = 34, 58, 44, 92, 110
local OPEN_LIST, OPEN_OBJECT, CLOSE_OBJECT = 91, 123, 125
local MARK = "\239\187\191" -- of the byte order, which model servers skip
local LITERALS = {["true"] = true, ["false"] = false}
local SEQUENCES = {
  "[\194-\223][\128-\191]", "\224[\160-\191][\128-\191]", "\237[\128-\159][\128-\191]",
  "[\225-\236\238\239][\128-\191][\128-\191]", "\240[\144-\191][\128-\191][\128-\191]",
  "[\241-\243][\128-\191][\128-\191][\128-\191]", "\244[\128-\143][\128-\191][\128-\191]",
} -- of UTF-8, RFC 3629 section 4
local LONGEST = 200 -- bytes that a name we know takes at most, with every character escaped
local MOST_STEPS = 262144 -- that a body may take, each under a microsecond: other requests wait for them
local MEMBER = 128 -- steps of a field of the top level; a number of many digits takes that long
local ESCAPES = {b = "\b", f = "\f", n = "\n", r = "\r", t = "\t"}
local left -- steps that the body at hand may still take

-- Returns the first byte from `at` on that is not white space, and its position.
local function next_byte(json, at)
  local found = byte(json, at)
  while found == 32 or found == 10 or found == 13 or found == 9 do
    at = at + 1
    found = byte(json, at)
  end
  return found, at
end

-- Returns the position of the closing quote of a string that begins before `at`, nil if there is none.
local function string_end(json, at)
  while true do
    local quote = find(json, '"', at, true)
    if not quote then return nil end
    local before = quote - 1
    while byte(json, before) == BACKSLASH do before = before - 1 end
    if (quote - before) % 2 == 1 then return quote end -- an even number of backslashes: the quote is not escaped
    at = quote + 1
  end
end

-- Returns where the list or object that begins at `at` ends, nil if it does not, or not before no steps are left.
local function nested_end(json, at)
  local depth = 0
  while true do
    at = find(json, '["{}%[%]]', at)
    local found = at and byte(json, at)
    if found == QUOTE then
      at = string_end(json, at + 1)
    elseif found == OPEN_OBJECT or found == OPEN_LIST then
      depth = depth + 1
    elseif found then
      depth = depth - 1
      if depth == 0 then return at end
    end
    left = left - 1
    if not at or left < 0 then return nil end
    at = at + 1
  end
end

local function utf8_of(code)
  if code < 0x80 then return char(code) end
  if code < 0x800 then return char(0xC0 + bit.rshift(code, 6), 0x80 + bit.band(code, 63)) end
  local last = char(0x80 + bit.band(bit.rshift(code, 6), 63), 0x80 + bit.band(code, 63))
  if code < 0x10000 then return char(0xE0 + bit.rshift(code, 12)) .. last end
  return char(0xF0 + bit.rshift(code, 18), 0x80 + bit.band(bit.rshift(code, 12), 63)) .. last
end

local function pair(a, b, c, d)
  return utf8_of(0x10000 + ((byte(a) - 160) * 64 + byte(b) - 128) * 0x400 + (byte(c) - 176) * 64 + byte(d) - 128)
end

local function unescaped(text)
  if not find(text, "\\", 1, true) then return text end
  text = text:gsub("\\(.)(%x?%x?%x?%x?)", function(kind, digits)
    if kind == "u" then return utf8_of(tonumber(digits, 16) or 0) end
    return (ESCAPES[kind] or kind) .. digits
  end)
  -- A surrogate pair of escapes has become six bytes by now.
  return (text:gsub("\237([\160-\175])([\128-\191])\237([\176-\191])([\128-\191])", pair))
end

local function is_utf8(text)
  if not find(text, "[\128-\255]") then return true end
  for _, sequence in ipairs(SEQUENCES) do text = text:gsub(sequence, " ") end
  return not find(text, "[\128-\255]")
end

-- Returns the string from `first` to `last`, nil if it is not UTF-8; only the beginning of a long one. A character
-- takes six bytes as an escape, twelve as a surrogate pair.
local function text_of(json, first, last)
  local most = F.longest_text
  left = left - math.min(last - first, 6 * most)
  local text = unescaped(sub(json, first, math.min(last, first + 6 * most + 11)))
  if #text > most then return sub(text, 1, most) end
  return is_utf8(text) and text or nil
end

-- Returns where the value at `at` ends, nil if there is none; and its value if it is a number, true or false.
local function value_end(json, at)
  local first = byte(json, at)
  if first == QUOTE then return string_end(json, at + 1) end
  if first == OPEN_OBJECT or first == OPEN_LIST then return nested_end(json, at) end
  local word = match(json, "^%l+", at)
  if word then
    return (word == "null" or LITERALS[word] ~= nil) and at + #word - 1 or nil, LITERALS[word]
  end
  local digits = match(json, "^-?%d[%d.eE+-]*", at)
  local number = digits and tonumber(digits)
  return number and at + #digits - 1, number
end

-- Returns the strings, numbers and booleans of the object `json` under the names in F.lifted; true under each name in
-- F.noted whose value is not null; and `json` as true. The table is empty when `json` is not an object, is cut, or a
-- lifted string is not UTF-8; it lacks `json` when no steps are left. No more is checked: the server reports a body
-- that is broken inside.
function lift(json)
  local found = {}
  left = MOST_STEPS
  local first, at = next_byte(json, sub(json, 1, #MARK) == MARK and #MARK + 1 or 1)
  if first ~= OPEN_OBJECT then return {} end
  first, at = next_byte(json, at + 1)
  while first ~= CLOSE_OBJECT do
    left = left - MEMBER
    if left < 0 then return found end
    local last = first == QUOTE and string_end(json, at + 1)
    if not last then return {} end
    local name = last - at <= LONGEST and unescaped(sub(json, at + 1, last - 1))
    first, at = next_byte(json, last + 1)
    if first ~= COLON then return {} end
    first, at = next_byte(json, at + 1)
    local value
    last, value = value_end(json, at)
    if not last then return left < 0 and found or {} end
    if F.lifted[name] then
      if first == QUOTE then
        value = text_of(json, at + 1, last - 1)
        if not value then return {} end
      end
      found[name] = value
    elseif F.noted[name] then
      found[name] = first ~= N or nil -- no other value begins like null
    end
    first, at = next_byte(json, last + 1)
    if first == COMMA then
      first, at = next_byte(json, at + 1)
      if first == CLOSE_OBJECT then return {} end
    elseif first ~= CLOSE_OBJECT then
      return {}
    end
  end
  if next_byte(json, at + 1) then return {} end -- something after its end
  found.json = true
  return found
end

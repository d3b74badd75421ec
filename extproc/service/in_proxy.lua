-- Dualpool's decision inside the proxy, by the fields lifted from the body and its size. F holds the figures.
-- Follows Router.decide_by_size of the service step by step.

local CRC = {}
for i = 0, 255 do
  local c = i
  for _ = 1, 8 do
    c = bit.band(c, 1) == 1 and bit.bxor(bit.rshift(c, 1), 0xEDB88320) or bit.rshift(c, 1)
  end
  CRC[i] = c
end

local function crc32(text)
  local c = bit.bnot(0)
  for i = 1, #text do
    c = bit.bxor(bit.rshift(c, 8), CRC[bit.band(bit.bxor(c, text:byte(i)), 255)])
  end
  return bit.bnot(c) % 4294967296
end

local function in_rollout(key)
  return F.rollout_steps >= 10000 or (key ~= "" and crc32(key) % 10000 < F.rollout_steps)
end

local function api_of(path)
  local bare = path:match("^[^?]*")
  for _, known in ipairs(F.apis) do
    if bare:sub(-#known[1]) == known[1] then return known[2] end
  end
end

local function whole(value, least)
  return type(value) == "number" and value % 1 == 0 and value >= least
end

local function text(value)
  return type(value) == "string" and value or ""
end

-- Whether a field is there and true in the sense of Python.
local function said(value)
  return value and value ~= "" and value ~= 0 and true or false
end

local function optional(value, kind)
  return value == nil or type(value) == kind
end

local function quoted(value)
  if not value:find('[%c"\\]') then return '"' .. value .. '"' end
  return '"' .. value:gsub('[%c"\\]', function(c) return string.format("\\u%04x", c:byte()) end) .. '"'
end

-- Returns the facts in the lifted fields (model, cap, choices, conversation ...), or nil and why there are none.
local function read_lifted(api, lifted)
  if lifted.json ~= true then return nil, "not_json" end
  if api == "responses" and (lifted.conversation or lifted.prompt or lifted.previous_input_messages) then
    return nil, "stored_prompt"
  end
  if said(lifted.previous_response_id) then
    return nil, "stored_prompt"
  end
  local cap
  for _, name in ipairs(F.caps[api] or {}) do
    if cap == nil then cap = lifted[name] end
  end
  local truncated_to = lifted.truncate_prompt_tokens
  local cut = truncated_to ~= nil
  for _, name in ipairs(F.cut_sides) do cut = cut or said(lifted[name]) end
  local choices = lifted.n
  if choices == nil then choices = 1 end
  if not (optional(lifted.model, "string") and optional(lifted.stream, "boolean") and whole(choices, 1)
      and (cap == nil or whole(cap, 0)) and (truncated_to == nil or whole(truncated_to, -1))) then
    return nil, "wrong_type"
  end
  local conversation = text(lifted.prompt_cache_key)
  if conversation == "" then conversation = text(lifted.user) end
  return {
    model = lifted.model or "",
    cap = F.uncapped[api] and 0 or cap and math.min(cap, F.largest_cap),
    choices = math.min(choices, F.largest_cap),
    truncated_to = truncated_to and math.min(truncated_to, F.largest_cap),
    teaches = not cut,
    conversation = conversation,
  }
end

-- Returns the name under which figures of a model are kept.
local function key_of(model)
  return F.by_model and #model <= F.model_bytes and model or ""
end

local function figures_of(model, category)
  local key = key_of(model)
  return F.figures[category][key] or F.of_models[key] or F.others
end

local function smallest_fit(pools, upper, reserve, known)
  if not known then return pools[#pools], "no_output_cap" end
  for _, pool in ipairs(pools) do
    if upper + reserve <= pool.capacity then return pool, "fits" end
  end
  return pools[#pools], "too_long"
end

-- The part of an observation that depends on the pool alone is built once.
for _, pools in pairs(F.sets) do
  for _, pool in ipairs(pools) do
    local largest = pool == pools[#pools]
    pool.said = string.format('"pool":%s,"capacity":%d,"largest":%s}', quoted(pool.name), pool.capacity, tostring(largest))
  end
end

local function observation(api, facts, category, estimate, size, pool)
  return string.format(
    '{"model":%s,"category":%s,"basis":"raw","features":[%.0f%s],"estimate":%.0f,"cap":%s,"prompts":%d,'
      .. '"choices":%.0f,"teaches":%s,%s',
    quoted(key_of(facts.model)), quoted(category), size, F.no_more_features, estimate,
    facts.cap and string.format("%.0f", facts.cap) or "null", F.batch[api] and 0 or 1, facts.choices,
    tostring(facts.teaches), pool.said)
end

local function pools_of(model)
  return F.sets[F.models[model] or "default"]
end

local function unread(reason, model)
  local pools = pools_of(model or "")
  return {pool = pools[#pools].name, chosen = pools[#pools].name, reason = reason}
end

local function routed(api, head, facts, size)
  local pools = pools_of(facts.model)
  local largest = pools[#pools]
  local category = F.figures[head.category] and head.category or "all"
  local figures = figures_of(facts.model, category)
  local estimate, upper, source = math.ceil(size / figures.mean), math.ceil(size / figures.careful), figures.source
  local most = facts.truncated_to
  if most and most > 0 then estimate, upper, source = most, most, "exact" end
  local reserve, reserve_source = figures.reserve, figures.reserve_source
  if facts.cap then reserve, reserve_source = facts.cap, "cap" end
  local chosen, reason = smallest_fit(pools, upper, reserve, reserve_source ~= "unknown")
  local pool = chosen
  local conversation = head.conversation ~= "" and head.conversation or facts.conversation
  if F.shadow then
    pool, reason = largest, "shadow"
  elseif not in_rollout(conversation ~= "" and conversation or head.request_id) then
    pool, reason = largest, "rollout"
  end
  return {
    pool = pool.name, chosen = chosen.name, reason = reason, estimate = estimate, upper = upper,
    source = source, reserve = reserve, reserve_source = reserve_source, budget = upper + reserve,
    model = key_of(facts.model), category = category,
    observation = observation(api, facts, category, estimate, size, pool),
  }
end

local one_set = next(F.models) == nil -- then the largest pool is the same for every model

-- head: method, path, category, conversation, request_id. size: the content-length in bytes, nil if unknown.
-- wait: waits for the body and returns its size, nil if that cannot be known. lifted: returns the lifted fields.
function decide(head, size, wait, lifted)
  local api = api_of(head.path)
  if not api then return unread("unknown_path") end
  if head.method ~= "POST" then return unread("not_post") end
  local most = F.batch[api] and F.largest_body or F.oversize
  if size and size > most and one_set then return unread("oversized") end
  size = wait()
  if not size then return unread("no_length") end
  if size == 0 then return unread("no_body") end
  if size > most and one_set then return unread("oversized") end
  local fields = lifted()
  local facts, reason = read_lifted(api, fields)
  if not facts then return unread(reason, text(fields.model)) end
  if size > most then return unread("oversized", facts.model) end
  return routed(api, head, facts, size)
end

local function header(headers, name)
  return headers:get(name) or ""
end

-- Returns the last value of a header.
local function last_of(headers, name)
  local values = name and headers:getNumValues(name) or 0
  return values > 0 and headers:getAtIndex(name, values - 1) or ""
end

-- A body without a content type is read too: whether it is JSON, parsing shows.
local function may_be_json(content_type)
  if content_type == "application/json" or content_type == "" then return true end
  return (content_type:lower() .. ";"):find("^%s*application/json%s*;") ~= nil
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local length = tonumber(header(headers, "content-length"):match("^%d+$"))
  local read = may_be_json(header(headers, "content-type"))
  local body, size
  local function wait()
    if length == 0 or not read then return length end
    body = handle:body() -- nil if there is none
    size = body and body:length() or 0
    return size
  end
  local function lifted()
    return body and lift(body:getBytes(0, size)) or {}
  end
  local decision = decide({
    method = header(headers, ":method"),
    path = header(headers, ":path"),
    category = last_of(headers, F.category_header),
    conversation = last_of(headers, F.conversation_header),
    request_id = F.rollout_steps < 10000 and header(headers, "x-request-id") or "",
  }, length, wait, lifted)
  -- Each key costs Envoy 2 to 7 µs, so there are few.
  local metadata = handle:streamInfo():dynamicMetadata()
  metadata:set("dualpool", "pool", decision.pool)
  metadata:set("dualpool", "reason", decision.reason)
  if decision.chosen ~= decision.pool then metadata:set("dualpool", "in_proxy", decision.chosen) end
  if decision.observation then metadata:set("dualpool", "observation", decision.observation) end
  handle:headers():replace(F.header, decision.pool) -- headers() again: the handle from before the wait is no longer valid
  handle:clearRouteCache()
end

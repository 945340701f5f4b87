//! What is done in Redis: one script for each step, each atomic to all others.
//!
//! | key | what |
//! |---|---|
//! | `call:<workspace>\0<id>` | a hash: what is kept of a call, a field for each version and query; before each value [two numbers](STAMP) |
//! | `index:<workspace>` | a sorted set: the ids of the calls that are kept, by when they are of no more use (ms) |
//! | `bytes:<workspace>` | how long their values are together |
//! | `tombstones` | a sorted set: what was erased, `<workspace>\0<id>`, without an id all of it, by when (µs) |
//! | `lease:<digest>` | the token of the flight that asks the vendor |
//! | `waited:<token>` | that other replicas wait for what that flight brings |
//! | `landed:<token>` | what it brought, for seconds |
//!
//! Times are Redis's own: one clock for all replicas.

use crate::replicas::Script;

/// How long the numbers are that stand before a value, together: when the vendor last changed the record (ms, 0 where it
/// does not say) and when it gave it (Redis's clock, µs), 16 decimal digits each.
pub(super) const STAMP: usize = 32;

/// Whether what is to be put in the place of a field was given before what is there: a record with an older change, or
/// where one of them does not say, one that was given earlier.
macro_rules! is_older {
    () => {
        "local function older(there, updated, given)
        if not there then return false end
        local u, g = tonumber(string.sub(there, 1, 16)), tonumber(string.sub(there, 17, 32))
        if not u or not g then return false end
        if u > 0 and updated > 0 and u ~= updated then return updated < u end
        return given < g
    end
    "
    };
}

/// Writes a tombstone, later than all others, and tells everybody.
macro_rules! bury {
    () => {
        "local t = redis.call('TIME')
    local at = t[1] * 1000000 + t[2]
    redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', at - ARGV[2] * 1000)
    local last = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')
    if last[2] and tonumber(last[2]) >= at then at = last[2] + 1 end
    redis.call('ZADD', KEYS[1], at, ARGV[1])
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
    redis.call('PUBLISH', KEYS[2], 'erased')
    "
    };
}

/// Forgets all entries of a call; their fields.
macro_rules! forget {
    () => {
        "local function forget(call, index, bytes, id)
        local fields, size = redis.call('HKEYS', call), 0
        for _, field in ipairs(fields) do size = size + redis.call('HSTRLEN', call, field) end
        redis.call('UNLINK', call)
        redis.call('ZREM', index, id)
        redis.call('DECRBY', bytes, size)
        return fields
    end
    "
    };
}

/// `call index bytes tombstones`; field, value with its stamp, when it is of no more use (ms), id, both tombstones that
/// would forbid it. What became of it: `kept`, or why not: `erased`, `older`, or `over` where it is of no more use.
pub(super) const KEEP: Script = Script::new(concat!(
    is_older!(),
    "local updated, given = tonumber(string.sub(ARGV[2], 1, 16)), tonumber(string.sub(ARGV[2], 17, 32))
    for i = 5, 6 do
        local erased = redis.call('ZSCORE', KEYS[4], ARGV[i])
        if erased and tonumber(erased) >= given then return {'erased'} end
    end
    local there = redis.call('HGET', KEYS[1], ARGV[1])
    if older(there, updated, given) then return {'older'} end
    local t = redis.call('TIME')
    local left = ARGV[3] - (t[1] * 1000 + math.floor(t[2] / 1000))
    if left <= 0 then return {'over'} end
    local score = tonumber(redis.call('ZSCORE', KEYS[2], ARGV[4]) or 0)
    local longest = math.max(left, score - (tonumber(ARGV[3]) - left))
    redis.call('ZADD', KEYS[2], math.max(score, ARGV[3]), ARGV[4])
    redis.call('INCRBY', KEYS[3], #ARGV[2] - (there and #there or 0))
    redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
    redis.call('PEXPIRE', KEYS[1], longest + 3600000)
    return {'kept'}",
));

/// `call`; field.
pub(super) const GET: Script = Script::new("return {redis.call('HGET', KEYS[1], ARGV[1]) or ''}");

/// `call index bytes`; field, id, a stamp: of what says that it is no longer so. How many entries were forgotten.
pub(super) const REMOVE: Script = Script::new(concat!(
    is_older!(),
    "local there = redis.call('HGET', KEYS[1], ARGV[1])
    if not there then return {0} end
    if older(there, tonumber(string.sub(ARGV[3], 1, 16)), tonumber(string.sub(ARGV[3], 17, 32))) then
        return {0}
    end
    redis.call('HDEL', KEYS[1], ARGV[1])
    redis.call('DECRBY', KEYS[3], #there)
    if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('ZREM', KEYS[2], ARGV[2]) end
    return {1}",
));

/// `tombstones channel`; member, ms it is kept. Says to everybody, now and later, that this is to be forgotten. When
/// that was.
pub(super) const BURY: Script = Script::new(concat!(bury!(), "return {at}"));

/// `tombstones channel call index bytes`; member, ms it is kept, id. The same for one call, which is forgotten with it:
/// when that was, and the fields that there were.
pub(super) const BURY_CALL: Script = Script::new(concat!(
    bury!(),
    forget!(),
    "local fields = forget(KEYS[3], KEYS[4], KEYS[5], ARGV[3])
    table.insert(fields, 1, at)
    return fields",
));

/// `call index bytes`; id. Forgets all entries of a call; their fields.
pub(super) const ERASE: Script =
    Script::new(concat!(forget!(), "return forget(KEYS[1], KEYS[2], KEYS[3], ARGV[1])"));

/// `call index bytes`; id. The same where the call is of no more use: whether it was.
pub(super) const EXPIRE: Script = Script::new(concat!(
    forget!(),
    "local t = redis.call('TIME')
    local score = redis.call('ZSCORE', KEYS[2], ARGV[1])
    if not score or tonumber(score) > t[1] * 1000 + math.floor(t[2] / 1000) then return {0} end
    forget(KEYS[1], KEYS[2], KEYS[3], ARGV[1])
    return {1}",
));

/// `index`; how many. The ids of calls that are kept.
pub(super) const SOME: Script = Script::new("return redis.call('ZRANGE', KEYS[1], 0, ARGV[1] - 1)");

/// `call`. The fields of a call, each with its value.
pub(super) const ENTRIES: Script = Script::new("return redis.call('HGETALL', KEYS[1])");

/// `index`; how many. The ids of calls that are of no more use.
pub(super) const EXPIRED: Script = Script::new(
    "local t = redis.call('TIME')
    local now = t[1] * 1000 + math.floor(t[2] / 1000)
    return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])",
);

/// `index bytes`. How many calls are kept, and how long they are together.
pub(super) const TOTALS: Script = Script::new(
    "local calls = redis.call('ZCARD', KEYS[1])
    if calls == 0 then redis.call('DEL', KEYS[2]) end
    return {calls, redis.call('GET', KEYS[2]) or '0'}",
);

/// `tombstones`; the last one known, how many. Whether the last one known lies beyond all that can be, and so says nothing
/// about these; then what was erased since, each with its time, oldest first.
pub(super) const SINCE: Script = Script::new(
    "local t = redis.call('TIME')
    local last, most = ARGV[1], t[1] * 1000000 + t[2]
    local newest = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')
    if newest[2] and tonumber(newest[2]) > most then most = tonumber(newest[2]) end
    local beyond = tonumber(last) > most
    if beyond then last = '0' end
    local stones = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. last, '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[2])
    table.insert(stones, 1, beyond and 'beyond' or '')
    return stones",
);

/// `tombstones channel`; ms they are kept, then members and times. Puts back what a Redis that lost them should know.
/// Those that it had lost: what they are about may have come back with an older state.
pub(super) const RECALL: Script = Script::new(
    "local lost = {}
    for i = 2, #ARGV, 2 do
        if redis.call('ZADD', KEYS[1], 'NX', ARGV[i + 1], ARGV[i]) == 1 then table.insert(lost, ARGV[i]) end
    end
    redis.call('PEXPIRE', KEYS[1], ARGV[1])
    if #lost > 0 then redis.call('PUBLISH', KEYS[2], 'erased') end
    return lost",
);

/// `lease call`; token, ms it lasts, field or nothing, whether to take it, the name of `waited` but for its token.
/// What is kept, else whether the lease was taken (`won`), is free, or is another's, who then learns that it is waited
/// for. One that would last longer than it may is nobody's.
pub(super) const BOARD: Script = Script::new(
    "if ARGV[3] ~= '' then
        local kept = redis.call('HGET', KEYS[2], ARGV[3])
        if kept then return {'kept', kept} end
    end
    local holder, left = redis.call('GET', KEYS[1]), redis.call('PTTL', KEYS[1])
    if holder and left >= 0 and left <= tonumber(ARGV[2]) then
        redis.call('SET', ARGV[5] .. holder, '1', 'PX', 60000)
        return {'held', holder}
    end
    if ARGV[4] ~= '1' then return {'free', ''} end
    redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
    return {'won', ''}",
);

/// `lease`; token, ms it lasts on.
pub(super) const RENEW: Script = Script::new(
    "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
    return {}",
);

/// `lease landed waited`; token, ms that a lease lasts. What the flight brought, and who holds the lease by now.
pub(super) const LOOK: Script = Script::new(
    "local holder, left = redis.call('GET', KEYS[1]) or '', redis.call('PTTL', KEYS[1])
    if left < 0 or left > tonumber(ARGV[2]) then holder = '' end
    if holder == ARGV[1] then redis.call('SET', KEYS[3], '1', 'PX', 60000) end
    return {redis.call('GET', KEYS[2]) or '', holder}",
);

/// `lease waited landed channel`; token, what was brought or nothing, ms it is held ready.
pub(super) const LAND: Script = Script::new(
    "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
    if redis.call('DEL', KEYS[2]) == 1 then
        if ARGV[2] ~= '' then redis.call('SET', KEYS[3], ARGV[2], 'PX', ARGV[3]) end
        redis.call('PUBLISH', KEYS[4], ARGV[1])
    end
    return {}",
);

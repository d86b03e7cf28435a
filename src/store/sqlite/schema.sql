-- Money is billionths of a dollar; times are nanoseconds since 1970 in UTC; ids are the 16 bytes of a UUID.

CREATE TABLE tollgate_meta (
    name TEXT PRIMARY KEY NOT NULL,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE tollgate_keys (
    id BLOB PRIMARY KEY NOT NULL,
    name TEXT NOT NULL UNIQUE,
    digest BLOB NOT NULL UNIQUE,
    last4 TEXT NOT NULL,
    version INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    disabled INTEGER NOT NULL,
    user TEXT,
    team TEXT,
    org TEXT,
    policy TEXT NOT NULL
) STRICT;

CREATE TABLE tollgate_pots (
    scope_kind TEXT NOT NULL,
    scope_id TEXT NOT NULL,
    window TEXT NOT NULL,
    window_start INTEGER NOT NULL,
    spent INTEGER NOT NULL,
    held INTEGER NOT NULL,
    PRIMARY KEY (scope_kind, scope_id, window)
) STRICT, WITHOUT ROWID;

-- One row a process that is alive, or was until just now: so few that an index would cost more than it saves.
CREATE TABLE tollgate_sessions (
    id BLOB PRIMARY KEY NOT NULL,
    alive_until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- `actual` is what it counts as: NULL while it is live, the grant when it is forfeited. `pots` is
-- [[kind, id, window, start], ...]; `asks` is how often it was asked for.
CREATE TABLE tollgate_reservations (
    id BLOB PRIMARY KEY NOT NULL,
    session BLOB,
    state TEXT NOT NULL CHECK (state IN ('live', 'forfeited', 'settled')),
    granted INTEGER NOT NULL,
    remaining INTEGER NOT NULL,
    actual INTEGER,
    at INTEGER NOT NULL,
    pots TEXT NOT NULL,
    asks INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX tollgate_reservations_live ON tollgate_reservations (session) WHERE state = 'live';

CREATE TABLE tollgate_meters (
    scope_kind TEXT NOT NULL,
    scope_id TEXT NOT NULL,
    measure TEXT NOT NULL,
    full_at INTEGER NOT NULL,
    refunded INTEGER NOT NULL,
    taken INTEGER NOT NULL,
    PRIMARY KEY (scope_kind, scope_id, measure)
) STRICT, WITHOUT ROWID;

CREATE TABLE tollgate_permit_sessions (
    id BLOB PRIMARY KEY NOT NULL,
    alive_until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- `taken` is [[kind, id, measure, most, amount, full_at, refunded], ...]; `freed_at` is when the session fell silent.
CREATE TABLE tollgate_permits (
    id BLOB PRIMARY KEY NOT NULL,
    session BLOB NOT NULL,
    taken TEXT NOT NULL,
    freed_at INTEGER,
    asks INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX tollgate_permits_by_session ON tollgate_permits (session);
CREATE INDEX tollgate_permits_freed ON tollgate_permits (freed_at) WHERE freed_at IS NOT NULL;

-- `record` is the whole record as JSON; the columns before it are what one asks for most.
CREATE TABLE tollgate_audit (
    id BLOB PRIMARY KEY NOT NULL,
    opened_at INTEGER NOT NULL,
    key_id BLOB,
    key_name TEXT,
    user TEXT,
    team TEXT,
    org TEXT,
    model TEXT,
    end TEXT NOT NULL,
    status INTEGER,
    input_tokens INTEGER,
    cache_read_tokens INTEGER,
    cache_write_tokens INTEGER,
    output_tokens INTEGER,
    granted_nanos INTEGER,
    charged_nanos INTEGER,
    cost_nanos INTEGER,
    took_us INTEGER NOT NULL,
    record TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX tollgate_audit_by_time ON tollgate_audit (opened_at);

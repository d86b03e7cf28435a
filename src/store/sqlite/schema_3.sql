-- What is kept of what prompts and answers held. `body` is what `keep` says; `hash` is of it under `salt`.
CREATE TABLE tollgate_content (
    call BLOB NOT NULL,
    side TEXT NOT NULL,
    at INTEGER NOT NULL,
    key_id BLOB,
    user TEXT,
    keep TEXT NOT NULL,
    left_out TEXT,
    is_whole INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    media_type TEXT,
    coding TEXT,
    salt BLOB,
    hash BLOB,
    body BLOB,
    PRIMARY KEY (call, side)
) STRICT;

CREATE INDEX tollgate_content_by_time ON tollgate_content (at);
CREATE INDEX tollgate_content_by_key ON tollgate_content (key_id) WHERE key_id IS NOT NULL;
CREATE INDEX tollgate_content_by_user ON tollgate_content (user) WHERE user IS NOT NULL;

-- What is held back for users who want a digest, and who is named in documents (notify_).

-- A notification that its user is told of later. It is in no feed and counts as unread nowhere until then.
CREATE TABLE notify_held (
    id         TEXT COLLATE "C" NOT NULL PRIMARY KEY CHECK (id <> ''),
    user_id    TEXT COLLATE "C" NOT NULL REFERENCES auth_users (id) ON DELETE CASCADE,
    project_id TEXT COLLATE "C" REFERENCES project_projects (id) ON DELETE CASCADE,
    -- The last event of the group.
    event_id   TEXT COLLATE "C" NOT NULL,
    kind       TEXT COLLATE "C" NOT NULL CHECK (kind <> ''),
    group_key  TEXT COLLATE "C",
    grouped    BIGINT NOT NULL DEFAULT 1 CHECK (grouped >= 1),
    data       JSON   NOT NULL,
    created_at BIGINT NOT NULL CHECK (created_at >= 0),
    -- By the clock of the node that made it.
    due_at     BIGINT NOT NULL CHECK (due_at >= 0),
    UNIQUE (user_id, event_id)
);

CREATE INDEX notify_held_due ON notify_held (due_at);
CREATE INDEX notify_held_group ON notify_held (user_id, group_key) WHERE group_key IS NOT NULL;
CREATE INDEX notify_held_project ON notify_held (project_id) WHERE project_id IS NOT NULL;

-- Up to which update a document was searched for names.
CREATE TABLE notify_scanned (
    document_id TEXT COLLATE "C" NOT NULL PRIMARY KEY REFERENCES collab_documents (id) ON DELETE CASCADE,
    seq         BIGINT NOT NULL CHECK (seq >= 0)
);

-- Documents that are there already are looked at when they change.
INSERT INTO notify_scanned (document_id, seq) SELECT id, head FROM collab_documents WHERE head > 0;

-- Who is named in a document and was told of it.
CREATE TABLE notify_mentions (
    document_id TEXT COLLATE "C" NOT NULL REFERENCES collab_documents (id) ON DELETE CASCADE,
    user_id     TEXT COLLATE "C" NOT NULL REFERENCES auth_users (id) ON DELETE CASCADE,
    PRIMARY KEY (document_id, user_id)
);

CREATE INDEX notify_mentions_user ON notify_mentions (user_id);

//! Every statement that the PostgreSQL store runs, in one place.
//!
//! Owns the SQL (that of plans, notifications and usage in `services`, that of the index in `context`), and the list of it all by which its plans
//! are tested on large tables. Never runs anything. What has to be locked in an order is sorted before it is
//! locked.

/// Declares the statements, and the list of them all.
macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident = $sql:expr;)+) => {
        $($(#[$doc])* pub(in crate::store::postgres) const $name: &str = $sql;)+

        /// Each statement with its name.
        pub const ALL: &[(&str, &str)] = &[$((stringify!($name), $name)),+];
    };
}

/// The database's clock in milliseconds, as it is when a row is reached and not when the transaction began.
macro_rules! clock {
    () => {
        "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
    };
}

pub mod context;
pub mod services;

statements! {
    PING = "UPDATE store_health SET touches = touches + 1 WHERE id = 1";
    /// How long a statement of this transaction may take, in milliseconds.
    ALLOW_TIME = "SELECT set_config('statement_timeout', $1, true)";

    ADD_USER = "INSERT INTO auth_users (id, login, login_key, name, password_hash, created_at)
        VALUES ($1, $2, $3, $4, $5, $6)";
    USER_BY_LOGIN = "SELECT id, login, name, password_hash, created_at FROM auth_users
        WHERE login_key = $1";
    USER = "SELECT id, login, name, password_hash, created_at FROM auth_users WHERE id = $1";
    ADD_LOGIN = "INSERT INTO auth_logins
        (id, user_id, created_at, revoked_at, user_agent, address, refreshed_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7)";
    ADD_TOKEN = "INSERT INTO auth_refresh_tokens (token_hash, login_id, expires_at)
        VALUES ($1, $2, $3)";
    /// The token and its login, both locked: whoever comes second waits, and then sees the token used.
    TOKEN = "SELECT l.id, t.expires_at, t.used_at
        FROM auth_refresh_tokens t JOIN auth_logins l ON l.id = t.login_id
        WHERE t.token_hash = $1 FOR NO KEY UPDATE";
    USE_TOKEN = "UPDATE auth_refresh_tokens SET used_at = $2 WHERE token_hash = $1";
    TOUCH_LOGIN = "UPDATE auth_logins SET refreshed_at = $2 WHERE id = $1";
    LOGIN = "SELECT id, user_id, created_at, revoked_at, user_agent, address, refreshed_at
        FROM auth_logins WHERE id = $1";
    LOGINS_OF = "SELECT id, user_id, created_at, revoked_at, user_agent, address, refreshed_at
        FROM auth_logins WHERE user_id = $1 AND revoked_at IS NULL AND id > $3
        AND coalesce(refreshed_at, created_at) >= $2 ORDER BY id LIMIT $4";
    REVOKE_LOGIN = "UPDATE auth_logins SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL";
    REVOKE_LOGINS_OF = "WITH alive AS MATERIALIZED (SELECT id FROM auth_logins
            WHERE user_id = $1 AND revoked_at IS NULL AND id IS DISTINCT FROM $3::text
            ORDER BY id FOR NO KEY UPDATE)
        UPDATE auth_logins l SET revoked_at = $2 FROM alive WHERE l.id = alive.id RETURNING l.id";
    /// Revoked logins of before `$1`, at most `$2`; another housekeeper's are left to it.
    ENDED_LOGINS = "SELECT id FROM auth_logins WHERE revoked_at < $1
        ORDER BY revoked_at LIMIT $2 FOR UPDATE SKIP LOCKED";
    DROP_TOKENS_OF = "DELETE FROM auth_refresh_tokens WHERE login_id = ANY($1)";
    DROP_LOGINS = "DELETE FROM auth_logins WHERE id = ANY($1)";
    DROP_EXPIRED_TOKENS = "DELETE FROM auth_refresh_tokens WHERE token_hash = ANY(ARRAY(
            SELECT token_hash FROM auth_refresh_tokens WHERE expires_at < $1
            ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED))
        RETURNING login_id";
    /// Of these logins, each of which has lost a token, those that have none left.
    DROP_EMPTY_LOGINS = "DELETE FROM auth_logins l WHERE l.id = ANY($1)
        AND NOT EXISTS (SELECT 1 FROM auth_refresh_tokens t WHERE t.login_id = l.id)";

    OUTSIDER = "SELECT i.user_id, u.name, i.claims_at,
            greatest(i.refused_until, coalesce(s.refused_until, 0)), l.id, l.revoked_at, s.seen_until,
            (SELECT coalesce(json_agg(json_build_array(g.project_id, g.role)), '[]'::json)::text
                FROM auth_grants g WHERE g.user_id = i.user_id)
        FROM auth_identities i JOIN auth_users u ON u.id = i.user_id
        LEFT JOIN auth_outside_logins s ON s.user_id = i.user_id AND s.session = $3
        LEFT JOIN auth_logins l ON l.id = s.login_id
        WHERE i.issuer = $1 AND i.subject = $2";
    USER_OF_IDENTITY = "SELECT user_id FROM auth_identities WHERE issuer = $1 AND subject = $2";
    ADD_IDENTITY = "INSERT INTO auth_identities (issuer, subject, user_id, created_at)
        VALUES ($1, $2, $3, $4) ON CONFLICT (issuer, subject) DO NOTHING";
    /// Under this lock a subject's tokens come in and their claims are taken, one after the other.
    IDENTITY_OF = "SELECT claims_at, refused_until FROM auth_identities WHERE user_id = $1
        FOR NO KEY UPDATE";
    /// Locked, as it may be revoked or be past its time at this moment.
    OUTSIDE_LOGIN = "SELECT l.id, l.user_id, l.created_at, l.revoked_at, s.refused_until
        FROM auth_outside_logins s JOIN auth_logins l ON l.id = s.login_id
        WHERE s.user_id = $1 AND s.session = $2 FOR NO KEY UPDATE";
    PUT_OUTSIDE_LOGIN = "INSERT INTO auth_outside_logins AS s
        (user_id, session, login_id, refused_until, seen_until) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (user_id, session) DO UPDATE SET login_id = excluded.login_id,
            refused_until = excluded.refused_until,
            seen_until = greatest(s.seen_until, excluded.seen_until)";
    SEE_CLAIMS = "UPDATE auth_identities SET claims_at = $2 WHERE user_id = $1 AND claims_at < $2";
    REFUSE_OUTSIDER = "UPDATE auth_identities SET refused_until = $2
        WHERE user_id = $1 AND refused_until < $2";
    NAME_USER = "UPDATE auth_users SET name = $2 WHERE id = $1";
    GRANT = "SELECT role, base_role, mine FROM auth_grants WHERE user_id = $1 AND project_id = $2";
    PUT_GRANT = "INSERT INTO auth_grants (user_id, project_id, role, base_role, mine)
        VALUES ($1, $2, $3, $4, $5) ON CONFLICT (user_id, project_id) DO UPDATE
        SET role = excluded.role, base_role = excluded.base_role, mine = excluded.mine";
    DROP_GRANT = "DELETE FROM auth_grants WHERE user_id = $1 AND project_id = $2";
    DISOWN_GRANT = "UPDATE auth_grants SET mine = false
        WHERE user_id = $1 AND project_id = $2 AND mine";
    /// Logins of which no token has been alive since `$1`, at most `$2`; one that is being renewed stays.
    DROP_OUTSIDE_LOGINS = "DELETE FROM auth_logins WHERE id = ANY(ARRAY(
            SELECT login_id FROM auth_outside_logins WHERE seen_until < $1
            ORDER BY seen_until LIMIT $2 FOR UPDATE SKIP LOCKED))";
    /// Whoever opens a login session holds a share of this lock until it is committed: who has the whole lock
    /// sees every session that was opened on the old password, or its opener sees the new one.
    LOCK_USER = "SELECT password_hash FROM auth_users WHERE id = $1 FOR UPDATE";
    SET_PASSWORD = "UPDATE auth_users SET password_hash = $2 WHERE id = $1";
    ADD_RESET = "INSERT INTO auth_resets (token_hash, user_id, expires_at) VALUES ($1, $2, $3)";
    RESET = "SELECT user_id, expires_at, used_at FROM auth_resets WHERE token_hash = $1";
    USE_RESETS_OF = "UPDATE auth_resets SET used_at = $2 WHERE user_id = $1 AND used_at IS NULL";
    DROP_RESETS = "DELETE FROM auth_resets WHERE token_hash = ANY(ARRAY(
        SELECT token_hash FROM auth_resets WHERE expires_at < $1
        ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED))";

    ADD_API_KEY = "INSERT INTO auth_api_keys
        (id, project_id, name, secret_hash, permissions, created_by, created_at, expires_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    API_KEY = "SELECT id, project_id, name, secret_hash, permissions, created_by, created_at,
        expires_at, last_used_at FROM auth_api_keys WHERE id = $1";
    API_KEYS_OF = "SELECT id, project_id, name, secret_hash, permissions, created_by, created_at,
        expires_at, last_used_at FROM auth_api_keys
        WHERE project_id = $1 AND id > $2 ORDER BY id LIMIT $3";
    API_KEYS = "SELECT id, project_id, name, secret_hash, permissions, created_by, created_at,
        expires_at, last_used_at FROM auth_api_keys
        WHERE project_id IS NULL AND id > $1 ORDER BY id LIMIT $2";
    COUNT_API_KEYS = "SELECT count(*) FROM auth_api_keys WHERE project_id = $1";
    DROP_API_KEY = "DELETE FROM auth_api_keys WHERE id = $2 AND project_id IS NOT DISTINCT FROM $1";
    TOUCH_API_KEY = "UPDATE auth_api_keys SET last_used_at = $2
        WHERE id = $1 AND coalesce(last_used_at, 0) <= $3";

    ADD_INVITATION = "INSERT INTO project_invitations
        (id, project_id, token_hash, role, login_key, uses, inviter_id, created_at, expires_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    COUNT_INVITATIONS = "SELECT count(*) FROM project_invitations WHERE project_id = $1";
    INVITATIONS = "SELECT id, project_id, role, login_key, uses, used, inviter_id, created_at, expires_at
        FROM project_invitations WHERE project_id = $1 AND id > $2 ORDER BY id LIMIT $3";
    INVITATION = "SELECT id, project_id, role, login_key, uses, used, inviter_id, created_at, expires_at
        FROM project_invitations WHERE token_hash = $1";
    USE_INVITATION = "UPDATE project_invitations SET used = used + 1 WHERE id = $1";
    DROP_INVITATION = "DELETE FROM project_invitations WHERE id = $2 AND project_id = $1";
    DROP_ENDED_INVITATIONS = "DELETE FROM project_invitations WHERE id = ANY(ARRAY(
        SELECT id FROM project_invitations WHERE expires_at < $1
        ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED))";

    ADD_PROJECT = "INSERT INTO project_projects (id, name, created_at) VALUES ($1, $2, $3)";
    PROJECT = "SELECT id, name, created_at FROM project_projects WHERE id = $1";
    /// Under this lock members change: who counts the owners counts those of all finished changes.
    LOCK_PROJECT = "SELECT id FROM project_projects WHERE id = $1 FOR NO KEY UPDATE";
    LOCK_PROJECT_WHOLE = "SELECT id FROM project_projects WHERE id = $1 FOR UPDATE";
    /// In the order in which a group commit locks documents.
    LOCK_DOCUMENTS_OF = "SELECT count(*) FROM (SELECT id FROM collab_documents
        WHERE project_id = $1 ORDER BY id FOR UPDATE) AS locked";
    MEMBER_IDS = "SELECT user_id FROM project_members WHERE project_id = $1 ORDER BY user_id";
    DROP_PROJECT = "DELETE FROM project_projects WHERE id = $1";
    PROJECTS_OF = "SELECT p.id, p.name, p.created_at, m.role
        FROM project_members m JOIN project_projects p ON p.id = m.project_id
        WHERE m.user_id = $1 AND m.project_id > $2 ORDER BY m.project_id LIMIT $3";
    ROLE = "SELECT role FROM project_members WHERE project_id = $1 AND user_id = $2";
    MEMBERS = "SELECT m.user_id, u.login, u.name, m.role
        FROM project_members m JOIN auth_users u ON u.id = m.user_id
        WHERE m.project_id = $1 AND m.user_id > $2 ORDER BY m.user_id LIMIT $3";
    OTHER_OWNER = "SELECT user_id FROM project_members
        WHERE project_id = $1 AND role = 'owner' AND user_id <> $2 LIMIT 1";
    PUT_MEMBER = "INSERT INTO project_members (project_id, user_id, role, created_at)
        VALUES ($1, $2, $3, $4)
        ON CONFLICT (project_id, user_id) DO UPDATE SET role = excluded.role";
    DROP_MEMBER = "DELETE FROM project_members WHERE project_id = $1 AND user_id = $2";
    PROJECT_OF_PLAN = "SELECT project_id FROM planning_plans WHERE id = $1";

    ADD_DOCUMENT = "INSERT INTO collab_documents (id, project_id, path, created_at, updated_at, head)
        VALUES ($1, $2, $3, $4, $5, 0)";
    DOCUMENT = "SELECT id, project_id, path, created_at, updated_at, head
        FROM collab_documents WHERE id = $1";
    DOCUMENT_AT = "SELECT id, project_id, path, created_at, updated_at, head
        FROM collab_documents WHERE project_id = $1 AND path = $2";
    DOCUMENTS = "SELECT id, project_id, path, created_at, updated_at, head
        FROM collab_documents WHERE project_id = $1 AND path > $2 ORDER BY path LIMIT $3";
    LOCK_PATH = "SELECT path FROM collab_documents WHERE id = $1 FOR UPDATE";
    RENAME_DOCUMENT = "UPDATE collab_documents SET path = $2 WHERE id = $1";
    DROP_DOCUMENT = "DELETE FROM collab_documents WHERE id = $1 RETURNING project_id";
    HEADS = "SELECT id, head FROM collab_documents WHERE id = ANY($1)";

    /// A group commit in one statement: locks the documents in the order of their ids, moves their heads,
    /// writes a frame each, tells the new heads. `$1` ids, each once; `$2` how many updates each has; `$3`
    /// their frames; `$4` the time. An `UPDATE … FROM unnest` alone would lock in the order of the plan, and two nodes
    /// would wait for each other. Nothing is joined that has no index: a server that knows nothing of its
    /// tables yet would compare each with each.
    APPEND = "WITH locked AS MATERIALIZED (
            SELECT d.id, b.updates, b.data
            FROM unnest($1::text[], $2::bigint[], $3::bytea[]) AS b (id, updates, data)
            JOIN collab_documents d ON d.id = b.id ORDER BY d.id FOR NO KEY UPDATE OF d),
        moved AS (
            UPDATE collab_documents d SET head = d.head + locked.updates, updated_at = $4
            FROM locked WHERE d.id = locked.id
            RETURNING d.id, d.head, locked.updates, locked.data),
        added AS (
            INSERT INTO collab_log (document_id, last_seq, first_seq, data)
            SELECT id, head, head - updates + 1, data FROM moved)
        SELECT id, head FROM moved";
    /// A document with its snapshot.
    LOADED = "SELECT d.id, d.project_id, d.path, d.created_at, d.updated_at, d.head, s.seq, s.state
        FROM collab_documents d LEFT JOIN collab_snapshots s ON s.document_id = d.id WHERE d.id = $1";
    HEAD = "SELECT d.head, s.seq FROM collab_documents d
        LEFT JOIN collab_snapshots s ON s.document_id = d.id WHERE d.id = $1";
    LOG_AFTER = "SELECT first_seq, last_seq, data FROM collab_log
        WHERE document_id = $1 AND last_seq > $2 ORDER BY last_seq";
    /// The next `$4` frames at most, until those before one have passed `$3` bytes.
    LOG_PAGE = "SELECT first_seq, last_seq, data FROM (
            SELECT first_seq, last_seq, data,
                sum(octet_length(data)) OVER (ORDER BY last_seq) - octet_length(data) AS before
            FROM (SELECT first_seq, last_seq, data FROM collab_log
                WHERE document_id = $1 AND last_seq > $2 ORDER BY last_seq LIMIT $4) AS page) AS summed
        WHERE before <= $3 ORDER BY last_seq";
    /// Changes nothing if the stored snapshot is as new.
    PUT_SNAPSHOT = "INSERT INTO collab_snapshots AS s (document_id, seq, state, saved_at)
        VALUES ($1, $2, $3, $4) ON CONFLICT (document_id)
        DO UPDATE SET seq = excluded.seq, state = excluded.state, saved_at = excluded.saved_at
        WHERE s.seq < excluded.seq";
    CUT_LOG = "DELETE FROM collab_log WHERE document_id = $1 AND last_seq <= $2";

    ADD_VERSION = "INSERT INTO collab_versions
        (id, document_id, seq, kind, name, author_id, created_at, state)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    VERSIONS = "SELECT id, document_id, seq, kind, name, author_id, created_at
        FROM collab_versions WHERE document_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3";
    VERSION = "SELECT id, document_id, seq, kind, name, author_id, created_at, state
        FROM collab_versions WHERE id = $2 AND document_id = $1";
    DROP_VERSION = "DELETE FROM collab_versions WHERE id = $2 AND document_id = $1";
    /// Walks the index of automatic versions whole: it has a bounded number per document.
    SURPLUS_VERSIONS = "SELECT id FROM (SELECT id,
            row_number() OVER (PARTITION BY document_id ORDER BY id DESC) AS age
            FROM collab_versions WHERE kind = 'auto') AS aged
        WHERE age > $1";
    DROP_VERSIONS = "DELETE FROM collab_versions WHERE id = ANY($1)";

    /// Takes the locks of the subjects first, in an order of their own, then the positions: who commits a
    /// subject's event later has the higher one. `$1` ids, `$2` types, `$3` subjects, `$4` envelopes, `$5` times.
    PUT_EVENTS = "WITH subjects AS MATERIALIZED (
            SELECT DISTINCT hashtextextended(s, 0) AS key FROM unnest($3::text[]) AS s ORDER BY key),
        locked AS MATERIALIZED (SELECT count(pg_advisory_xact_lock(key)) AS held FROM subjects)
        INSERT INTO events_outbox (event_id, type, subject, envelope, created_at)
        SELECT e.id, e.type, e.subject, e.envelope::json, e.time
        FROM locked, unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[])
            WITH ORDINALITY AS e (id, type, subject, envelope, time, place)
        WHERE locked.held > 0 ORDER BY e.place
        ON CONFLICT (event_id) DO NOTHING";
    OUTBOX = "SELECT position, envelope::text FROM events_outbox ORDER BY position LIMIT $1";
    CONFIRM = "DELETE FROM events_outbox WHERE position = ANY($1)";
    /// Takes the event into the inbox and, if it was not there, into the log; tells whether it was new.
    LOG_EVENT = "WITH taken AS (
            INSERT INTO events_inbox (consumer, event_id, received_at) VALUES ($1, $2, $3)
            ON CONFLICT (consumer, event_id) DO NOTHING RETURNING event_id),
        logged AS (
            INSERT INTO events_log (event_id, type, project_id, actor, subject, occurred_at, envelope)
            SELECT event_id, $4, $5, $6, $7, $8, $9::json FROM taken
            ON CONFLICT (event_id) DO NOTHING)
        SELECT count(*) FROM taken";
    LOGGED = "SELECT envelope::text FROM events_log
        WHERE (occurred_at, event_id) < ($1, $2) AND occurred_at >= $4
        ORDER BY occurred_at DESC, event_id DESC LIMIT $3";
    LOGGED_OF_SUBJECT = "SELECT envelope::text FROM events_log
        WHERE subject = $5 AND (occurred_at, event_id) < ($1, $2) AND occurred_at >= $4
        AND ($6::text IS NULL OR project_id = $6) AND ($7::text IS NULL OR type = $7)
        ORDER BY occurred_at DESC, event_id DESC LIMIT $3";
    LOGGED_OF_PROJECT = "SELECT envelope::text FROM events_log
        WHERE project_id = $5 AND (occurred_at, event_id) < ($1, $2) AND occurred_at >= $4
        AND ($6::text IS NULL OR type = $6)
        ORDER BY occurred_at DESC, event_id DESC LIMIT $3";
    LOGGED_OF_KIND = "SELECT envelope::text FROM events_log
        WHERE type = $5 AND (occurred_at, event_id) < ($1, $2) AND occurred_at >= $4
        ORDER BY occurred_at DESC, event_id DESC LIMIT $3";
    /// Oldest first, behind the time `$1` and the id `$2`, before the time `$4` and the id `$5`.
    LOGGED_AFTER = "SELECT envelope::text FROM events_log
        WHERE (occurred_at, event_id) > ($1, $2) AND (occurred_at, event_id) < ($4, $5)
        AND occurred_at >= $6 AND ($7::text IS NULL OR subject = $7)
        AND ($8::text IS NULL OR project_id = $8) AND ($9::text IS NULL OR type = $9)
        ORDER BY occurred_at, event_id LIMIT $3";
    DROP_LOGGED = "DELETE FROM events_log WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM events_log WHERE occurred_at < $1
        ORDER BY occurred_at, event_id LIMIT $2 FOR UPDATE SKIP LOCKED))";
    FORGET_TAKEN = "DELETE FROM events_inbox WHERE consumer = $1 AND event_id = ANY($2)";
    BURY = "INSERT INTO events_dead (consumer, type, event_id, reason, body, at)
        VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (consumer, event_id) WHERE event_id IS NOT NULL DO NOTHING";
    BURIED = "SELECT consumer, type, event_id, reason, body, at FROM events_dead
        ORDER BY position LIMIT $1";
    DROP_TAKEN = "DELETE FROM events_inbox WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM events_inbox WHERE received_at < $1
        ORDER BY received_at LIMIT $2 FOR UPDATE SKIP LOCKED))";

    /// Held by whoever looks for strangers and enters.
    LOCK_NODES = "SELECT 1::bigint FROM pg_advisory_xact_lock(hashtextextended('node_nodes', 1))";
    /// A living node that must not meet the node `$1` with the broker `$2`.
    STRANGER = "SELECT id, address, broker, version FROM node_nodes
        WHERE id <> $1 AND until > clock_timestamp()
        AND (broker IS NULL OR $2::text IS NULL OR broker <> $2) ORDER BY id LIMIT 1";
    PUT_NODE = "INSERT INTO node_nodes (id, address, broker, version, until)
        VALUES ($1, $2, $3, $4, clock_timestamp() + $5 * interval '1 millisecond')
        ON CONFLICT (id) DO UPDATE SET address = excluded.address, broker = excluded.broker,
            version = excluded.version, until = excluded.until";
    DROP_NODE = "DELETE FROM node_nodes WHERE id = $1";
    NODES = "SELECT id, address, broker, version FROM node_nodes
        WHERE until > clock_timestamp() ORDER BY id";
    /// Renews the lease `$1` of `$2`, or takes it under a new number if nobody holds it. Who takes a
    /// number holds the name's lock, else a late one could follow a higher one.
    LEASE = "WITH locked AS MATERIALIZED (
            SELECT count(pg_advisory_xact_lock(hashtextextended($1, 2))) AS held)
        INSERT INTO node_leases AS l (name, owner, number, until)
        SELECT $1, $2, nextval('node_fence'), clock_timestamp() + $3 * interval '1 millisecond'
        FROM locked WHERE held > 0
        ON CONFLICT (name) DO UPDATE SET owner = excluded.owner,
            number = CASE WHEN l.owner = excluded.owner AND l.until > clock_timestamp()
                THEN l.number ELSE excluded.number END,
            until = clock_timestamp() + $3 * interval '1 millisecond'
        WHERE l.owner = excluded.owner OR l.until <= clock_timestamp()
        RETURNING number";
    /// The lock makes whoever takes the lease over wait for the end of what is done under it.
    FENCE_HOLDS = "SELECT number FROM node_leases
        WHERE name = $1 AND number = $2 AND until > clock_timestamp() FOR SHARE";
    DROP_LEASE = "DELETE FROM node_leases WHERE name = $1 AND owner = $2";
    DROP_LEASES_OF = "DELETE FROM node_leases WHERE owner = $1";
    /// By the time at which the statement began, which an index can be searched for.
    DROP_DEAD_NODES = "DELETE FROM node_nodes WHERE until <= statement_timestamp()";
    DROP_EXPIRED_LEASES = "DELETE FROM node_leases WHERE until <= statement_timestamp()";

    /// Takes a request that is not there, or is remembered no longer.
    PUT_REQUEST = "INSERT INTO rest_requests AS r
            (user_id, key, fingerprint, claim, claimed_to, made_id, expires)
        VALUES ($1, $2, $3, $4, clock_timestamp() + $5 * interval '1 millisecond', $6,
            clock_timestamp() + $7 * interval '1 millisecond')
        ON CONFLICT (user_id, key) DO UPDATE SET fingerprint = excluded.fingerprint,
            claim = excluded.claim, claimed_to = excluded.claimed_to, made_id = excluded.made_id,
            seq = NULL, finished = false, status = NULL, headers = NULL, body = NULL,
            expires = excluded.expires
        WHERE r.expires <= clock_timestamp()";
    REQUEST = "SELECT fingerprint,
            ceil(extract(epoch FROM claimed_to - clock_timestamp()) * 1000)::bigint, made_id, seq,
            finished, status, headers::text, body
        FROM rest_requests WHERE user_id = $1 AND key = $2 FOR UPDATE";
    TAKE_REQUEST = "UPDATE rest_requests SET claim = $3,
            claimed_to = clock_timestamp() + $4 * interval '1 millisecond'
        WHERE user_id = $1 AND key = $2";
    FINISH_REQUEST = "UPDATE rest_requests
        SET finished = true, status = $4, headers = $5::json, body = $6
        WHERE user_id = $1 AND key = $2 AND claim = $3";
    DROP_REQUEST = "DELETE FROM rest_requests
        WHERE user_id = $1 AND key = $2 AND claim = $3 AND seq IS NULL AND NOT finished";
    RELEASE_REQUEST = "UPDATE rest_requests SET claimed_to = clock_timestamp()
        WHERE user_id = $1 AND key = $2 AND claim = $3";
    /// Locks the requests whose receipts a group commit holds, in one order. `$1` users, `$2` keys.
    LOCK_CLAIMS = "SELECT r.user_id, r.key, r.claim, r.seq
        FROM unnest($1::text[], $2::text[]) AS b (user_id, key)
        JOIN rest_requests r ON r.user_id = b.user_id AND r.key = b.key
        ORDER BY r.user_id, r.key FOR UPDATE OF r";
    /// Locks the documents of a group commit, in the order of their ids.
    LOCK_HEADS = "SELECT id, head FROM collab_documents WHERE id = ANY($1)
        ORDER BY id FOR NO KEY UPDATE";
    /// `$1` users, `$2` keys, `$3` sequences: the rows are locked.
    NOTE_RECEIPTS = "UPDATE rest_requests r SET seq = b.seq
        FROM unnest($1::text[], $2::text[], $3::bigint[]) AS b (user_id, key, seq)
        WHERE r.user_id = b.user_id AND r.key = b.key";
    DROP_EXPIRED_REQUESTS = "DELETE FROM rest_requests WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM rest_requests WHERE expires <= statement_timestamp()
        ORDER BY expires LIMIT $1 FOR UPDATE SKIP LOCKED))";

    /// The row is the lock under which changes are numbered, until the transaction ends.
    PUT_CHANGE = concat!("WITH next AS (
            UPDATE auth_change_head SET seq = seq + 1 WHERE id = 1 RETURNING seq)
        INSERT INTO auth_changes (seq, change, made_at) SELECT seq, $1::json, ", clock!(), " FROM next");
    CHANGE_HEAD = "SELECT seq FROM auth_change_head WHERE id = 1";
    CHANGES = "SELECT seq, change::text FROM auth_changes WHERE seq > $1 ORDER BY seq LIMIT $2";
    /// The clock may have been set back: what goes is what lies before the oldest change that stays.
    DROP_CHANGES = "DELETE FROM auth_changes WHERE seq = ANY(ARRAY(SELECT seq FROM auth_changes
        WHERE seq < coalesce(
            (SELECT min(seq) FROM auth_changes WHERE made_at >= $1), 9223372036854775807)
        ORDER BY seq LIMIT $2))";
    KEYS = "SELECT kid, private, created_at, active_from FROM auth_keys ORDER BY created_at, kid";
    ADD_KEY = "INSERT INTO auth_keys (kid, private, created_at, active_from)
        VALUES ($1, $2, $3, $4) ON CONFLICT (kid) DO NOTHING";
    DROP_KEY = "DELETE FROM auth_keys WHERE kid = $1";

    /// What of the server decides whether it can be trusted with data.
    SERVER = "SELECT current_setting('server_version_num')::bigint,
        current_setting('server_encoding'), pg_is_in_recovery(),
        current_setting('fsync')::boolean, current_setting('full_page_writes')::boolean,
        current_setting('synchronous_commit'), current_setting('max_connections')::bigint";
    /// Up to where the log of the primary is written.
    WRITTEN_TO = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint";
    /// Up to where a replica has replayed it; nothing on what is no replica.
    REPLAYED_TO = "SELECT CASE WHEN pg_is_in_recovery()
        THEN pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0')::bigint END";
}

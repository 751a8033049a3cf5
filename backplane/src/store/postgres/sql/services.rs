//! The statements of plans, notifications, names in documents, and usage.

/// The columns of a plan.
macro_rules! plan {
    () => {
        "id, project_id, requested_by, request, status, reason, attempt, body::text, tokens_used,
        created_at, updated_at, finished_at"
    };
}

/// The columns of a notification.
macro_rules! notification {
    () => {
        "id, user_id, project_id, event_id, kind, group_key, grouped, data::text, created_at, read_at"
    };
}

/// The sums of cells, each period's by when it begins; `$4` is how long a period is.
macro_rules! sums {
    () => {
        "SELECT hour - hour % $4 AS start, sum(connected_ms)::bigint, sum(messages)::bigint,
        sum(bytes_in)::bigint, sum(bytes_out)::bigint, sum(edits)::bigint, sum(plans)::bigint,
        sum(tokens_in)::bigint, sum(tokens_out)::bigint FROM usage_hourly"
    };
}

statements! {
    TAKE_EVENT = "INSERT INTO events_inbox (consumer, event_id, received_at) VALUES ($1, $2, $3)
        ON CONFLICT (consumer, event_id) DO NOTHING";
    /// Those of the users that are there, kept until the transaction ends.
    KEEP_USERS = "SELECT id FROM auth_users WHERE id = ANY($1) ORDER BY id FOR KEY SHARE";
    /// The same of projects.
    KEEP_PROJECTS = "SELECT id FROM project_projects WHERE id = ANY($1) ORDER BY id FOR KEY SHARE";

    ADD_PLAN = "INSERT INTO planning_plans
        (id, project_id, requested_by, idempotency_key, request, status, created_at, updated_at)
        VALUES ($1, $2, $3, $4, $5, 'queued', $6, $6)";
    PLAN = concat!("SELECT ", plan!(), " FROM planning_plans WHERE id = $1");
    PLAN_OF_KEY = concat!("SELECT ", plan!(), " FROM planning_plans
        WHERE project_id = $1 AND requested_by = $2 AND idempotency_key = $3");
    OPEN_PLANS_OF = "SELECT count(*) FROM planning_plans
        WHERE project_id = $1 AND status IN ('queued', 'running')";
    /// Held by whoever adds a plan that counts for the user's quota; taken before all other locks.
    LOCK_QUOTA = "SELECT 1::bigint FROM pg_advisory_xact_lock(hashtextextended($1, 5))";
    PLANS_ASKED = "SELECT count(*) FROM planning_plans
        WHERE requested_by = $1 AND created_at >= $2";
    STEPS = "SELECT position, attempt, title, detail, status, files::text, depends_on::text, minutes,
        updated_at FROM planning_steps WHERE plan_id = $1 ORDER BY position";
    PLANS_OF = "SELECT id, project_id, requested_by, left(request, $4), status, reason, attempt,
        NULL::text, tokens_used, created_at, updated_at, finished_at
        FROM planning_plans WHERE project_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3";
    CANCEL_PLAN = concat!("UPDATE planning_plans SET status = 'cancelled', lease_owner = NULL,
            lease_until = NULL, finished_at = $2, updated_at = $2
        WHERE id = $1 AND status IN ('queued', 'running') RETURNING ", plan!());
    /// By the time at which the statement began, which an index can be searched for.
    LAPSED_PLANS = "SELECT id FROM planning_plans
        WHERE status IN ('queued', 'running')
        AND lease_until <= (extract(epoch FROM statement_timestamp()) * 1000)::bigint
        ORDER BY lease_until LIMIT $1";
    QUEUED_PLANS = "SELECT id FROM planning_plans WHERE status = 'queued' AND id > ''
        ORDER BY id LIMIT $1";
    TAKE_PLAN = concat!("UPDATE planning_plans SET status = 'running', attempt = attempt + 1,
            lease_owner = $2, lease_until = ", clock!(), " + $3, updated_at = $4
        WHERE id = $1 AND (status = 'queued'
            OR (status = 'running' AND lease_until <= ", clock!(), ")) RETURNING ", plan!());
    DROP_STEPS = "DELETE FROM planning_steps WHERE plan_id = $1";
    HOLD_PLAN = concat!("UPDATE planning_plans SET lease_until = ", clock!(), " + $3
        WHERE id = $1 AND attempt = $2 AND status = 'running'");
    TOUCH_PLAN = "UPDATE planning_plans SET updated_at = $3
        WHERE id = $1 AND attempt = $2 AND status = 'running'";
    PUT_STEP = "INSERT INTO planning_steps
        (plan_id, position, attempt, title, detail, status, files, depends_on, minutes, updated_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7::json, $8::json, $9, $10)
        ON CONFLICT (plan_id, position) DO UPDATE SET attempt = excluded.attempt,
            title = excluded.title, detail = excluded.detail, status = excluded.status,
            files = excluded.files, depends_on = excluded.depends_on, minutes = excluded.minutes,
            updated_at = excluded.updated_at";
    END_PLAN = "UPDATE planning_plans SET status = $3, reason = $4, body = coalesce($5::json, body),
            tokens_used = tokens_used + $6, lease_owner = NULL, lease_until = NULL,
            finished_at = $7, updated_at = $7
        WHERE id = $1 AND attempt = $2 AND status = 'running'";

    /// Held by whoever changes these users' notifications: one after the other, the users in an order.
    LOCK_FEEDS = "WITH feeds AS MATERIALIZED (
            SELECT DISTINCT hashtextextended(u, 4) AS key FROM unnest($1::text[]) AS u ORDER BY key)
        SELECT count(pg_advisory_xact_lock(key)) FROM feeds";
    TOLD_OF = "SELECT 1::bigint FROM notify_notifications WHERE user_id = $1 AND event_id = $2
        UNION ALL SELECT 1::bigint FROM notify_held WHERE user_id = $1 AND event_id = $2 LIMIT 1";
    GROUP = "SELECT id FROM notify_notifications
        WHERE user_id = $1 AND group_key = $2 AND read_at IS NULL
        AND kind = $3 AND project_id IS NOT DISTINCT FROM $4 LIMIT 1";
    GROW = concat!("UPDATE notify_notifications
        SET id = $2, event_id = $3, data = $4::json, created_at = $5, grouped = grouped + $6
        WHERE id = $1 RETURNING ", notification!());
    ADD_NOTIFICATION = concat!("INSERT INTO notify_notifications
        (id, user_id, project_id, event_id, kind, group_key, data, created_at, grouped)
        VALUES ($1, $2, $3, $4, $5, $6, $7::json, $8, $9) RETURNING ", notification!());
    UNREAD = "SELECT count(*) FROM notify_notifications WHERE user_id = $1 AND read_at IS NULL";
    FEED = concat!("SELECT ", notification!(), " FROM notify_notifications
        WHERE user_id = $1 AND id < $2 AND ($4::text IS NULL OR kind = $4)
        ORDER BY id DESC LIMIT $3");
    FEED_UNREAD = concat!("SELECT ", notification!(), " FROM notify_notifications
        WHERE user_id = $1 AND id < $2 AND read_at IS NULL AND ($4::text IS NULL OR kind = $4)
        ORDER BY id DESC LIMIT $3");
    HAS_NOTIFICATION = "SELECT 1::bigint FROM notify_notifications WHERE id = $2 AND user_id = $1";
    READ_ONE = "UPDATE notify_notifications SET read_at = $3
        WHERE id = $2 AND user_id = $1 AND read_at IS NULL";
    READ_UP_TO = "UPDATE notify_notifications SET read_at = $3
        WHERE user_id = $1 AND id <= $2 AND read_at IS NULL";
    DROP_NOTIFICATION = "DELETE FROM notify_notifications WHERE id = $2 AND user_id = $1";
    PREFERENCES = "SELECT kind, mode FROM notify_preferences WHERE user_id = $1";
    DROP_PREFERENCES = "DELETE FROM notify_preferences WHERE user_id = $1";
    ADD_PREFERENCES = "INSERT INTO notify_preferences (user_id, kind, mode)
        SELECT $1, p.kind, p.mode FROM unnest($2::text[], $3::text[]) AS p (kind, mode)";
    PREFERENCE = "SELECT mode FROM notify_preferences WHERE user_id = $1 AND kind = $2";
    DROP_OLD_NOTIFICATIONS = "DELETE FROM notify_notifications WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM notify_notifications WHERE created_at < $1
        ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED))";

    /// Adds to what is held of a group; that stays due when it was.
    GROW_HELD = "UPDATE notify_held
        SET event_id = $5, data = $6::json, created_at = $7, grouped = grouped + 1
        WHERE user_id = $1 AND group_key = $2 AND kind = $3 AND project_id IS NOT DISTINCT FROM $4";
    HOLD = "INSERT INTO notify_held
        (id, user_id, project_id, event_id, kind, group_key, data, created_at, due_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7::json, $8, $9)";
    DUE = "SELECT user_id, id FROM notify_held WHERE due_at <= $1 ORDER BY due_at LIMIT $2";
    HELD_PROJECT = "SELECT project_id FROM notify_held WHERE id = $1";
    TAKE_HELD = "DELETE FROM notify_held WHERE id = $1 AND user_id = $2 AND due_at <= $3
        RETURNING project_id, event_id, kind, group_key, grouped, data::text, created_at";

    SCANNED = "SELECT id, head, coalesce(
            (SELECT seq FROM notify_scanned WHERE notify_scanned.document_id = d.id), 0)
        FROM collab_documents d WHERE id > $1 ORDER BY id LIMIT $2";
    NAMED = "SELECT u.login_key, u.id FROM auth_users u
        JOIN project_members m ON m.project_id = $1 AND m.user_id = u.id WHERE u.login_key = ANY($2)";
    /// The document, kept until the transaction ends.
    KEEP_DOCUMENT = "SELECT 1::bigint FROM collab_documents WHERE id = $1 FOR KEY SHARE";
    /// Changes nothing if it was searched up to another update than `$2`.
    NOTE_SCANNED = "INSERT INTO notify_scanned AS s (document_id, seq) VALUES ($1, $3)
        ON CONFLICT (document_id) DO UPDATE SET seq = excluded.seq WHERE s.seq = $2";
    DROP_MENTIONS = "DELETE FROM notify_mentions WHERE document_id = $1 AND user_id <> ALL($2)";
    ADD_MENTIONS = "INSERT INTO notify_mentions (document_id, user_id)
        SELECT $1, u FROM unnest($2::text[]) AS u
        ON CONFLICT (document_id, user_id) DO NOTHING RETURNING user_id";

    /// `$1` users, `$2` hours, `$3` projects, then the amounts; each cell once, in their order, in which they are
    /// locked.
    ADD_USAGE = "INSERT INTO usage_hourly AS h (user_id, hour, project_id, connected_ms, messages,
            bytes_in, bytes_out, edits, plans, tokens_in, tokens_out)
        SELECT c.user_id, c.hour, c.project_id, c.a, c.b, c.c, c.d, c.e, c.f, c.g, c.h
        FROM unnest($1::text[], $2::bigint[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[],
            $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[]) WITH ORDINALITY
            AS c (user_id, hour, project_id, a, b, c, d, e, f, g, h, place)
        ORDER BY c.place
        ON CONFLICT (user_id, hour, coalesce(project_id, '')) DO UPDATE SET
            connected_ms = h.connected_ms + excluded.connected_ms,
            messages = h.messages + excluded.messages,
            bytes_in = h.bytes_in + excluded.bytes_in, bytes_out = h.bytes_out + excluded.bytes_out,
            edits = h.edits + excluded.edits, plans = h.plans + excluded.plans,
            tokens_in = h.tokens_in + excluded.tokens_in,
            tokens_out = h.tokens_out + excluded.tokens_out";
    USAGE_OF_USER = concat!(sums!(), " WHERE user_id = $1 AND hour >= $2 AND hour < $3
        GROUP BY 1 ORDER BY 1");
    USAGE_OF_PROJECT = concat!(sums!(), " WHERE project_id = $1 AND hour >= $2 AND hour < $3
        GROUP BY 1 ORDER BY 1");
}

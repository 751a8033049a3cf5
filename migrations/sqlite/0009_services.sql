-- What lists and limits of plans and notifications are read by.

-- Plans that wait for a worker, oldest first.
CREATE INDEX planning_plans_queued ON planning_plans (id) WHERE status = 'queued';
-- How many plans a project has open.
CREATE INDEX planning_plans_open_of ON planning_plans (project_id) WHERE status IN ('queued', 'running');

-- A feed without what has been read.
CREATE INDEX notify_notifications_new ON notify_notifications (user_id, id) WHERE read_at IS NULL;

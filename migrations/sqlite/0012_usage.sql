-- How many plans a user has asked for since a time, for quotas.
CREATE INDEX planning_plans_asked ON planning_plans (requested_by, created_at) WHERE requested_by IS NOT NULL;
-- The other begins with the same.
DROP INDEX planning_plans_requester;

-- The log from a time on, oldest first: replayed, and cut at its old end.
CREATE INDEX events_log_order ON events_log (occurred_at, event_id);
DROP INDEX events_log_time;

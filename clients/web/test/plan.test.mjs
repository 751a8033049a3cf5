// Holds a followed plan to its rules: by attempt and position, whatever comes before, between and after the readings.
import assert from "node:assert/strict";
import { test } from "node:test";
import { load } from "./load.mjs";

const { FollowedPlan } = await load("plan");

const step = (position, more = {}) => ({ position, title: `Step ${position}`, detail: "", status: "done", files: [], depends_on: [], minutes: null, ...more });
const plan = (status, attempt, steps = [], more = {}) => ({
  id: "p", project: "demo", requested_by: "u", request: "x", status, reason: null, attempt, created_at: 0, steps, ...more,
});
const progress = (attempt, position, more) => [null, { type: "plan.progress", subject: "plan:p", data: { attempt, step: step(position, more) } }];
const stage = (attempt, name) => ["stage", { attempt, stage: name }];
const live = (attempt, position, detail) => [`step:${position}`, { attempt, step: position, title: `Step ${position}`, detail }];
const ended = (type, data) => [null, { type: `plan.${type}`, data }];
const positions = (followed) => followed.steps.map((one) => one.position);

function follow(...messages) {
  const followed = new FollowedPlan();
  for (const message of messages) followed.apply(...message);
  return followed;
}

test("a plan is followed from its queue to its end", () => {
  const followed = new FollowedPlan();
  followed.read(plan("queued", 0));
  assert.equal(followed.status, "queued");
  assert.equal(followed.apply(...stage(1, "context")), "shown");
  assert.deepEqual([followed.status, followed.stage], ["running", "context"]);
  followed.apply(...stage(1, "writing"));
  followed.apply(...live(1, 0, "Open"));
  followed.apply(...live(1, 0, "Open the file"));
  assert.equal(followed.live.detail, "Open the file");
  followed.apply(...progress(1, 0));
  assert.equal(followed.live, null);
  assert.deepEqual(positions(followed), [0]);
  assert.equal(followed.apply(...ended("created", { attempt: 1, summary: "All of it", steps: 1, by: "m" })), "read");
  assert.deepEqual([followed.status, followed.stage, followed.summary.text, followed.summary.known], ["done", null, "All of it", false]);
  const body = { summary: "All of it.", by: { kind: "model", name: "m-1" }, context: [{ path: "a.rs", first_line: 1, last_line: 9, symbol: "f", source: "s" }], repaired: true };
  followed.read(plan("done", 1, [step(0)], { body }));
  assert.deepEqual(followed.summary, { text: "All of it.", model: "m-1", known: true, repaired: true, places: [{ path: "a.rs", first: 1, last: 9, symbol: "f" }] });
});

test("what comes while the plan is being read is not lost to an older reading", () => {
  const followed = follow(stage(1, "writing"), progress(1, 0), progress(1, 1), live(1, 2, "x"));
  followed.read(plan("running", 1, [step(0)]));
  assert.deepEqual(positions(followed), [0, 1]);
  assert.equal(followed.live.position, 2);
  followed.read(plan("queued", 0));
  assert.equal(followed.status, "running");
  const over = follow(stage(1, "writing"), ended("failed", { attempt: 1, reason: "no" }));
  over.read(plan("running", 1));
  assert.deepEqual([over.status, over.reason], ["failed", "no"]);
});

test("a reading that is ahead of the messages takes what they only begin to tell", () => {
  const followed = follow(live(2, 0, "a"), live(2, 1, "b"));
  followed.read(plan("running", 2, [step(0)]));
  assert.equal(followed.live.position, 1);
  assert.equal(followed.apply(...live(2, 0, "late")), "none");
  followed.read(plan("running", 3, []));
  assert.deepEqual([positions(followed), followed.live], [[], null]);
});

test("a later attempt empties the steps, an earlier one counts for nothing", () => {
  const followed = follow(stage(1, "writing"), progress(1, 0), progress(1, 1), progress(2, 0, { title: "Anew" }));
  assert.deepEqual(followed.steps.map((one) => one.title), ["Anew"]);
  for (const old of [progress(1, 1), live(1, 3, "x"), stage(1, "repair"), ended("failed", { attempt: 1, reason: "no" }), ended("created", { attempt: 1 })]) {
    assert.equal(followed.apply(...old), "none");
  }
  assert.equal(followed.status, "running");
  assert.equal(followed.live, null);
});

test("a plan that has ended stays so", () => {
  for (const [type, status] of [["created", "done"], ["failed", "failed"], ["cancelled", "cancelled"]]) {
    const followed = follow(progress(1, 0), live(1, 1, "x"), ended(type, { attempt: 1 }));
    assert.equal(followed.status, status);
    assert.equal(followed.live, null);
    for (const late of [progress(1, 1), stage(2, "context"), ended("cancelled", {}), live(1, 1, "y")]) assert.equal(followed.apply(...late), "none");
    assert.deepEqual([followed.status, positions(followed)], [status, [0]]);
  }
});

test("an end that is read replaces what messages told", () => {
  const followed = follow(progress(1, 0), progress(1, 1), progress(1, 2));
  followed.read(plan("done", 1, [step(1), step(0), step(2, { status: "skipped" })], { body: { by: { kind: "outline" } } }));
  assert.deepEqual(positions(followed), [0, 1]);
  assert.deepEqual([followed.summary.model, followed.summary.known], [null, true]);
});

test("a repair writes finished steps anew", () => {
  const followed = follow(progress(1, 0), live(1, 0, "late"));
  assert.equal(followed.live, null);
  followed.apply(...stage(1, "repair"));
  followed.apply(...live(1, 0, "again"));
  assert.equal(followed.live.detail, "again");
  followed.apply(...progress(1, 0, { title: "Better" }));
  assert.deepEqual([followed.live, followed.steps[0].title], [null, "Better"]);
});

test("what is no message of a plan changes nothing", () => {
  const followed = new FollowedPlan();
  followed.read(plan("queued", 0));
  const odd = [
    [null, null], [null, "x"], [null, []], [null, { type: "plan.progress" }], [null, { type: "plan.progress", data: { attempt: "1", step: step(0) } }],
    [null, { type: "plan.progress", data: { attempt: 1, step: { position: -1 } } }], ["stage", { attempt: 1, stage: "dancing" }], ["step:1", { attempt: 1, step: 2 }],
    ["other", { attempt: 1 }], [null, { type: "plan.requested", data: {} }], [null, { type: "plan.created", data: {} }],
  ];
  for (const message of odd) assert.equal(followed.apply(...message), "none", JSON.stringify(message));
  assert.equal(followed.status, "queued");
  followed.apply(null, { type: "plan.progress", data: { attempt: 1, step: { position: 0, title: 7, files: [1, "a.rs"], depends_on: "x", minutes: 2.5, status: "odd" } } });
  assert.deepEqual(followed.steps, [step(0, { title: "", files: ["a.rs"] })]);
  followed.read(plan("done", 1, [], { body: ["not", "a", "body"] }));
  assert.deepEqual(followed.summary, { text: "", model: null, known: false, repaired: false, places: [] });
});

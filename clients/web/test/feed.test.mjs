// Holds the feed to its rules: the count is the hub's, a group that grew is one entry, and each kind reads as a sentence.
import assert from "node:assert/strict";
import { test } from "node:test";
import { load } from "./load.mjs";

const { Feed, wordsOf } = await load("feed");

const one = (id, more = {}) => ({ id, kind: "plan.created", project: "demo", event: "e", count: 1, data: {}, created_at: 1, read_at: null, ...more });
const created = (id, unread, replaced = null, more = {}) => ({ type: "notification.created", data: { notification: one(id, more), replaced, unread } });
const read = (data, unread) => ({ type: "notification.read", data: { ...data, unread } });
const ids = (feed) => feed.items.map(({ id }) => id);
const unreadIds = (feed) => feed.items.filter((item) => item.read_at === null).map(({ id }) => id);

test("new ones come first, and a group that grew is one", () => {
  const feed = new Feed();
  feed.read([one("2"), one("1")], 2);
  assert.equal(feed.apply(created("3", 3)).id, "3");
  feed.apply(created("4", 3, "2", { count: 2 }));
  assert.deepEqual([ids(feed), feed.unread], [["4", "3", "1"], 3]);
  feed.apply(created("4", 3, "2", { count: 2 }));
  assert.deepEqual(ids(feed), ["4", "3", "1"]);
});

test("what is read in another window is read here", () => {
  const feed = new Feed();
  feed.read([one("4"), one("3"), one("2"), one("1")], 4);
  feed.apply(read({ id: "3" }, 3));
  assert.deepEqual([unreadIds(feed), feed.unread], [["4", "2", "1"], 3]);
  feed.apply(read({ up_to: "2" }, 1));
  assert.deepEqual(unreadIds(feed), ["4"]);
  feed.apply(read({ all: true }, 0));
  assert.deepEqual([unreadIds(feed), feed.unread], [[], 0]);
  feed.apply({ type: "notification.deleted", data: { id: "4", unread: 0 } });
  assert.deepEqual(ids(feed), ["3", "2", "1"]);
  feed.marked({ upTo: "2" }, 0);
});

test("what comes while the list is being read is in it", () => {
  const feed = new Feed();
  feed.begin();
  feed.apply(created("3", 3));
  feed.apply(read({ id: "1" }, 2));
  feed.read([one("2"), one("1")], 2);
  assert.deepEqual([ids(feed), unreadIds(feed), feed.unread], [["3", "2", "1"], ["3", "2"], 2]);
});

test("a mark of this window counts at once", () => {
  const feed = new Feed();
  feed.read([one("3"), one("2"), one("1")], 3);
  feed.marked({ id: "2" }, 2);
  assert.deepEqual(unreadIds(feed), ["3", "1"]);
  feed.marked({ upTo: "2" }, 1);
  assert.deepEqual([unreadIds(feed), feed.unread], [["3"], 1]);
});

test("what is no message of a feed changes nothing", () => {
  const feed = new Feed();
  feed.read([one("1")], 1);
  const odd = [null, 7, "x", {}, { type: "notification.created", data: { unread: 5 } }, { type: "notification.read", data: { all: true } },
    { type: "other", data: { unread: 9 } }, { type: "notification.created", data: { notification: { id: 1 }, unread: 9 } }];
  for (const message of odd) assert.equal(feed.apply(message), null);
  assert.deepEqual([ids(feed), feed.unread, unreadIds(feed)], [["1"], 1, ["1"]]);
});

test("the list is bounded", () => {
  const feed = new Feed();
  feed.read([], 0);
  for (let i = 0; i < 80; i += 1) feed.apply(created(String(i).padStart(3, "0"), i + 1));
  assert.deepEqual([feed.items.length, feed.items[0].id], [50, "079"]);
});

test("each kind in words, and what it leads to", () => {
  const words = (kind, data, more = {}) => wordsOf(one("1", { kind, data: { project_name: "Demo", ...data }, ...more }));
  assert.deepEqual(words("plan.created", { plan: "p", request: "A dark theme" }), { title: "The plan is ready", detail: "A dark theme", target: { project: "demo", plan: "p" } });
  assert.equal(words("plan.created", { plan: "p" }, { count: 3 }).title, "3 plans are ready");
  assert.deepEqual(words("plan.failed", { plan: "p", reason: "no model" }), { title: "The plan could not be made", detail: "no model", target: { project: "demo", plan: "p" } });
  assert.equal(words("plan.cancelled", { plan: "p", actor_name: "Bob" }).title, "Bob cancelled your plan");
  assert.deepEqual(words("member.added", { role: "editor", actor_name: "Bob" }), { title: "You were added to Demo", detail: "As editor by Bob", target: { project: "demo" } });
  assert.equal(words("member.changed", {}).title, "Your role in Demo changed");
  assert.equal(words("member.removed", {}).target, null);
  assert.deepEqual(words("mention.created", { document: "d", path: "src/a.rs", line: 12, excerpt: "@alice look", actor_name: "Bob" }), {
    title: "Bob mentioned you in src/a.rs, line 12", detail: "@alice look", target: { project: "demo", document: "d", path: "src/a.rs" },
  });
  assert.deepEqual(words("mention.created", {}), { title: "You were mentioned in a file", detail: "", target: { project: "demo" } });
  assert.equal(words("order.paid_late", {}).title, "Order paid late");
  assert.equal(words("", null, { project: null, data: null }).title, "Something happened");
});

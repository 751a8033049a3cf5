// Holds the session to the protocol: what it asks for, from where it goes on, what it tells its followers, when it comes back.
import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { load } from "./load.mjs";

const { Hub } = await load("hub");

/** One end of a socket, with the hub's side in the test's hands. */
class Line {
  readyState = 0;
  sent = [];
  closed = false;
  send(text) { this.sent.push(JSON.parse(text)); }
  close() { this.closed = true; this.readyState = 3; }
  open() { this.readyState = 1; this.onopen(); }
  say(frame) { this.onmessage({ data: JSON.stringify(frame) }); }
  end(code) { this.readyState = 3; this.onclose({ code }); }
  last(type) { return this.sent.filter((frame) => frame.type === type).at(-1); }
  connected() {
    this.open();
    this.say({ type: "connected", id: this.last("connect").id, ping_ms: 20_000 });
  }
  subscribed(channel, offset, more = {}) {
    const asked = this.sent.filter((frame) => frame.type === "subscribe" && frame.channel === channel).at(-1);
    this.say({ type: "subscribed", id: asked.id, channel, epoch: "e1", offset, recovered: false, ...more });
  }
}

const settle = () => new Promise((resolve) => setImmediate(resolve));

function world(token = async () => "t") {
  const lines = [];
  const asked = [];
  const hub = new Hub((stale) => { asked.push(stale); return token(stale); }, (subprotocol) => {
    assert.equal(subprotocol, "tandem.v1.json");
    lines.push(new Line());
    return lines.at(-1);
  });
  const told = [];
  const follower = {
    read: () => told.push("read"),
    message: ({ key, data }) => told.push(key === null ? data : [key, data]),
    ended: (reason) => told.push(`ended: ${reason}`),
  };
  return { hub, lines, asked, told, follower, line: () => lines.at(-1) };
}

/** With a plan followed and answered. */
async function following(token) {
  mock.timers.enable({ apis: ["setTimeout", "setInterval", "Date"] });
  const all = world(token);
  all.stop = all.hub.follow("plan:p", all.follower);
  await settle();
  all.line().connected();
  all.line().subscribed("plan:p", 4);
  return all;
}

const message = (offset, data, more = {}) => ({ type: "message", channel: "plan:p", offset, data, time: 0, ...more });
const done = (all) => { all.hub.close(); mock.timers.reset(); };

test("the token is in the first frame, and channels are asked for once it is taken", async () => {
  const all = await following();
  assert.deepEqual(all.line().sent.map((frame) => frame.type), ["connect", "subscribe"]);
  assert.equal(all.line().sent[0].token, "t");
  assert.ok(all.hub.live);
  assert.deepEqual(all.told, ["read"]);
  all.line().say(message(5, "a"));
  all.line().say(message(5, "a"));
  all.line().say({ type: "message", channel: "plan:p", key: "stage", version: 2, data: "x" });
  all.line().say({ type: "message", channel: "plan:p", key: "stage", version: 1, data: "old" });
  all.line().say({ type: "message", channel: "plan:other", offset: 1, data: "not mine" });
  assert.deepEqual(all.told, ["read", "a", ["stage", "x"]]);
  all.stop();
  assert.equal(all.line().last("unsubscribe").channel, "plan:p");
  all.line().say(message(6, "b"));
  assert.equal(all.told.length, 3);
  done(all);
});

test("after a break it goes on where it was; after a gap its state is read", async () => {
  const all = await following();
  all.line().say(message(5, "a"));
  all.line().end(1006);
  assert.ok(!all.hub.live);
  mock.timers.tick(250);
  await settle();
  all.line().connected();
  assert.deepEqual(all.line().last("subscribe").position, { epoch: "e1", offset: 5 });
  all.line().subscribed("plan:p", 5, { recovered: true });
  all.line().say(message(6, "b"));
  assert.deepEqual(all.told, ["read", "a", "b"]);
  all.line().say({ type: "reset", channel: "plan:p", reason: "expired", position: { epoch: "e2", offset: 90 } });
  all.line().say(message(91, "c"));
  assert.deepEqual(all.told.slice(3), ["read", "c"]);
  all.line().end(4500);
  mock.timers.tick(500);
  await settle();
  all.line().connected();
  assert.deepEqual(all.line().last("subscribe").position, { epoch: "e2", offset: 91 });
  all.line().subscribed("plan:p", 0, { epoch: "e3", reset: "epoch" });
  all.line().say(message(1, "d"));
  assert.deepEqual(all.told.slice(5), ["read", "d"]);
  done(all);
});

test("it comes back when the hub says, else later and later", async () => {
  const all = await following();
  all.line().say({ type: "reconnect", after_ms: 7_000, reason: "drain" });
  all.line().end(4503);
  mock.timers.tick(6_999);
  await settle();
  assert.equal(all.lines.length, 1);
  mock.timers.tick(1);
  await settle();
  assert.equal(all.lines.length, 2);
  let least = 0;
  for (let i = 0; i < 8; i += 1) {
    const before = all.lines.length;
    all.line().end(1006);
    let waited = 0;
    for (; all.lines.length === before; waited += 50) {
      mock.timers.tick(50);
      await settle();
    }
    assert.ok(waited >= Math.min(least, 7_500) && waited <= 15_050, `${waited} ms`);
    least = Math.min(250 * 2 ** i, 15_000) / 2;
  }
  done(all);
});

test("a token that is not taken is not brought again", async () => {
  let now = "t";
  const all = await following(async (stale) => { if (stale === now) now = "fresh"; return now; });
  all.line().end(4401);
  mock.timers.tick(250);
  await settle();
  all.line().open();
  assert.deepEqual(all.asked, [undefined, "t"]);
  assert.equal(all.line().sent[0].token, "fresh");
  done(all);
});

test("an expiring token is replaced in the session", async () => {
  let now = "t";
  const all = await following(async (stale) => { if (stale === now) now = "fresh"; return now; });
  all.line().say({ type: "expiring", in_ms: 60_000 });
  await settle();
  mock.timers.tick(29_000);
  await settle();
  assert.ok(!all.line().last("refresh"), "the login has its own time for it");
  for (let i = 0; i < 5; i += 1) all.line().say({ type: "expiring", in_ms: 2_000 });
  mock.timers.tick(1_000);
  await settle();
  assert.deepEqual(all.line().sent.filter((frame) => frame.type === "refresh").map((frame) => frame.token), ["fresh"]);
  all.line().say({ type: "expiring", in_ms: 2_000 });
  now = "renewed elsewhere";
  all.hub.renewToken();
  await settle();
  assert.equal(all.line().last("refresh").token, "renewed elsewhere");
  done(all);
});

test("a final close is obeyed until the person signs in again", async () => {
  const all = await following();
  all.line().end(4420);
  mock.timers.tick(600_000);
  await settle();
  assert.equal(all.lines.length, 1);
  all.hub.renewToken();
  await settle();
  assert.equal(all.lines.length, 2);
  done(all);
});

test("a channel that may not be followed is told so; one that can't be now is asked for again", async () => {
  const all = await following();
  all.hub.follow("plan:full", all.follower);
  all.line().say({ type: "error", id: all.line().last("subscribe").id, code: "rate_limited", message: "too fast", retry_after_ms: 300 });
  const before = all.line().sent.length;
  mock.timers.tick(300);
  assert.equal(all.line().sent.length, before + 1);
  all.line().say({ type: "error", id: all.line().last("subscribe").id, code: "not_found", message: "no such plan" });
  all.line().say({ type: "revoked", channel: "plan:p", reason: "removed" });
  assert.deepEqual(all.told, ["read", "ended: no such plan", "ended: removed"]);
  done(all);
});

test("silence is asked about, and one who does not answer is left", async () => {
  const all = await following();
  mock.timers.tick(20_000);
  assert.ok(all.line().last("ping"));
  all.line().say({ type: "pong", id: 1, time: 0 });
  assert.ok(all.hub.live);
  for (let passed = 0; passed < 50; passed += 1) mock.timers.tick(1_000);
  assert.ok(!all.hub.live);
  assert.ok(all.lines[0].closed);
  done(all);
});

test("what is no frame is passed over", async () => {
  const all = await following();
  for (const odd of ["", "{", "null", "7", "[]", '"x"', '{"type":"later"}']) all.line().onmessage({ data: odd });
  all.line().onmessage({ data: new Uint8Array(3) });
  assert.ok(all.hub.live);
  assert.deepEqual(all.told, ["read"]);
  done(all);
});

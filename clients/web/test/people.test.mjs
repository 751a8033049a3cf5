// Holds the reading of other clients' awareness to its rule: nothing that they say reaches a style or throws.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Awareness } from "y-protocols/awareness";
import * as Y from "yjs";
import { load } from "./load.mjs";

const { badgeOf, caretOf, initials, peopleIn, strictAwareness } = await load("people");

function room(states) {
  const doc = new Y.Doc();
  const text = doc.getText("text");
  text.insert(0, "hello");
  const awareness = new Awareness(doc);
  for (const [client, state] of Object.entries(states)) awareness.states.set(Number(client), state);
  return { awareness, text, end: () => awareness.destroy() };
}

test("the demo users have colours of their own", () => {
  const [alice, bob] = ["alice", "bob"].map((login) => badgeOf({ id: login, login, name: login }));
  assert.match(alice.color, /^#[0-9a-f]{6}$/);
  assert.notEqual(alice.color, bob.color);
});

test("hostile states are shown harmlessly", () => {
  const { awareness, text, end } = room({
    2: { user: { name: "x".repeat(500), color: "red; position: fixed; inset: 0" }, cursor: { anchor: 7, head: "?" } },
    3: { user: "nobody", cursor: { anchor: { tname: 5 }, head: { item: { client: "a" } } } },
    4: { user: null, cursor: [] },
    5: { user: { name: { toString: null }, login: 9 } },
  });
  for (const [client, state] of strictAwareness(awareness, text).getStates()) {
    if (client === awareness.clientID) continue;
    assert.match(state.user.color, /^#[0-9a-f]{6}$/);
    assert.ok(state.user.name.length <= 40);
    assert.equal(state.cursor, null);
  }
  assert.equal(peopleIn(awareness).length, 5);
  end();
});

test("a caret that resolves stays", () => {
  const { awareness, text, end } = room({});
  const at = JSON.parse(JSON.stringify(Y.createRelativePositionFromTypeIndex(text, 3)));
  awareness.states.set(2, { user: { login: "bob", name: "Bob" }, cursor: { anchor: at, head: at } });
  assert.ok(strictAwareness(awareness, text).getStates().get(2).cursor);
  assert.equal(caretOf(awareness, 2, text), 3);
  end();
});

test("two windows of a person are one person, oneself first", () => {
  const bob = { user: { login: "bob", name: "Bob" } };
  const { awareness, end } = room({ 2: bob, 3: bob });
  awareness.setLocalStateField("user", { login: "zoe", name: "Zoe" });
  const people = peopleIn(awareness);
  assert.deepEqual(people.map((person) => [person.login, person.self, person.clients.length]), [["zoe", true, 1], ["bob", false, 2]]);
  end();
});

test("initials", () => {
  assert.deepEqual(["Alice", "vera viewer", "a.b-c", "", "😀 x"].map(initials), ["A", "VV", "AC", "?", "😀X"]);
});

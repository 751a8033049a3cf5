// Holds the ledger to its promise: "saved" is never said of a change that the hub has not confirmed.
import assert from "node:assert/strict";
import { test } from "node:test";
import { load } from "./load.mjs";

const { Ledger } = await load("ledger");

function greeted() {
  const ledger = new Ledger();
  ledger.opened();
  ledger.sentAll();
  ledger.answered(true);
  return ledger;
}

test("changes are durable one confirmation at a time", () => {
  const ledger = greeted();
  for (let i = 0; i < 2; i += 1) {
    ledger.made();
    ledger.sentOne();
  }
  assert.equal(ledger.unsaved, 2);
  ledger.answered(true);
  assert.equal(ledger.unsaved, 1);
  ledger.answered(true);
  assert.equal(ledger.unsaved, 0);
  assert.ok(ledger.settled);
});

test("changes queued while offline are durable only when everything was told and confirmed", () => {
  const ledger = greeted();
  ledger.made();
  ledger.made();
  ledger.opened();
  ledger.sentOne();
  ledger.sentOne();
  ledger.sentAll();
  ledger.answered(true);
  ledger.answered(true);
  assert.equal(ledger.unsaved, 2, "a queued frame may lean on one that was lost");
  assert.ok(!ledger.settled);
  ledger.answered(true);
  assert.equal(ledger.unsaved, 0);
});

test("a confirmation that a lost connection swallowed is not waited for", () => {
  const ledger = greeted();
  ledger.made();
  ledger.sentOne();
  ledger.opened();
  ledger.sentAll();
  assert.equal(ledger.unsaved, 1);
  ledger.answered(true);
  assert.ok(ledger.settled);
});

test("a change made after everything was told is not covered by that confirmation", () => {
  const ledger = new Ledger();
  ledger.opened();
  ledger.made();
  ledger.sentAll();
  ledger.made();
  ledger.answered(true);
  assert.equal(ledger.unsaved, 1);
});

test("a refusal is told while the change exists only here", () => {
  const ledger = greeted();
  ledger.made();
  ledger.sentOne();
  ledger.answered(false);
  assert.ok(ledger.refused);
  assert.equal(ledger.unsaved, 1);
  ledger.opened();
  ledger.sentAll();
  ledger.answered(true);
  assert.ok(!ledger.refused);
});

test("an answer to nothing changes nothing", () => {
  const ledger = new Ledger();
  ledger.made();
  ledger.answered(true);
  assert.equal(ledger.unsaved, 1);
});

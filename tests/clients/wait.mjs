// Owns waiting: deadlines, polling, pauses, and the failure type of a case.
// Never touches the network; a wait that ends without its condition always throws.

/** A case that did not hold. Its message is for the person who reads the test's output. */
export class CaseFailure extends Error {}

/** Fails the case with `message` unless `condition` holds. */
export function check (condition, message) {
  if (!condition) throw new CaseFailure(message)
}

/** Resolves after `ms` milliseconds. */
export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

/**
 * Polls `probe` (may be async) until it answers something truthy, and returns that.
 * `what` is a string, or a function that describes the state at the moment of failure.
 */
export async function waitFor (what, probe, ms = 8000) {
  const end = Date.now() + ms
  for (;;) {
    const answer = await probe()
    if (answer) return answer
    if (Date.now() > end) {
      const told = typeof what === 'function' ? await what() : what
      throw new CaseFailure(`waited ${ms} ms for: ${told}`)
    }
    await sleep(15)
  }
}

/** Watches `probe` for `ms` milliseconds and fails as soon as it answers something truthy. */
export async function never (what, probe, ms) {
  const end = Date.now() + ms
  while (Date.now() < end) {
    check(!(await probe()), `must not happen: ${what}`)
    await sleep(15)
  }
}

/** The first position at which two texts differ, in words: long texts are useless in a message. */
export function difference (a, b) {
  if (a === b) return 'equal'
  let at = 0
  while (at < a.length && at < b.length && a[at] === b[at]) at++
  const cut = (text) => JSON.stringify(text.slice(Math.max(0, at - 20), at + 30))
  return `lengths ${a.length} and ${b.length}, first difference at ${at}: ${cut(a)} against ${cut(b)}`
}

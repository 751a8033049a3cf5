// Owns what two people see of a plan in the demo workspace: both its steps and its end, who asked also the notification.
// Works on windows that `browser.mjs` has opened; needs a hub with a planner, with a language model or without.

import { join } from 'node:path'
import { check, waitFor } from './wait.mjs'

/** How long a plan may take; without a model it is a moment's work. */
const MADE_WITHIN = 60_000
/** The list of plans is read every 10 s: so long until somebody else's plan is on screen. */
const SEEN_WITHIN = 25_000
/** What is used is counted by the way. */
const COUNTED_WITHIN = 30_000
const REQUEST = 'Count the words of several texts at once, and say which word is the most frequent'

const texts = (window, id) => window.testid(id).allInnerTexts()
const paths = (window) => window.testid('file-list').locator('a').allInnerTexts()

/** The id of the plan on screen. */
const shown = (window) => window.page.locator('[data-testid="plan-row"][aria-current]').evaluateAll(([row]) => row?.dataset.plan)

/** Alice asks for a plan while both watch; returns what was seen. */
export async function planTogether (alice, bob, directory) {
  const files = await paths(bob)
  for (const window of [alice, bob]) await window.testid('plans-toggle').click()
  await alice.testid('plan-request').fill(REQUEST)
  await alice.testid('plan-make').click()
  await waitFor('the form is empty again', async () => await alice.testid('plan-request').inputValue() === '')
  const id = await shown(alice)
  await waitFor('bob sees the plan that alice asked for', async () => await shown(bob) === id, SEEN_WITHIN)
  for (const window of [alice, bob]) await isDone(window)
  const seen = await Promise.all([alice, bob].map(whole))
  check(JSON.stringify(seen[0]) === JSON.stringify(seen[1]), `both see one plan: ${JSON.stringify(seen)}`)
  const [{ steps, summary, by }] = seen
  check(steps.length > 0, 'the plan has steps')
  check(summary !== '' && by !== '', `the plan says what it is and who made it: "${summary}", "${by}"`)
  check(await alice.testid('plan-live').isHidden(), 'no step of a finished plan is under way')
  const taken = await pictures(alice, bob, directory)
  await notified(alice)
  await countedAs(alice, 1)
  check(await bob.testid('bell-count').isHidden(), 'bob, who did not ask, is not told')
  check(JSON.stringify(await paths(bob)) === JSON.stringify(files), 'the files are as they were')
  for (const window of [alice, bob]) await window.testid('plans-toggle').click()
  return { plan: { steps: steps.length, by }, pictures: taken }
}

/** The panel beside the text, light and dark, and over it on a phone. */
async function pictures (alice, bob, directory) {
  const taken = []
  const shoot = async (window, name) => {
    await window.page.screenshot({ path: join(directory, `${name}.png`), animations: 'disabled' })
    taken.push(`${name}.png`)
  }
  const size = bob.page.viewportSize()
  await shoot(alice, 'plan-light')
  await bob.testid('theme-toggle').click()
  await shoot(bob, 'plan-dark')
  await bob.testid('theme-toggle').click()
  await bob.page.setViewportSize({ width: 390, height: 844 })
  const overflow = await bob.page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth)
  check(overflow <= 0, `the panel fits a phone; the page is ${overflow} px too wide`)
  await shoot(bob, 'plan-phone')
  await bob.page.setViewportSize(size)
  return taken
}

async function isDone (window) {
  const status = window.testid('plan-status')
  const now = () => status.getAttribute('data-state')
  await waitFor(async () => `${window.user} sees a finished plan, not ${await now()} ${await texts(window, 'plan-error')}`, async () => {
    const asked = await window.page.locator('.plan-asked').innerText()
    const state = await now()
    check(state !== 'failed' && state !== 'cancelled', `the plan ended as ${state}: ${await texts(window, 'plan-error')}`)
    return asked === REQUEST && state === 'done' && await window.testid('plan-by').isVisible()
  }, MADE_WITHIN)
}

async function whole (window) {
  const [summary, by] = await Promise.all(['plan-summary', 'plan-by'].map((id) => window.testid(id).innerText()))
  return { steps: await texts(window, 'plan-step'), summary, by }
}

/** The notification comes by itself, opens the plan, and is read then; the rest are marked as read. */
async function notified (window) {
  const count = window.testid('bell-count')
  await waitFor('the bell counts the plan', async () => await count.isVisible() && Number(await count.innerText()) >= 1, 20_000)
  await window.testid('plans-toggle').click()
  await window.testid('bell').click()
  const told = window.testid('notification').first()
  check(await told.getAttribute('data-kind') === 'plan.created', 'the newest notification is about the plan')
  check(await told.getAttribute('data-unread') === 'true', 'it is unread')
  await told.click()
  await waitFor('the notification opens its plan', async () =>
    await window.testid('plan-status').isVisible() && await window.page.locator('.plan-asked').innerText() === REQUEST)
  await window.testid('bell').click()
  await waitFor('what was opened is read', async () => await window.testid('notification').first().getAttribute('data-unread') === 'false')
  if (await window.testid('mark-read').isVisible()) await window.testid('mark-read').click()
  await waitFor('nothing is unread', async () => await count.isHidden())
  await window.page.keyboard.press('Escape')
}

/** The person's usage has at least so many plans. */
async function countedAs (window, least) {
  const plans = window.testid('usage-plans')
  await waitFor(`usage has ${least} plan`, async () => {
    await window.testid('usage-open').click()
    await plans.waitFor()
    const counted = Number(await plans.getAttribute('data-value'))
    await window.page.keyboard.press('Escape')
    return counted >= least
  }, COUNTED_WITHIN)
}

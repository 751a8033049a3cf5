// Drives the demo workspace in real Chromium as two people at once, and takes its pictures.
//   node browser.mjs [--plans] <base-url> <screenshot-dir> [<base-url of the second window>]
//   exit 0 and one JSON line, or exit 1 and the reason. With --plans they watch a plan being made instead of typing.
// Owns its browser (CHROMIUM names another than /usr/bin/chromium) with a fresh profile; never touches another.

import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { chromium } from 'playwright-core'
import { check, difference, waitFor } from './wait.mjs'
import { planTogether } from './plans.mjs'
import { login } from './rest.mjs'

const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage']
const FILE = 'main.rs'
const DEADLINE = 120_000
const PAGE = { width: 960, height: 560 }
const PHONE = { width: 390, height: 844 }

/** One person's window: a context of its own, so that logins and storage are apart. */
async function openWindow (browser, base, user) {
  const context = await browser.newContext({ viewport: PAGE, colorScheme: 'light', deviceScaleFactor: 1 })
  const page = await context.newPage()
  page.setDefaultTimeout(15_000)
  const errors = []
  page.on('pageerror', (error) => errors.push(`uncaught: ${error.message}`))
  page.on('console', (message) => { if (message.type() === 'error') errors.push(`console: ${message.text()}`) })
  await page.goto(base)
  await page.getByTestId('demo-warning').waitFor()
  await page.getByTestId(`sign-in-${user}`).click()
  await page.getByTestId('file-list').getByTestId(`file-${FILE}`).click()
  const editor = page.getByTestId('editor').locator('.cm-content')
  await editor.waitFor()
  return { user, context, page, editor, errors, testid: (id) => page.getByTestId(id) }
}

/** The text in the editor, without the carets that others have in it. */
const editorText = ({ editor }) => editor.evaluate((content) => {
  const copy = content.cloneNode(true)
  for (const caret of copy.querySelectorAll('.cm-ySelectionCaret')) caret.remove()
  return [...copy.querySelectorAll('.cm-line')].map((line) => line.textContent.replace(/\u2060/g, '')).join('\n')
})

const state = (window, id) => window.testid(id).getAttribute('data-state')

const settled = (windows, id, wanted) => waitFor(
  async () => `${id} ${wanted} in all windows: ${await Promise.all(windows.map((each) => state(each, id)))}`,
  async () => (await Promise.all(windows.map((each) => state(each, id)))).every((each) => each === wanted))

/** Both editors and the hub hold one text; returns it. */
async function equalTexts (windows, stored) {
  let texts = []
  await waitFor(() => `equal editors: ${difference(texts[0], texts[1])}; against REST: ${difference(texts[0], texts[2])}`,
    async () => {
      texts = await Promise.all([...windows.map(editorText), stored()])
      return texts.every((text) => text === texts[0])
    })
  return texts[0]
}

const SAID = {
  alice: '// alice: the greeting should name everyone',
  bob: '// bob: and this line is written at the same time'
}

/** Alice writes a line at the top while Bob writes one at the end. */
async function typeTogether (alice, bob) {
  await alice.editor.click()
  for (const key of ['Control+Home', 'Enter', 'ArrowUp']) await alice.page.keyboard.press(key)
  await bob.editor.click()
  for (const key of ['Control+End', 'Enter']) await bob.page.keyboard.press(key)
  await Promise.all([
    alice.page.keyboard.type(SAID.alice, { delay: 25 }),
    bob.page.keyboard.type(SAID.bob, { delay: 20 })
  ])
}

/** The caret of `other` stands in the text of `window`, with its name readable. */
async function seesCaret (window, other) {
  const label = window.editor.locator('.cm-ySelectionInfo', { hasText: new RegExp(other, 'i') })
  await waitFor(`${window.user} sees the caret of ${other} with its name`, async () => {
    if (await label.count() === 0) return false
    return label.first().evaluate((element) => {
      const box = element.getBoundingClientRect()
      return Number(getComputedStyle(element).opacity) > 0.5 && box.width > 5 && box.height > 5
    })
  })
}

/** Puts two pictures into one, so that a reader sees both editors of one document. */
async function sideBySide (browser, left, right, path) {
  const context = await browser.newContext({ viewport: { width: PAGE.width * 2 + 24, height: PAGE.height } })
  const page = await context.newPage()
  const source = async (file) => `data:image/png;base64,${(await readFile(file)).toString('base64')}`
  const images = await Promise.all([left, right].map(source))
  await page.setContent(`<body style="margin:0;display:flex;gap:24px;background:#8884">${
    images.map((image) => `<img src="${image}" width="${PAGE.width}" height="${PAGE.height}">`).join('')}</body>`)
  await page.screenshot({ path })
  await context.close()
}

async function pictures (browser, windows, directory) {
  const taken = []
  const shoot = async (window, name) => {
    const path = join(directory, `${name}.png`)
    await window.page.screenshot({ path, animations: 'disabled' })
    taken.push(`${name}.png`)
    return path
  }
  for (const theme of ['light', 'dark']) {
    const pair = []
    for (const window of windows) {
      if (theme === 'dark') await window.testid('theme-toggle').click()
      await waitFor(`${theme} page`, () => window.page.evaluate((dark) => {
        const [r, g, b] = getComputedStyle(document.body).backgroundColor.match(/\d+/g).map(Number)
        return dark === (r + g + b < 384)
      }, theme === 'dark'))
      pair.push(await shoot(window, `${window.user}-${theme}`))
    }
    await sideBySide(browser, ...pair, join(directory, `two-editors-${theme}.png`))
    taken.push(`two-editors-${theme}.png`)
  }
  const [first] = windows
  await first.testid('theme-toggle').click()
  await first.page.setViewportSize(PHONE)
  await first.editor.waitFor()
  const overflow = await first.page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth)
  check(overflow <= 0, `the page fits a phone; it is ${overflow} px too wide`)
  await shoot(first, 'phone-light')
  await first.testid('theme-toggle').click()
  await shoot(first, 'phone-dark')
  await first.page.setViewportSize(PAGE)
  return taken
}

async function drive (browser, base, directory, second) {
  const reader = await login(base, 'alice', 'alice-demo-password')
  const document = (await reader.documents('demo')).find(({ path }) => path === FILE)
  check(document, `the demo project has ${FILE}`)
  const stored = () => reader.text(document.id)
  const windows = await Promise.all([openWindow(browser, base, 'alice'), openWindow(browser, second, 'bob')])
  const [alice, bob] = windows
  await settled(windows, 'connection-state', 'connected')
  const before = await equalTexts(windows, stored)
  await typeTogether(alice, bob)
  const text = await equalTexts(windows, stored)
  const lines = (all, line) => all.split('\n').filter((each) => each.includes(line)).length
  for (const [user, line] of Object.entries(SAID)) {
    // Counted, not only found: the demo document keeps what earlier runs wrote.
    check(lines(text, line) === lines(before, line) + 1, `the line of ${user} is whole in the text`)
  }
  await settled(windows, 'save-state', 'saved')
  for (const window of windows) {
    check((await window.testid('save-state').innerText()).includes('saved'), 'the page says "saved" in words')
    for (const login of ['alice', 'bob']) {
      await window.testid('people').getByTestId(`person-${login}`).waitFor()
    }
  }
  await seesCaret(alice, 'bob')
  await seesCaret(bob, 'alice')
  const taken = await pictures(browser, windows, directory)

  // What was saved is there after a reload, and one who leaves is not listed any more.
  await alice.page.reload()
  await alice.editor.waitFor()
  await equalTexts(windows, stored)
  await alice.context.close()
  await waitFor('bob sees that alice left', async () => await bob.testid('person-alice').count() === 0)
  quiet(windows)
  return { length: text.length, pictures: taken }
}

/** Nothing that the browser or the page calls an error happened. */
function quiet (windows) {
  const errors = windows.flatMap((window) => window.errors.map((error) => `${window.user}: ${error}`))
  check(errors.length === 0, `no errors in the pages: ${errors.slice(0, 5).join(' | ')}`)
}

/** Both watch a plan that Alice asks for; the document between them is unharmed. */
async function drivePlans (browser, base, directory, second) {
  const windows = await Promise.all([openWindow(browser, base, 'alice'), openWindow(browser, second, 'bob')])
  await settled(windows, 'connection-state', 'connected')
  const [before] = await Promise.all(windows.map(editorText))
  const seen = await planTogether(...windows, directory)
  for (const window of windows) check(await editorText(window) === before, `the text of ${window.user} is as it was`)
  quiet(windows)
  return seen
}

const args = process.argv.slice(2)
const isPlans = args[0] === '--plans'
const [base, directory, second = base] = isPlans ? args.slice(1) : args
if (!base || !directory) {
  console.error('usage: node browser.mjs [--plans] <base-url> <screenshot-dir> [<base-url of the second window>]')
  process.exit(2)
}
let browser
const fail = async (error) => {
  console.error(`case browser failed: ${error?.stack ?? error}`)
  await browser?.close().catch(() => {})
  process.exit(1)
}
setTimeout(() => fail(`not done within ${DEADLINE / 1000} s`), DEADLINE)
try {
  const started = Date.now()
  await mkdir(directory, { recursive: true })
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', headless: true, args: FLAGS })
  const did = await (isPlans ? drivePlans : drive)(browser, base.replace(/\/$/, ''), directory, second.replace(/\/$/, ''))
  await browser.close()
  console.log(JSON.stringify({ case: 'browser', ok: true, ms: Date.now() - started, ...did }))
  process.exit(0)
} catch (error) {
  await fail(error)
}

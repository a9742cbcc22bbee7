'use strict';
// Two windows of the chat of examples/chat: node chat.js URL CHROMIUM [SCREENSHOT] [dark]
const { chromium } = require('playwright-core');
const [url, executablePath, screenshot, scheme] = process.argv.slice(2);

(async () => {
  const browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-quic', '--disable-background-networking', '--disable-component-update', '--disable-sync'] });
  const faults = [];
  const open = async (name) => {
    const page = await (await browser.newContext({ viewport: { width: 900, height: 640 }, colorScheme: scheme || 'light' })).newPage();
    await page.addInitScript(() => {
      window.WebSocket = class extends WebSocket {
        constructor(...options) {
          super(...options);
          window.line = this;
        }
      };
    });
    page.on('pageerror', (error) => faults.push(String(error)));
    page.on('console', (message) => { if (message.type() === 'error' && !message.text().includes('INTERNET_DISCONNECTED')) faults.push(message.text()); });
    page.reads = 0; // Of the history, in its whole.
    page.on('websocket', (line) => line.on('framesent', ({ payload }) => { if (payload.includes('"$history"')) page.reads++; }));
    await page.goto(url);
    await page.fill('#name', name);
    if (screenshot) await page.screenshot({ path: screenshot.replace('.png', '-login.png') });
    await page.click('#login button');
    await page.waitForSelector('#chat nav button[aria-current]:has-text("lobby")');
    return page;
  };
  const say = async (page, text) => { await page.fill('#text', text); await page.click('#say button'); };
  const cut = async (page) => { await page.context().setOffline(true); await page.evaluate(() => window.line.close(4001)); };
  const shown = (page, text) => page.waitForSelector(`#messages .text:text-is("${text}")`);
  const texts = (page) => page.$$eval('#messages .text', (lines) => lines.map((line) => line.textContent));

  const ada = await open('Ada');
  await say(ada, 'Is this window two?');
  await shown(ada, 'Is this window two?');
  const bob = await open('Bob');
  await shown(bob, 'Is this window two?'); // From the history.
  await say(bob, 'It is!');
  await shown(ada, 'It is!');
  await ada.type('#text', 'Good');
  await bob.waitForSelector('#typing:text-is("Ada is typing…")');
  await ada.waitForSelector('#members:text-is("Ada, Bob")');
  await ada.waitForSelector('#messages .note:text-is("Bob came in")');
  await cut(bob);
  await say(ada, 'Are you there?');
  await shown(ada, 'Are you there?');
  await bob.context().setOffline(false);
  await shown(bob, 'Are you there?'); // He missed it, and receives it when he is back.
  await ada.type('#text', 'Goodb');
  await bob.waitForSelector('#typing:text-is("Ada is typing…")');
  if (screenshot) await bob.screenshot({ path: screenshot });
  await say(ada, 'Goodbye');
  await shown(bob, 'Goodbye');
  const typing = await bob.textContent('#typing');
  const lobby = await texts(bob);
  const notes = await ada.$$eval('#messages .note', (lines) => lines.map((line) => line.textContent));
  const mine = await bob.$$eval('#messages .mine .text', (lines) => lines.map((line) => line.textContent));
  await bob.click('nav button:has-text("music")');
  await bob.waitForFunction(() => document.querySelector('#messages').childElementCount === 0);
  await say(bob, 'Only music');
  await shown(bob, 'Only music');
  const apart = await texts(ada);
  await ada.click('nav button:has-text("music")');
  await shown(ada, 'Only music');
  if (screenshot) { await ada.setViewportSize({ width: 390, height: 700 }); await ada.screenshot({ path: screenshot.replace('.png', '-mobile.png') }); }
  await ada.reload(); // The token is stored.
  await shown(ada, 'Goodbye');
  await ada.click('#logout');
  await ada.waitForSelector('#login:not([hidden])');
  const reads = { ada: ada.reads, bob: bob.reads };
  console.log(JSON.stringify({ lobby, notes, reads, mine, typing, apart, error: await ada.textContent('#error'), faults }));
  await browser.close();
})().catch((error) => { console.error(error); process.exit(1); });

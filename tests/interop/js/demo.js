'use strict';
// Two windows of the demo page exchange messages, and one loses its line: node demo.js URL CHROMIUM [SCREENSHOT] [dark]
const { chromium } = require('playwright-core');
const [url, executablePath, screenshot, scheme] = process.argv.slice(2);

(async () => {
  const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });
  const faults = [];
  const open = async () => {
    const page = await (await browser.newContext({ viewport: { width: 1100, height: 800 }, colorScheme: scheme || 'light' })).newPage();
    page.on('pageerror', (error) => faults.push(String(error)));
    page.on('console', (message) => { if (message.type() === 'error') faults.push(message.text()); });
    await page.goto(url);
    await page.waitForSelector('#state.on');
    await page.waitForSelector('#messages li:has-text("You are in lobby")');
    return page;
  };
  const alice = await open();
  const bob = await open();
  await alice.fill('#name', 'Alice');
  await alice.click('#login button');
  await alice.waitForFunction(() => document.querySelector('#auth-state').textContent === 'authenticated');
  await bob.waitForSelector('#members:text-is("Alice, a guest")');
  await alice.type('#text', 'Hello');
  await bob.waitForSelector('#typing:has-text("Alice is typing")');
  await alice.fill('#text', 'Hello, window two');
  await alice.click('#say button');
  await bob.waitForSelector('#messages li:has-text("Hello, window two")');
  const line = await bob.textContent('#messages li:last-child');
  await bob.click('#cable');
  await bob.waitForSelector('#state:text-is("disconnected")');
  for (const text of ['Are you there?', 'Bob?']) {
    await alice.fill('#text', text);
    await alice.click('#say button');
    await alice.waitForSelector(`#messages li:has-text("${text}")`);
  }
  await bob.click('#cable:text-is("Plug it in")');
  await bob.waitForSelector('#messages li.missed:has-text("Bob?")');
  const missed = await bob.$$eval('#messages .missed', (lines) => lines.map((line) => line.textContent));
  const counted = await bob.textContent('#missed');
  await alice.fill('#text', 'There you are');
  await alice.click('#say button');
  await bob.waitForSelector('#messages li:not(.missed):has-text("There you are")');
  await bob.fill('#a', '20');
  await bob.fill('#b', '22');
  await bob.click('#add button');
  await bob.waitForFunction(() => document.querySelector('#sum').textContent === '42');
  await bob.waitForFunction(() => document.querySelector('#f-clients').textContent === '2');
  await bob.fill('#name', 'Bob');
  await bob.click('#login button');
  await alice.waitForSelector('#messages li.presence:has-text("Bob came in")');
  if (screenshot) {
    await bob.screenshot({ path: screenshot });
    await bob.setViewportSize({ width: 390, height: 800 });
    await bob.screenshot({ path: screenshot.replace('.png', '-mobile.png'), fullPage: true });
  }
  await bob.close();
  await alice.waitForSelector('#messages li.presence:has-text("Bob left")');
  const left = await alice.textContent('#members');
  await alice.click('#logout');
  await alice.waitForFunction(() => document.querySelector('#auth-state').textContent === 'unauthenticated');
  console.log(JSON.stringify({ line, missed, counted, left, faults }));
  await browser.close();
})().catch((error) => { console.error(error); process.exit(1); });
